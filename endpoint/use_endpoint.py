"""Ask an endpoint for a picture, past the gateway: a prompt in, a PNG file out."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as `python endpoint/use_endpoint.py`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from endpoint.aws.runtime import NotReady
from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.script import Result
from endpoint.core.problems import BadArgument, ScriptError, UploadFailed

_FIELDS = {
    "negative_prompt": str,
    "seed": int,
    "steps": int,
    "guidance_scale": float,
    "width": int,
    "height": int,
}


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parsed = script.arguments("use_endpoint", "Have an endpoint paint a picture.")
    parsed.add_argument("prompt", help="what to paint")
    parsed.add_argument("--model", help="which model (default: the deployment's only one)")
    parsed.add_argument("--output", type=Path, default=Path("picture.png"), help="the PNG file")
    for name, kind in _FIELDS.items():
        parsed.add_argument(f"--{name.replace('_', '-')}", type=kind)
    return parsed


def use(context: Context, args: argparse.Namespace) -> Result:
    """Have a picture painted and write it to a file."""
    endpoint = _choose(context, args.model)
    request = {"prompt": args.prompt, "format": "png", "seed": args.seed}
    request |= {name: getattr(args, name) for name in _FIELDS}
    request = {name: value for name, value in request.items() if value is not None}
    if context.dry_run:
        return Result({"endpoint": endpoint, "request": request}, [f"{endpoint}: {request}"])
    start = context.clock.monotonic()
    picture = _paint(context, endpoint, request)
    seconds = round(context.clock.monotonic() - start, 2)
    try:
        args.output.write_bytes(picture)
    except OSError as error:
        raise UploadFailed(f"{args.output} cannot be written: {error}") from error
    data = {
        "endpoint": endpoint,
        "output": str(args.output),
        "bytes": len(picture),
        "seconds": seconds,
        "request": request,
    }
    return Result(data, [f"{args.output}: {len(picture)} bytes in {seconds} s from {endpoint}"])


def _paint(context: Context, endpoint: str, request: dict[str, Any]) -> bytes:
    if _is_asynchronous(context, endpoint):
        return context.runtime.generate_async(endpoint, request, f"{time.time_ns()}.png")
    try:
        return context.runtime.generate(endpoint, request)
    except NotReady as error:
        raise ScriptError(
            f"{endpoint} does not answer: {error}",
            "If it was made a moment ago, its model is still being loaded: try again.",
        ) from error


def _is_asynchronous(context: Context, endpoint: str) -> bool:
    found = context.endpoints.find(endpoint)
    if found is None:
        raise BadArgument(f"There is no endpoint {endpoint}.", "`status` shows what there is.")
    config = context.models.find_config(found["EndpointConfigName"]) or {}
    return bool(config.get("AsyncInferenceConfig"))


def _choose(context: Context, model: str | None) -> str:
    if model:
        return context.deployment.endpoint(model)
    names = [name for name in context.endpoints.names(f"{context.deployment.prefix}-")
             if context.deployment.owns(name)]  # fmt: skip
    if len(names) == 1:
        return names[0]
    models = ", ".join(context.deployment.model_of(name) for name in names) or "none"
    raise BadArgument(f"Name one of the models with --model; there is {models}.")


def main(argv: Sequence[str] | None = None, **given: Any) -> int:
    """Run the script and return its exit code; `given` as in `script.run`."""
    return script.run(parser(), use, argv, **given)


if __name__ == "__main__":
    sys.exit(main())
