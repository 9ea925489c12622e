import json

import torch

from model_package.stand_in import make_stand_in
from tests.benchmarks.lib.model_package import training_run
from tests.benchmarks.lib.model_package.diffusers_script import DiffusersScript, Options
from tests.benchmarks.sections.model_package import training
from tests.model_package.training import zorble

OPTIONS = {"resolution": 64, "train_batch_size": 4, "rank": 2, "learning_rate": 1e-2,
           "snr_gamma": 5.0, "max_train_steps": 9, "gradient_checkpointing": False}  # fmt: skip


def test_the_script_trains_each_family(tmp_path):
    zorble.write(tmp_path, side=64)
    for kind in ("sd", "sdxl"):
        model = make_stand_in(tmp_path / kind, kind=kind)
        script = DiffusersScript(model, tmp_path, Options(**OPTIONS))
        before = [tensor.detach().clone() for tensor in script.trained]

        losses = [loss for loss, _ in zip(script.steps(), range(3), strict=False)]

        assert all(0 < loss < 10 for loss in losses)
        changed = [not torch.equal(*pair) for pair in zip(before, script.trained, strict=True)]
        assert sum(changed) > len(changed) / 2


def test_the_script_can_train_easels_layers(tmp_path):
    spec = training.Spec(64, {"rank": 2})
    model = make_stand_in(tmp_path / "model", kind="sd")
    home = training.make_home(tmp_path / "job", model, spec, checkpointing=False)
    fields = json.loads((home / "input/data/job/job.json").read_text())
    names = training_run.layers(model, training_run.Job.from_dict(fields))

    script = DiffusersScript(model, home / "input/data/pictures", Options(**OPTIONS, layers=names))

    assert len(script.trained) == 2 * len(names)
    assert any(name.endswith("proj_in") for name in names)


def test_a_trainer_answers_each_request_for_steps(tmp_path):
    model = make_stand_in(tmp_path / "model", kind="sd")
    home = training.make_home(tmp_path / "job", model, training.Spec(64), checkpointing=False)

    with training_run.Run(training_run.EASEL, home) as run:
        took = [run.steps(count) for count in (1, 2)]

    assert all(steps.seconds > 0 and steps.processor > 0 for steps in took)
    assert took[1].megabytes >= took[0].megabytes > 100
    lines = (home / "checkpoints" / "progress.jsonl").read_text().splitlines()
    assert sum('"loss"' in line for line in lines) == 3


def test_without_a_gpu_large_models_are_not_measured():
    (row,) = training.measure("sdxl", rounds=2, count=1)

    assert (row.value, row.note) == (None, "needs a GPU")
