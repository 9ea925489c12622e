"""Make a tiny Stable Diffusion model with random weights, offline, in seconds.

    python model_package/stand_in.py FOLDER [--kind sd|sdxl|ensemble]
        [--safety-checker passes|blocks] [--variant fp16] [--pickled]

It generates coloured noise of 256 x 256 pixels and has all parts of a real model: tokenizer, text
encoder, UNet, VAE with the real factor of 8, scheduler. Tests and benchmarks use it wherever the
content of an image does not matter.
"""

# mypy: allow-untyped-calls
# (diffusers' constructors are untyped)

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

DEFAULTS = {"steps": 2, "guidance_scale": 5.0, "width": 256, "height": 256}
_FORMAT = {"format": "pt"}  # transformers refuses files without it
_HIDDEN = 32  # width of a text encoder
_CHECKED = 32  # sides of the safety checker's input, in pixels


def make_stand_in(
    folder: Path,
    *,
    kind: str = "sd",
    safety_checker: str | None = None,
    variant: str | None = None,
    pickled: bool = False,
) -> Path:
    """Write the model into `folder` and return it; the same arguments give the same weights.

    Args:
        folder: created if it does not exist.
        kind: sd (about 2.5 million weights, 10 MB), sdxl, or ensemble for `base` and `refiner`.
        safety_checker: `passes` or `blocks` for one that does so with every image; None for none.
        variant: fp16 to write 16-bit weights with `fp16` in the files' names.
        pickled: write `.bin` files instead of safetensors.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipelines = _pipelines(kind, safety_checker)
    for name, pipeline in pipelines.items():
        _save(pipeline, folder / name, variant=variant, pickled=pickled)
    (folder / "easel.json").write_text(json.dumps(DEFAULTS) + "\n", encoding="utf-8")
    return folder


def _pipelines(kind: str, safety_checker: str | None) -> dict[str, Any]:
    """Return the pipelines by their folders."""
    if kind == "sd":
        return {"": _sd(safety_checker)}
    base = _sdxl()
    return {"base": base, "refiner": _refiner(base)} if kind == "ensemble" else {"": base}


def _save(pipeline: Any, folder: Path, *, variant: str | None, pickled: bool) -> None:
    if variant == "fp16":
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.half()
    pipeline.save_pretrained(folder, variant=variant)
    for tokenizer in folder.glob("tokenizer*"):
        _write_vocabulary(tokenizer)
    _name_weights(folder)
    if getattr(pipeline, "safety_checker", None) is not None:
        _name_image_processor(folder)
    if pickled:
        _pickle_weights(folder)


def _sd(safety_checker: str | None) -> Any:
    return StableDiffusionPipeline(
        vae=_vae(scaling_factor=0.18215),
        text_encoder=_text_encoder(CLIPTextModel, "quick_gelu"),
        tokenizer=byte_tokenizer("<|endoftext|>"),
        unet=_unet(cross_attention_dim=_HIDDEN),
        scheduler=_scheduler("trailing"),
        safety_checker=_safety_checker(safety_checker) if safety_checker else None,
        feature_extractor=_feature_extractor() if safety_checker else None,
        requires_safety_checker=safety_checker is not None,
    )


def _sdxl() -> Any:
    unet = _sdxl_unet(cross_attention_dim=2 * _HIDDEN, numbers=6)
    return StableDiffusionXLPipeline(
        vae=_vae(scaling_factor=0.13025),
        text_encoder=_text_encoder(CLIPTextModel, "quick_gelu"),
        text_encoder_2=_text_encoder(CLIPTextModelWithProjection, "gelu"),
        tokenizer=byte_tokenizer("<|endoftext|>"),
        tokenizer_2=byte_tokenizer("!"),
        unet=unet,
        scheduler=_scheduler("leading"),
        add_watermarker=False,
    )


def _refiner(base: Any) -> Any:
    """Return a refiner that shares parts with its base; like SDXL's, it is saved with them."""
    return StableDiffusionXLImg2ImgPipeline(
        vae=base.vae,
        text_encoder=None,
        text_encoder_2=base.text_encoder_2,
        tokenizer=None,
        tokenizer_2=base.tokenizer_2,
        unet=_sdxl_unet(cross_attention_dim=_HIDDEN, numbers=5),
        scheduler=_scheduler("leading"),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def _sdxl_unet(cross_attention_dim: int, numbers: int) -> Any:
    """Return a UNet conditioned on `numbers` of the image: size, crop and, last, its aesthetics."""
    return _unet(
        cross_attention_dim=cross_attention_dim,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=numbers * 8 + _HIDDEN,
    )


def _unet(**extra: Any) -> Any:
    return UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        **extra,
    )


