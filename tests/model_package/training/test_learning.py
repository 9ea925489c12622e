"""A job teaches the bundled model an object that it has never seen, and little else changes.

Six drawn pictures of an invented object, one job of 200 steps as SageMaker starts it, killed at a
third and started again. Its file then paints through the endpoint's own code.

Tried by hand, as it takes a training of its own: with the captions moved on by one picture, the job
draws the object, at a distance of 30 instead of 18, on 2 of the 4 grounds that prompts name, so
`test_each_caption_is_learned_with_its_picture` fails. A layer that is lost in the file changes the
loss less than rounding does if it has learned little; test_adapter.py compares each layer.
"""

import json
import os
import signal
import subprocess
import sys
import time
from io import BytesIO

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from model_package.training.base_model import load
from model_package.training.checkpoints import load_newest
from model_package.training.randomness import generator
from tests.conftest import ALL
from tests.model_package.doubles.toolkit import Toolkit
from tests.model_package.training import zorble
from tests.model_package.training.conftest import DEMO
from tests.model_package.training.zorble import CAPTIONS, GROUNDS, SUBJECT
from tests.packages import ROOT

# diffusers converts tensors in a way that NumPy deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.skipif(not ALL, reason="takes two minutes; run with ./setup.sh test --all"),
]

STEPS, COMPARED = 200, 80
JOB = {
    "name": "zorble", "steps": STEPS, "batch_size": 4, "rank": 8, "alpha": 2, "conv": True,
    "rate": 4e-3, "caption_dropout": 0.1, "checkpoint_seconds": 2, "gradient_checkpointing": False,
}  # fmt: skip
KNOWN = ("a red apple", "a banana", "a pizza", "a dog", "a cat", "a penguin", "a fish", "a car",
         "a castle", "a rocket", "a guitar", "a book")  # fmt: skip
SEEDS = (11, 12, 13)
PICTURES = zorble.pictures()
FILE = "zorble.safetensors"
CLOSE = 2e-5  # the file has 16 bits


@pytest.fixture(scope="module")
def make_home(tmp_path_factory):
    """Return a function that makes the folders of the job."""

    def make(captions=CAPTIONS, **fields):
        home = tmp_path_factory.mktemp("job")
        channels = home / "input" / "data"
        for name in ("pictures", "job"):
            (channels / name).mkdir(parents=True)
        (channels / "model").symlink_to(DEMO)
        (channels / "job" / "job.json").write_text(json.dumps({**JOB, **fields}))
        zorble.write(channels / "pictures", captions)
        return home

    return make


def start(home):
    folder = ROOT / "model_package"
    environment = {**os.environ, "EASEL_TRAINING_HOME": str(home), "PYTHONPATH": "code"}
    command = [sys.executable, "-m", "training"]
    return subprocess.Popen(command, cwd=folder, env=environment)


def run_until(home, step):
    """Run a job until it has a checkpoint of that step, then kill it without warning."""
    with start(home) as child:
        while newest(home) < step:
            assert child.poll() is None
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)


def newest(home):
    return max((int(path.stem[5:]) for path in (home / "checkpoints").glob("step-*.pt")), default=0)


def curve(home):
    """Return the losses, and the validation losses, by step."""
    lines = (home / "checkpoints" / "progress.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{name: row[name] for name in ("step", "loss", "rate", "validation") if name in row}
            for row in rows]  # fmt: skip


def train(home):
    with start(home) as child:
        assert child.wait() == 0
    return home / "model" / FILE


