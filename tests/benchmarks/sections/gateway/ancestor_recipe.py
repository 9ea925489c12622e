"""Easel against the recipe it is based on: the Lambda, the image, the bytes.

    python -m tests.benchmarks.sections.gateway.ancestor_recipe

`ancestor/` implements the recipe from its public description; none of its code is used. Its
Lambda's dependencies are installed into `.cache/ancestor` on the first run, which needs a network.
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
from tests.benchmarks.lib.gateway.lambda_packages import unpack
from tests.benchmarks.lib.measuring import Samples, in_turns
from tests.benchmarks.lib.model_package.sample_images import IMAGE_KINDS, draw
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section
from tests.packages import ROOT, package_gateway, proxy_event

RECIPE = Path(__file__).parent / "ancestor"
INSTALLED = CACHE / "ancestor"
COLD_ROUNDS, IMAGES = 7, 7
LOADING_TRIES = 20
LAMBDA_LIMIT = (
    250  # MB, unpacked: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
)
PROMPT = "a%20red%20apple"
TEXT = """\
The recipe, implemented from its public description: a Chalice Lambda with the SageMaker SDK
(2.257.7, the last version with predictors) and essential-generators, whose constructor reads a
model of 46 MB at import; an endpoint that runs `StableDiffusionPipeline` with its defaults (50
steps) and returns a JPEG as base64 in JSON; an HTML page that contains the image as base64. The
Lambdas run under AWS's Runtime Interface Client. For cold starts, the endpoint is an HTTP server
that returns an image of 512 pixels without delay; for the time of an image, it is the emulated
SageMaker with the bundled model on one thread.
"""


class Recipe(NamedTuple):
    """A packaged Lambda, and the event that requests an image."""

    folder: Path
    environment: dict[str, str]
    event: dict[str, Any]

    def function(self) -> LambdaFunction:
        return LambdaFunction(self.folder, self.environment, output=subprocess.DEVNULL)


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    cold_rounds, images = (2, 2) if quick else (COLD_ROUNDS, IMAGES)
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
            sizes["jpeg"] = _size(_with_query(recipes["easel"], format="jpeg"))
        unpacked = {name: _megabytes(folder) for name, folder in folders.items()}
        times = _time_images(folders, images)
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
    generation = {name: Figure.of(each) for name, each in times.items()}
    rows = (
        row("cold start, to the first image", "ms", *start, faster, ""),
        row("memory of the Lambda, peak", "MB", *both(megabytes["memory"]), faster, ""),
        row(
            "Lambda, unpacked",
            "MB",
            *both(megabytes["unpacked"]),
            limit,
            "Lambda's limit is 250 MB",
        ),
        row(
            "an image, warm",
            "ms",
            generation["easel"],
            generation["ancestor"],
            faster,
            "20 steps against 50",
        ),
        row(
            "an image of 50 steps", "ms", generation["easel, 50"], generation["ancestor"], None, ""
        ),
        row(
            "response body",
            "kB",
            kilobytes["easel"],
            kilobytes["ancestor"],
            None,
            "PNG against JPEG",
        ),
        row(
            "response body, `format=jpeg`",
            "kB",
            kilobytes["jpeg"],
            kilobytes["ancestor"],
            Aim("ratio", at_most=0.8),
            "JPEG without base64 and HTML",
        ),
    )
    packages = ("chalice", "boto3", "diffusers", "torch")
    return Section("Against the recipe that Easel is based on", TEXT, rows, "", packages)


# --- The two Lambdas ------------------------------------------------------------------------------


def _packages(folder: Path) -> dict[str, Path]:
    package = package_gateway(folder / "package") / "deployment.zip"
    ours = unpack(package, folder)["easel"]
    theirs = install()
    shutil.copy(RECIPE / "app.py", theirs / "app.py")
    return {"easel": ours, "ancestor": theirs}


def install() -> Path:
    """Return the folder with the dependencies of the recipe's Lambda; install them if missing.

    Raises:
        subprocess.CalledProcessError: if pip fails.
    """
    done = INSTALLED / ".installed"
    # Chalice ships no bytecode.
    pip = [sys.executable, "-m", "pip", "install", "--no-compile", "--disable-pip-version-check"]
    wanted = f"{pip[1:]}\n{(RECIPE / 'requirements.txt').read_text()}"
    if not done.exists() or done.read_text() != wanted:
        print(f"installing the recipe's dependencies into {INSTALLED.relative_to(ROOT)}")
        shutil.rmtree(INSTALLED, ignore_errors=True)
        target = ["--quiet", "--target", str(INSTALLED), "-r", str(RECIPE / "requirements.txt")]
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


def _with_query(recipe: Recipe, **query: str) -> Recipe:
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
    """Return the response body.

    Raises:
        RuntimeError: for any status but 200.
    """
    if not isinstance(payload, dict) or payload.get("statusCode") != 200:
        raise RuntimeError(f"no image: {str(payload)[:500]}")
    body: str = payload["body"]
    return base64.b64decode(body) if payload.get("isBase64Encoded") else body.encode()


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


# --- Endpoints ------------------------------------------------------------------------------------


@contextmanager
def _stub() -> Iterator[str]:
    """Serve an image for Easel and JSON for the recipe, without delay."""
    pixels = draw(IMAGE_KINDS[1], 512)
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG")
    bodies = {
        "image/png": encode_png(pixels),
        "image/jpeg": jpeg.getvalue(),
        "application/json": json.dumps(
            {"image": base64.b64encode(jpeg.getvalue()).decode()}
        ).encode(),
    }

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            self.body()
            accept = self.headers["Accept"] or self.headers["X-Amzn-SageMaker-Accept"]
            kind = accept if accept in bodies else "application/json"
            self.answer(200, [("Content-Type", kind)], bodies[kind])

    with serving(Handler) as server:
        yield server.url


def _time_images(folders: dict[str, Path], rounds: int) -> dict[str, Samples]:
    """Return the milliseconds of a warm request, with the bundled model."""
    code = {"easel": ROOT / "model_package" / "code", "ancestor": RECIPE / "code"}
    variables = container_environment({**CONTAINER, "OMP_NUM_THREADS": "1"})
    with ExitStack() as stack:
        aws = stack.enter_context(AwsServer().serve())
        for name, folder in code.items():
            model = stack.enter_context(ModelServer(folder, DEMO, variables).serve())
            create_endpoint(Clients(lambda: aws.url), name, {})
            aws.registry.register(name, model.url)
        recipes = _recipes(folders, environment(aws.url, "us-east-1"))
        recipes["easel, 50"] = _with_query(recipes["easel"], steps="50")
        functions = {
            name: (stack.enter_context(recipe.function()), recipe.event)
            for name, recipe in recipes.items()
        }
        variants = {
            name: functools.partial(_warm, *function) for name, function in functions.items()
        }
        for function in functions.values():
            _wait_for_model(*function)
        return in_turns(variants, rounds)


def _wait_for_model(function: LambdaFunction, event: dict[str, Any]) -> None:
    """Send requests until an image is returned: both Lambdas time out while the model loads."""
    for _ in range(LOADING_TRIES):
        if function.invoke(event).payload.get("statusCode") == 200:
            return
    raise RuntimeError("the model returns no image")


def _warm(function: LambdaFunction, event: dict[str, Any]) -> float:
    result = function.invoke(event)
    _body(result.payload)
    return result.duration * 1_000


if __name__ == "__main__":
    print_section(section)