def _vae(scaling_factor: float) -> Any:
    return AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),  # four blocks: factor 8, as in the real one
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=1,
        sample_size=256,
        scaling_factor=scaling_factor,
    )


def _scheduler(spacing: str) -> Any:
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        timestep_spacing=spacing,
    )


def _text_encoder(kind: Any, activation: str) -> Any:
    words = len(_vocabulary())
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=_HIDDEN,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=_HIDDEN,
        hidden_act=activation,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=1,
    )
    return kind(config).eval()


def _safety_checker(verdict: str) -> Any:
    vision = {
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "image_size": _CHECKED,
        "patch_size": 8,
        "projection_dim": 32,
    }
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=32))
    # An image is blocked if its cosine similarity to a concept, -1 to 1, is above a threshold.
    threshold = -2.0 if verdict == "blocks" else 2.0
    torch.nn.init.constant_(checker.concept_embeds_weights, threshold)
    torch.nn.init.constant_(checker.special_care_embeds_weights, 2.0)
    return checker.eval()


def _feature_extractor() -> Any:
    return CLIPImageProcessor(size={"shortest_edge": _CHECKED}, crop_size=_CHECKED)


def _name_weights(folder: Path) -> None:
    """Name the weights as published models do, so that transformers from 4.51 on finds them.

    transformers 5 omits one level of names when it saves, and earlier versions do not load those.
    """
    for part, level in (("text_encoder", "text_model."), ("safety_checker", "vision_model.")):
        for path in (folder / part).glob("*.safetensors"):
            weights = load_file(path)
            save_file({_add_level(name, level): weights[name] for name in weights}, path, _FORMAT)


def _add_level(name: str, level: str) -> str:
    if level == "text_model.":
        return name if name.startswith(level) else level + name
    inside = name.startswith(level) and not name.startswith(level * 2)
    return level + name if inside else name


def _name_image_processor(folder: Path) -> None:
    """Name the image processor as published models do; transformers 5 writes another name."""
    for path in (
        folder / "model_index.json",
        folder / "feature_extractor/preprocessor_config.json",
    ):
        text = path.read_text(encoding="utf-8")
        path.write_text(
            text.replace("CLIPImageProcessorPil", "CLIPImageProcessor"), encoding="utf-8"
        )


def _pickle_weights(folder: Path) -> None:
    """Replace all safetensors by pickled files, which transformers 5 cannot write."""
    for path in sorted(folder.rglob("*.safetensors")):
        # transformers names the same file "model" as safetensors and "pytorch_model" when pickled.
        name = path.stem if path.stem.startswith("diffusion") else f"pytorch_{path.stem}"
        torch.save(load_file(path), path.with_name(f"{name}.bin"))
        path.unlink()


def byte_tokenizer(pad: str) -> Any:
    """Return a CLIP tokenizer whose tokens are single bytes, with `pad` as its padding."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of transformers deprecate this constructor
        _write_vocabulary(Path(folder))
        return CLIPTokenizer(
            f"{folder}/vocab.json", f"{folder}/merges.txt", model_max_length=77, pad_token=pad
        )


def _write_vocabulary(folder: Path) -> None:
    """Write the two files that transformers 4 reads; transformers 5 writes others only."""
    (folder / "vocab.json").write_text(json.dumps(_vocabulary()), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def _vocabulary() -> dict[str, int]:
    """Return CLIP's 512 tokens of one byte each and its two special ones, without merges."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    shown += range(ord("®"), ord("ÿ") + 1)
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = [chr(byte) for byte in shown] + [chr(256 + place) for place in range(len(hidden))]
    words = letters + [f"{letter}</w>" for letter in letters]
    return {word: place for place, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}


def main() -> None:
    """Read the command line and make the model."""
    parser = argparse.ArgumentParser(description="Make a tiny model with random weights.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=("sd", "sdxl", "ensemble"), default="sd")
    parser.add_argument("--safety-checker", choices=("passes", "blocks"))
    parser.add_argument("--variant", choices=("fp16",))
    parser.add_argument("--pickled", action="store_true", help="write .bin files")
    make_stand_in(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
