"""The environment variables that Easel reads, except those of `easel.speed.speed`.

`HF_MODEL_ID` is deliberately not one of them: the serving toolkit reacts to it by downloading that
repository itself. `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` are read by huggingface_hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from easel.defaults import Defaults
from easel.env_fields import one_of, read_variables, switch, text, variable
from generation import InvalidField

# Who sets a variable, for the message about one that is invalid.
_CREATOR = "the script that creates the endpoint, from its command line"
_RUNNER = "setup.sh run, or the script that creates the endpoint"
# Bucket names: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_S3 = re.compile(r"s3://[a-z0-9.-]{3,63}/(?:[^/]+/)*")
_dtype = one_of("auto", "fp16", "bf16", "fp32")
PREPARED = ("gguf", "nunchaku_lite")  # quantisations of a transformer that was quantised before
QUANTISATIONS = ("none", "fp8", "int8", *PREPARED)


def _place(value: str) -> str:
    if "://" in value and not _S3.fullmatch(value):
        raise ValueError("must be s3://bucket/prefix/ or a folder")
    return value


def _defaults(value: str) -> Defaults:
    try:
        return Defaults.from_dict(json.loads(value))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError("must be a JSON object") from error
    except InvalidField as error:
        raise ValueError(f"has {error}") from error


@dataclass(frozen=True)
class Settings:
    """Each setting once: its variable, its meaning (below), who sets it, an example.

    Attributes:
        model_id: hub repository to fetch when the model folder holds no model.
        revision: its branch, tag or commit.
        refiner_id: hub repository of a refiner, when the model folder holds none.
        refiner_revision: its branch, tag or commit.
        loras: a folder of LoRA adapters, in addition to `loras` in the model folder.
        loras_from: an address in S3 or a folder, where adapters are looked up by name while the
            model runs, and can be added, replaced and deleted.
        vae_tiling: whether the VAE decodes sizes above its own in tiles, which needs less memory.
        dtype: the number type to compute in; auto is fp16 on CUDA, bf16 or fp32 on a CPU.
        quantise: how the weights are stored: `fp8` and `int8` round the denoiser's and large text
            encoders' when they are loaded; `gguf` and `nunchaku_lite` take a transformer that was
            quantised before, from `quantised` in the model folder or from the hub.
        quantised_id: the hub repository of that transformer.
        quantised_revision: its branch, tag or commit.
        quantised_file: the GGUF file in it, or the folder of the transformer for nunchaku_lite.
        merged_lora_id: the hub repository of a LoRA that is merged into the weights when they are
            loaded, such as one that reduces the number of steps.
        merged_lora_revision: its branch, tag or commit.
        merged_lora_file: the file in it.
        defaults: the model's own steps, guidance scale, width and height, and its largest area.
        metadata: whether the image file includes the prompt and the parameters.
        log_prompts: whether prompts are logged.
        allow_pickle: whether weights that exist only as `.bin` may be unpickled, which can run any
            code in the file.
    """

    model_id: str | None = field(
        default=None,
        metadata=variable("EASEL_MODEL_ID", text, _RUNNER, example="stabilityai/sd-turbo"),
    )
    revision: str | None = field(
        default=None, metadata=variable("EASEL_MODEL_REVISION", text, _RUNNER, example="main")
    )
    refiner_id: str | None = field(
        default=None,
        metadata=variable(
            "EASEL_REFINER_ID",
            text,
            _CREATOR,
            example="stabilityai/stable-diffusion-xl-refiner-1.0",
        ),
    )
    refiner_revision: str | None = field(
        default=None,
        metadata=variable("EASEL_REFINER_REVISION", text, _CREATOR, example="main"),
    )
    loras: Path | None = field(
        default=None, metadata=variable("EASEL_LORAS", Path, _CREATOR, example="/opt/ml/loras")
    )
    loras_from: str | None = field(
        default=None,
        metadata=variable(
            "EASEL_LORAS_FROM", _place, _RUNNER, example="s3://my-bucket/loras/sdxl/"
        ),
    )
    vae_tiling: bool = field(
        default=False, metadata=variable("EASEL_VAE_TILING", switch, _CREATOR, example="on")
    )
    dtype: str = field(
        default="auto", metadata=variable("EASEL_DTYPE", _dtype, _CREATOR, example="bf16")
    )
    quantise: str = field(
        default="none",
        metadata=variable("EASEL_QUANTISE", one_of(*QUANTISATIONS), _CREATOR, example="fp8"),
    )
    quantised_id: str | None = field(
        default=None,
        metadata=variable("EASEL_QUANTISED_ID", text, _CREATOR, example="city96/FLUX.1-dev-gguf"),
    )
    quantised_revision: str | None = field(
        default=None,
        metadata=variable("EASEL_QUANTISED_REVISION", text, _CREATOR, example="main"),
    )
    quantised_file: str | None = field(
        default=None,
        metadata=variable("EASEL_QUANTISED_FILE", text, _CREATOR, example="flux1-dev-Q4_K_S.gguf"),
    )
    merged_lora_id: str | None = field(
        default=None,
        metadata=variable(
            "EASEL_MERGED_LORA_ID", text, _CREATOR, example="ByteDance/SDXL-Lightning"
        ),
    )
    merged_lora_revision: str | None = field(
        default=None,
        metadata=variable("EASEL_MERGED_LORA_REVISION", text, _CREATOR, example="main"),
    )
    merged_lora_file: str | None = field(
        default=None,
        metadata=variable(
            "EASEL_MERGED_LORA_FILE",
            text,
            _CREATOR,
            example="sdxl_lightning_4step_lora.safetensors",
        ),
    )
    defaults: Defaults = field(
        default=Defaults(),
        metadata=variable(
            "EASEL_DEFAULTS", _defaults, _CREATOR, example='{"steps": 4, "guidance_scale": 0}'
        ),
    )
    metadata: bool = field(
        default=True, metadata=variable("EASEL_METADATA", switch, _CREATOR, example="off")
    )
    log_prompts: bool = field(
        default=False, metadata=variable("EASEL_LOG_PROMPTS", switch, _CREATOR, example="on")
    )
    allow_pickle: bool = field(
        default=False, metadata=variable("EASEL_ALLOW_PICKLE", switch, _CREATOR, example="on")
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings; a variable that is empty counts as not set.

        Raises:
            SettingInvalid: for the first variable that cannot be read.
        """
        return cls(**read_variables(cls, environ))

    @property
    def model_name(self) -> str | None:
        """The hub repository's name without its owner's; None for a model from a folder."""
        return self.model_id.rpartition("/")[2] if self.model_id else None
