import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from diffusers.training_utils import compute_snr
from safetensors.torch import load_file
from torch.nn.functional import mse_loss

from model_package.training.failures import TrainingFailed
from model_package.training.loop import Stopped, has_prodigy
from tests.model_package.training.conftest import DEMO
from tests.packages import ROOT

COMMAND = [sys.executable, "-m", "model_package.training"]


def environment(folder):
    paths = f"{ROOT}{os.pathsep}{ROOT / 'model_package' / 'code'}"
    return {**os.environ, "EASEL_TRAINING_HOME": str(folder), "PYTHONPATH": paths}


def test_a_killed_run_resumes_bit_for_bit(home):
    job = {"steps": 12, "batch_size": 2, "caption_dropout": 0.3, "flip": True, "validate_every": 4,
           "noise_offset": 0.1}  # fmt: skip
    whole = home(name="whole", **job)
    whole.train()
    killed = home(name="killed", checkpoint_seconds=0, **job)

    with subprocess.Popen(COMMAND, env=environment(killed.folder)) as child:
        while not any(killed.checkpoints.glob("step-0000004.pt")):
            assert child.poll() is None
            time.sleep(0.005)
        child.kill()
    assert killed.lines()[-1]["step"] < 12
    killed.train()

    assert killed.losses() == whole.losses()
    one, other = (load_file(each.folder / "model/zorble.safetensors") for each in (killed, whole))
    assert all(torch.equal(one[key], other[key]) for key in one.keys() | other.keys())


@pytest.mark.parametrize(
    "optimizer",
    [
        "adamw",
        "adafactor",
        pytest.param(
            "prodigy", marks=pytest.mark.skipif(not has_prodigy(), reason="no prodigyopt")
        ),
    ],
)
def test_a_stopped_run_writes_a_checkpoint_and_resumes(home, optimizer):
    job = {"steps": 4, "optimizer": optimizer, "text_encoder_rate": 1e-2, "accumulation": 2}
    whole = home(name="whole", **job)
    whole.loop().run()
    stopped = home(name="stopped", **job)
    loop = stopped.loop(stopped=lambda: loop.step == 2)

    with pytest.raises(Stopped):
        loop.run()
    assert [path.name for path in stopped.checkpoints.glob("*.pt")] == ["step-0000002.pt"]
    resumed = stopped.loop()
    assert resumed.step == 2
    resumed.run()

    assert stopped.losses() == whole.losses()


def test_a_run_resumes_in_another_folder(home):
    """As in the emulator, or where somebody continues on another machine."""
    one = home(steps=2, checkpoint_seconds=0)
    loop = one.loop(stopped=lambda: loop.step == 1)
    with pytest.raises(Stopped):
        loop.run()
    other = home(name="other", steps=2)
    one.checkpoints.rename(other.checkpoints)

    assert other.loop().step == 1


@pytest.mark.skipif(has_prodigy(), reason="prodigyopt is installed")
def test_prodigy_without_its_package_is_refused_before_anything_is_computed(home):
    with pytest.raises(TrainingFailed, match="optimizer is prodigy.* prodigyopt.* adamw"):
        home(optimizer="prodigy", rate=1).train()


@pytest.mark.skipif(not has_prodigy(), reason="needs prodigyopt")
def test_prodigy_finds_the_rate(home):
    fields = {"rate": None, "steps": 80, "rank": 8, "schedule": "constant", "warm_up": 0}
    lines = home(DEMO, optimizer="prodigy", **fields).train()

    first, *_, last = (line["rate"] for line in lines if "rate" in line)
    assert last > 3 * first
    losses = [line["validation"] for line in lines if "validation" in line]
    assert losses[-1] < losses[0]


def test_pictures_that_are_held_out_are_validated_on_and_not_trained_on(home):
    one = home(held_out=0.5)
    (one.pictures / "0.txt").write_text("a")
    (one.pictures / "1.txt").write_text("b")
    loop = one.loop()

    assert len(loop.data.examples.examples) == len(loop.data.validated.examples) == 1
    assert loop.data.examples.captions() | loop.data.validated.captions() == {"a", "b"}
    assert [line["step"] for line in one.train() if "validation" in line] == [0, 2]


class _Full:
    """A GPU whose memory has so many bytes, of which a number is used at most."""

    type = "cuda"

    def __init__(self, monkeypatch, used, total=100):
        for name, value in {
            "reset_peak_memory_stats": lambda: None,
            "empty_cache": lambda: None,
            "max_memory_allocated": lambda: used,
            "get_device_properties": lambda _: SimpleNamespace(total_memory=total),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)


