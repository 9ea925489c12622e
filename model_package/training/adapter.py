"""The LoRA layers, and the file that they are written to.

LoRA (https://arxiv.org/abs/2106.09685) adds `alpha / rank * up @ down` to a layer's weight. The
file has the names of kohya's scripts, which diffusers, ComfyUI, AUTOMATIC1111 and Easel read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .base_model import BaseModel
from .failures import TrainingFailed
from .job import Job
from .randomness import generator

_NAME = "default"  # peft's name of the only adapter
_KINDS = nn.Linear | nn.Conv2d
_IN_CONV = re.compile(r"\.(resnets|downsamplers|upsamplers)\.")
_IN_TEXT = re.compile(r"\.(self_attn|mlp)\.")
# Layers of a ResNet block: diffusers' names, and those of Stability's code.
_RESNET = {
    "conv1": "in_layers_2",
    "conv2": "out_layers_3",
    "time_emb_proj": "emb_layers_1",
    "conv_shortcut": "skip_connection",
}
_MIDDLE = {"resnets_0": "0", "attentions_0": "1", "resnets_1": "2"}
_BLOCK = re.compile(
    r"(down|up)_blocks_(\d+)_(resnets|attentions|downsamplers|upsamplers)_(\d+)_(.+)"
)


@dataclass(frozen=True)
class Layer:
    """A trained layer: the part of the model, its name in kohya's file, and its two factors."""

    part: str
    key: str
    down: nn.Parameter
    up: nn.Parameter
    alpha: float


class Adapter:
    """The trained layers of a model.

    The layers are those of kohya's scripts: all linear ones of the UNet's transformers; with
    `conv`, those of its ResNet blocks and samplers as well; with a rate for text encoders, those of
    their attention and perceptrons.
    """

    def __init__(self, base: BaseModel, job: Job) -> None:
        self._linear = job.rank, float(job.rank if job.alpha is None else job.alpha)
        self._conv = _conv_size(job)
        self._parts: dict[str, Any] = {"unet": base.unet} if job.rate else {}
        if job.text_encoder_rate:
            self._parts |= base.encoders
        self.layers: list[Layer] = []
        for part, module in self._parts.items():
            self._add(part, module, base, job)

    def parameters(self, part: str | None = None) -> list[nn.Parameter]:
        """Return the trained tensors, of one part of the model or of all."""
        chosen = [layer for layer in self.layers if part in (None, layer.part)]
        return [tensor for layer in chosen for tensor in (layer.down, layer.up)]

    def enable(self, enabled: bool) -> None:
        """Switch the adapter on or off."""
        for module in self._parts.values():
            for layer in module.modules():
                if isinstance(layer, LoraLayer):
                    layer.enable_adapters(enabled)
        # Switching off also freezes the layers.
        for tensor in self.parameters():
            tensor.requires_grad_(True)

    def state(self) -> dict[str, Tensor]:
        """Return the trained tensors by key, as they are."""
        return {
            f"{layer.key}.{half}.weight": tensor.detach()
            for layer in self.layers
            for half, tensor in (("lora_down", layer.down), ("lora_up", layer.up))
        }

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Set the trained tensors to those that `state` returned."""
        for key, tensor in self.state().items():
            tensor.copy_(state[key])

    def write(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the file in 16 bits under another name, read it back, and rename it.

        Raises:
            TrainingFailed: if a value is not finite.
        """
        # A model in channels_last has tensors that safetensors refuses to write.
        tensors = {
            key: tensor.half().cpu().contiguous().clone() for key, tensor in self.state().items()
        }
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise TrainingFailed("The adapter has infinite numbers; lower rate and start again.")
        for layer in self.layers:
            tensors[f"{layer.key}.alpha"] = torch.tensor(layer.alpha)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".writing")
        try:
            unfinished.write_bytes(save(tensors, dict(metadata)))
            with safe_open(unfinished, "pt") as file:
                written = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if written.keys() != tensors.keys() or not all(
                torch.equal(written[key], tensors[key]) for key in tensors
            ):
                raise TrainingFailed(
                    "The adapter's file was not written correctly; check the disk."
                )
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _add(self, part: str, module: Any, base: BaseModel, job: Job) -> None:
        names = [name for name, layer in module.named_modules()
                 if isinstance(layer, _KINDS) and _is_trained(part, f".{name}.", job)]  # fmt: skip
        if not names:
            raise TrainingFailed(f"The model's {part} has no layers that can be trained.")
        modules = dict(module.named_modules())
        convs = {name for name in names if _is_3x3(modules[name])}
        (rank, alpha), (conv_rank, conv_alpha) = self._linear, self._conv
        exceptions: dict[str, Any] = {}
        if convs and self._conv != self._linear:
            pattern = "|".join(re.escape(name) for name in sorted(convs))  # peft tries one by one
            exceptions = {"rank_pattern": {pattern: conv_rank},
                          "alpha_pattern": {pattern: conv_alpha}}  # fmt: skip
        scale: Any = alpha  # peft says int and takes any number
        config = LoraConfig(r=rank, lora_alpha=scale, target_modules=names, **exceptions)
        inject_adapter_in_model(config, module, _NAME)
        modules = dict(module.named_modules())
        for name in names:
            layer = modules[name]
            down, up = (factors[_NAME].weight for factors in (layer.lora_A, layer.lora_B))
            key = kohya_key(part, name, base)
            _initialise(down, generator(job.seed, 0, f"adapter/{key}"))
            for tensor in (down, up):
                tensor.data = tensor.data.float()
            self.layers.append(Layer(part, key, down, up, conv_alpha if name in convs else alpha))


