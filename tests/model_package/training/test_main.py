"""A job's end: the file in `model/`, or one sentence in `output/failure`."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from model_package.training import __main__ as main
from model_package.training.base_model import choose_dtype
from model_package.training.failures import TrainingFailed
from tests.model_package.training.conftest import DEMO

# diffusers converts tensors in a way that NumPy deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def fails(monkeypatch):
    """Return a function that runs a job which must fail, and returns its sentence."""
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)

    def run(home):
        monkeypatch.setenv("EASEL_TRAINING_HOME", str(home.folder))
        assert main.main() == 1
        assert not list(home.folder.glob("model/*"))
        assert not list(home.folder.rglob("*.writing"))
        return (home.folder / "output" / "failure").read_text()

    yield run
    monkeypatch.delenv("EASEL_TRAINING_HOME", raising=False)


def test_the_bundled_model_is_trained_with_samples(home, tmp_path):
    for path in DEMO.iterdir():
        (tmp_path / path.name).symlink_to(path)
    settings = json.loads((DEMO / "easel.json").read_text())
    (tmp_path / "easel.json").unlink()
    (tmp_path / "easel.json").write_text(json.dumps({**settings, "steps": 1}))
    one = home(tmp_path, resolution=None, sample_prompts=["a zorble", "a cat"], sample_every=1,
               validate_every=2, usd_per_hour=360, steps=2)  # fmt: skip
    lines = one.train()

    assert [line["step"] for line in lines if "validation" in line] == [0, 2]
    costs = [line for line in lines if "cost" in line]
    assert costs[-1]["cost"] == pytest.approx(sum(line["seconds"] for line in costs) / 10)
    sheets = sorted((one.checkpoints / "samples").iterdir())
    assert [sheet.name for sheet in sheets] == [
        "step-00000.png", "step-00001.png", "step-00002.png",
    ]  # fmt: skip
    with Image.open(sheets[0]) as sheet:
        assert sheet.size == (256, 128)
        assert len(sheet.getcolors(100_000)) > 100
    assert [path.name for path in (one.folder / "model").iterdir()] == ["zorble.safetensors"]


def test_sdxl_draws_samples(home):
    one = home("sdxl", sample_prompts=["a zorble"], steps=1)

    one.train()

    assert len(list((one.checkpoints / "samples").iterdir())) == 2


def test_a_sigterm_ends_training_with_a_checkpoint_and_no_failure(home, monkeypatch):
    one = home(steps=9)
    monkeypatch.setenv("EASEL_TRAINING_HOME", str(one.folder))
    # The signal arrives while pictures are encoded.
    monkeypatch.setattr(main.signal, "signal", lambda number, handler: handler(number, None))

    code = main.main()
    monkeypatch.undo()

    assert code == 143
    assert [path.name for path in one.checkpoints.glob("*.pt")] == ["step-0000001.pt"]
    assert not (one.folder / "output").exists()
    assert not (one.folder / "model").exists()


def test_an_invalid_job_names_the_field(home, fails):
    one = home(rank=0)

    assert fails(one) == "job.json: rank: must be a whole number from 1 to 256."


def test_an_undecodable_picture_is_named(home, fails):
    one = home()
    (one.pictures / "bad.png").write_bytes(b"GIF89a")

    assert fails(one).startswith("bad.png cannot be decoded as a PNG, JPEG or WebP picture; remove")


@pytest.mark.parametrize(
    ("kind", "message"),
    [("FluxPipeline", "The model is a FluxPipeline; only"), (None, "The model is a None; only")],
)
def test_a_model_of_another_family_is_refused(home, fails, tmp_path, kind, message):
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux" / "model_index.json").write_text(json.dumps({"_class_name": kind}))

    assert fails(home(tmp_path / "flux")).startswith(message)


def test_a_folder_without_a_model_is_refused(home, fails, tmp_path):
    (tmp_path / "empty").mkdir()

    assert "no model_index.json" in fails(home(tmp_path / "empty"))


def test_an_incomplete_model_is_refused(home, fails, stand_in, tmp_path):
    shutil.copytree(stand_in(kind="sd"), tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "vae")

    assert fails(home(tmp_path / "model")).startswith("The model's files cannot be read: ")


def test_an_ensemble_trains_its_base(home):
    one = home("ensemble", steps=1)

    one.train()

    assert (one.folder / "model" / "zorble.safetensors").is_file()


def test_a_loss_that_is_not_finite_ends_training(home, fails, stand_in, tmp_path):
    shutil.copytree(stand_in(kind="sd"), tmp_path / "model")
    file = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_out.bias"] = torch.full_like(weights["conv_out.bias"], torch.nan)
    save_file(weights, file, {"format": "pt"})

    text = fails(home(tmp_path / "model"))
    assert "is not a finite number at step 1; lower rate" in text


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints/step-0000001.writing",
        "checkpoints/progress.writing",
        "checkpoints/samples/step-00000.writing",
        "checkpoints/adapter.writing",
        "model/zorble.writing",
    ],
)
def test_a_full_disk_is_a_sentence(home, fails, name):
    one = home(checkpoint_seconds=0, sample_prompts=["a zorble"], steps=1)
    (one.folder / name).parent.mkdir(parents=True)
    (one.folder / name).symlink_to("/dev/full")

    assert fails(one) == "The disk is full; start the job with a larger volume."


def test_a_gpu_that_torch_does_not_see_ends_the_job(home, fails):
    one = home()
    config = one.folder / "input" / "config"
    config.mkdir()
    (config / "resourceconfig.json").write_text('{"current_instance_type": "ml.g5.xlarge"}')

    assert fails(one).startswith("torch sees no GPU on ml.g5.xlarge")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_16_bits_are_refused_on_a_cpu(precision):
    with pytest.raises(TrainingFailed, match=f"precision is {precision}"):
        choose_dtype(precision, torch.device("cpu"))


def test_an_unknown_error_is_named():
    error = RuntimeError("a\nb" * 2_000)

    assert main.sentence(error).startswith("The trainer failed: RuntimeError: a\nb")


def test_the_failure_is_one_line_that_sagemaker_shows_whole(tmp_path):
    main.fail(tmp_path, "a\nb" * 2_000)

    text = (tmp_path / "output" / "failure").read_text()
    assert len(text) <= 1_024
    assert "\n" not in text