@pytest.fixture(scope="module")
def taught(make_home):
    """Return the folders of the job, killed at a third and resumed."""
    home = make_home()
    run_until(home, STEPS // 3)
    train(home)
    return home


class Painter:
    """Paints through the endpoint's code: the bundled model, with an adapter if one is given."""

    def __init__(self, folder, adapter=None):
        folder.mkdir()
        for path in DEMO.iterdir():
            if path.name != "loras":
                (folder / path.name).symlink_to(path)
        (folder / "loras").mkdir()
        if adapter is not None:
            (folder / "loras" / FILE).symlink_to(adapter)
        self._toolkit = Toolkit(folder)

    def bytes(self, prompt, seed, lora=""):
        request = {"prompt": prompt, "seed": seed, "lora": lora, "steps": 12,
                   "width": 128, "height": 128}  # fmt: skip
        response = self._toolkit.post(request, accept="image/png")
        assert response.status == 200, response.body
        return response.body

    def paint(self, prompt, seed, lora=""):
        return Image.open(BytesIO(self.bytes(prompt, seed, lora)))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return Painter(tmp_path_factory.mktemp("painter") / "model")


@pytest.fixture(scope="module")
def known(untouched):
    """Return pictures of what the model knows, by prompt, for two seeds."""
    return {seed: {prompt: untouched.paint(prompt, seed) for prompt in KNOWN} for seed in (1, 2)}


@pytest.fixture(scope="module")
def examples():
    """Return the training pictures as the model's VAE shows them."""
    base = load(DEMO, "auto")
    return [base.decode(base.encode_image(picture)[0]) for picture in PICTURES]


def rmse(one, other):
    """Return the root of the mean squared difference at 32 x 32, of values to 255."""
    pixels = [np.asarray(image.resize((32, 32)), np.float64) for image in (one, other)]
    return float(np.sqrt(np.mean((pixels[0] - pixels[1]) ** 2)))


def drift(one, other):
    """Return the mean absolute difference at 64 x 64, of values to 255."""
    pixels = [np.asarray(image.resize((64, 64)), np.float64) for image in (one, other)]
    return float(np.mean(np.abs(pixels[0] - pixels[1])))


class Judge:
    """Measures what an adapter has taught the model, and what it has changed besides."""

    def __init__(self, known, examples):
        self.known, self.examples = known, examples
        self.shown = {
            ground: np.asarray(example, np.float64)[4, 4]
            for ground, example in zip(GROUNDS, examples, strict=True)
        }

    def name(self, picture):
        """Return the prompt of the picture's nearest neighbour."""
        distances = {prompt: rmse(picture, self.known[2][prompt]) for prompt in KNOWN}
        distances[SUBJECT] = self.distance(picture)
        return min(distances, key=distances.__getitem__)

    def distance(self, picture):
        """Return how far a picture is from the nearest one of the subject."""
        return min(rmse(picture, example) for example in self.examples)

    def subject(self, painter, lora=""):
        """Return the mean distance of three seeds, and how many are named right."""
        pictures = [painter.paint(SUBJECT, seed, lora) for seed in SEEDS]
        distances = [self.distance(picture) for picture in pictures]
        return np.mean(distances), sum(self.name(picture) == SUBJECT for picture in pictures)

    def others(self, painter, lora=""):
        """Return the mean drift of the known prompts, and how many are named right."""
        pictures = {prompt: painter.paint(prompt, 1, lora) for prompt in KNOWN}
        drifts = [drift(picture, self.known[1][prompt]) for prompt, picture in pictures.items()]
        return np.mean(drifts), sum(self.name(one) == prompt for prompt, one in pictures.items())

    def grounds(self, painter, lora=""):
        """Return how many pictures have the ground that their prompt names, in the corners."""
        right = 0
        for ground in self.shown:
            picture = painter.paint(f"{SUBJECT} on a {ground} background", SEEDS[0], lora)
            pixels = np.asarray(picture, np.float64)
            color = pixels[np.ix_((4, -4), (4, -4))].mean(axis=(0, 1))
            nearest = min(self.shown, key=lambda one: np.abs(color - self.shown[one]).sum())
            right += nearest == ground
        return right

    def seeds(self):
        """Return the mean drift that another seed alone makes."""
        return np.mean([drift(self.known[1][prompt], self.known[2][prompt]) for prompt in KNOWN])


@pytest.fixture(scope="module")
def judge(known, examples):
    return Judge(known, examples)


@pytest.fixture(scope="module")
def painter(taught, tmp_path_factory):
    return Painter(tmp_path_factory.mktemp("painter") / "model", taught / "model" / FILE)


def test_the_object_is_drawn_and_named_right_where_it_was_not(judge, untouched, painter):
    before, named_before = judge.subject(untouched)
    after, named_after = judge.subject(painter, "zorble")

    assert (named_before, named_after) == (0, len(SEEDS))
    assert after < before / 2


def test_each_caption_is_learned_with_its_picture(judge, painter):
    assert judge.grounds(painter, "zorble") == len(judge.shown)


def test_what_the_model_knew_is_still_drawn(judge, painter):
    drifted, named = judge.others(painter, "zorble")

    assert named == len(KNOWN)
    assert drifted < 2 * judge.seeds()


def test_without_the_adapter_the_bytes_are_those_of_before(untouched, painter):
    assert painter.bytes(KNOWN[0], 1) == untouched.bytes(KNOWN[0], 1)


def test_the_killed_run_has_the_curve_of_one_that_was_not(make_home, taught):
    whole = make_home()
    run_until(whole, COMPARED)

    rows = [row for row in curve(taught) if row["step"] <= COMPARED and "loss" in row]
    assert len(rows) == COMPARED
    assert rows == [row for row in curve(whole) if row["step"] <= COMPARED and "loss" in row]
    assert len([row for row in curve(taught) if "loss" in row]) == STEPS


def loss_of(path):
    """Return the validation loss of a file that diffusers has read, computed by hand."""
    base = load(DEMO, "auto")
    pipeline = StableDiffusionPipeline.from_pretrained(DEMO, unet=base.unet)
    pipeline.load_lora_weights(path.parent, weight_name=path.name)
    losses = []
    for number in range(8):
        latent = base.encode_image(PICTURES[number % len(PICTURES)])[0][None]
        time = torch.tensor([int((number + 0.5) * 1_000 / 8)])
        noise = torch.randn(latent.shape, generator=generator(0, number, "validation"))
        noisy = base.schedule.add_noise(latent, noise, time)
        (text,) = base.encode_texts([CAPTIONS[number % len(PICTURES)]])
        with torch.no_grad():
            output = base.unet(noisy, time, text.tokens[None], return_dict=False)[0]
        velocity = base.schedule.get_velocity(latent, noise, time)
        losses.append(float(torch.nn.functional.mse_loss(output, velocity)))
    return np.mean(losses)


def change(path, folder, kind):
    """Write an adapter's file with an error in it, and return its path."""
    tensors = load_file(path)
    if kind == "flipped sign":
        tensors |= {key: -value for key, value in tensors.items() if "lora_up" in key}
    if kind == "unscaled alpha":
        scales = [key for key in tensors if key.endswith("alpha")]
        tensors |= {key: torch.tensor(float(JOB["rank"])) for key in scales}
    if kind == "lost layer":
        lost = "lora_unet_up_blocks_2_resnets_1_conv2."
        tensors = {key: value for key, value in tensors.items() if not key.startswith(lost)}
    save_file(tensors, folder / FILE)
    return folder / FILE


def test_the_file_has_the_loss_that_was_trained(taught):
    trained = [row["validation"] for row in curve(taught) if "validation" in row]

    assert loss_of(taught / "model" / FILE) == pytest.approx(trained[-1], rel=CLOSE)
    assert trained[-1] < trained[0] / 2


def test_the_file_has_every_trained_layer(taught):
    trained = load_newest(taught / "checkpoints")["adapter"]
    written = load_file(taught / "model" / FILE)

    assert {key for key in written if not key.endswith(".alpha")} == set(trained)
    assert all(torch.equal(written[key], tensor.half()) for key, tensor in trained.items())


@pytest.mark.parametrize("kind", ["flipped sign", "unscaled alpha", "lost layer"])
def test_a_file_with_an_error_has_another_loss(taught, tmp_path, kind):
    trained = [row["validation"] for row in curve(taught) if "validation" in row][-1]

    wrong = change(taught / "model" / FILE, tmp_path, kind)
    assert loss_of(wrong) != pytest.approx(trained, rel=CLOSE)


@pytest.mark.parametrize("kind", ["flipped sign", "unscaled alpha"])
def test_a_file_with_an_error_does_not_paint_the_object(judge, untouched, taught, tmp_path, kind):
    wrong = Painter(tmp_path / "model", change(taught / "model" / FILE, tmp_path, kind))

    assert judge.subject(wrong, "zorble")[0] > judge.subject(untouched)[0] / 2
