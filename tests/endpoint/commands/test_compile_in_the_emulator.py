"""`compile` against emulated training jobs: real processes, channels, checkpoints and stops.

The compiler is a script of a few lines in the place of `model_package/neuron`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import threading
import time

import boto3
import pytest

from endpoint.commands import compile as compile_model
from endpoint.commands import destroy
from endpoint.emulator.client import EmulatorClient
from endpoint.provision.files import compiled, payload
from endpoint.provision.serving import lease
from tests.conftest import ALL
from tests.endpoint.batch_account import Ticking
from tests.endpoint.doubles import BUCKET, stored
from tests.endpoint.world import REGION
from tests.model_folders import REFINER, safetensors, write_pipeline

IMAGE = (
    f"763104351884.dkr.ecr.{REGION}.amazonaws.com/huggingface-pytorch-inference-neuronx:some-tag"
)
COMPILER = """
import json, os, pathlib, signal, sys, time
import generation
home = pathlib.Path(os.environ["EASEL_TRAINING_HOME"])
channels = home / "input" / "data"
job = json.loads((channels / "job" / "job.json").read_text())
assert (channels / "model" / "unet" / "config.json").is_file()
assert job["batch"] == 1 and job["instance"] == "inf2", job
adapters = [path.stem for path in (channels / "lora").glob("*")]
assert adapters == ([job["lora"]["name"]] if job["lora"] else []), adapters
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
checkpoints, output = home / "checkpoints", home / "model"
checkpoints.mkdir(exist_ok=True)
def step(stage, component, done):
    line = {"time": time.time(), "stage": stage, "component": component, "done": done, "of": 2}
    with (checkpoints / "progress.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\\n")
width = job["width"]
went_before = (checkpoints / "unet.neuron").is_file()
step("compile", "unet", 0)
(checkpoints / "unet.neuron").write_bytes(b"unet of %d" % width)
if width == 128 and not went_before:
    time.sleep(60)
if width == 136:
    (home / "output" / "failure").write_text("The model has no UNet.")
    sys.exit(1)
if width == 144:
    sys.exit(137)
step("compile", "vae_decoder", 1)
for name in ("unet", "vae_decoder"):
    (output / name).mkdir()
    (output / name / "config.json").write_text(json.dumps({"neuron": {"static_width": width}}))
    if width != 152:
        (output / name / "model.neuron").write_bytes(b"a" * width)
(output / "model_index.json").write_text("{}")
about = {"compiler_version": "2.21", "width": width - 8 * (width == 160), "height": job["height"]}
(output / "neuron.json").write_text(json.dumps(about))
"""


@pytest.fixture
def run(aws, tmp_path, monkeypatch):
    """Return a function that runs `compile` for a tiny model."""
    package = tmp_path / "package" / "neuron"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(COMPILER)
    monkeypatch.setattr(compiled, "_PACKAGE", package)
    code = tmp_path / "package" / "code"
    code.mkdir()
    for name in ("inference.py", "generation.py"):
        (code / name).write_text("")
    monkeypatch.setattr(payload, "CODE", code)
    model = write_pipeline(tmp_path / "tiny")

    def start(*more):
        arguments = ("--model", str(model), "--image", IMAGE, "--yes", *more)
        return compile_model.main(arguments, clock=Ticking())

    return start


def jobs():
    listed = boto3.client("sagemaker").list_training_jobs(MaxResults=100)["TrainingJobSummaries"]
    return {job["TrainingJobName"] for job in listed if "-compile-" in job["TrainingJobName"]}


def test_a_job_compiles_with_an_adapter_and_the_same_content_needs_no_job(run, capsys):
    boto3.client("s3").put_object(
        Bucket=BUCKET, Key="loras/tiny/watercolour.safetensors", Body=safetensors()
    )
    arguments = ("--size", "64x72", "--lora", "watercolour:0.5", "--json")
    before = jobs()
    assert run(*arguments) == 0

    output = capsys.readouterr()
    made = json.loads(output.out)
    assert (made["model"], made["lora"], made["lora_weight"]) == ("tiny", "watercolour", 0.5)
    assert (made["width"], made["height"], made["compiler"]) == (64, 72, "2.21")
    assert "on one ml.m5.2xlarge (on demand)" in output.err
    assert "costs about 0.38 USD" in output.err
    assert "not measured" in output.err
    assert "Nothing was read for ml.m5.2xlarge" in output.err
    root = made["place"].removeprefix(f"s3://{BUCKET}/")
    names = [key.removeprefix(root) for key in stored(boto3, root)]
    assert {"model_index.json", "neuron.json", "unet/model.neuron"} <= set(names)
    assert made["bytes"] > 128
    # What the job continues with is not needed any more.
    assert not [key for key in stored(boto3, "compiled/models/tiny/") if "/checkpoints/" in key]
    (name,) = jobs() - before
    description = boto3.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert description["EnableNetworkIsolation"]
    assert not description["EnableManagedSpotTraining"]
    assert description["ResourceConfig"]["InstanceType"] == "ml.m5.2xlarge"

    assert run(*arguments) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["place"] == made["place"]
    assert jobs() - before == {name}

    # Another adapter under the same name is other content.
    boto3.client("s3").put_object(
        Bucket=BUCKET, Key="loras/tiny/watercolour.safetensors", Body=safetensors(8)
    )
    assert run(*arguments) == 0
    assert json.loads(capsys.readouterr().out)["id"] != made["id"]
    assert run("--list", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["compiled"]) == 2


def leave(run, size):
    """Start a job, and press Ctrl-C once its first part is in S3; return the job's name."""
    before = jobs()

    def later():
        until = time.monotonic() + 60
        while not any("unet.neuron" in key for key in stored(boto3, "compiled/models/tiny/")):
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(0.5)  # until the next look at the job
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=later)
    thread.start()
    assert run("--size", size, "--spot") == 130
    thread.join()
    (name,) = jobs() - before
    return name


