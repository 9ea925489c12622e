"""The training loop of all parts: learning rate, averaged weights, checkpoints, resuming."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_package.training.checkpoints import load_newest, save_checkpoint

REPORT_STEPS = 100
WARM_UP_STEPS = 100
CLIP_NORM = 1.0


@dataclass
class Rng:
    """The two random number generators of a training run, whose state a checkpoint includes."""

    seed: int = 0
    choices: np.random.Generator = field(init=False)
    noise: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.choices = np.random.default_rng(self.seed)
        self.noise = torch.Generator().manual_seed(self.seed)

    def state(self) -> dict[str, Any]:
        return {"choices": self.choices.bit_generator.state, "noise": self.noise.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.choices.bit_generator.state = state["choices"]
        self.noise.set_state(state["noise"])


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    It is in seconds of training, because machines differ a hundredfold in speed and the learning
    rate must have decayed by the end: much of the sharpness comes from the decay.
    """

    seconds: float
    rate: float
    hold: float = 0.35  # share of the time before the rate starts to decay
    floor: float = 0.01  # share of the rate at the end
    average: float = 0.9985  # of the averaged weights, the share that is kept in each step
    checkpoint_seconds: float = 300

    def rate_at(self, seconds: float, step: int) -> float:
        """Warm up for some steps, hold, then decay along half a cosine."""
        progress = min(seconds / self.seconds, 1.0)
        fall = max(progress - self.hold, 0) / (1 - self.hold)
        share = self.floor + (1 - self.floor) * (1 + math.cos(math.pi * fall)) / 2
        return self.rate * share * min((step + 1) / WARM_UP_STEPS, 1.0)


def never_called() -> None:
    """The default of `at_checkpoint`."""


class Trainer:
    """Trains one module by a plan; after an interruption it resumes at its last checkpoint.

    Args:
        module: the module to train; all its weights are in named children.
        plan: how long and how fast.
        folder: for the checkpoints. The one before the rate decays is kept in its folder
            `before-fall`: a longer plan can continue from there without a loss.
        clock: seconds from any start.
        rng: the random number generators; the default is seeded with 0.
        shares: for children that are trained more slowly, their share of the rate.
    """

    def __init__(
        self,
        module: nn.Module,
        plan: Plan,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
        rng: Rng | None = None,
        shares: dict[str, float] | None = None,
    ) -> None:
        self.module = module
        self.plan = plan
        self.folder = folder
        self.clock = clock
        self.rng = rng or Rng()
        self.average = copy.deepcopy(module).requires_grad_(False).eval()
        groups = [
            {"params": list(part.parameters()), "share": (shares or {}).get(name, 1.0)}
            for name, part in module.named_children()
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.step = 0
        self.seconds = 0.0
        self.loss = math.nan  # a running mean, for reports

    def resume(self) -> bool:
        """Load the newest intact checkpoint; return whether there was one."""
        state = load_newest(self.folder)
        if state is None:
            return False
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.restore(state["chance"])  # a key of existing checkpoints
        self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]
        print(f"resumed at step {self.step}, after {self.seconds:.0f} s of training")
        return True

    def save(self, folder: Path | None = None) -> None:
        """Write all that `resume` reads."""
        state = {
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "chance": self.rng.state(),
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
        }
        save_checkpoint(folder or self.folder, self.step, state)

    def train(
        self,
        loss_of: Callable[[nn.Module, Rng], Tensor],
        at_checkpoint: Callable[[], None] = never_called,
    ) -> None:
        """Train until the end of the plan; do nothing if it is already reached."""
        if self.seconds >= self.plan.seconds:
            return
        saved = self.seconds
        while self.seconds < self.plan.seconds:
            started, held = self.clock(), self.is_held()
            self.take_step(loss_of)
            self.seconds += self.clock() - started
            if held and not self.is_held():
                self.save(self.folder / "before-fall")
            if self.seconds - saved >= self.plan.checkpoint_seconds:
                self.save()
                at_checkpoint()
                saved = self.seconds
        self.save()
        at_checkpoint()

    def is_held(self) -> bool:
        """Whether the rate has not begun to decay."""
        return self.seconds < self.plan.hold * self.plan.seconds

    def take_step(self, loss_of: Callable[[nn.Module, Rng], Tensor]) -> None:
        """Make one step of the optimizer and of the averaged weights."""
        rate = self.plan.rate_at(self.seconds, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        loss = loss_of(self.module, self.rng)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.module.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.update_average()
        self.step += 1
        self.report(float(loss.detach()), rate)

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the average towards the weights; faster at first, when they change most."""
        share = max(1 - self.plan.average, 1 / (self.step + 10))
        averages: list[Tensor] = list(self.average.parameters())
        weights: list[Tensor] = list(self.module.parameters())
        torch._foreach_lerp_(averages, weights, share)

    def report(self, loss: float, rate: float) -> None:
        """Print a line every REPORT_STEPS steps."""
        self.loss = loss if math.isnan(self.loss) else self.loss + (loss - self.loss) / 50
        if self.step % REPORT_STEPS == 0:
            done = f"step {self.step}, {self.seconds:.0f} of {self.plan.seconds:.0f} s"
            print(f"{done}: loss {self.loss:.4f}, rate {rate:.1e}", flush=True)
