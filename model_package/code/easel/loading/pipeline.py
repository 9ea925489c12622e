"""Loading: from a folder or a hub repository to a diffusers pipeline that is ready to paint.

Runs with diffusers 0.38 (the SageMaker image's) to 0.42 and with transformers 4.51 to 5.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from easel.startup.quiet import noting_warnings, without_warnings

# isort: split
import diffusers
import torch
from safetensors import SafetensorError

from easel.errors import ModelUnusable
from easel.loading import hub, model_folder
from easel.settings import Settings
from easel.startup.stopwatch import Clock

# Neither library has an exception of its own for a folder that it cannot read.
_LOADING_ERRORS = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)


# Pipelines that are text-to-image themselves, by the names that a `model_index.json` has. diffusers
# need not be asked for their like, which would import every pipeline that it has.
TEXT_TO_IMAGE = frozenset(
    {
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


def find_folder(model_dir: Path, settings: Settings) -> Path:
    """Return the folder that holds the model: `model_dir`, its `base`, or what the hub has.

    Raises:
        ModelUnusable: if there is neither.
    """
    for folder in (model_dir, model_dir / "base"):
        if model_folder.holds_model(folder):
            return folder
    if settings.model_id is None:
        raise ModelUnusable(
            f"{model_dir} has no {model_folder.INDEX}, and EASEL_MODEL_ID names no hub repository "
            "to fetch, such as EASEL_MODEL_ID=stabilityai/sd-turbo"
        )
    return hub.fetch(settings.model_id, settings.revision, allow_pickle=settings.allow_pickle)


def load_pipeline(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    allow_pickle: bool,
    shared: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
) -> Any:
    """Return the pipeline that `folder` holds, on `device`, with its safety checker if it has one.

    Args:
        folder: a diffusers pipeline's.
        dtype: the type to compute in.
        device: where to.
        allow_pickle: unpickle the weights of components that have no others.
        shared: components that are there already; with these, the pipeline is loaded as what it
            says it is, and else as text-to-image where diffusers knows the model as such.
        clock: is told of the steps `imports`, `weights` and `to_device`.

    Raises:
        ModelUnusable: if its weights are pickled and that is not allowed, or if diffusers cannot
            load it.
    """
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    _repeat_exactly()
    index = model_folder.read_index(folder / model_folder.INDEX)
    shared, clock = shared or {}, clock or Clock()
    name = str(index.get("_class_name"))
    arguments = _arguments(folder, index, shared, dtype=dtype, allow_pickle=allow_pickle)
    try:
        with without_warnings(), noting_warnings() as notes:
            getattr(diffusers, name, None)  # imports the pipeline, and the classes of its parts
            clock.mark("imports")
            pipeline = _load(folder, name, {**arguments, **shared}, plainly=bool(shared))
            clock.mark("weights")
            pipeline.to(device)
            clock.mark("to_device")
    except _LOADING_ERRORS as error:
        raise ModelUnusable(f"diffusers cannot load {folder}: {error}") from error
    _check_complete(folder, notes.texts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _check_complete(folder: Path, notes: list[str]) -> None:
    """Refuse a model of which a part was filled with random numbers.

    The libraries only warn of that. It happens when transformers 4.51 to at least 5.5 load a CLIP
    text encoder or a safety checker that a later transformers 5 saved: the weights' names differ. A
    random text encoder ignores the prompt, and a random safety checker passes everything.
    """
    for note in notes:
        if "newly initialized" in note:
            raise ModelUnusable(f"{folder} lacks weights that the model needs: {note[:2_000]}")


def software() -> str:
    """Return what paints, with its version."""
    return f"diffusers {diffusers.__version__}"


def _load(folder: Path, name: str, arguments: dict[str, Any], *, plainly: bool) -> Any:
    """Load as text-to-image where diffusers knows the model as such, else as what it says it is."""
    auto = None if plainly or name in TEXT_TO_IMAGE else _auto_pipeline()
    if auto is not None:
        try:
            return auto.from_pretrained(folder, **arguments)
        except ValueError as error:
            if "AutoPipeline can't find" not in str(error):  # it has no class for this model
                raise
    plain: Any = diffusers.DiffusionPipeline
    return plain.from_pretrained(folder, **arguments)


def _auto_pipeline() -> Any:
    """Return AutoPipelineForText2Image, or None where it cannot be imported.

    It imports every pipeline there is, and one of those in diffusers 0.38 needs a newer
    transformers than 4.51.
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
    """Return what `from_pretrained` needs to be told about this folder."""
    files, names = model_folder.list_files(folder), model_folder.components(index, shared)
    pickled = model_folder.pickled_only(files, names)
    if pickled and not allow_pickle:
        raise ModelUnusable(model_folder.pickle_refusal(pickled))
    prefer = dtype == torch.float16
    arguments: dict[str, Any] = {
        # Always given: without it transformers 5 takes each text encoder's type from its
        # config.json and diffusers takes 32 bits, which do not multiply.
        _dtype_argument(): dtype,
        "variant": model_folder.choose_variant(files, names, prefer_variant=prefer),
        # None means: safetensors where there are any.
        "use_safetensors": None if pickled else True,
    }
    if str(index.get("_class_name", "")).startswith("StableDiffusionXL"):
        # Otherwise on whenever a package named imwatermark happens to be there.
        arguments["add_watermarker"] = False
    return arguments


def _dtype_argument() -> str:
    """Return the name: diffusers 0.40 changed it; before, the new one is ignored."""
    numbers = re.findall(r"\d+", diffusers.__version__)
    return "dtype" if tuple(map(int, numbers[:2])) >= (0, 40) else "torch_dtype"


def _repeat_exactly() -> None:
    """Let the same request give the same bytes: cuDNN picks its fastest algorithm by timing."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
