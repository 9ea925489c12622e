"""Easel against the recipe that it descends from: the Lambda, the picture, the bytes.

    python -m tests.benchmarks.sections.ancestor_recipe

The recipe is rebuilt in `ancestor/` from its public description, none of its code is here. What its
Lambda carries is installed into `.cache/ancestor` the first time, which needs a network.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from easel.output.png import encode_png
from endpoint.emulator.aws_server import AwsServer
from endpoint.emulator.container.model_server import ModelServer, container_environment
from endpoint.emulator.lambda_.lambda_runtime import LambdaFunction
from endpoint.emulator.process.clients import Clients, environment
from endpoint.emulator.process.http_server import QuietHandler, serving
from endpoint.emulator.run import CONTAINER, create_endpoint
from endpoint.emulator.served_model import CACHE, DEMO
from tests.benchmarks.lib.lambda_packages import unpack
from tests.benchmarks.lib.measuring import Samples, in_turns
from tests.benchmarks.lib.noise_pictures import KINDS, paint
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, run_alone
from tests.packages import ROOT, package_gateway, proxy_event

RECIPE = Path(__file__).parent / "ancestor"
INSTALLED = CACHE / "ancestor"
COLD_ROUNDS, PICTURES = 7, 7
LOADING_TRIES = 20
LAMBDA_LIMIT = (
    250  # MB, unpacked: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
)
PROMPT = "a%20red%20apple"
TEXT = """\
The recipe that Easel descends from, rebuilt from its public description: a Chalice Lambda with the
SageMaker SDK (2.257.7, the newest that still has its predictors) and essential-generators, whose
constructor reads a model of 46 MB at import; an endpoint that runs `StableDiffusionPipeline` with
its defaults, which are 50 steps, and answers with a JPEG as base64 in JSON; an HTML page with the
picture as base64. The Lambdas run under AWS's Runtime Interface Client. For cold starts the
endpoint is an HTTP server that answers at once, with a picture of 512 pixels; for the time to a
picture it is the emulated SageMaker with the bundled model, on one thread.
"""


class Recipe(NamedTuple):
    """A packaged Lambda, and the event that makes it paint."""

    folder: Path
    environment: dict[str, str]
    event: dict[str, Any]

    def function(self) -> LambdaFunction:
        return LambdaFunction(self.folder, self.environment, output=subprocess.DEVNULL)


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    cold_rounds, pictures = (2, 2) if quick else (COLD_ROUNDS, PICTURES)
    with tempfile.TemporaryDirectory() as temporary:
        folders = _packages(Path(temporary))
        with _stub() as url:
            recipes = _recipes(folders, {"AWS_ENDPOINT_URL": url})
            cold = in_turns(
                {name: functools.partial(_cold, recipe) for name, recipe in recipes.items()},
                cold_rounds,
            )
            memory = {name: _memory(recipe) for name, recipe in recipes.items()}
            sizes = {name: _size(recipe) for name, recipe in recipes.items()}
            sizes["jpeg"] = _size(_asked(recipes["easel"], format="jpeg"))
        unpacked = {name: _megabytes(folder) for name, folder in folders.items()}
        times = _time_pictures(folders, pictures)
    return _report(cold, times, {"memory": memory, "unpacked": unpacked}, sizes)


def _report(
    cold: dict[str, Samples],
    times: dict[str, Samples],
    megabytes: dict[str, dict[str, float]],
    sizes: dict[str, int],
) -> Section:
    def row(what: str, unit: str, ours: Figure, theirs: Figure, aim: Aim | None, note: str) -> Row:
        return Row(what, unit, ours, "the recipe", theirs, aim, note)

    def both(values: dict[str, float]) -> tuple[Figure, Figure]:
        return Figure(round(values["easel"])), Figure(round(values["ancestor"]))

    faster = Aim("ratio", at_most=0.5)
    limit = Aim("value", at_most=LAMBDA_LIMIT)
    kilobytes = {name: Figure(round(size / 1e3)) for name, size in sizes.items()}
    start = Figure.of(cold["easel"]), Figure.of(cold["ancestor"])
    paints = {name: Figure.of(each) for name, each in times.items()}
    rows = (
        row("cold start, to the first picture", "ms", *start, faster, ""),
        row("memory of the Lambda, peak", "MB", *both(megabytes["memory"]), faster, ""),
        row("Lambda, unpacked", "MB", *both(megabytes["unpacked"]), limit, "Lambda takes 250 MB"),
        row("a picture, warm", "ms", paints["easel"], paints["ancestor"], faster, "20 steps to 50"),
        row("a picture of as many steps", "ms", paints["easel, 50"], paints["ancestor"], None, ""),
        row("to the visitor", "kB", kilobytes["easel"], kilobytes["ancestor"], None, "PNG to JPEG"),
        row(
            "to the visitor, `format=jpeg`",
            "kB",
            kilobytes["jpeg"],
            kilobytes["ancestor"],
            Aim("ratio", at_most=0.8),
            "the same JPEG, without base64 and HTML",
        ),
    )
    packages = ("chalice", "boto3", "diffusers", "torch")
    return Section("Against the recipe that Easel descends from", TEXT, rows, "", packages)


# --- The two Lambdas ------------------------------------------------------------------------------


def _packages(folder: Path) -> dict[str, Path]:
    package = package_gateway(folder / "package") / "deployment.zip"
    ours = unpack(package, folder)["easel"]
    theirs = install()
    shutil.copy(RECIPE / "app.py", theirs / "app.py")
    return {"easel": ours, "ancestor": theirs}


def install() -> Path:
    """Return the folder with what the recipe's Lambda carries, installing it where it is missing.

    Raises:
        subprocess.CalledProcessError: if pip could not.
    """
    done = INSTALLED / ".installed"
    wanted = (RECIPE / "requirements.txt").read_text()
    if not done.exists() or done.read_text() != wanted:
        print(f"installing what the recipe needs into {INSTALLED.relative_to(ROOT)}")
        shutil.rmtree(INSTALLED, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        target = ["--target", str(INSTALLED), "-r", str(RECIPE / "requirements.txt")]
        subprocess.run([*pip, *target], check=True)
        done.write_text(wanted)
    return INSTALLED


def _recipes(folders: dict[str, Path], variables: dict[str, str]) -> dict[str, Recipe]:
    event = proxy_event(f"/inference/{PROMPT}", "/inference/{text}", text=PROMPT)
    models = '{"sd": {"endpoint": "easel"}}'
    return {
        "easel": Recipe(folders["easel"], {**variables, "EASEL_MODELS": models}, event),
        "ancestor": Recipe(folders["ancestor"], {**variables, "ENDPOINT": "ancestor"}, event),
    }


def _asked(recipe: Recipe, **query: str) -> Recipe:
    """Return the recipe with query parameters."""
    lists = {name: [value] for name, value in query.items()}
    event = {
        **recipe.event,
        "queryStringParameters": query,
        "multiValueQueryStringParameters": lists,
    }
    return recipe._replace(event=event)


def _cold(recipe: Recipe) -> float:
    with recipe.function() as function:
        result = function.invoke(recipe.event)
        _body(result.payload)
        return (float(result.init_duration or 0) + result.duration) * 1_000


def _memory(recipe: Recipe) -> float:
    with recipe.function() as function:
        for _ in range(5):
            _body(function.invoke(recipe.event).payload)
        return function.max_rss() / 1e6


def _size(recipe: Recipe) -> int:
    with recipe.function() as function:
        return len(_body(function.invoke(recipe.event).payload))


def _body(payload: Any) -> bytes:
    """Return what the visitor gets, after making sure that it is a picture or a page with one."""
    if not isinstance(payload, dict) or payload.get("statusCode") != 200:
        raise RuntimeError(f"no picture: {str(payload)[:500]}")
    body: str = payload["body"]
    return base64.b64decode(body) if payload.get("isBase64Encoded") else body.encode()


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


# --- Endpoints ------------------------------------------------------------------------------------


@contextmanager
def _stub() -> Iterator[str]:
    """Answer at once: with a picture for Easel, with JSON for the recipe."""
    pixels = paint(KINDS[1], 512)
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG")
    answers = {
        "image/png": encode_png(pixels),
        "image/jpeg": jpeg.getvalue(),
        "application/json": json.dumps(
            {"image": base64.b64encode(jpeg.getvalue()).decode()}
        ).encode(),
    }

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            self.body()
            wanted = self.headers["Accept"] or self.headers["X-Amzn-SageMaker-Accept"]
            kind = wanted if wanted in answers else "application/json"
            self.answer(200, [("Content-Type", kind)], answers[kind])

    with serving(Handler) as server:
        yield server.url


def _time_pictures(folders: dict[str, Path], rounds: int) -> dict[str, Samples]:
    """Return milliseconds of a warm visit, with the bundled model behind it."""
    code = {"easel": ROOT / "model_package" / "code", "ancestor": RECIPE / "code"}
    variables = container_environment({**CONTAINER, "OMP_NUM_THREADS": "1"})
    with ExitStack() as stack:
        aws = stack.enter_context(AwsServer().serve())
        for name, folder in code.items():
            model = stack.enter_context(ModelServer(folder, DEMO, variables).serve())
            create_endpoint(Clients(lambda: aws.url), name, {})
            aws.registry.register(name, model.url)
        recipes = _recipes(folders, environment(aws.url, "us-east-1"))
        recipes["easel, 50"] = _asked(recipes["easel"], steps="50")
        functions = {
            name: (stack.enter_context(recipe.function()), recipe.event)
            for name, recipe in recipes.items()
        }
        variants = {
            name: functools.partial(_warm, *function) for name, function in functions.items()
        }
        for function in functions.values():
            _wait_for_the_model(*function)
        return in_turns(variants, rounds)


def _wait_for_the_model(function: LambdaFunction, event: dict[str, Any]) -> None:
    """Ask until there is a picture: both Lambdas give up while the model still loads."""
    for _ in range(LOADING_TRIES):
        if function.invoke(event).payload.get("statusCode") == 200:
            return
    raise RuntimeError("the model does not answer")


def _warm(function: LambdaFunction, event: dict[str, Any]) -> float:
    result = function.invoke(event)
    _body(result.payload)
    return result.duration * 1_000


if __name__ == "__main__":
    run_alone(section)
