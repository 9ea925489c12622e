"""The training loop."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .adapter import Adapter
from .base_model import BaseModel, Text
from .checkpoints import load_newest, save_checkpoint
from .examples import Batch, Examples
from .failures import TrainingFailed
from .job import Job
from .loss import min_snr_weights, noisy_and_target
from .progress import Progress
from .randomness import generator
from .samples import draw_sheet

CLIP_NORM = 1.0
_VALIDATED = 8  # noise levels of the validation loss, at least
_LARGEST_ON_CPU = 200_000_000  # numbers; Stable Diffusion 1 has four times as many
_FULL = 0.9  # of the GPU's memory; the optimizer's state is not there yet


class Stopped(Exception):
    """Training was asked to end; a checkpoint is written."""


@dataclass
class Data:
    """What the loop trains on.

    Attributes:
        examples: the pictures.
        of_class: pictures of the class, or None.
        texts: embeddings by text, if no text encoder is trained.
        validated: those of the validation loss: held out, or the pictures themselves.
    """

    examples: Examples
    of_class: Examples | None
    texts: dict[str, Text]
    validated: Examples


class Loop:
    """Trains an adapter, from its newest checkpoint if there is one.

    Args:
        base: the model, with the adapter in it.
        steps: of the optimizer.
        folder: for checkpoints, progress and samples.
        fingerprint: of all that a checkpoint depends on.
        stopped: whether to write a checkpoint and end.
        clock: seconds from any start.

    Raises:
        TrainingFailed: if the folder's checkpoints are of another job.
    """

    def __init__(
        self,
        job: Job,
        base: BaseModel,
        adapter: Adapter,
        data: Data,
        *,
        steps: int,
        folder: Path,
        fingerprint: str,
        stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.job, self.base, self.adapter, self.data = job, base, adapter, data
        self.steps, self.folder, self.fingerprint = steps, folder, fingerprint
        self._stopped, self._clock = stopped, clock
        self.step = 0
        self.seconds = 0.0  # of training, with those before an interruption
        self.optimizer = _optimizer(adapter, job)
        # Small gradients would become zero in fp16.
        self.scaler = torch.amp.GradScaler(base.device.type, enabled=base.dtype == torch.float16)  # type: ignore[attr-defined, unused-ignore]
        base.unet.train()
        if job.gradient_checkpointing or (
            job.gradient_checkpointing is None and self._is_memory_short()
        ):
            base.unet.enable_gradient_checkpointing()
        self._resume()
        self.progress = Progress(folder / "progress.jsonl", self.step)

    def run(self) -> None:
        """Train until the last step.

        Raises:
            TrainingFailed: at the first loss or gradient that is not finite.
            Stopped: after writing a checkpoint, if `stopped` is true.
        """
        saved = self._clock()
        while True:
            self._watch()
            if self.step == self.steps:
                self.save()
                return
            started = self._clock()
            loss, rate = self._take_step()
            took = self._clock() - started
            self.seconds += took
            cost = self.seconds / 3_600 * self.job.usd_per_hour
            self.progress.add(self.step, loss=loss, rate=rate, seconds=took, cost=cost)
            if self._stopped():
                self.save()
                raise Stopped
            if self._clock() - saved >= self.job.checkpoint_seconds:
                self.save()
                saved = self._clock()

    def save(self) -> None:
        """Write a checkpoint."""
        state = {
            "fingerprint": self.fingerprint,
            "step": self.step,
            "seconds": self.seconds,
            "adapter": {key: tensor.cpu() for key, tensor in self.adapter.state().items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        save_checkpoint(self.folder, self.step, state)

    def _resume(self) -> None:
        state = load_newest(self.folder)
        if state is None:
            return
        if state["fingerprint"] != self.fingerprint:
            raise TrainingFailed(
                "The checkpoints are of another job, or its pictures have changed; start with an "
                "empty checkpoint folder."
            )
        self.adapter.load_state(state["adapter"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]
        print(f"resumed at step {self.step}", flush=True)

    def _is_memory_short(self) -> bool:
        """Whether activations have to be computed twice: measured with the largest batch.

        Nothing of it remains: a step's random numbers do not depend on the steps before it.
        """
        if self.base.device.type == "cpu":
            numbers = sum(tensor.numel() for tensor in self.base.unet.parameters())
            return bool(numbers > _LARGEST_ON_CPU)
        torch.cuda.reset_peak_memory_stats()
        try:
            for loss in self._losses(self.data.examples.largest_batch()):
                loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        except torch.cuda.OutOfMemoryError:
            is_short = True
        else:
            total = torch.cuda.get_device_properties(self.base.device).total_memory
            is_short = torch.cuda.max_memory_allocated() > _FULL * total
        for tensor in self.adapter.parameters():
            tensor.grad = None
        torch.cuda.empty_cache()
        if is_short:
            print("activations are computed twice: the GPU's memory is too small", flush=True)
        return is_short

    def _watch(self) -> None:
        """Compute the validation loss and draw samples, where they are due."""
        last = self.step == self.steps
        if last or self.step % self.job.validate_every == 0:
            self.progress.add(self.step, validation=self._validate())
        path = self.folder / "samples" / f"step-{self.step:05}.png"
        due = last or self.step % self.job.sample_every == 0
        if self.job.sample_prompts and due and not path.is_file():
            if self.step:
                self.save()
            with torch.no_grad():
                empty, *texts = self._texts(["", *self.job.sample_prompts])
            draw_sheet(self.base, texts, empty, self.job.seed, path)

    def _take_step(self) -> tuple[float, float]:
        """Make a step of the optimizer; return loss and rate."""
        rate = rate_at(self.job, self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        total = 0.0
        for part in range(self.job.accumulation):
            number = self.step * self.job.accumulation + part
            for loss in self._losses(number):
                total += float(loss.detach()) / self.job.accumulation
                self._check_finite("loss", total)
                # Each term frees its activations before the next one is computed.
                scaled: Any = self.scaler.scale(loss / self.job.accumulation)
                scaled.backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.adapter.parameters(), CLIP_NORM)
        if not self.scaler.is_enabled():  # the scaler skips a step that overflowed
            self._check_finite("gradient", float(norm))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        # Prodigy multiplies the rate by what it has found.
        found = self.optimizer.param_groups[0].get("d", 1.0)
        return total, rate * (self.job.rate or 0.0) * float(found)

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise TrainingFailed(
                f"The {what} is not a finite number at step {self.step + 1}; lower rate, or set "
                "precision to bf16 or fp32."
            )

    def _losses(self, number: int) -> Iterator[Tensor]:
        """Yield the terms of a batch's loss."""
        batch = self.data.examples.batch(number)
        noise, timesteps = self._noise(batch, number, "noise")
        yield self._loss(batch, noise, timesteps)
        if self.data.of_class is not None:
            other = self.data.of_class.batch(number)
            noise, timesteps = self._noise(other, number, "class/noise")
            yield self.job.preserve_weight * self._loss(other, noise, timesteps)
        elif self.job.preserve == "output":
            yield self.job.preserve_weight * self._drift(batch, noise, timesteps)

    def _noise(self, batch: Batch, number: int, purpose: str) -> tuple[Tensor, Tensor]:
        """Return noise and timesteps.

        The offset makes the mean of a picture trainable:
        https://www.crosslabs.org/blog/diffusion-with-offset-noise
        """
        random = generator(self.job.seed, number, purpose)
        count, channels = batch.latents.shape[:2]
        noise = torch.randn(batch.latents.shape, generator=random)
        offset = torch.randn((count, channels, 1, 1), generator=random)
        noise += self.job.noise_offset * offset
        levels = len(self.base.schedule.alphas_cumprod)
        timesteps = torch.randint(levels, (count,), generator=random)
        return noise, timesteps

    def _loss(self, batch: Batch, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return a batch's loss, weighted by noise level."""
        schedule = self.base.schedule
        noisy, target = noisy_and_target(schedule, batch.latents, noise, timesteps)
        predicted = self._predict(noisy, timesteps, batch.captions, batch.sizes)
        losses = (predicted - target.to(predicted.device)).square().mean(dim=(1, 2, 3))
        weights = min_snr_weights(schedule, timesteps, self.job.min_snr)
        return (losses * weights.to(losses.device)).mean()

    def _drift(self, batch: Batch, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return how far the prediction for the class is from the model's without the adapter."""
        schedule = self.base.schedule
        noisy, _ = noisy_and_target(schedule, batch.latents, noise, timesteps)
        captions = [self.job.class_prompt] * len(batch.captions)
        self.adapter.enable(False)
        try:
            with torch.no_grad():
                target = self._predict(noisy, timesteps, captions, batch.sizes)
        finally:
            self.adapter.enable(True)
        predicted = self._predict(noisy, timesteps, captions, batch.sizes)
        losses = (predicted - target).square().mean(dim=(1, 2, 3))
        weights = min_snr_weights(schedule, timesteps, self.job.min_snr)
        return (losses * weights.to(losses.device)).mean()

    def _predict(
        self, noisy: Tensor, timesteps: Tensor, captions: Sequence[str], sizes: Tensor
    ) -> Tensor:
        """Return the UNet's prediction, in 32 bits."""
        device, dtype = self.base.device, self.base.dtype
        with self._autocast():
            texts = self._texts(captions)
            tokens = torch.stack([text.tokens for text in texts]).to(device, dtype)
            extra: dict[str, Any] = {}
            if self.base.is_xl:
                pooled = torch.stack([text.pooled for text in texts if text.pooled is not None])
                extra["added_cond_kwargs"] = {
                    "text_embeds": pooled.to(device, dtype),
                    "time_ids": sizes.to(device, dtype),
                }
            output: Tensor = self.base.unet(
                noisy.to(device, dtype), timesteps.to(device), tokens, return_dict=False, **extra
            )[0]
        return output.float()

    def _texts(self, texts: Sequence[str]) -> list[Text]:
        if self.data.texts:
            return [self.data.texts[text] for text in texts]
        return self.base.encode_texts(texts)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.base.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.base.device.type, self.base.dtype)

    @torch.no_grad()
    def _validate(self) -> float:
        """Return the loss on the same pictures, noise and timesteps each time, without weights."""
        examples, levels = self.data.validated.examples, len(self.base.schedule.alphas_cumprod)
        total = 0.0
        held_out = self.data.validated is not self.data.examples
        count = max(_VALIDATED, len(examples)) if held_out else _VALIDATED
        for number in range(count):
            example = examples[number % len(examples)]
            latent = example.latents[0][0][None]
            timesteps = torch.tensor([int((number + 0.5) * levels / count)])
            random = generator(self.job.seed, number, "validation")
            noise = torch.randn(latent.shape, generator=random)
            noisy, target = noisy_and_target(self.base.schedule, latent, noise, timesteps)
            sizes = torch.tensor([example.size])
            predicted = self._predict(noisy, timesteps, example.captions[:1], sizes)
            total += float((predicted - target.to(predicted.device)).square().mean())
        self._check_finite("validation loss", total)
        return total / count


def require_optimizer(job: Job) -> None:
    """Refuse Prodigy without its package, before anything is computed; raises TrainingFailed."""
    if job.optimizer == "prodigy" and not has_prodigy():
        raise TrainingFailed(
            "optimizer is prodigy, which needs the package prodigyopt: install it where"
            " `python -m endpoint` runs, so that it is uploaded with the trainer, or set optimizer"
            " to adamw."
        )


def has_prodigy() -> bool:
    """Whether Prodigy's package is there."""
    return importlib.util.find_spec("prodigyopt") is not None


def rate_at(job: Job, step: int, steps: int) -> float:
    """Return the share of the learning rate for a step, counted from 0."""
    warm = round(job.warm_up * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    done = (step - warm) / max(steps - warm, 1)
    if job.schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    return 1 - done if job.schedule == "linear" else 1.0


def _optimizer(adapter: Adapter, job: Job) -> torch.optim.Optimizer:
    parts = {layer.part for layer in adapter.layers}
    groups: list[dict[str, Any]] = [
        {
            "params": adapter.parameters(part),
            "peak": job.rate if part == "unet" else job.text_encoder_rate,
        }
        for part in sorted(parts)
    ]
    if job.optimizer == "prodigy":
        # As the presets for kohya's scripts set it. During the warm-up, small rates would not
        # count as small steps without the safeguard. https://github.com/konstmish/prodigy
        kind: Any = importlib.import_module("prodigyopt").Prodigy
        options = {"use_bias_correction": True, "safeguard_warmup": True}
        return kind(groups, lr=1.0, weight_decay=job.weight_decay, **options)  # type: ignore[no-any-return]
    if job.optimizer == "adafactor":
        # By default a step is scaled by the size of its tensor, at least 0.001; an adapter starts
        # at 0. With at least 1, the rate means what it means in kohya's scripts.
        return torch.optim.Adafactor(groups, lr=1.0, eps=(None, 1.0), weight_decay=job.weight_decay)
    return torch.optim.AdamW(groups, lr=1.0, weight_decay=job.weight_decay, fused=True)
