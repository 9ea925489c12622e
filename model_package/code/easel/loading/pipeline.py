"""From a folder or a hub repository to a diffusers pipeline that is ready to generate.

Works with diffusers 0.38 (the SageMaker image's) to 0.42 and with transformers 4.51 to 5.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from easel.startup.quiet import collecting_warnings, without_warnings

# isort: split
import diffusers
import torch
from safetensors import SafetensorError

from easel.errors import ModelUnusable
from easel.loading import compiled, hub, modular
from easel.model_folder import check
from easel.model_folder import files as model_folder
from easel.settings import PREPARED, Settings
from easel.startup.stopwatch import Stopwatch

# Neither diffusers nor transformers has an exception of its own for a folder that it cannot read.
LOADING_ERRORS = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)


# Class names in a `model_index.json` that are text-to-image pipelines. Others are loaded through
# diffusers' AutoPipelineForText2Image, which imports every pipeline and takes seconds.
TEXT_TO_IMAGE = frozenset(
    {
        "ErnieImagePipeline",
        "Flux2KleinPipeline",
        "FluxPipeline",
        "LatentConsistencyModelPipeline",
        "PixArtAlphaPipeline",
        "PixArtSigmaPipeline",
        "QwenImagePipeline",
        "SanaPipeline",
        "StableDiffusion3Pipeline",
        "StableDiffusionPipeline",
        "StableDiffusionXLPipeline",
        "ZImagePipeline",
    }
)


def find_folder(home: Path, settings: Settings) -> Path:
    """Return the folder of the pipeline: `find_home`'s, or `base` in it; raises ModelUnusable."""
    home = find_home(home, settings)
    return home if model_folder.holds_model(home) else home / model_folder.BASE


def find_home(model_dir: Path, settings: Settings) -> Path:
    """Return the model folder: `model_dir`, or a download from the hub.

    Raises:
        ModelUnusable: if there is no model in any of them.
    """
    if model_folder.contains_model(model_dir):
        return model_dir
    if settings.model_id is None:
        faults = "".join(f"; {fault}" for fault in check.check(model_dir) if fault.fatal)
        raise ModelUnusable(
            f"{model_dir} has no {model_folder.INDEX}, and EASEL_MODEL_ID is not set to a hub "
            f"repository, such as EASEL_MODEL_ID=stabilityai/sd-turbo{faults}"
        )
    return hub.fetch(
        settings.model_id,
        settings.revision,
        allow_pickle=settings.allow_pickle,
        replaced=settings.quantise in PREPARED,
    )


