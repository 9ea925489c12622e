import re
from pathlib import Path

import pytest

from endpoint.catalogue import memory, models, prices, quantisation
from endpoint.core.problems import BadArgument
from tests.model_folders import write_ensemble, write_file

MODELS = models.read()
PAGE = Path(__file__).parents[3] / "docs" / "models.md"


def test_stable_diffusion_is_the_default_and_answers_in_real_time():
    first = next(iter(MODELS.values()))
    assert first.name == "sd"
    assert (first.dtype, first.asynchronous) == ("fp16", False)


def test_sdxl_has_its_refiner_and_is_asynchronous():
    assert MODELS["sdxl"].refiner
    assert MODELS["sdxl"].asynchronous


# Repositories whose commits could not be read anywhere; docs/models.md names them.
UNPINNED = {
    "black-forest-labs/flux-3-image-klein",
    "lite-infer/flux.2-klein-4b-nunchaku-lite-int4_r32-bnb4-text-encoder",
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_model_is_pinned_to_a_commit_or_by_its_first_create(model):
    for source in (model.source, model.refiner, model.lora, *model.quantised.values()):
        if source is not None and source.name in UNPINNED:
            assert (source.revision, source.ref) == (None, "main")
        elif source is not None:
            assert re.fullmatch(r"[0-9a-f]{40}", source.revision)


def test_the_page_names_the_models_that_are_not_pinned():
    (section,) = re.findall(r"## Revisions\n(.*?)\n## ", PAGE.read_text("utf-8"), re.DOTALL)
    for model in MODELS.values():
        if any(at.name in UNPINNED for at in (model.source, *model.quantised.values())):
            assert f"`{model.name}`" in section


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_model_says_its_licence_its_duties_and_whether_it_is_gated(model):
    assert model.licence
    assert model.duties.endswith(".")
    assert len(model.duties) <= 300
    assert model.gated is not None or model.source.revision is None
    assert model.title


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_model_has_a_denoiser_and_a_vae_with_their_parameters(model):
    names = [component.name for component in model.components]
    assert len(set(names)) == len(names)
    assert "vae" in names
    assert sum(component.is_denoiser for component in model.components) == 1 + bool(model.refiner)
    assert all(0 <= part.kept < part.parameters for part in model.components)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_model_fits_on_its_types_as_it_is_stored(model):
    for name in model.instance_types:
        instance = prices.instance_types()[name]
        assert memory.fit(model.memory(instance), instance).state in {"fits", "tight"}
        assert quantisation.refusal(model, instance) is None


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_sampler_is_one_of_the_containers(model):
    from easel.pipelines.schedulers import SAMPLERS

    assert model.sampler in {"own", *SAMPLERS}


def test_a_model_of_few_steps_is_its_base_with_an_adapter_and_a_schedule():
    base, few = MODELS["sdxl"], MODELS["sdxl-lightning"]
    assert few.source == base.source
    assert few.lora.file == "sdxl_lightning_4step_lora.safetensors"
    assert (few.sampler, few.defaults["steps"]) == ("euler-trailing", 4)


def test_a_model_of_a_newer_family_says_which_diffusers_has_its_pipeline():
    # By the list of pipelines in diffusers' releases; Stable Diffusion is in each of them.
    needed = {name: model.diffusers for name, model in MODELS.items() if model.diffusers}
    assert needed == {
        "flux2-klein": "0.37",
        "z-image-turbo": "0.36",
        "z-image": "0.36",
        "ernie-image-turbo": "0.38",
        "flux3-klein": "0.42",
    }
    assert {name for name in MODELS if not name.startswith("sd")} == set(needed)


def test_a_revision_pins_a_model_that_is_not_pinned():
    model = models.resolve("flux3-klein", "0123456")
    assert (model.name, model.source.revision) == ("flux3-klein", "0123456")
    assert model.components == MODELS["flux3-klein"].components


def test_a_folders_components_are_read_from_its_files(tmp_path):
    folder = write_ensemble(tmp_path / "xl")
    assert models.resolve(str(folder)).memory(prices.instance_types()["ml.g5.xlarge"])


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
