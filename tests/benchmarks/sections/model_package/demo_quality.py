"""How often the bundled model draws what the prompt says, according to a small classifier.

    python -m tests.benchmarks.sections.model_package.demo_quality  # may train the judge first

The judge is trained only on renderings of the artwork, never on generated images, and is first
evaluated on new renderings: its own accuracy limits that of all other figures. Prompts and seeds
differ from those of the training's sample sheets; half of the colour prompts combine a thing with a
colour that is held out from the model's training.

`--refined` includes the refiner from the model's folder, which is not used by default.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from easel.pipelines.ensemble import REFINER_START
from easel.pipelines.unet_swap import CALLBACK, UNetSwap
from model_package.demo.artwork import load_artwork
from model_package.demo.data.captions import Captioner
from model_package.demo.data.colours import COLOUR_NAMES
from model_package.demo.data.compose import (
    KINDS,
    NO_COLOUR,
    NO_THING,
    Composer,
    Spec,
    SpecMaker,
    is_held_out,
)
from model_package.demo.data.scenes import BACKGROUNDS
from model_package.demo.data.things import Thing, all_things
from model_package.demo.training.trainer import Plan, Rng, Trainer
from model_package.demo.work_dir import WEIGHTS, WORK_DIR, use_threads
from tests.benchmarks.lib.report import Figure, Row, Section

# Knobs
JUDGE_SECONDS = 800  # of processor time on one core
JUDGE_BATCH = 64
RENDERINGS = 24_000  # to train the judge on
SIDE = 64  # of the judge's input in pixels; an image has twice as many
HELD_OUT_RENDERINGS = 2_000
COLOURED, ON_BACKGROUNDS, PAIRS, RIDERS = 120, 92, 80, 40  # prompts; and one per thing
DRAWN_AT_ONCE = 20
FIRST_SEED = 100_000
GUIDANCE = 3.0
SEED = 20_261  # of the prompts

PLAN = Plan(JUDGE_SECONDS, rate=2e-3, hold=0.3, average=0.995, checkpoint_seconds=60)
UNNAMED = -1
# The box of each thing in pixels: each of two things is judged separately.
VIEWS = {
    "single": ((0, 0, 128, 128),),
    "pair": ((0, 28, 72, 100), (56, 28, 128, 100)),
    "riding": ((28, 0, 100, 72), (16, 32, 112, 128)),
}
TEXT = """\
How often the bundled model draws what the prompt says, according to a small classifier that was
trained only on renderings of the artwork. The first rows are the accuracy of this judge, which
limits that of all other figures.
"""
THINGS, COLOURS = len(all_things()), len(COLOUR_NAMES)


# The judge


# The shares of renderings with one thing, two side by side, and one riding another. Independent of
# the model's training, so that the judge stays the same when that changes.
SHOWN = (0.82, 0.12, 0.06)


class EveryColour(SpecMaker):
    """Specs that include the colours held out from the model's training."""

    def pick_colour(self, thing: int, kind: str) -> int:
        if self.things[thing].fixed_colour or self.rng.random() < 0.5:
            return NO_COLOUR
        return int(self.rng.integers(COLOURS))


class Judge(nn.Module):
    """Classifies the things, the colour and the background of an image."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, 192)
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(before, after, 3, 2 if index < 3 else 1, 1, bias=False)]
            layers += [nn.GroupNorm(8, after), nn.SiLU(), nn.Conv2d(after, after, 3, 1, 1)]
            layers += [nn.GroupNorm(8, after), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.things = nn.Linear(2 * widths[-1], THINGS)
        self.colour = nn.Linear(2 * widths[-1], COLOURS)
        self.background = nn.Linear(2 * widths[-1], len(BACKGROUNDS))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores for images (N, 3, 64, 64) in -1..1."""
        features = self.features(images)
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        return self.things(pooled), self.colour(pooled), self.background(pooled)


