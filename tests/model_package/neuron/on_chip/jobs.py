"""The job that compiles, and what its result looks like.

RECORD_NEURON=1 writes that into `recorded.json`, for the tests without optimum-neuron.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from inspect import signature
from pathlib import Path

import pytest
import torch
import torch_neuronx
from neuron import __main__ as job_module
from neuron import pipeline as loader
from optimum.exporters import neuron as exporter
from optimum.neuron.utils import instance, system

from easel.errors import ModelUnusable
from tests.model_package.neuron.on_chip.conftest import prepare, run_job, train

RECORDED = Path(__file__).parent.parent / "recorded.json"


def recorded_contract(compiled):
    """Return what the tests without optimum-neuron rely on."""
    kinds = {kind: compiled(kind).folder for kind in ("sd", "sdxl")}
    return {
        "files": {kind: files(folder) for kind, folder in kinds.items()},
        "blocks": {
            path.parent.name: json.loads(path.read_text())["neuron"]
            for path in sorted(kinds["sdxl"].glob("*/config.json"))
        },
        "parameters": {
            name: parameters(getattr(exporter, name))
            for name in ("export_models", "load_models_and_neuron_configs",
                         "normalize_diffusers_input_shapes")
        },
    }  # fmt: skip


def parameters(function):
    """Return the names of a function's parameters, and whether each must be given."""
    return {
        name: parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        for name, parameter in signature(function).parameters.items()
    }


def files(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def failure(home):
    return (home / "output" / "failure").read_text()


def progress(home):
    lines = (home / "checkpoints" / "progress.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_what_the_other_tests_rely_on_is_as_recorded(compiled):
    contract = recorded_contract(compiled)
    if os.environ.get("RECORD_NEURON"):
        RECORDED.write_text(json.dumps(contract, indent=1, sort_keys=True) + "\n")
    assert json.loads(RECORDED.read_text()) == contract


def test_each_part_is_compiled_for_inferentia_with_its_shapes(compiled, tmp_path):
    torch_neuronx.compiled.clear()
    assert run_job(tmp_path, compiled("sdxl").source) == 0
    options, shapes = zip(*torch_neuronx.compiled, strict=True)
    assert all("--target inf2" in one and "--auto-cast matmult" in one for one in options)
    # Two text encoders, the UNet for one picture, and the decoder of the VAE.
    assert shapes == (
        [[1, 77]],
        [[1, 77]],
        [[1, 4, 16, 10], [1], [1, 77, 64], [1, 32], [1, 6]],
        [[1, 4, 16, 10]],
    )


# As the job's entry point and the serving toolkit do, with nothing of the project but the code.
IN_A_CONTAINER = """
import os, sys
from neuron.__main__ import main
assert main() == 0
from optimum.neuron.utils import instance, system
system.get_available_cores = lambda: 2
instance.current_instance_type = lambda: "trn1"
import inference
model = inference.model_fn(os.path.join(os.environ["EASEL_TRAINING_HOME"], "model"))
request = inference.input_fn('{"prompt": "a cat", "seed": 7}', "application/json")
sys.stdout.buffer.write(inference.output_fn(inference.predict_fn(request, model), "image/png"))
"""


def test_the_code_of_a_container_compiles_and_serves_on_its_own(compiled, tmp_path):
    package = Path(__file__).parents[4] / "model_package"
    ignored = shutil.ignore_patterns("__pycache__")
    code = shutil.copytree(package / "code", tmp_path / "code", ignore=ignored)
    shutil.copytree(package / "neuron", code / "neuron", ignore=ignored)
    home = tmp_path / "ml"
    prepare(home, compiled("sd").source)
    path = os.pathsep.join([str(RECORDED.parent / "runtime"), str(code)])
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_CONTAINER],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "EASEL_TRAINING_HOME": str(home)},
        capture_output=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-4_000:].decode()
    assert finished.stdout.endswith(b"IEND\xaeB`\x82")


def test_the_progress_names_each_part(compiled):
    lines = progress(compiled("sd", lora=True).home)
    assert [(line["stage"], line["component"], line["done"], line["of"]) for line in lines] == [
        ("load", None, None, None),
        ("merge", None, None, None),
        ("compile", "text_encoder", 0, 3),
        ("compile", "unet", 1, 3),
        ("compile", "vae_decoder", 2, 3),
        ("check", None, 3, 3),
        ("write", None, 3, 3),
    ]


