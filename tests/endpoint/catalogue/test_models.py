import re

import pytest

from endpoint.catalogue import models, prices
from endpoint.core.problems import BadArgument
from tests.model_folders import write_ensemble, write_file

MODELS = models.read()


def test_stable_diffusion_is_the_default_and_answers_in_real_time():
    first = next(iter(MODELS.values()))
    assert first.name == "sd"
    assert (first.dtype, first.asynchronous) == ("fp16", False)


def test_sdxl_has_its_refiner_and_is_asynchronous():
    assert MODELS["sdxl"].refiner
    assert MODELS["sdxl"].asynchronous


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_model_is_pinned_to_a_commit(model):
    for source in filter(None, (model.source, model.refiner)):
        assert re.fullmatch(r"[0-9a-f]{40}", source.revision)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_model_says_its_licence_and_whether_it_is_gated(model):
    assert model.licence
    assert model.gated is not None
    assert model.title


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_default_is_one_that_the_contract_takes(model):
    from generation import RULES

    assert set(model.defaults) == {"steps", "guidance_scale", "width", "height"}
    for name, value in model.defaults.items():
        assert RULES[name].clean(value) == value


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_instance_type_has_a_price(model):
    assert prices.dearest(model.instance_types) is not None


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_cheapest_type_comes_first(model):
    costs = [prices.instance_types()[name].usd_per_hour for name in model.instance_types]
    assert costs[0] == min(costs) or model.asynchronous


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_model_in_bfloat16_runs_only_where_the_gpu_has_it(model):
    types = [prices.instance_types()[name] for name in model.instance_types]
    assert model.dtype in {"fp16", "bf16"}
    assert model.dtype == "fp16" or all(instance_type.bf16 for instance_type in types)


@pytest.mark.parametrize("name", MODELS)
def test_every_name_fits_into_the_names_of_sagemaker(name):
    assert models.is_name(name)


def test_a_model_is_found_by_its_repository_too():
    assert models.find("stabilityai/sd-turbo") == MODELS["sd-turbo"]


def test_any_repository_of_the_hub_is_a_model_at_a_revision():
    model = models.resolve("Lykon/Dreamshaper_8.x", "abc123")
    assert (model.name, model.repository) == ("dreamshaper-8-x", "Lykon/Dreamshaper_8.x")
    assert model.source
    assert model.source.revision == "abc123"
    assert model.gated is None


def test_another_revision_of_a_listed_model_is_not_the_listed_model():
    model = models.resolve("sd-turbo", "main")
    assert model.source == models.Repository("stabilityai/sd-turbo", "main")


def test_a_folder_with_a_pipeline_is_a_model(tmp_path):
    folder = tmp_path / "My Model"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    model = models.resolve(str(folder))
    assert (model.name, model.folder, model.source) == ("my-model", folder, None)


def test_an_unknown_model_is_refused_with_the_catalogues_names():
    with pytest.raises(BadArgument, match="sd, sd-turbo, sdxl"):
        models.resolve("no-such-model")


@pytest.mark.parametrize("text", ["A" * 60, "---", "Ünïcode/..", "a.b_c", "-x-", ""])
def test_any_text_gives_a_name_that_fits(text):
    assert models.is_name(models.as_name(text))


def test_a_folder_with_base_and_refiner_is_a_model(tmp_path):
    assert models.resolve(str(write_ensemble(tmp_path / "xl"))).name == "xl"


@pytest.mark.parametrize("place", ["dream.safetensors", "."])
def test_a_single_file_checkpoint_says_how_to_convert_it(tmp_path, place):
    write_file(tmp_path / "dream.safetensors")
    with pytest.raises(BadArgument, match=r"dream\.safetensors is a single-file.*convert\.py"):
        models.resolve(str(tmp_path / place))


def test_a_folder_without_a_model_says_what_is_missing(tmp_path):
    with pytest.raises(BadArgument, match=r"model_index\.json is missing"):
        models.resolve(str(tmp_path))