def to_numbers(images: Sequence[Image.Image]) -> Tensor:
    """Return the judge's input: (N, 3, 64, 64) in -1..1."""
    small = [image.resize((SIDE, SIDE), Image.Resampling.BOX) for image in images]
    stacked = np.stack([np.asarray(image) for image in small])
    return torch.from_numpy(stacked).movedim(-1, 1).float() / 127.5 - 1


def render(composer: Composer, count: int, seed: int) -> tuple[list[Spec], list[Image.Image]]:
    """Renderings of the real artwork, in every colour."""
    rng = np.random.default_rng(seed)
    maker = EveryColour(rng, shares=SHOWN)
    specs = [maker.make() for _ in range(count)]
    return specs, [composer.draw(spec, rng) for spec in specs]


def degrade(images: Tensor, rng: Rng) -> Tensor:
    """Blur renderings and add noise, so that the judge relies on shapes and not on sharpness."""
    if rng.choices.random() < 0.5:
        factor = float(rng.choices.uniform(0.3, 1))
        small = interpolate(images, scale_factor=factor, mode="bilinear", antialias=True)
        images = interpolate(small, size=images.shape[-2:], mode="bilinear")
    amount = 0.15 * torch.rand(len(images), 1, 1, 1, generator=rng.noise)
    return images + amount * torch.randn(images.shape, generator=rng.noise)


def presence(specs: Sequence[Spec]) -> Tensor:
    """Return the things in each image as shares that sum to one."""
    shares = torch.zeros(len(specs), THINGS)
    for row, spec in zip(shares, specs, strict=True):
        row[[spec.thing] if spec.other == NO_THING else [spec.thing, spec.other]] = 1
    return shares / shares.sum(1, keepdim=True)


class JudgeObjective:
    """Batches of degraded renderings; missing attributes do not count."""

    def __init__(self, composer: Composer) -> None:
        self.specs, images = render(composer, RENDERINGS, SEED)
        self.images = to_numbers(images)
        self.things = presence(self.specs)
        # The colours of two things do not count: they are ambiguous.
        self.colours = torch.tensor(
            [spec.colour if spec.other == NO_THING else NO_COLOUR for spec in self.specs]
        )
        self.behind = torch.tensor([spec.background or UNNAMED for spec in self.specs])

    def __call__(self, judge: nn.Module, rng: Rng) -> Tensor:
        chosen = rng.choices.integers(RENDERINGS, size=JUDGE_BATCH)
        things, colour, background = judge(degrade(self.images[chosen], rng))
        return (
            cross_entropy(things, self.things[chosen])
            + cross_entropy(colour, self.colours[chosen], ignore_index=NO_COLOUR)
            + cross_entropy(background, self.behind[chosen], ignore_index=UNNAMED)
        )


def trained_judge(composer: Composer) -> Judge:
    """Return the judge, trained now or in an earlier run; resumes an interrupted training."""
    torch.manual_seed(0)
    trainer = Trainer(Judge(), PLAN, WORK_DIR / "judge", clock=time.process_time)
    trainer.resume()
    if trainer.seconds < PLAN.seconds:
        trainer.train(JudgeObjective(composer))
    assert isinstance(trainer.average, Judge)
    return trainer.average


# Verdicts


@dataclass
class Tally:
    """The number of correct verdicts, and of all."""

    right: int = 0
    asked: int = 0

    def count(self, right: bool) -> None:
        self.right += right
        self.asked += 1

    def __str__(self) -> str:
        return f"{100 * self.right / self.asked:.1f} % of {self.asked}" if self.asked else "-"


Verdicts = dict[str, Tally]


@torch.no_grad()
def see_things(judge: Judge, specs: Sequence[Spec], images: Sequence[Image.Image]) -> list[int]:
    """Return the most probable thing for each thing of each spec, in order."""
    views = [
        image.crop(box)
        for spec, image in zip(specs, images, strict=True)
        for box in VIEWS[KINDS[spec.kind]]
    ]
    guesses: list[int] = judge(to_numbers(views))[0].argmax(1).tolist()
    return guesses