def test_the_result_says_what_it_was_compiled_for(compiled):
    described = json.loads((compiled("sd", lora=True).folder / "neuron.json").read_text())
    assert described == {
        "width": 80,
        "height": 128,
        "batch": 1,
        "instance": "inf2",
        "lora": {"name": "watercolour", "weight": 0.7},
        "pipeline": "StableDiffusionPipeline",
        "compiler_version": sys.modules["neuronxcc"].__version__,
        "optimum_neuron": version("optimum-neuron"),
    }


def test_a_stopped_job_leaves_no_result_and_goes_on_where_it_was(compiled, tmp_path, monkeypatch):
    trace = torch_neuronx.trace

    def stop_at_the_unet(model, inputs, **options):
        if len(torch_neuronx.compiled) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return trace(model, inputs, **options)

    torch_neuronx.compiled.clear()
    monkeypatch.setattr(torch_neuronx, "trace", stop_at_the_unet)
    assert run_job(tmp_path, compiled("sd").source) == 143
    assert not (tmp_path / "model").exists()
    monkeypatch.setattr(torch_neuronx, "trace", trace)
    torch_neuronx.compiled.clear()
    assert run_job(tmp_path, compiled("sd").source) == 0
    assert len(torch_neuronx.compiled) == 2
    assert files(tmp_path / "model") == files(compiled("sd").folder)


def test_another_job_uses_nothing_of_the_one_before(compiled, tmp_path):
    assert run_job(tmp_path, compiled("sd").source) == 0
    torch_neuronx.compiled.clear()
    shutil.rmtree(tmp_path / "model")
    assert run_job(tmp_path, compiled("sd").source, width=72) == 0
    assert len(torch_neuronx.compiled) == 3


def test_a_job_that_fails_while_it_writes_leaves_no_result(compiled, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(job_module, "read_manifest", fail)
    assert run_job(tmp_path, compiled("sd").source) == 1
    assert failure(tmp_path) == "The disk is full; start the job with a larger volume."
    assert files(tmp_path / "model") == []


def test_an_adapter_of_another_model_is_refused(compiled, tmp_path, tmp_path_factory):
    file = train(compiled("sdxl").source, tmp_path_factory.mktemp("lora") / "other.safetensors")
    lora = {"name": "other", "weight": 1}
    assert run_job(tmp_path, compiled("sd").source, file, lora=lora) == 1
    assert failure(tmp_path).startswith("job.json: lora: other cannot be used: it does not fit")


@pytest.mark.parametrize(
    ("cores", "machine", "compiler", "words"),
    [
        (0, "trn1", "2.21", "has 0 Neuron cores and needs 2"),
        (1, "trn1", "2.21", "no NEURON_RT_NUM_CORES"),
        (2, "trn2", "2.21.33363.0", "was compiled for inf2, this is trn2"),
        (2, "trn1", "2.20.9961.0", "compiled by neuronx-cc 2.21.33363.0"),
    ],
)
def test_a_machine_that_cannot_run_it_is_refused(
    compiled, monkeypatch, cores, machine, compiler, words
):
    monkeypatch.setattr(system, "get_available_cores", lambda: cores)
    monkeypatch.setattr(instance, "current_instance_type", lambda: machine)
    monkeypatch.setattr(sys.modules["neuronxcc"], "__version__", compiler)
    with pytest.raises(ModelUnusable, match=words):
        loader.load(compiled("sd").folder)


def test_a_model_that_optimum_cli_compiled_is_loaded_too(compiled, tmp_path):
    folder = shutil.copytree(compiled("sd").folder, tmp_path / "model")
    (folder / "neuron.json").unlink()
    (folder / "easel.json").unlink()
    pipeline = loader.load(folder)
    assert (pipeline.static_size, pipeline.merged_lora) == ((80, 128), None)


def test_another_size_fails_on_the_device_and_not_in_a_picture(compiled):
    """The fake is as strict as a device: without Easel's checks, a request would fail in it."""
    unet = loader.load(compiled("sd").folder).unet
    with pytest.raises(RuntimeError, match="shape"):
        unet(torch.zeros(2, 4, 16, 16), torch.tensor(1.0), torch.zeros(2, 77, 32))
    with pytest.raises(RuntimeError, match="expand|size"):
        unet(torch.zeros(2, 4, 20, 8), torch.tensor(1.0), torch.zeros(2, 77, 32))
