from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from model_package.demo.training.trainer import Plan, Rng, Trainer

PLAN = Plan(seconds=40, rate=0.01, hold=0.5, checkpoint_seconds=10)


@dataclass
class Clock:
    """Goes on by a second each time that it is looked at, so that a step takes one."""

    now: float = 0

    def __call__(self):
        self.now += 1
        return self.now


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.fast = nn.Linear(3, 3)
        self.slow = nn.Linear(3, 1)


def guess(model, rng):
    """A objective that uses both random sources."""
    assert isinstance(model, Student)
    inputs = torch.randn(4, 3, generator=rng.noise) + float(rng.choices.normal())
    difference: Tensor = model.slow(model.fast(inputs)) - inputs.sum(1, keepdim=True)
    return difference.square().mean()


def new_trainer(folder, plan=PLAN):
    torch.manual_seed(0)
    return Trainer(Student(), plan, folder, Clock(), shares={"slow": 0.5})


def stop_after(count):
    """A objective that is cut off, as a machine that is switched off would."""
    taken = 0

    def objective(model, rng):
        nonlocal taken
        taken += 1
        if taken > count:
            raise KeyboardInterrupt
        return guess(model, rng)

    return objective


def weights(module):
    return [weight.detach().clone() for weight in module.parameters()]


def test_a_run_that_was_cut_off_ends_where_an_unbroken_one_does(tmp_path):
    unbroken = new_trainer(tmp_path / "unbroken")
    unbroken.train(guess)

    cut_off = new_trainer(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        cut_off.train(stop_after(17))
    resumed = new_trainer(tmp_path / "cut")
    resumed.resume()
    assert 0 < resumed.step < 17
    resumed.train(guess)

    assert resumed.step == unbroken.step
    for left, right in (
        (unbroken.module, resumed.module),
        (unbroken.average, resumed.average),
    ):
        assert all(map(torch.equal, weights(left), weights(right)))


def test_a_new_run_starts_at_the_beginning(tmp_path):
    trainer = new_trainer(tmp_path)
    trainer.resume()
    assert trainer.step == 0


def test_the_loss_falls(tmp_path):
    trainer = new_trainer(tmp_path, replace(PLAN, seconds=600, rate=0.05))
    before = float(guess(trainer.module, Rng(5)).detach())
    trainer.train(guess)
    assert float(guess(trainer.module, Rng(5)).detach()) < before / 10


def test_the_rate_rises_holds_and_falls():
    assert PLAN.rate_at(0, 0) < PLAN.rate / 50
    assert PLAN.rate_at(19, 500) == pytest.approx(PLAN.rate)
    assert PLAN.rate / 4 < PLAN.rate_at(30, 500) < PLAN.rate
    assert PLAN.rate_at(40, 500) == pytest.approx(PLAN.rate * PLAN.floor)


def test_a_slow_part_has_a_lower_rate(tmp_path):
    trainer = new_trainer(tmp_path)
    trainer.train(guess)
    fast, slow = (group["lr"] for group in trainer.optimizer.param_groups)
    assert slow == pytest.approx(fast / 2)


def test_the_weights_from_before_the_fall_are_kept(tmp_path):
    new_trainer(tmp_path).train(guess)
    (kept,) = (tmp_path / "before-fall").iterdir()
    assert kept.name == "step-0000020.pt"


def test_something_can_be_shown_at_every_checkpoint(tmp_path):
    trainer, shown = new_trainer(tmp_path), []
    trainer.train(guess, lambda: shown.append(trainer.step))
    assert shown == [10, 20, 30, 40, 40]


def test_the_average_follows_the_weights(tmp_path):
    trainer = new_trainer(tmp_path)
    start = weights(trainer.average)
    trainer.train(guess)
    way = zip(start, weights(trainer.average), weights(trainer.module), strict=True)
    for first, average, last in way:
        assert (average - first).norm() < (last - first).norm()
        assert (average - last).norm() < (last - first).norm()


def test_a_finished_training_is_not_trained_or_shown_again(tmp_path):
    new_trainer(tmp_path).train(guess)
    again = new_trainer(tmp_path)
    assert again.resume()
    steps, shown = again.step, list[int]()
    again.train(guess, lambda: shown.append(1))
    assert (again.step, shown) == (steps, [])