@torch.no_grad()
def judge_images(judge: Judge, specs: Sequence[Spec], images: Sequence[Image.Image]) -> Verdicts:
    """Return tallies of thing, colour and background, or of both and either for two things."""
    tallies = {name: Tally() for name in ("thing", "colour", "background", "both", "either")}
    guesses = iter(see_things(judge, specs, images))
    _, colours, backgrounds = judge(to_numbers(images))
    verdicts = zip(specs, colours.argmax(1).tolist(), backgrounds.argmax(1).tolist(), strict=True)
    for spec, colour, background in verdicts:
        first = next(guesses) == spec.thing
        if spec.other == NO_THING:
            tallies["thing"].count(first)
        else:
            second = next(guesses) == spec.other
            tallies["both"].count(first and second)
            tallies["either"].count(first or second)
        if spec.other == NO_THING and spec.colour != NO_COLOUR:
            tallies["colour"].count(colour == spec.colour)
        if spec.background:
            tallies["background"].count(background == spec.background)
    return {name: tally for name, tally in tallies.items() if tally.asked}


# The prompts


def every_thing() -> list[Spec]:
    return [Spec(0, index) for index in range(THINGS)]


def colour_specs(rng: np.random.Generator, held_out: bool) -> list[Spec]:
    """Return things in colours of the model's training, or in held-out ones."""
    pairs = [
        (thing, colour)
        for thing in range(THINGS)
        for colour in range(COLOURS)
        if is_held_out(thing, colour) == held_out and not all_things()[thing].fixed_colour
    ]
    chosen = rng.choice(len(pairs), COLOURED // 2, replace=False)
    return [Spec(0, *pairs[index]) for index in chosen]


def background_specs(rng: np.random.Generator) -> list[Spec]:
    named = range(1, len(BACKGROUNDS))
    return [
        Spec(0, int(rng.integers(THINGS)), background=named[index % len(named)])
        for index in range(ON_BACKGROUNDS)
    ]


def pair_specs(rng: np.random.Generator, kind: str, count: int) -> list[Spec]:
    maker = SpecMaker(rng)
    chosen = [maker.pick_things(kind) for _ in range(count)]
    return [Spec(KINDS.index(kind), first, other=second) for first, second in chosen]


def groups() -> Iterator[tuple[str, list[Spec]]]:
    """Yield the groups of prompts by their names in the report."""
    rng = np.random.default_rng(SEED)
    yield "one thing", every_thing()
    yield "in a colour seen in training", colour_specs(rng, held_out=False)
    yield "in a held-out colour", colour_specs(rng, held_out=True)
    yield "on a named background", background_specs(rng)
    yield "two side by side", pair_specs(rng, "pair", PAIRS)
    yield "one riding another", pair_specs(rng, "riding", RIDERS)


class PlainCaptioner(Captioner):
    """The captioner without filler words and adjectives, which are rare in real prompts."""

    def with_noise(self, caption: str) -> str:
        return caption

    def phrase(self, thing: Thing, colour: int) -> str:
        return super().phrase(Thing(thing.name, thing.icon, no_article=thing.no_article), colour)


# The run


@dataclass(frozen=True)
class Artist:
    """The model with its default settings."""

    pipeline: StableDiffusionPipeline
    guidance: float
    steps: int = 20
    refiner: UNet2DConditionModel | None = None

    def draw(self, prompts: Sequence[str], seed: int) -> list[Image.Image]:
        """Return one image per prompt, with consecutive seeds from `seed`."""
        drawn: list[Image.Image] = []
        for start in range(0, len(prompts), DRAWN_AT_ONCE):
            some = list(prompts[start : start + DRAWN_AT_ONCE])
            seeds = range(seed + start, seed + start + len(some))
            noise = [torch.Generator().manual_seed(one) for one in seeds]
            drawn += self.draw_together(some, noise)
        return drawn

    def draw_together(self, prompts: list[str], noise: list[torch.Generator]) -> list[Image.Image]:
        """Return a batch of images; the refiner, if any, runs the last steps."""
        own = round(self.steps * REFINER_START)
        with UNetSwap(self.pipeline, self.refiner or self.pipeline.unet, own) as swap:
            drawn: list[Image.Image] = self.pipeline(
                prompts,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                generator=noise,
                **{CALLBACK: swap},
            ).images
        return drawn

    def seconds_per_image(self) -> float:
        """Return the seconds of one image, after a warm-up."""
        self.draw(["a red apple"], 0)
        started = time.perf_counter()
        self.draw(["a green car"], 0)
        return time.perf_counter() - started


def check_judge(judge: Judge, composer: Composer) -> dict[str, Verdicts]:
    """Return the judge's verdicts on held-out renderings."""
    specs, images = render(composer, HELD_OUT_RENDERINGS, SEED + 1)
    report = {}
    for number, kind in enumerate(KINDS):
        chosen = [index for index, spec in enumerate(specs) if spec.kind == number]
        report[f"the judge itself, {kind}"] = judge_images(
            judge, [specs[index] for index in chosen], [images[index] for index in chosen]
        )
    return report


def line(name: str, verdicts: Verdicts) -> str:
    return f"{name}: " + ", ".join(f"{what} {tally}" for what, tally in verdicts.items())


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="use every Nth prompt")
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--refined", action="store_true", help="use the refiner")
    parser.add_argument("--judge-only", action="store_true", help="only train and check the judge")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def load_artist(guidance: float, weights: Path = WEIGHTS, refined: bool = False) -> Artist:
    pipeline = StableDiffusionPipeline.from_pretrained(weights)
    pipeline.set_progress_bar_config(disable=True)
    folder = weights / "refiner" / "unet"
    if not (refined and folder.exists()):
        return Artist(pipeline, guidance)
    refiner: UNet2DConditionModel = UNet2DConditionModel.from_pretrained(folder)
    return Artist(pipeline, guidance, refiner=refiner.float())


