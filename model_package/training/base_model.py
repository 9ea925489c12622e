"""The model to train: Stable Diffusion 1 and 2, SDXL, and models of the same classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from .failures import TrainingFailed

_SD, _SDXL = "StableDiffusionPipeline", "StableDiffusionXLPipeline"
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_AMPERE = 8  # the first NVIDIA GPUs with bfloat16; a T4 is 7.5


@dataclass(frozen=True)
class Text:
    """A text's embedding (tokens, width) and, for SDXL, its pooled one (width)."""

    tokens: Tensor
    pooled: Tensor | None


@dataclass
class BaseModel:
    """A model's parts. The UNet computes in `dtype`, the VAE always in 32 bits.

    Attributes:
        folder: of the pipeline.
        encoders: one text encoder, or two for SDXL, named as in the folder.
        zero_empty: whether the embedding of an empty prompt is zeros, as the pipeline has it.
    """

    folder: Path
    is_xl: bool
    unet: Any
    vae: Any
    encoders: dict[str, Any]
    tokenizers: list[Any]
    schedule: Any
    device: torch.device
    dtype: torch.dtype
    zero_empty: bool

    @property
    def resolution(self) -> int:
        """The side of the squares that the model was trained on, in pixels."""
        return int(self.unet.config.sample_size * self.vae_factor)

    @property
    def vae_factor(self) -> int:
        """Pixels in a latent's side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @torch.no_grad()
    def encode_image(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation of a picture's scaled latent, on the CPU.

        In 32 bits: SDXL's VAE overflows in fp16, and each picture is encoded only once.
        """
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
        posterior = self.vae.encode(values.to(self.device)).latent_dist
        config = self.vae.config
        scale = config.scaling_factor
        shift = getattr(config, "shift_factor", None) or 0.0
        mean, deviation = (posterior.mean - shift) * scale, posterior.std * scale
        return mean[0].cpu(), deviation[0].cpu()

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Image.Image:
        """Return the picture of a scaled latent (channels, height, width)."""
        config = self.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        unscaled = latent[None].to(self.device, torch.float32) / config.scaling_factor + shift
        picture = self.vae.decode(unscaled, return_dict=False)[0][0]
        values = ((picture / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return Image.fromarray(values.permute(1, 2, 0).cpu().numpy())

    def encode_texts(self, texts: Sequence[str]) -> list[Text]:
        """Return the embeddings of texts as the pipeline computes them; with gradients, if any.

        Texts are cut to the 77 tokens that CLIP reads.
        """
        hidden, pooled = [], None
        for tokenizer, encoder in zip(self.tokenizers, self.encoders.values(), strict=True):
            ids = tokenizer(
                list(texts),
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            ).input_ids.to(self.device)
            output = encoder(ids, output_hidden_states=self.is_xl)
            # SDXL is conditioned on the last layer but one, without normalisation.
            hidden.append(output.hidden_states[-2] if self.is_xl else output[0])
            pooled = output[0] if self.is_xl else None  # of the last encoder
        tokens = torch.cat(hidden, dim=-1)
        made = []
        for place, text in enumerate(texts):
            share = 0.0 if self.zero_empty and not text else 1.0
            summary = None if pooled is None else pooled[place] * share
            made.append(Text(tokens[place] * share, summary))
        return made

    def free_encoders(self) -> None:
        """Give back the memory of the text encoders; all texts are encoded."""
        self.encoders = {}
        self._empty_cache()

    def move_vae(self, device: str | torch.device) -> None:
        """Move the VAE: it is needed at the start and for samples only."""
        self.vae.to(device)
        self._empty_cache()

    def _empty_cache(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def load(folder: Path, precision: str) -> BaseModel:
    """Load a model.

    Raises:
        TrainingFailed: if the folder has no model of these classes.
    """
    folder, index = _find(folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = choose_dtype(precision, device)
    is_xl = index.get("_class_name") == _SDXL
    kinds: dict[str, Any] = {"text_encoder": CLIPTextModel}
    if is_xl:
        kinds["text_encoder_2"] = CLIPTextModelWithProjection
    try:
        unet = _part(UNet2DConditionModel, folder, "unet", dtype)
        vae = _part(AutoencoderKL, folder, "vae", torch.float32)
        encoders = {name: _part(kind, folder, name, dtype) for name, kind in kinds.items()}
        tokenizers = [
            CLIPTokenizer.from_pretrained(folder, subfolder=name)
            for name in ("tokenizer", "tokenizer_2")[: len(kinds)]
        ]
        schedule = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    except (OSError, ValueError, KeyError) as error:
        raise TrainingFailed(f"The model's files cannot be read: {str(error)[:300]}") from error
    _check(unet, vae, schedule)
    for part in (unet, vae, *encoders.values()):
        part.requires_grad_(False).to(device)
    unet.to(memory_format=torch.channels_last)  # nearly twice as fast on a CPU
    return BaseModel(
        folder=folder,
        is_xl=is_xl,
        unet=unet,
        vae=vae,
        encoders=encoders,
        tokenizers=tokenizers,
        schedule=schedule,
        device=device,
        dtype=dtype,
        zero_empty=is_xl and index.get("force_zeros_for_empty_prompt", True),
    )


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type to compute in: on a GPU bf16, or fp16 where that is missing; on a CPU fp32.

    Raises:
        TrainingFailed: for 16 bits on a CPU, which are many times slower there.
    """
    if device.type == "cpu":
        if precision in ("fp16", "bf16"):
            raise TrainingFailed(
                f"precision is {precision}, and this machine has no GPU; set it to auto or fp32."
            )
        return torch.float32
    modern = torch.cuda.get_device_capability(device)[0] >= _AMPERE
    if precision == "auto":
        return torch.bfloat16 if modern else torch.float16
    if precision == "bf16" and not modern:
        raise TrainingFailed("precision is bf16, which this GPU does not have; set it to fp16.")
    return _DTYPES[precision]


def _find(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the pipeline's folder and its index; a base with a refiner is in `base/`."""
    for place in (folder, folder / "base"):
        if (place / "model_index.json").is_file():
            try:
                index = json.loads((place / "model_index.json").read_text(encoding="utf-8"))
            except ValueError:
                index = None
            kind = index.get("_class_name") if isinstance(index, dict) else None
            if kind == "StableDiffusionXLImg2ImgPipeline" and (folder / "base").is_dir():
                continue
            if kind not in (_SD, _SDXL):
                raise TrainingFailed(
                    f"The model is a {str(kind)[:80]}; only {_SD} and {_SDXL} can be trained."
                )
            return place, dict(index)
    raise TrainingFailed(
        "The model's folder has no model_index.json; use a model in diffusers' format."
    )


def _part(kind: Any, folder: Path, name: str, dtype: torch.dtype) -> Any:
    # Some models have 16-bit files only, whose names say so.
    files = [path.name for path in (folder / name).glob("*.safetensors*")]
    variant = "fp16" if files and all(".fp16." in file for file in files) else None
    return kind.from_pretrained(
        folder, subfolder=name, torch_dtype=dtype, variant=variant, use_safetensors=True
    )


def _check(unet: Any, vae: Any, schedule: Any) -> None:
    if unet.config.in_channels != vae.config.latent_channels:
        raise TrainingFailed(
            "The model's UNet reads more than a latent, as models for inpainting do; use the "
            "model for text to image."
        )
    if schedule.config.prediction_type not in ("epsilon", "v_prediction"):
        raise TrainingFailed(
            f"The model predicts {schedule.config.prediction_type}; only models that predict "
            "epsilon or v can be trained."
        )
    if getattr(vae.config, "latents_mean", None):
        raise TrainingFailed("The model's VAE normalises each channel, which is not supported.")
