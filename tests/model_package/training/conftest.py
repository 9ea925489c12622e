import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from model_package.training import dataset
from model_package.training.__main__ import fingerprint_of, prepare, train
from model_package.training.adapter import Adapter
from model_package.training.base_model import load
from model_package.training.examples import hold_out
from model_package.training.job import Job, read_fields
from model_package.training.loop import Loop

DEMO = Path(__file__).parents[3] / "model_package" / "demo" / "weights"


class Home:
    """The folders of a training job, /opt/ml, with a tiny job in them."""

    def __init__(self, folder, model, **fields):
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        channels = folder / "input" / "data"
        self.pictures = channels / "pictures"
        for place in (self.pictures, channels / "job", channels / "class"):
            place.mkdir(parents=True)
        (channels / "model").symlink_to(model)
        self.job_file = channels / "job" / "job.json"
        self.fields = {"name": "zorble", "instance_prompt": "a zorble", "resolution": 64,
                       "steps": 2, "rank": 2, "rate": 1e-2, **fields}  # fmt: skip
        self.job_file.write_text(json.dumps(self.fields))
        for number, color in enumerate(("white", "blue")):
            draw(color).save(self.pictures / f"{number}.png")

    def train(self):
        train(self.folder, [])
        return self.lines()

    def loop(self, **options):
        job = Job.from_dict(read_fields(self.job_file))
        items, _ = dataset.read_folder(self.pictures, job)
        others = []
        if job.preserve == "pictures":
            others, _ = dataset.class_items(self.folder / "input" / "data" / "class", job)
        base = load(self.folder / "input" / "data" / "model", job.precision)
        trained, held_out = hold_out(items, job)
        data = prepare(job, base, trained, others, held_out)
        fingerprint = fingerprint_of(job, items, others, base)
        return Loop(job, base, Adapter(base, job), data, steps=job.steps or 2,
                    folder=self.checkpoints, fingerprint=fingerprint, **options)  # fmt: skip

    def lines(self):
        path = self.checkpoints / "progress.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def losses(self):
        """Return the curve without what depends on the clock."""
        return [
            {name: value for name, value in line.items() if name not in ("seconds", "cost")}
            for line in self.lines()
        ]


def draw(color):
    image = Image.new("RGB", (64, 64), color)
    ImageDraw.Draw(image).ellipse((12, 12, 52, 52), fill="cyan", outline="magenta", width=6)
    return image


@pytest.fixture
def home(tmp_path, stand_in):
    """Return a function that makes a job's folders: for a kind of stand-in, or a model's folder."""

    def make(kind="sd", name="home", **fields):
        model = stand_in(kind=kind) if isinstance(kind, str) else kind
        return Home(tmp_path / name, model, **fields)

    return make