def load_pipeline(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    allow_pickle: bool,
    shared: Mapping[str, Any] | None = None,
    parts: Mapping[str, Any] | None = None,
    stopwatch: Stopwatch | None = None,
) -> Any:
    """Return the pipeline of a folder, on `device`, with its safety checker if it has one.

    A compiled model is loaded onto its accelerator; then the arguments besides the folder have no
    effect.

    Args:
        folder: a diffusers pipeline's folder.
        dtype: the type to compute in.
        device: the device to load to.
        allow_pickle: unpickle the weights of components that have no others.
        shared: components of another pipeline to use. With these, the pipeline is loaded as the
            class in its index; without, as text-to-image if diffusers supports that for the model.
        parts: components that are loaded already, such as a quantised transformer.
        stopwatch: records the steps `imports`, `weights` and `to_device`.

    Raises:
        ModelUnusable: if its weights are pickled and that is not allowed, or if diffusers cannot
            load it.
    """
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    _repeat_exactly()
    index = read_index(folder)
    shared, stopwatch = shared or {}, stopwatch or Stopwatch()
    if compiled.is_compiled(folder):
        pipeline = compiled.load(folder)
        stopwatch.mark("weights")
        return pipeline
    given = {**shared, **(parts or {})}
    name = str(index.get("_class_name"))
    arguments = _arguments(folder, index, given, dtype=dtype, allow_pickle=allow_pickle)
    try:
        with without_warnings(), collecting_warnings() as messages:
            getattr(diffusers, name, None)  # imports the pipeline, and the classes of its parts
            stopwatch.mark("imports")
            if model_folder.index_of(folder) == model_folder.MODULAR_INDEX:
                pipeline = modular.load(folder, index, arguments, given)
            else:
                left_out = dict.fromkeys(model_folder.REWRITERS & index.keys())
                whole = {**arguments, **left_out, **given}
                pipeline = _load(folder, name, whole, plainly=bool(shared))
            stopwatch.mark("weights")
            pipeline.to(device)
            stopwatch.mark("to_device")
    except LOADING_ERRORS as error:
        reason = _fault(folder, index, given, allow_pickle=allow_pickle) or _unknown(name) or error
        raise ModelUnusable(f"diffusers cannot load {folder}: {reason}") from error
    _check_complete(folder, messages.texts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def read_index(folder: Path) -> dict[str, Any]:
    """Return the index of a pipeline's folder.

    Raises:
        ModelUnusable: if it cannot be read.
    """
    try:
        return model_folder.read_object(folder / model_folder.index_of(folder))
    except model_folder.FolderUnusable as error:
        raise ModelUnusable(str(error)) from error


def _fault(
    folder: Path, index: dict[str, Any], shared: Collection[str], *, allow_pickle: bool
) -> check.Fault | None:
    """Return what is wrong with a folder's files, in words that say more than the libraries'."""
    faults = check.check_pipeline(folder, index, shared, allow_pickle=allow_pickle)
    return next((fault for fault in faults if fault.fatal), None)


def _unknown(name: str) -> str | None:
    """Return the reason if this version of diffusers does not have a pipeline's class."""
    if name in dir(diffusers):
        return None
    return f"{software()} has no {name}; use an image with a newer one, such as Easel's own"


def _check_complete(folder: Path, messages: list[str]) -> None:
    """Refuse a model with missing weights, which the libraries fill with random numbers.

    They only warn of it. It happens when transformers 4.51 to at least 5.5 load a CLIP text encoder
    or a safety checker that a later transformers 5 saved under other names. A random text encoder
    ignores the prompt, and a random safety checker passes everything.
    """
    for message in messages:
        if "newly initialized" in message:
            raise ModelUnusable(f"{folder} lacks weights of the model: {message[:2_000]}")


def software() -> str:
    """Return the library that generates, with its version."""
    return f"diffusers {diffusers.__version__}"


def _load(folder: Path, name: str, arguments: dict[str, Any], *, plainly: bool) -> Any:
    """Load as text-to-image if diffusers supports that for the model, else as the class itself."""
    auto = None if plainly or name in TEXT_TO_IMAGE else _auto_pipeline()
    if auto is not None:
        try:
            return auto.from_pretrained(folder, **arguments)
        except ValueError as error:
            if "AutoPipeline can't find" not in str(error):  # no text-to-image class for this model
                raise
    plain: Any = diffusers.DiffusionPipeline
    return plain.from_pretrained(folder, **arguments)


def _auto_pipeline() -> Any:
    """Return AutoPipelineForText2Image, or None where it cannot be imported.

    It imports every pipeline of diffusers, and one in 0.38 needs a newer transformers than 4.51.
    """
    try:
        return diffusers.AutoPipelineForText2Image
    except RuntimeError:
        return None


def _arguments(
    folder: Path,
    index: dict[str, Any],
    shared: Collection[str],
    *,
    dtype: torch.dtype,
    allow_pickle: bool,
) -> dict[str, Any]:
    """Return the keyword arguments of `from_pretrained` for this folder."""
    files, names = model_folder.list_files(folder), model_folder.components(index, shared)
    pickled = model_folder.pickled_only(files, names)
    if pickled and not allow_pickle:
        raise ModelUnusable(model_folder.pickle_refusal(pickled))
    prefer = dtype == torch.float16
    arguments: dict[str, Any] = {
        # Always set: without it transformers 5 takes a text encoder's type from its config.json,
        # diffusers takes 32 bits, and the two do not multiply.
        _dtype_argument(): dtype,
        "variant": model_folder.choose_variant(files, names, prefer_variant=prefer),
        # None means: safetensors if there are any.
        "use_safetensors": None if pickled else True,
    }
    if str(index.get("_class_name", "")).startswith("StableDiffusionXL"):
        # The default is on if a package named imwatermark is installed.
        arguments["add_watermarker"] = False
    return arguments


def _dtype_argument() -> str:
    """Return the argument's name: diffusers 0.40 renamed it, earlier ones ignore the new name."""
    numbers = re.findall(r"\d+", diffusers.__version__)
    return "dtype" if tuple(map(int, numbers[:2])) >= (0, 40) else "torch_dtype"


def _repeat_exactly() -> None:
    """Make results repeatable: with its benchmark on, cuDNN picks algorithms by timing."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
