"""Make a diffusers folder of a checkpoint in a single file, as most model sites offer them.

    python model_package/convert.py FILE FOLDER [--config FOLDER_OR_REPOSITORY] [--dtype fp16]

A single file has the weights alone. Configurations and tokenizers are from the model that diffusers
recognises in it, downloaded from the hub (a few megabytes), or from `--config`: another diffusers
folder of the same family, which requires no network.
"""

# mypy: allow-untyped-calls
# (diffusers' methods are untyped)

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Run as a file, Python finds neither the serving code nor this package.
if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent / "code")

import diffusers
import huggingface_hub
import torch
from diffusers.loaders import single_file_utils
from safetensors.torch import load_file, save_file

from easel.model_folder.check import check
from easel.model_folder.files import INDEX, SAFE, FolderUnusable, read_object
from easel.model_folder.weights_file import WeightsUnusable, check_weights
from easel.startup.quiet import without_warnings

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
# Configurations and tokenizers, not weights.
_SMALL = ["*.json", "**/*.json", "*.txt", "**/*.txt", "**/*.model"]


class CannotConvert(Exception):
    """The file cannot be converted; the text is one sentence with what to do."""


def convert(file: Path, folder: Path, config: str | None = None, dtype: str = "fp16") -> None:
    """Write a diffusers folder with the weights of a single-file checkpoint.

    Args:
        file: a checkpoint in the safetensors format.
        folder: the folder to write; must not exist, or be empty.
        config: a diffusers folder or hub repository of the same family; None to recognise it.
        dtype: the precision of the weights: fp16, bf16 or fp32.

    Raises:
        CannotConvert: if the file cannot be read, or is of a family that diffusers cannot convert.
    """
    _check_arguments(file, folder)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    source = _configuration(file, config)
    pipeline = _load(file, source, _DTYPES[dtype])
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Written elsewhere and renamed, so that an interrupted run leaves no half of a model.
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
        pipeline.save_pretrained(made)
        _copy_vocabularies(source, Path(made))
        _name_weights(Path(made))
        faults = [str(fault) for fault in check(Path(made)) if fault.fatal]
        if faults:
            raise CannotConvert(f"{file} lacks parts of the model: {faults[0]}")
        shutil.copytree(made, folder, dirs_exist_ok=True)


def _check_arguments(file: Path, folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CannotConvert(f"{folder} exists and is not an empty folder: name another one")
    if not file.is_file():
        raise CannotConvert(f"{file} is not a file: name a checkpoint that ends in {SAFE}")
    if file.suffix.lower() != SAFE:
        # Reading one can run any code in it.
        raise CannotConvert(f"{file} is pickled: download its {SAFE} version instead")
    try:
        check_weights(file)
    except WeightsUnusable as error:
        raise CannotConvert(f"{file} {error}: {error.advice}") from error
    except OSError as error:
        raise CannotConvert(f"{file} cannot be read: {error.strerror}") from error


def _configuration(file: Path, config: str | None) -> Path:
    """Return a local folder with the configurations for the file."""
    if config is not None and Path(config).is_dir():
        return Path(config)
    if config is not None and (Path(config).exists() or config.count("/") != 1):
        raise CannotConvert(f"--config {config} is neither a folder nor a repository (org/name)")
    try:
        repository = config or _recognised(file)
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=_SMALL))
    except CannotConvert:
        raise
    except Exception as error:
        raise CannotConvert(
            f"the configuration of {config or 'this family'} could not be downloaded "
            f"({str(error)[:200]}): check the network, or name a diffusers folder of the same "
            "family with --config"
        ) from error


def _recognised(file: Path) -> str:
    """Return the repository of the model that diffusers takes the weights for."""
    weights = single_file_utils.load_single_file_checkpoint(str(file))
    kind = single_file_utils.infer_diffusers_model_type(weights)
    # What it answers for weights that it does not know is Stable Diffusion 1.
    if kind == "v1" and not any(key.startswith("model.diffusion_model.") for key in weights):
        raise CannotConvert(
            f"{file} is no whole checkpoint that diffusers knows: a LoRA adapter belongs into "
            "loras/ of a model folder, and a single component into a folder of its own"
        )
    return str(single_file_utils.DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind][_REPOSITORY])


_REPOSITORY = "pretrained_model_name_or_path"


def _load(file: Path, source: Path, dtype: torch.dtype) -> Any:
    try:
        name = str(read_object(source / INDEX).get("_class_name"))
    except FolderUnusable as error:
        raise CannotConvert(str(error)) from error
    kind: Any = getattr(diffusers, name, None)
    if not hasattr(kind, "from_single_file"):
        raise CannotConvert(f"{source} names {name}, which diffusers cannot read from a file")
    try:
        with without_warnings():
            return kind.from_single_file(
                str(file), config=str(source), torch_dtype=dtype, local_files_only=True
            )
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:300]
        raise CannotConvert(
            f"{file} does not fit {name} ({reason}): name another configuration with --config"
        ) from error


def _copy_vocabularies(source: Path, made: Path) -> None:
    """Copy the tokenizers' files, because transformers 5 omits those that version 4 reads."""
    for path in source.glob("tokenizer*/*"):
        if path.suffix in {".json", ".txt", ".model"} and (made / path.parent.name).is_dir():
            shutil.copy(path, made / path.parent.name / path.name)


def _name_weights(made: Path) -> None:
    """Name the text encoder's weights as transformers from 4.51 on finds them.

    transformers 5 omits one level of names when it saves, and earlier versions do not load those.
    """
    for name, value in read_object(made / INDEX).items():
        if isinstance(value, list) and value[1] == "CLIPTextModel":
            for path in (made / name).glob(f"*{SAFE}"):
                weights = load_file(path)
                named = {f"text_model.{key.removeprefix('text_model.')}": weights[key]
                         for key in weights}  # fmt: skip
                save_file(named, path, {"format": "pt"})


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python model_package/convert.py",
        description="Make a diffusers folder of a checkpoint in a single file.",
    )
    add = parser.add_argument
    add("file", type=Path, help="the checkpoint, in the safetensors format")
    add("folder", type=Path, help="the folder to write")
    add("--config", metavar="FOLDER_OR_REPOSITORY", help="a diffusers model of the same family")
    add("--dtype", choices=[*_DTYPES], default="fp16", help="precision of the weights (fp16)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Convert a file; return the exit code: 0 done, 1 failed, 2 wrong arguments."""
    options = parser().parse_args(argv)
    try:
        convert(**vars(options))
    except CannotConvert as error:
        print(f"Easel: {error}", file=sys.stderr)  # noqa: T201
        return 1
    command = f"./setup.sh run --model {options.folder}"
    print(f"Easel: {options.folder} is ready; try it with `{command}`")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