@pytest.mark.parametrize(("used", "is_short"), [(80, False), (95, True), (None, True)])
def test_activations_are_computed_twice_where_the_memory_is_too_small(
    home, monkeypatch, used, is_short
):
    loop = home(batch_size=2).loop()
    assert not loop.base.unet.is_gradient_checkpointing
    if used is None:

        def losses(number):
            raise torch.cuda.OutOfMemoryError

        monkeypatch.setattr(loop, "_losses", losses)
    real, loop.base.device = loop.base.device, _Full(monkeypatch, used)
    monkeypatch.setattr(loop, "_predict", _on(loop, real))

    assert loop._is_memory_short() is is_short
    assert all(tensor.grad is None for tensor in loop.adapter.parameters())


def _on(loop, device):
    """Return the loop's prediction on a device that it has."""
    predict = loop._predict

    def on_it(*arguments):
        fake, loop.base.device = loop.base.device, device
        try:
            return predict(*arguments)
        finally:
            loop.base.device = fake

    return on_it


def test_a_choice_of_gradient_checkpointing_is_kept(home):
    assert home(gradient_checkpointing=True).loop().base.unet.is_gradient_checkpointing


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_the_loss_decreases(home, kind):
    lines = home(kind, steps=12, rate=3e-2, rank=8, conv=True, batch_size=2).train()

    first, last = (line["validation"] for line in lines if "validation" in line)
    assert last < 0.97 * first


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_the_loss_is_that_of_diffusers_script(home, kind):
    loop = home(kind, batch_size=2, text_encoder_rate=1e-3).loop()
    batch = loop.data.examples.batch(0)
    noise, timesteps = loop._noise(batch, 0, "noise")

    (loss,) = loop._losses(0)

    base = loop.base
    noisy = base.schedule.add_noise(batch.latents, noise, timesteps)
    texts = base.encode_texts(batch.captions)
    extra = {}
    if kind == "sdxl":
        pooled = torch.stack([text.pooled for text in texts])
        extra = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": batch.sizes}}
    tokens = torch.stack([text.tokens for text in texts])
    predicted = base.unet(noisy, timesteps, tokens, return_dict=False, **extra)[0]
    snr = compute_snr(base.schedule, timesteps)
    weights = torch.stack([snr, 5 * torch.ones_like(timesteps)], dim=1).min(dim=1)[0] / snr
    losses = mse_loss(predicted.float(), noise.float(), reduction="none")
    expected = (losses.mean(dim=[1, 2, 3]) * weights).mean()
    torch.testing.assert_close(loss, expected)


def test_pictures_of_the_class_add_their_weighted_loss(home):
    one = home(preserve="pictures", class_prompt="a thing", preserve_weight=0.5)
    (one.pictures / "0.png").rename(one.folder / "input" / "data" / "class" / "0.png")
    loop = one.loop()

    loss, of_class = loop._losses(3)

    batch = loop.data.of_class.batch(3)
    noise, timesteps = loop._noise(batch, 3, "class/noise")
    torch.testing.assert_close(of_class, 0.5 * loop._loss(batch, noise, timesteps))
    assert set(loop.data.of_class.captions()) == {"a thing"}
    assert float(loss.detach()) > 0


def test_the_output_for_the_class_is_preserved(home):
    loop = home(preserve="output", class_prompt="a thing").loop()

    _, drift = loop._losses(0)
    assert float(drift.detach()) == 0  # the adapter has no effect yet
    with torch.no_grad():
        for layer in loop.adapter.layers:
            layer.up.fill_(0.1)
    _, drift = loop._losses(0)

    assert float(drift.detach()) > 0
    drift.backward()
    assert all(tensor.grad is not None for tensor in loop.adapter.parameters())


def test_accumulation_is_a_larger_batch(home):
    loop = home(accumulation=2, min_snr=0).loop()
    with torch.no_grad():
        expected = sum(float(next(loop._losses(number))) for number in (0, 1)) / 2

    loop._take_step()
    loss, _ = loop._take_step()

    assert loss != expected
    assert home(name="again", accumulation=2, min_snr=0).loop()._take_step()[0] == pytest.approx(
        expected
    )


def test_checkpoints_of_another_job_are_refused(home):
    one = home()
    one.train()
    one.job_file.write_text(one.job_file.read_text().replace("0.01", "0.02"))

    with pytest.raises(TrainingFailed, match="of another job"):
        one.train()