def examine(artist: Artist, judge: Judge, every: int) -> dict[str, Verdicts]:
    """Draw and judge each group of prompts, printing each group's figures."""
    captioner = PlainCaptioner(np.random.default_rng(SEED + 2))
    report = {}
    for number, (name, group) in enumerate(groups(), start=1):
        specs = group[::every]
        images = artist.draw([captioner.caption(spec) for spec in specs], FIRST_SEED * number)
        report[name] = judge_images(judge, specs, images)
        print(line(name, report[name]), flush=True)
    return report


def save_figures(path: Path, report: dict[str, Verdicts]) -> None:
    figures = {name: {k: asdict(t) for k, t in v.items()} for name, v in report.items()}
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def section(quick: bool = False) -> Section:
    """Measure everything; trains the judge first if there is none. Not possible with `quick`."""
    if quick:
        raise SystemExit("demo_quality cannot run with --quick: training the judge takes long")
    use_threads(2)
    judge = trained_judge(composer := Composer(load_artwork()))
    report = check_judge(judge, composer) | examine(load_artist(GUIDANCE), judge, every=1)
    rows = [
        Row(f"{name}, {what}", "%", Figure(round(100 * tally.right / tally.asked, 1)))
        for name, verdicts in report.items()
        for what, tally in verdicts.items()
        if tally.asked
    ]
    return Section("What the bundled model draws", TEXT, tuple(rows), "", ("torch", "diffusers"))


def main() -> None:
    arguments = read_arguments()
    use_threads(arguments.threads)
    composer = Composer(load_artwork())
    judge = trained_judge(composer)
    report = check_judge(judge, composer)
    print("\n".join(line(name, verdicts) for name, verdicts in report.items()), flush=True)
    if arguments.judge_only:
        return
    artist = load_artist(arguments.guidance, arguments.weights, arguments.refined)
    print(f"{artist.seconds_per_image():.2f} s an image on {arguments.threads} threads", flush=True)
    report |= examine(artist, judge, arguments.every)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{peak:.0f} MiB of memory at peak, judge and images included")
    if arguments.json:
        save_figures(arguments.json, report)


if __name__ == "__main__":
    main()