def test_a_job_is_left_stopped_and_continued(run, capsys):
    name = leave(run, "128x128")
    said = capsys.readouterr().err
    assert "The job goes on and costs money" in said
    assert f"`python -m endpoint compile --stop {name}` ends it" in said
    assert "compiling unet, 0 of 2 done" in said
    arguments = ("--size", "128x128", "--spot")
    assert run("--list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["running"] == [name]
    assert run(*arguments, "--stop", "--dry-run") == 0
    assert "Dry run: nothing was stopped" in capsys.readouterr().out
    # Other inputs, as after a change of the adapter: another compilation, and the job still runs.
    stop_it = f"`python -m endpoint compile --stop {name}`"
    for other in (("--size", "128x152", "--stop"), ("--stop", f"{name}0")):
        assert run(*other) == 1
        assert stop_it in capsys.readouterr().err
    assert run("--model", "sdxl", "--lora", "nothing", "--stop", name) == 0
    assert f"{name} is stopped" in capsys.readouterr().out
    assert run(*arguments, "--stop") == 1
    said = capsys.readouterr().err
    assert "No job compiles tiny at 128 x 128" in said
    assert "No compile job of this deployment runs" in said

    before = jobs()
    assert run(*arguments) == 0
    output = capsys.readouterr()
    assert "is compiled" in output.out
    assert "--instance-type ml.inf2.xlarge --size 128x128` serves it" in output.out
    assert jobs() - before == {f"{name[:-1]}2"}


def test_no_job_starts_that_the_monthly_cap_would_end_too_early(run, monkeypatch, capsys):
    monkeypatch.setattr(lease, "cap", lambda _context: 0.1)
    before = jobs()
    assert run("--size", "168x64") == 1

    assert "The job takes at least 25 min" in (said := capsys.readouterr().err), said
    assert "but the monthly cap ends it after 13 min" in said
    assert jobs() == before


@pytest.mark.skipif(not ALL, reason="another job")
def test_an_interrupted_spot_job_goes_on_by_itself_and_is_joined(run, aws, capsys):
    name = leave(run, "128x136")
    EmulatorClient(aws.url).interrupt_training(name)
    before = jobs()
    assert run("--size", "128x136", "--spot") == 0
    said = capsys.readouterr()
    assert f"The job {name} runs already" in said.err
    assert "is compiled" in said.out
    assert jobs() == before


FAILURES = [
    (144, "The compiler ran out of memory on ml.m5.2xlarge."),
    (152, "has left no compiled model"),
    (136, "The job failed: The model has no UNet."),
    (160, "has compiled a width of 152 and not 160"),
]


@pytest.mark.parametrize(("width", "sentence"), FAILURES if ALL else FAILURES[:2])
def test_a_job_that_leaves_nothing_usable_says_why(run, capsys, width, sentence):
    assert run("--size", f"{width}x64") == 1

    assert sentence in capsys.readouterr().err
    assert run("--list", "--json") == 0
    made = json.loads(capsys.readouterr().out)["compiled"]
    assert width not in [one["width"] for one in made]


@pytest.mark.skipif(not ALL, reason="imports diffusers")
def test_the_program_of_the_model_package_is_complete_without_this_repository(
    run, capsys, monkeypatch
):
    """The channel `code` has all that `python3 -m neuron` imports; the compiler is not here."""
    monkeypatch.undo()
    if importlib.util.find_spec("optimum"):
        pytest.skip("the compiler's library is installed")
    assert run("--size", "176x64") == 1

    said = capsys.readouterr().err
    assert "The job failed:" in said
    (failed,) = [line for line in said.splitlines() if "The job failed:" in line]
    assert "This image has no compiler for Inferentia2" in failed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lora", "nothing"), "tiny has no adapter called nothing"),
        (("--instance-type", "ml.g5.xlarge"), "compiling needs no accelerator"),
        (("--model", "sdxl", "--instance-type", "ml.m5.2xlarge"), "needs 64"),
        (("--model", "flux2-klein"), "cannot be compiled"),
        (("--name", "nobody"), "There is no deployment nobody"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_costs(run, capsys, options, message):
    before = jobs()
    assert run(*options) in {1, 2}
    assert message in capsys.readouterr().err
    assert jobs() == before


def test_a_folder_with_a_refiner_is_refused(run, tmp_path, capsys):
    write_pipeline(tmp_path / "tiny" / "refiner", "StableDiffusionXLImg2ImgPipeline", REFINER)
    assert run() == 2
    assert "has a refiner" in capsys.readouterr().err


def test_a_dry_run_says_the_price_and_starts_nothing(run, capsys):
    before = jobs()
    assert run("--size", "184x64", "--dry-run") == 0
    said = capsys.readouterr()
    assert "costs about" in said.err
    assert "would call sagemaker.CreateTrainingJob" in said.err
    assert "Dry run" in said.out
    assert jobs() == before


def test_destroy_names_what_took_hours_and_deletes_it(run, capsys):
    assert run("--size", "168x64") == 0
    assert stored(boto3, "compiled/")
    capsys.readouterr()

    assert destroy.main(["--yes"], clock=Ticking()) in {0, 1}
    assert "these compiled models" in capsys.readouterr().err
    assert not stored(boto3, "compiled/")
