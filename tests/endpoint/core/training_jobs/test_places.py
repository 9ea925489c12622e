import pytest

from endpoint.core.training_jobs import places

ID, OWNER = "abcdef012345", "0123456789abcdef"
UNFIT = ["", "../x", "a/b", "ABCDEF012345", "a" * 13, "abcdef01234\n", "é" * 12]


def test_ids_are_12_letters_and_digits_and_differ():
    ids = {places.new_id() for _ in range(200)}

    assert len(ids) == 200
    assert all(places.is_id(one) for one in ids)


def test_an_owner_is_a_hash_of_the_name_of_a_key():
    assert places.owner_of("anna") == "55579b557896d0ce"
    assert places.dataset(places.owner_of("../../"), ID).count("/") == 3


@pytest.mark.parametrize("attempt", [1, 2, 41])
def test_a_sagemaker_job_is_found_by_its_name(attempt):
    name = places.sagemaker_name("a" * 20, ID, attempt)

    assert len(name) <= 63
    assert places.job_of(name, "a" * 20) == (ID, attempt)
    assert places.job_of(name, "other") is None


@pytest.mark.parametrize("name", ["easel-main", f"easel-main-{ID}-x", f"easel-main-{ID}-0", "x"])
def test_another_job_is_none_of_the_deployment(name):
    assert places.job_of(name, "main") is None


@pytest.mark.parametrize("text", UNFIT)
@pytest.mark.parametrize(
    "key",
    [
        places.record,
        places.checkpoints,
        places.output,
        lambda text: places.dataset(OWNER, text),
        lambda text: places.dataset(text, ID),
        places.running,
        places.code,
    ],
)
def test_no_text_of_another_form_becomes_a_key(key, text):
    with pytest.raises(ValueError, match="cannot be a part of a key"):
        key(text)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a" * 64, "a\n"])
def test_a_published_adapter_is_in_its_models_folder(name):
    assert places.adapter("sdxl", "a-b") == "loras/sdxl/a-b.safetensors"
    with pytest.raises(ValueError, match="cannot be a part of a key"):
        places.adapter("sdxl", name)
    with pytest.raises(ValueError, match="cannot be a part of a key"):
        places.name_claim(name, "x")


def test_a_marker_names_its_data_set():
    key = places.dataset_marker(OWNER, ID)

    assert places.dataset_of_marker(key) == (OWNER, ID)
    assert places.dataset_of_marker(key + ".png") is None
    assert places.dataset_of_marker(f"datasets/x/{ID}/start.json") is None


def test_samples_are_found_by_their_step():
    assert places.sample(ID, 200) == f"training/jobs/{ID}/checkpoints/samples/step-00200.png"
    assert places.step_of_sample(places.sample(ID, 123_456)) == 123_456
    assert places.step_of_sample("x/step-1.writing") is None


def test_the_result_is_the_file_with_the_adapters_name():
    key = f"{places.output(ID)}easel-main-{ID}/output/model/water.safetensors"

    assert places.is_result(key, "water")
    assert not places.is_result(key, "ater")
