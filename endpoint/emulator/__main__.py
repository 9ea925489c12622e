"""The emulator's command line: `python -m endpoint.emulator --help`."""

from __future__ import annotations

import signal

# Until a command handles it, Ctrl-C ends this process without a traceback: nothing is started yet.
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from endpoint.core.local_addresses import go_direct
from endpoint.emulator.process.processes import LARGEST_PORT, ROOT, port_is_free

_EPILOGUE = """\
All servers listen on 127.0.0.1 only and stop on Ctrl-C. docs/emulator.md lists what is imitated
and what is not.

ports:
  run           8000 the gateway (--port); any free one AWS (--aws-port) and the model server
  aws           4566 (--port)
  model-server  8080 (--port), as in a SageMaker container
  api-gateway   8001 (--port)
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's description."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog="python -m endpoint.emulator",
        description="The parts of AWS that Easel uses, on this machine.",
        epilog=_EPILOGUE,
        formatter_class=raw,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="all of Easel: AWS, a model, the gateway"))
    _add_aws(commands.add_parser("aws", help="AWS only, for AWS_ENDPOINT_URL to point to"))
    _add_model_server(
        commands.add_parser("model-server", help="inference.py as a SageMaker container runs it")
    )
    _add_api_gateway(
        commands.add_parser("api-gateway", help="API Gateway and Lambda for a packaged gateway")
    )
    return top


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--port", type=int, default=8000, help="the gateway's port (8000)")
    command.add_argument(
        "--aws-port", type=int, default=0, help="the emulated AWS's port (0: any free one)"
    )
    command.add_argument(
        "--model",
        metavar="PATH_OR_HUB_ID",
        help="a folder of diffusers weights, a repository of the Hugging Face hub (org/name), or "
        "a name from endpoint/catalogue/catalogue.json (the bundled model)",
    )
    command.add_argument(
        "--gateway", type=Path, default=ROOT / "gateway", help="the Chalice application's folder"
    )
    command.add_argument(
        "--code",
        type=Path,
        default=ROOT / "model_package" / "code",
        help="the folder with inference.py",
    )
    command.add_argument(
        "--image",
        choices=["local"],
        help="serve from a container of the serving image, by Docker or Podman, which is built if "
        "it does not exist (a process)",
    )


def _add_aws(command: argparse.ArgumentParser) -> None:
    command.add_argument("--port", type=int, default=4566, help="0 for any free port (4566)")
    command.add_argument(
        "--container",
        action="append",
        default=[],
        metavar="ENDPOINT=URL",
        help="the model server behind an endpoint; may be repeated",
    )
    command.add_argument(
        "--images-from",
        metavar="URL",
        help="a model server of Easel's image, which makes the images of the containers of other "
        "backends (none are imitated)",
    )
    command.add_argument(
        "--longest-body",
        type=int,
        default=25 * 1024 * 1024,
        metavar="BYTES",
        help="the largest request that InvokeEndpoint accepts (26214400)",
    )


def _add_model_server(command: argparse.ArgumentParser) -> None:
    command.add_argument("--port", type=int, default=8080, help="0 for any free port (8080)")
    command.add_argument("--code", type=Path, required=True, help="the folder with inference.py")
    command.add_argument(
        "--model-dir", type=Path, required=True, help="the folder that model_fn gets as model_dir"
    )
    command.add_argument(
        "--image",
        choices=["easel", "aws"],
        default="easel",
        help="whose serving image: Easel's model server, or AWS's Hugging Face toolkit (easel)",
    )


def _add_api_gateway(command: argparse.ArgumentParser) -> None:
    command.add_argument("--port", type=int, default=8001, help="0 for any free port (8001)")
    command.add_argument(
        "--package",
        type=Path,
        required=True,
        metavar="DIR",
        help="the output of `chalice package DIR`: sam.json and deployment.zip",
    )
    command.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable of the function, added to those of sam.json; may be repeated",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = parser().parse_args(arguments)
    go_direct(os.environ)
    if options.command == "run":
        # moto is slow to import, so each command imports only what it needs.
        from endpoint.emulator import run

        values = {name: value for name, value in vars(options).items() if name != "command"}
        return run.run(run.Options(**values))
    _end_with_parent_if_asked()
    # Checked first, for a message instead of a traceback.
    if not 0 <= options.port <= LARGEST_PORT:
        print(f"--port {options.port} is no port: ports are 0 to {LARGEST_PORT}", file=sys.stderr)
        return 1
    if not port_is_free(options.port):
        print(f"port {options.port} is in use; choose another with --port", file=sys.stderr)
        return 1
    missing = _missing(options)
    if missing is not None:
        print(missing, file=sys.stderr)
        return 1
    return _COMMANDS[options.command](options)


def _missing(options: argparse.Namespace) -> str | None:
    """Return what a command cannot find, as a sentence; None if all is there."""
    if options.command == "api-gateway" and not (options.package / "sam.json").is_file():
        return f"--package {options.package} has no sam.json; `chalice package DIR` writes it"
    if options.command == "model-server":
        for option, folder in (("--code", options.code), ("--model-dir", options.model_dir)):
            if not folder.is_dir():
                return f"{option} {folder} is not a folder"
    if options.command == "aws" and options.longest_body < 1:
        return f"--longest-body {options.longest_body} is less than 1"
    return None


def _aws(options: argparse.Namespace) -> int:
    from endpoint.emulator.aws_server import AwsServer
    from endpoint.emulator.container.imitations.images import from_server
    from endpoint.emulator.moto_ import service_quotas
    from endpoint.emulator.process.clients import forget_aws

    forget_aws(os.environ)
    service_quotas.limit_all()
    server = AwsServer(
        _pairs(options.container),
        images_from=from_server(options.images_from) if options.images_from else None,
        longest_body=options.longest_body,
    )
    return _until_signal(server.serve(options.port), "AWS is emulated at")


def _model_server(options: argparse.Namespace) -> int:
    code, model_dir = options.code.resolve(), options.model_dir.resolve()
    server: AbstractContextManager[Any]
    if options.image == "aws":
        from endpoint.emulator.container.model_server import ModelServer

        server = ModelServer(code, model_dir, os.environ).serve(options.port)
    else:
        from endpoint.emulator.container import easel_server

        server = easel_server.serving(code, model_dir, os.environ, port=options.port)
    return _until_signal(server, "The model server is at")


def _api_gateway(options: argparse.Namespace) -> int:
    from endpoint.emulator.apigateway.packaged_gateway import serve

    return _until_signal(
        serve(options.package, options.port, _pairs(options.env)), "API Gateway is emulated at"
    )


_COMMANDS = {"aws": _aws, "model-server": _model_server, "api-gateway": _api_gateway}


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    for pair in texts:
        if "=" not in pair:
            raise SystemExit(f"{pair} is not NAME=VALUE")
    return dict(pair.split("=", 1) for pair in texts)


def _until_signal(server: AbstractContextManager[Any], sentence: str) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with server as running:
        print(f"{sentence} {running.url}", flush=True)
        ended.wait()
    return 0


def _end_with_parent_if_asked() -> None:
    from endpoint.emulator.process.orphans import WATCHED, end_with_parent

    if WATCHED in os.environ:
        end_with_parent()


if __name__ == "__main__":
    sys.exit(main())
