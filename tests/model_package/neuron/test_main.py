"""The job with a double of optimum-neuron; `on_chip/jobs.py` runs it with the real one."""

import ast
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from easel.errors import ModelUnusable
from model_package.neuron import __main__ as job_module
from model_package.neuron.job import CompileFailed
from tests.model_package.neuron.doubles import Exporter

PACKAGE = Path(__file__).parents[3] / "model_package"
ADAPTER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


class Home:
    """The folder of a job."""

    def __init__(self, folder, model, **fields):
        self.folder = folder
        channels = folder / "input" / "data"
        for name in ("job", "lora"):
            (channels / name).mkdir(parents=True)
        if model:
            (channels / "model").symlink_to(model)
        else:
            (channels / "model").mkdir()
        self.lora = channels / "lora" / "watercolour.safetensors"
        job = {"width": 80, "height": 128, **fields}
        (channels / "job" / "job.json").write_text(json.dumps(job))

    def files(self, name):
        place = self.folder / name
        return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}

    @property
    def failure(self):
        return (self.folder / "output" / "failure").read_text()


def copy_of(model, folder):
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def run(monkeypatch):
    def run(home):
        monkeypatch.setenv("EASEL_TRAINING_HOME", str(home.folder))
        monkeypatch.setattr(job_module.signal, "signal", lambda *_: None)
        return job_module.main()

    return run


@pytest.fixture
def exporter(monkeypatch, recorded):
    def make(kind):
        exporter = Exporter(recorded, kind)
        exporter.install(monkeypatch)
        monkeypatch.setattr(job_module.compiling, "_optimum_neuron", lambda: "0.4.5")
        return exporter

    return make


def test_an_image_without_the_compiler_is_named(tmp_path, stand_in, run):
    home = Home(tmp_path, stand_in())
    assert run(home) == 1
    assert home.failure.startswith("This image has no compiler for Inferentia2 (No module named")
    assert home.files("model") == set()


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_the_parts_that_paint_are_compiled_and_nothing_else(
    tmp_path, stand_in, run, exporter, recorded, kind
):
    home, optimum = Home(tmp_path, stand_in(kind=kind)), exporter(kind)
    assert run(home) == 0
    encoders = ["text_encoder", "text_encoder_2"] if kind == "sdxl" else ["text_encoder"]
    assert optimum.compiled == [*encoders, "unet", "vae_decoder"]
    written = {file for file in recorded["files"][kind] if "scheduler" not in file}
    assert home.files("model") == {file for file in written if "tokenizer" not in file}
    defaults = json.loads((tmp_path / "model" / "easel.json").read_text())
    assert defaults == {"steps": 2, "guidance_scale": 5.0, "width": 80, "height": 128}


def write_adapter(path):
    """Write a LoRA that adds 0.25 to each number of one weight."""
    down, up = torch.ones(2, 64), torch.full((64, 2), 0.25)
    # up @ down is 0.5 everywhere, times alpha / rank = 0.5.
    tensors = {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(1.0)}
    path.parent.mkdir(exist_ok=True)
    save_file({f"{ADAPTER}.{name}": tensor for name, tensor in tensors.items()}, path)


def weight_of(unet):
    return unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight


def test_an_adapter_is_in_the_weights_that_are_compiled(tmp_path, stand_in, run, exporter):
    optimum = exporter("sd")
    lora = {"name": "watercolour", "weight": 0.5}
    home = Home(tmp_path, stand_in(), lora=lora)
    write_adapter(home.lora)
    assert run(home) == 0
    original = type(optimum.pipeline.unet).from_pretrained(stand_in() / "unet")
    assert torch.allclose(weight_of(optimum.pipeline.unet), weight_of(original) + 0.125)
    assert json.loads((tmp_path / "model" / "neuron.json").read_text())["lora"] == lora


