"""Request a picture from an endpoint without the gateway: a prompt in, a PNG file out."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Run as a file, Python puts the file's own folder on the path, where `endpoint` cannot be found.
if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from endpoint.aws.models import is_asynchronous
from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import CommonOptions, common_parser, number
from endpoint.cli.script import Result
from endpoint.core.backends.backend import Backend
from endpoint.core.problems import NotReady, ScriptError, UploadFailed
from endpoint.provision.backends import of_endpoint


@dataclass(frozen=True)
class UseOptions(CommonOptions):
    """A request, and where to store the picture; the model decides what is None."""

    prompt: str
    model: str | None
    output: Path
    negative_prompt: str | None
    seed: int | None
    steps: int | None
    guidance_scale: float | None
    width: int | None
    height: int | None

    def request(self) -> dict[str, Any]:
        """Return the body of the invocation."""
        fields = {
            "prompt": self.prompt,
            "format": "png",
            "seed": self.seed,
            "negative_prompt": self.negative_prompt,
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "width": self.width,
            "height": self.height,
        }
        return {name: value for name, value in fields.items() if value is not None}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = common_parser("use", "Generate a picture on an endpoint.")
    add = parser.add_argument
    add("prompt", help="the text to generate a picture for")
    add("--model", help="the model (default: the deployment's only one)")
    add("--output", type=Path, default=Path("picture.png"), help="the PNG file (picture.png)")
    add("--negative-prompt")
    add("--seed", type=int)
    add("--steps", type=int)
    add("--guidance-scale", type=number)
    add("--width", type=int)
    add("--height", type=int)
    return parser


def use(context: Context, options: UseOptions) -> Result:
    """Generate a picture and write it to a file."""
    endpoint = context.choose_endpoint(options.model)
    config = _config(context, endpoint)
    served = of_endpoint(context, endpoint, config or {})
    request = served.prepared(options.request())
    if context.dry_run:
        return Result({"endpoint": endpoint, "request": request}, [f"{endpoint}: {request}"])
    start = context.clock.monotonic()
    picture = _generate(context, endpoint, request, served.backend, config)
    seconds = round(context.clock.monotonic() - start, 2)
    try:
        options.output.write_bytes(picture)
    except OSError as error:
        raise UploadFailed(f"{options.output} cannot be written: {error}") from error
    data = {
        "endpoint": endpoint,
        "output": str(options.output),
        "bytes": len(picture),
        "seconds": seconds,
        "request": request,
    }
    return Result(data, [f"{options.output}: {len(picture)} bytes in {seconds} s from {endpoint}"])


def _config(context: Context, endpoint: str) -> dict[str, Any] | None:
    """Return the configuration of an endpoint; None if there is no such endpoint."""
    description = context.endpoints.find(endpoint)
    if description is None:
        return None
    return context.models.find_config(description["EndpointConfigName"]) or {}


def _generate(
    context: Context,
    endpoint: str,
    request: dict[str, Any],
    backend: Backend,
    config: dict[str, Any] | None,
) -> bytes:
    if config is None:
        raise ScriptError(
            f"There is no endpoint {endpoint}.", "`python -m endpoint status` lists the endpoints."
        )
    if is_asynchronous(config):
        # A new name for every request, because SageMaker overwrites an existing output.
        return context.runtime.generate_async(endpoint, request, f"{time.time_ns()}.png", backend)
    try:
        return context.runtime.generate(endpoint, request, backend=backend)
    except NotReady as error:
        raise ScriptError(
            f"{endpoint} does not answer: {error}",
            "A new endpoint is still being loaded for some minutes: try again.",
        ) from error


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), UseOptions, use, argv, **overrides)


if __name__ == "__main__":
    sys.exit(main())
