import shutil

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline
from safetensors import safe_open

from model_package.demo.export import LIMIT, export, export_loras, export_refiner
from model_package.demo.pipeline import NOISING, assemble
from model_package.demo.tokens import load_tokenizer
from model_package.demo.train_decoder import new_autoencoder
from model_package.demo.train_refiner import new_refiner
from model_package.demo.train_text import new_text_encoder
from model_package.demo.train_unet import new_unet
from tests.model_package.doubles.toolkit import Toolkit

pytestmark = [
    # diffusers' solver hands torch numbers to numpy in a way that numpy 2 frowns on.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def folder(tokenizer_folder, tmp_path_factory):
    """Untrained parts of the real size: how they are written and loaded is what is tested."""
    torch.manual_seed(0)
    tokenizer = load_tokenizer(tokenizer_folder)
    pipeline = assemble(new_unet(), new_text_encoder(), tokenizer, new_autoencoder())
    written = tmp_path_factory.mktemp("export") / "weights"
    export(pipeline, tokenizer_folder, written)
    return written


def load(folder, **settings):
    pipeline = StableDiffusionPipeline.from_pretrained(folder, **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline, prompt="a cat"):
    noise = torch.Generator().manual_seed(1)
    picture = pipeline(prompt, num_inference_steps=3, generator=noise).images[0]
    assert picture.size == (128, 128)
    return picture.tobytes()


def test_all_files_together_are_small_enough_for_the_repository(folder):
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= LIMIT


def test_weights_have_standard_names_without_a_variant(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*.safetensors")}
    assert names == {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }


def test_the_text_encoders_weights_have_the_names_of_every_transformers(folder):
    with safe_open(folder / "text_encoder" / "model.safetensors", "pt") as weights:
        assert all(name.startswith("text_model.") for name in weights.keys())  # noqa: SIM118


def test_the_text_encoder_is_read_back_as_it_was(folder):
    torch.manual_seed(0)
    new_unet()
    written = new_text_encoder().state_dict()
    for name, weight in load(folder).text_encoder.state_dict().items():
        assert torch.allclose(weight, written[name], atol=1e-3), name


def test_the_tokenizer_has_the_files_of_every_transformers(folder):
    names = {path.name for path in (folder / "tokenizer").iterdir()}
    assert names >= {"vocab.json", "merges.txt", "tokenizer_config.json"}


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_the_folder_loads_in_plain_diffusers(folder, dtype):
    pipeline = load(folder) if dtype is None else load(folder, dtype=dtype)
    expected = dtype or torch.float32
    assert {pipeline.unet.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype} == {expected}
    assert pipeline.tokenizer.model_max_length == 77
    draw(pipeline)


def test_the_same_seed_is_the_same_picture(folder):
    pipeline = load(folder)
    assert draw(pipeline) == draw(pipeline)
    assert draw(pipeline) != draw(pipeline, "a dog")


@pytest.mark.parametrize("kind", [DDIMScheduler, EulerDiscreteScheduler])
def test_other_schedulers_made_from_its_settings_do_not_clip(folder, kind):
    scheduler = kind.from_config(load(folder).scheduler.config)
    assert scheduler.config.prediction_type == NOISING["prediction_type"]
    assert not scheduler.config.get("clip_sample", False)


def test_a_picture_can_be_read_back_into_latents(folder):
    autoencoder = load(folder).vae
    with torch.no_grad():
        latents = autoencoder.encode(torch.zeros(1, 3, 128, 128)).latent_dist.mean
        assert latents.shape == (1, 8, 16, 16)
        assert autoencoder.decode(latents).sample.shape == (1, 3, 128, 128)


def test_a_refiner_in_the_folder_takes_over_in_the_model_package_alone(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("EASEL_DEFAULTS", '{"refiner_start": 0.8}')
    whole = tmp_path / "weights"
    shutil.copytree(folder, whole)
    torch.manual_seed(1)
    size = export_refiner(new_refiner(), whole)
    assert 5_000_000 < size < 7_000_000
    assert draw(load(whole)) == draw(load(folder))
    request = {"prompt": "a cat", "seed": 1, "steps": 10}
    served = [Toolkit(path).post(request, accept="image/png") for path in (whole, folder)]
    assert [answer.status for answer in served] == [200, 200]
    assert served[0].body != served[1].body


def test_loras_are_copied_and_no_other_files_next_to_them(folder, tmp_path):
    trained, written = tmp_path / "trained", tmp_path / "written"
    trained.mkdir()
    written.mkdir()
    (trained / "pixel.safetensors").write_bytes(b"12345")
    (trained / "pixel.png").write_bytes(b"a sheet")
    assert export_loras(trained, written) == 5
    assert [path.name for path in (written / "loras").iterdir()] == ["pixel.safetensors"]