@torch.no_grad()
def _initialise(down: nn.Parameter, random: torch.Generator) -> None:
    """Set the first factor as torch does for a linear layer; the second one is zero."""
    bound = 1 / math.sqrt(down[0].numel())
    values = torch.rand(down.shape, generator=random) * (2 * bound) - bound
    down.copy_(values)


def _conv_size(job: Job) -> tuple[int, float]:
    """Return rank and alpha of the convolutions of 3 x 3."""
    rank = job.conv_rank or job.rank
    if job.conv_alpha is not None:
        return rank, job.conv_alpha
    return rank, (job.rank if job.alpha is None else job.alpha) * rank / job.rank


def _is_3x3(layer: nn.Module) -> bool:
    """Whether a layer has the rank of convolutions, as kohya's conv_dim is of 3 x 3 only."""
    return isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)


def _is_trained(part: str, name: str, job: Job) -> bool:
    if part != "unet":
        return bool(_IN_TEXT.search(name))
    return ".attentions." in name or (job.conv and bool(_IN_CONV.search(name)))


def kohya_key(part: str, name: str, base: BaseModel) -> str:
    """Return a layer's name in kohya's files, without the ending.

    Args:
        part: unet, text_encoder or text_encoder_2.
        name: the layer's name in diffusers or transformers, with dots.
        base: SDXL's UNet has the names of Stability's code.
    """
    plain = name.replace(".", "_")
    if part == "unet":
        return f"lora_unet_{_stability_name(plain, base.unet) if base.is_xl else plain}"
    number = {"text_encoder": "1", "text_encoder_2": "2"}[part] if base.is_xl else ""
    # transformers 5 dropped `text_model` from the names of one of CLIP's two classes.
    return f"lora_te{number}_text_model_{plain.removeprefix('text_model_')}"


def _stability_name(name: str, unet: Any) -> str:
    """Return the name in Stability's code, which numbers the layers of a side across its blocks."""
    for start, place in _MIDDLE.items():
        if name.startswith(f"mid_block_{start}_"):
            return f"middle_block_{place}_{_inner(name.removeprefix(f'mid_block_{start}_'))}"
    match = _BLOCK.fullmatch(name)
    if match is None:
        raise TrainingFailed(f"The model's layer {name} has no name in Stability's code.")
    side, block, kind, place, rest = match.groups()
    per_block = int(unet.config.layers_per_block)
    first = int(block) * (per_block + 1)  # each block has a sampler after its layers
    if kind == "downsamplers":
        return f"input_blocks_{first + per_block + 1}_0_op"
    if kind == "upsamplers":
        attends = hasattr(unet.up_blocks[int(block)], "attentions")
        return f"output_blocks_{first + per_block}_{2 if attends else 1}_{rest}"
    row = first + int(place)
    start = f"input_blocks_{row + 1}" if side == "down" else f"output_blocks_{row}"
    return f"{start}_{0 if kind == 'resnets' else 1}_{_inner(rest)}"


def _inner(rest: str) -> str:
    return _RESNET.get(rest, rest)


def metadata(
    base: BaseModel, job: Job, *, pictures: int, steps: int, resolution: int
) -> dict[str, str]:
    """Return what other tools show of the file. It has no captions and no paths."""
    alpha = job.rank if job.alpha is None else job.alpha
    values = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": job.rank,
        "ss_network_alpha": f"{alpha:g}",
        **({"ss_network_args": json.dumps(_conv_args(job))} if job.conv else {}),
        "ss_output_name": job.name,
        "ss_num_train_images": pictures,
        "ss_steps": steps,
        "ss_resolution": f"({resolution}, {resolution})",
        "ss_learning_rate": job.rate,
        "ss_text_encoder_lr": job.text_encoder_rate,
        "ss_batch_size_per_device": job.batch_size,
        "ss_gradient_accumulation_steps": job.accumulation,
        "ss_min_snr_gamma": job.min_snr,
        "ss_noise_offset": job.noise_offset,
        "ss_optimizer": job.optimizer,
        "ss_lr_scheduler": job.schedule,
        "ss_seed": job.seed,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": job.name,
        "modelspec.resolution": f"{resolution}x{resolution}",
        "modelspec.implementation": "https://github.com/huggingface/diffusers",
        "modelspec.prediction_type": (
            "v" if base.schedule.config.prediction_type == "v_prediction" else "epsilon"
        ),
    }
    if job.trigger:
        values["modelspec.trigger_phrase"] = job.trigger
    # Only the published families have names; a smaller model is neither.
    known = _FAMILIES.get((base.is_xl, base.unet.config.cross_attention_dim))
    if known:
        values["ss_base_model_version"], values["modelspec.architecture"] = known
        values["ss_v2"] = known[0] == "sd_v2"
    return {key: str(value) for key, value in values.items()}


def _conv_args(job: Job) -> dict[str, str]:
    """Return the arguments with which kohya's scripts train convolutions as well."""
    rank, alpha = _conv_size(job)
    return {"conv_dim": str(rank), "conv_alpha": f"{alpha:g}"}


_FAMILIES = {
    (False, 768): ("sd_v1", "stable-diffusion-v1/lora"),
    (False, 1024): ("sd_v2", "stable-diffusion-v2-768-v/lora"),
    (True, 2048): ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora"),
}