def test_a_lora_that_belongs_to_the_model_is_merged_before(tmp_path, stand_in, run, exporter):
    optimum = exporter("sd")
    model = copy_of(stand_in(), tmp_path / "source")
    write_adapter(model / "merged_lora" / "turbo.safetensors")
    home = Home(tmp_path / "home", model, lora={"name": "watercolour", "weight": 0.5})
    write_adapter(home.lora)
    assert run(home) == 0
    original = type(optimum.pipeline.unet).from_pretrained(stand_in() / "unet")
    assert torch.allclose(weight_of(optimum.pipeline.unet), weight_of(original) + 0.375)


def test_a_safety_checker_goes_along(tmp_path, stand_in, run, exporter):
    exporter("sd")
    home = Home(tmp_path, stand_in(safety_checker="blocks"))
    assert run(home) == 0
    assert {"safety_checker/config.json", "safety_checker/model.safetensors",
            "feature_extractor/preprocessor_config.json"} <= home.files("model")  # fmt: skip


def test_defaults_without_a_meaning_are_left_out(tmp_path, stand_in, run, exporter):
    model = copy_of(stand_in(), tmp_path / "source")
    (model / "easel.json").unlink()
    (model / "easel.json").write_text('{"steps": 4, "largest_area": 262144, "refiner_start": 0.8}')
    exporter("sd")
    assert run(Home(tmp_path / "home", model)) == 0
    defaults = json.loads((tmp_path / "home" / "model" / "easel.json").read_text())
    assert defaults == {"steps": 4, "width": 80, "height": 128}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"lora": {"name": "watercolour", "weight": 1}}, "lora: the channel lora has no file"),
        ({"width": 81}, "width: must be a multiple of 8"),
        ({"guidance": True}, "guidance: is not a field"),
    ],
)
def test_a_job_that_cannot_be_done_says_why(tmp_path, stand_in, run, fields, words):
    home = Home(tmp_path, stand_in(), **fields)
    assert run(home) == 1
    assert home.failure.startswith(f"job.json: {words}")


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (None, "The channel model has no model_index.json"),
        ({"_class_name": "FluxPipeline"}, "FluxPipeline cannot be compiled for Inferentia2"),
    ],
)
def test_a_model_that_cannot_be_compiled_is_named(tmp_path, run, index, words):
    home = Home(tmp_path, None)
    if index:
        path = tmp_path / "input" / "data" / "model" / "model_index.json"
        path.write_text(json.dumps(index))
    assert run(home) == 1
    assert words in home.failure


def test_a_model_with_a_refiner_is_refused(tmp_path, stand_in, run):
    home = Home(tmp_path, stand_in(kind="ensemble"))
    assert run(home) == 1
    assert "no room; remove refiner/" in home.failure


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CompileFailed("Use another model."), "Use another model."),
        (ModelUnusable("it has no weights"), "it has no weights"),
        (MemoryError(), "ran out of memory; start the job on an instance with more of it"),
        (RuntimeError("neuronx-cc failed with error code -9"), "ran out of memory"),
        (OSError(28, "No space left"), "The disk is full"),
        (RuntimeError("unknown operator"), "Compiling failed: RuntimeError: unknown operator"),
    ],
)
def test_each_failure_is_a_sentence_that_says_what_to_do(error, words):
    assert words in job_module.sentence(error)


def test_the_code_in_the_container_is_valid_for_its_python():
    """Hugging Face's neuronx image has Python 3.10."""
    files = [*(PACKAGE / "code").rglob("*.py"), *(PACKAGE / "neuron").rglob("*.py")]
    newer = {"tomllib", "wsgiref.types", "asyncio.taskgroups", "asyncio.timeouts"}
    names = {"StrEnum", "ExceptionGroup", "Self", "LiteralString", "UTC", "chdir", "assert_never",
             "NotRequired", "Required", "Never", "file_digest", "override", "batched"}  # fmt: skip
    for file in files:
        tree = ast.parse(file.read_text(), feature_version=(3, 10))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in sys.stdlib_module_names:
                assert not names & {alias.name for alias in node.names}, file
            if isinstance(node, ast.Import):
                assert not newer & {alias.name for alias in node.names}, file
            assert not isinstance(node, ast.TryStar), file
