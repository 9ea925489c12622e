"""The server's settings: environment variables and the command line, read once, here.

SAGEMAKER_BASE_DIR          /opt/ml: the model is in `model` below it
SAGEMAKER_PROGRAM           inference.py
SAGEMAKER_SUBMIT_DIRECTORY  the folder of the script, if the model's has no `code/`
SAGEMAKER_BIND_TO_PORT      8080
MMS_MAX_REQUEST_SIZE        26214400 bytes
EASEL_MODEL_ID              a repository of the Hugging Face Hub, which the script downloads
EASEL_REQUEST_SECONDS       how long a caller waits that does not say so: 55 with `serve`
EASEL_STALL_SECONDS         how long generating may show no progress: 120; without an engine 3600
EASEL_ENDPOINT              the endpoint's name, a dimension of the metrics
EASEL_EMF                   `on` writes metrics to the log for CloudWatch, `off` does not

The script reads the variables of the model itself.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# SageMaker's limit for a request of real time: 25 MB.
_LARGEST_REQUEST = 25 * 1024 * 1024
# SageMaker kills a container 30 s after SIGTERM. Docker waits for 10 s unless told otherwise.
_STOP_SECONDS = 25.0
_LARGEST_PORT = 65_535
# SageMaker gives up after 60 s, and the response needs a moment on its way.
_REAL_TIME_SECONDS = 55.0


class Unusable(Exception):
    """The server cannot start; one sentence with what to do."""


@dataclass(frozen=True)
class Settings:
    """What one server serves, and where.

    Attributes:
        model_dir: what `model_fn` gets.
        hub_id: the Hub repository that the script downloads if the folder has no model.
        code: the folder of the script.
        program: the script's file name.
        host: the address to listen at.
        port: 0 for any free one.
        largest_request: bytes of a request's body.
        request_seconds: how long a caller waits that states no deadline.
        stall_seconds: how long the worker may show no progress; None: by what the script is.
        stop_seconds: how long what was accepted can go on after SIGTERM.
        endpoint: the endpoint's name, or None.
        emf: whether to write metrics to the log.
    """

    model_dir: Path
    code: Path
    hub_id: str | None = None
    program: str = "inference.py"
    host: str = "127.0.0.1"
    port: int = 8080
    largest_request: int = _LARGEST_REQUEST
    request_seconds: float = math.inf
    stall_seconds: float | None = None
    stop_seconds: float = _STOP_SECONDS
    endpoint: str | None = None
    emf: bool = False

    @property
    def name(self) -> str:
        """What /health calls the model."""
        return self.hub_id or self.model_dir.name

    @classmethod
    def read(cls, arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
        """Return the settings of a command line and an environment.

        Raises:
            Unusable: for a value that cannot be read, and a folder that is missing.
        """
        options = _parser().parse_args(arguments)
        serve = options.command == "serve"
        hub_id = environ.get("EASEL_MODEL_ID") or None
        model_dir = Path(environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml") / "model"
        if options.model and Path(options.model).is_dir():
            model_dir = Path(options.model).resolve()
            hub_id = None if _has_files(model_dir) else hub_id
        elif options.model:
            if options.model.count("/") != 1 or options.model.startswith((".", "/", "~")):
                raise Unusable(f"--model {options.model} is not a folder, nor org/name on the Hub")
            # A folder that does not exist, because a model in /opt/ml would come first.
            model_dir, hub_id = Path(options.model), options.model
        elif hub_id is None and not _has_files(model_dir) and _DEMO.is_dir():
            model_dir = _DEMO
        program = environ.get("SAGEMAKER_PROGRAM") or "inference.py"
        port = _number(environ, "SAGEMAKER_BIND_TO_PORT", 8080) if serve else 8080
        return cls(
            model_dir=model_dir,
            hub_id=hub_id,
            code=_find_code(options.code, model_dir, program, environ),
            program=program,
            host=options.host or ("0.0.0.0" if serve else "127.0.0.1"),  # noqa: S104 - SageMaker
            port=_as_port(port if options.port is None else options.port),
            largest_request=int(_number(environ, "MMS_MAX_REQUEST_SIZE", _LARGEST_REQUEST)),
            request_seconds=_number(
                environ, "EASEL_REQUEST_SECONDS", _REAL_TIME_SECONDS if serve else math.inf
            ),
            stall_seconds=_number(environ, "EASEL_STALL_SECONDS", 0) or None,
            stop_seconds=_number(environ, "EASEL_STOP_SECONDS", _STOP_SECONDS),
            endpoint=environ.get("EASEL_ENDPOINT") or None,
            emf=_emf(environ),
        )


_DEMO = _PACKAGE / "demo" / "weights"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m server",
        description="Serve a model over HTTP; docs/model-server.md lists paths and settings.",
    )
    parser.add_argument(
        "command", nargs="?", choices=["serve"], help="what SageMaker passes: listen to everybody"
    )
    parser.add_argument("--host", help="the address to listen at (127.0.0.1; with serve 0.0.0.0)")
    parser.add_argument("--port", type=int, help="the port, 0 for any free one (8080)")
    parser.add_argument(
        "--model",
        metavar="PATH_OR_HUB_ID",
        help="the model's folder, or a repository of the Hugging Face Hub (/opt/ml/model, else the"
        " bundled model)",
    )
    parser.add_argument("--code", type=Path, help="the folder of inference.py")
    return parser


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _find_code(
    option: Path | None, model_dir: Path, program: str, environ: Mapping[str, str]
) -> Path:
    """Return the folder of the script: named, next to the model, of SageMaker, or bundled.

    Raises:
        Unusable: if it has no script.
    """
    beside = model_dir / "code"
    submitted = environ.get("SAGEMAKER_SUBMIT_DIRECTORY")
    if option is not None:
        folder = option
    elif (beside / program).is_file():
        folder = beside
    else:
        folder = Path(submitted) if submitted else _PACKAGE / "code"
    if not (folder / program).is_file():
        raise Unusable(f"{folder} has no {program}; name its folder with --code")
    return folder.resolve()


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise Unusable(f"{name}={text} is not a positive number")
    return value


def _as_port(number: float) -> int:
    if number != int(number) or not 0 <= number <= _LARGEST_PORT:
        raise Unusable(f"{number:g} is no port: ports are 0 to {_LARGEST_PORT}")
    return int(number)


def _emf(environ: Mapping[str, str]) -> bool:
    """Whether metrics go to the log: by default where SageMaker gives a container its role."""
    switch = environ.get("EASEL_EMF", "").strip().lower()
    if switch not in {"", "on", "off"}:
        raise Unusable(f"EASEL_EMF={switch} is neither on nor off")
    return switch == "on" or (not switch and "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" in environ)
