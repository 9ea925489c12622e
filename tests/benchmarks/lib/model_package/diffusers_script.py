"""The training loop of diffusers' own LoRA scripts, as far as it takes time.

Written after `examples/text_to_image/train_text_to_image_lora.py`, and for SDXL after
`examples/dreambooth/train_dreambooth_lora_sdxl.py`, of August 2026 (commit 58eb52c080): each step
reads a shuffled batch from a DataLoader, encodes pictures and texts again, and computes noise, the
UNet and its loss, which an accelerator propagates back, clips and gives to AdamW. Left out are
logging, validation and checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import compute_snr
from peft import LoraConfig
from PIL import Image
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

ATTENTION = ("to_k", "to_q", "to_v", "to_out.0")  # the layers that the scripts train
_MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class Options:
    """The options that differ between runs, with the scripts' names."""

    resolution: int
    train_batch_size: int
    rank: int
    learning_rate: float
    snr_gamma: float
    max_train_steps: int
    gradient_checkpointing: bool
    mixed_precision: str = "no"
    layers: Sequence[str] = ATTENTION


class DiffusersScript:
    """A run of a script: `steps` trains as long as it is iterated.

    Args:
        model: the folder of a pipeline.
        pictures: a folder of pictures with captions of their names in `.txt` files.
    """

    def __init__(self, model: Path, pictures: Path, options: Options) -> None:
        self.options = options
        self.accelerator = Accelerator(mixed_precision=options.mixed_precision)
        self.is_xl = (model / "text_encoder_2").is_dir()
        self.schedule: Any = DDPMScheduler.from_pretrained(model, subfolder="scheduler")
        self._load(model)
        self.unet.add_adapter(
            LoraConfig(
                r=options.rank,
                lora_alpha=options.rank,
                init_lora_weights="gaussian",
                target_modules=list(options.layers),
            )
        )
        if options.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.trained = [tensor for tensor in self.unet.parameters() if tensor.requires_grad]
        optimizer = torch.optim.AdamW(
            self.trained, lr=options.learning_rate, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8
        )
        rate = get_scheduler(
            "cosine",
            optimizer=optimizer,
            num_warmup_steps=0,
            num_training_steps=options.max_train_steps,
        )
        loader = self._loader(pictures)
        self.unet, self.optimizer, self.loader, self.rate = self.accelerator.prepare(
            self.unet, optimizer, loader, rate
        )

    def steps(self) -> Iterator[float]:
        """Yield the loss of each step."""
        while True:
            self.unet.train()
            for batch in self.loader:
                yield self._step(batch)

    def _load(self, model: Path) -> None:
        def part(kind: Any, name: str, dtype: torch.dtype = self._dtype) -> Any:
            loaded = kind.from_pretrained(model, subfolder=name)
            loaded.requires_grad_(False)
            return loaded.to(self.accelerator.device, dtype=dtype)

        self.unet = part(UNet2DConditionModel, "unet")
        # SDXL's VAE is always in 32 bits.
        self.vae = part(AutoencoderKL, "vae", torch.float32 if self.is_xl else self._dtype)
        names, kinds = ["text_encoder"], [CLIPTextModel]
        if self.is_xl:
            names, kinds = [*names, "text_encoder_2"], [*kinds, CLIPTextModelWithProjection]
        self.encoders = [part(kind, name) for kind, name in zip(kinds, names, strict=True)]
        self.tokenizers = [
            CLIPTokenizer.from_pretrained(model, subfolder=name)
            for name in ("tokenizer", "tokenizer_2")[: len(names)]
        ]

    @property
    def _dtype(self) -> torch.dtype:
        kinds = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
        return kinds[self.options.mixed_precision]

    def _loader(self, folder: Path) -> Any:
        """Return a loader of the pictures, which the script decodes each time, and SDXL's once."""
        paths = sorted(folder.glob("*.png"))
        pixels = lru_cache(maxsize=len(paths) if self.is_xl else 0)(self._pixels)

        def collate(chosen: Sequence[Path]) -> dict[str, Any]:
            images = torch.stack([pixels(path) for path in chosen])
            texts = [path.with_suffix(".txt").read_text() for path in chosen]
            ids = [self._tokens(tokenizer, texts) for tokenizer in self.tokenizers]
            return {"pixel_values": images.contiguous().float(), "input_ids": ids}

        size = self.options.train_batch_size
        loader: Any = torch.utils.data.DataLoader(
            paths,  # type: ignore[arg-type]
            shuffle=True,
            collate_fn=collate,
            batch_size=size,
        )
        return loader

    def _pixels(self, path: Path) -> torch.Tensor:
        side = self.options.resolution
        with Image.open(path) as file:
            image = file.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1

    @staticmethod
    def _tokens(tokenizer: Any, texts: list[str]) -> torch.Tensor:
        ids: torch.Tensor = tokenizer(
            texts,
            max_length=tokenizer.model_max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return ids

    def _step(self, batch: dict[str, Any]) -> float:
        with self.accelerator.accumulate(self.unet):
            pixels = batch["pixel_values"].to(dtype=self.vae.dtype)
            latents = self.vae.encode(pixels).latent_dist.sample() * self.vae.config.scaling_factor
            latents = latents.to(self._dtype)
            noise = torch.randn_like(latents)
            count = len(latents)
            levels = self.schedule.config.num_train_timesteps
            timesteps = torch.randint(0, levels, (count,), device=latents.device).long()
            noisy = self.schedule.add_noise(latents, noise, timesteps)
            hidden, extra = self._encode(batch["input_ids"], count)
            is_v = self.schedule.config.prediction_type == "v_prediction"
            target = self.schedule.get_velocity(latents, noise, timesteps) if is_v else noise
            predicted = self.unet(noisy, timesteps, hidden, return_dict=False, **extra)[0]

            snr = compute_snr(self.schedule, timesteps)
            gamma = self.options.snr_gamma * torch.ones_like(timesteps)
            weights = torch.stack([snr, gamma], dim=1).min(dim=1)[0] / (snr + 1 if is_v else snr)
            loss = functional.mse_loss(predicted.float(), target.float(), reduction="none")
            loss = (loss.mean(dim=[1, 2, 3]) * weights).mean()
            shown: Any = self.accelerator.gather(loss.repeat(count))

            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.trained, _MAX_GRAD_NORM)
            self.optimizer.step()
            self.rate.step()
            self.optimizer.zero_grad()
        return float(shown.mean().item())

    def _encode(self, ids: list[torch.Tensor], count: int) -> tuple[torch.Tensor, dict[str, Any]]:
        if not self.is_xl:
            return self.encoders[0](ids[0], return_dict=False)[0], {}
        with torch.no_grad():
            outputs = [encoder(tokens, output_hidden_states=True)
                       for encoder, tokens in zip(self.encoders, ids, strict=True)]  # fmt: skip
        hidden = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        side = self.options.resolution
        sizes = torch.tensor([[side, side, 0, 0, side, side]] * count, device=hidden.device)
        extra = {"time_ids": sizes.to(self._dtype), "text_embeds": outputs[-1][0]}
        return hidden, {"added_cond_kwargs": extra}
