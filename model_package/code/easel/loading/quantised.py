"""A transformer whose weights were quantised before: one GGUF file, or nunchaku_lite's.

The rest of the pipeline is loaded as usual. diffusers' own quantizers do the work; what they need
(a package, a kind of GPU) is not checked here a second time, and their refusal is passed on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from easel.startup.quiet import without_warnings

# isort: split
import diffusers

from easel.errors import ModelUnusable, SettingInvalid
from easel.loading import hub
from easel.loading.pipeline import LOADING_ERRORS, read_index
from easel.model_folder import files as model_folder
from easel.settings import PREPARED, Settings

PART = "transformer"


def find_quantised(model_dir: Path, home: Path, settings: Settings) -> Path | None:
    """Return the GGUF file, or the folder of the transformer; None if the setting needs neither.

    Args:
        model_dir: the container's model folder, in which `quantised` comes before the hub.
        home: the model's own folder, if that is another one; likewise.
        settings: name the kind, and a repository.

    Raises:
        ModelUnusable: if there is none, or if it cannot be fetched.
    """
    kind = settings.quantise
    if kind not in PREPARED:
        return None
    for folder in (model_dir, home):
        paths = model_folder.quantised_files(model_folder.list_files(folder))
        if paths and kind == "nunchaku_lite":
            return folder / model_folder.QUANTISED
        for path in paths:
            if path.lower().endswith(model_folder.GGUF):
                return folder / path
    if settings.quantised_id is None or (kind == "gguf" and settings.quantised_file is None):
        raise SettingInvalid(
            f"EASEL_QUANTISE is {kind}, and there is no quantised transformer: put it into "
            f"{model_folder.QUANTISED} of the model's folder, or set EASEL_QUANTISED_ID and "
            "EASEL_QUANTISED_FILE to a repository and the file in it"
        )
    return _fetch(settings.quantised_id, settings)


def _fetch(repository: str, settings: Settings) -> Path:
    file = (settings.quantised_file or "").strip("/")
    inside = f"{file}/" if file else ""
    wanted = [file] if settings.quantise == "gguf" else [f"{inside}*.json", f"{inside}*.safetensors"]
    folder = hub.fetch_files(
        repository, settings.quantised_revision, wanted, variables="EASEL_QUANTISED"
    )
    place = folder / file
    # A repository can hold the transformer itself, or a pipeline of which it is a part.
    if settings.quantise == "gguf" and not place.is_file():
        raise SettingInvalid(f"EASEL_QUANTISED_FILE is {file}, which {repository} does not contain")
    return place


def load_quantised(
    place: Path, folder: Path, settings: Settings, *, dtype: torch.dtype
) -> dict[str, Any]:
    """Return the transformer as the pipeline's component, on the CPU.

    Args:
        place: from `find_quantised`.
        folder: the pipeline's, with the configuration of its transformer.
        settings: name the kind.
        dtype: the type to compute in.

    Raises:
        ModelUnusable: if the model has no transformer, or if diffusers refuses it here.
    """
    kind = settings.quantise
    value = read_index(folder).get(PART)
    if not isinstance(value, list) or value[0] != "diffusers":
        raise SettingInvalid(
            f"EASEL_QUANTISE is {kind}, which this model does not support, because it has no "
            "transformer; set EASEL_QUANTISE to fp8, int8 or none"
        )
    load = _load_gguf if kind == "gguf" else _load_nunchaku
    try:
        with without_warnings():
            return {PART: load(getattr(diffusers, value[1]), place, folder, dtype)}
    except ModelUnusable:
        raise
    except LOADING_ERRORS as error:
        raise ModelUnusable(
            f"EASEL_QUANTISE is {kind}, which cannot be loaded here: {error}; set it to fp8, int8 "
            "or none if this GPU or this container does not support it"
        ) from error


def _load_gguf(kind: Any, file: Path, folder: Path, dtype: torch.dtype) -> Any:
    if not hasattr(kind, "from_single_file"):
        raise SettingInvalid(
            f"EASEL_QUANTISE is gguf, which diffusers does not read for {kind.__name__}; set it to "
            "fp8, int8 or none"
        )
    config = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
    transformer = kind.from_single_file(
        str(file),
        quantization_config=config,
        config=str(folder),
        subfolder=PART,
        dtype=dtype,
    )
    _restore_others(transformer, dtype)
    return transformer


def _restore_others(transformer: Any, dtype: torch.dtype) -> None:
    """Restore quantised parameters of other than linear layers, which would be used as bytes.

    A file can hold such: Z-Image's padding tokens, for example, are matrices.
    """
    from diffusers.quantizers.gguf import utils  # needs the package

    for module in transformer.modules():
        if not isinstance(module, utils.GGUFLinear):
            for name, value in module._parameters.items():
                if isinstance(value, utils.GGUFParameter):
                    plain = utils.dequantize_gguf_tensor(value).to(dtype)
                    module._parameters[name] = torch.nn.Parameter(plain, requires_grad=False)


def _load_nunchaku(kind: Any, place: Path, folder: Path, dtype: torch.dtype) -> Any:
    place = place if (place / "config.json").is_file() else place / PART
    config = model_folder.read_object(place / "config.json")
    method = config.get("quantization_config", {}).get("quant_method")
    if method != "nunchaku_lite":
        raise SettingInvalid(
            f"EASEL_QUANTISE is nunchaku_lite, and {place}/config.json does not say that its "
            "weights were quantised so: diffusers' documentation of it names the tool that makes "
            "such weights"
        )
    return kind.from_pretrained(place, dtype=dtype, use_safetensors=True)
