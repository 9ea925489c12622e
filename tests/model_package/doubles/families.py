"""The catalogue's families at tiny size, with random weights: diffusers' and transformers' classes.

Each is what `from_pretrained` of the published repository gives, with a hundred-thousandth of its
weights. Stable Diffusion, SDXL and its refiner are made by `model_package/stand_in.py`.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    ErnieImagePipeline,
    ErnieImageTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    Flux3DistilledAutoBlocks,
    Flux3Transformer2DModel,
    ModularPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    Mistral3Config,
    Mistral3Model,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)

from model_package.stand_in import _vocabulary

HIDDEN = 32
PUBLISHED = "somebody/published"
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>",
            "<|vision_start|>", "<|vision_end|>")  # fmt: skip
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content if message.content is string else message.content[0].text }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_family(name: str, folder: Path) -> Path:
    """Write a family's tiny model into a folder; the same name gives the same weights."""
    pipeline = build(name)
    if not isinstance(pipeline, ModularPipeline):
        pipeline.save_pretrained(folder)
        return folder
    # Without its part for pictures, a processor cannot be saved: its tokenizer is, in its place.
    pipeline.tokenizer.tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "tokenizer/processor_config.json").write_text("{}\n", "utf-8")
    pipeline.update_components(tokenizer=None)
    pipeline.save_pretrained(str(folder), overwrite_modular_index=True)
    path = folder / "modular_model_index.json"
    index = json.loads(path.read_text("utf-8"))
    for part, value in index.items():
        if isinstance(value, list):
            # As in a published index: a place on the hub, also for what is next to it.
            value[2] |= {"pretrained_model_name_or_path": PUBLISHED, "subfolder": part}
    index["tokenizer"][:2] = ["transformers", "Qwen3VLProcessor"]
    path.write_text(json.dumps(index), "utf-8")
    return folder


def build(name: str) -> Any:
    """Return a family's pipeline; the same name gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = FAMILIES[name]()
        # What training begins with as zeros would hide the prompt, and a LoRA.
        for parameter in pipeline.transformer.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        return pipeline


def flux2_klein():
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_flux2_vae(),
        text_encoder=Qwen3ForCausalLM(_qwen3(layers=28)).eval(),
        tokenizer=_tokenizer(),
        transformer=Flux2Transformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=3 * HIDDEN,
            timestep_guidance_channels=32,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ).eval(),
        is_distilled=True,
    )


def z_image():
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderKL(
            block_out_channels=(32, 32, 64, 64),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=16,
            layers_per_block=1,
            sample_size=256,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=Qwen3Model(_qwen3(layers=3)).eval(),
        tokenizer=_tokenizer(),
        transformer=ZImageTransformer2DModel(
            in_channels=16,
            dim=64,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=HIDDEN,
            axes_dims=[8, 12, 12],
            axes_lens=[512, 64, 64],
        ).eval(),
    )


def ernie_image():
    text = {
        "model_type": "ministral3",
        "vocab_size": len(_words()),
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
    }
    vision = {
        "model_type": "pixtral",
        "hidden_size": HIDDEN,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    return ErnieImagePipeline(
        transformer=ErnieImageTransformer2DModel(
            hidden_size=64,
            num_attention_heads=2,
            num_layers=1,
            ffn_hidden_size=128,
            in_channels=16,
            out_channels=16,
            text_in_dim=HIDDEN,
            rope_axes_dim=(8, 12, 12),
        ).eval(),
        vae=_flux2_vae(),
        text_encoder=Mistral3Model(Mistral3Config(text_config=text, vision_config=vision)).eval(),
        tokenizer=_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=4.0),
    )


def flux3_klein():
    blocks = Flux3DistilledAutoBlocks()
    blocks.sub_blocks.pop("prompt_upsampler")
    pipeline = blocks.init_pipeline()
    words = _words()
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": HIDDEN,
            "intermediate_size": 2 * HIDDEN,
            "num_hidden_layers": 33,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "rope_scaling": {"rope_type": "default", "mrope_section": [2, 3, 3]},
        },
        vision_config={
            "hidden_size": HIDDEN,
            "intermediate_size": HIDDEN,
            "depth": 1,
            "num_heads": 2,
            "out_hidden_size": HIDDEN,
            "patch_size": 8,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=words["<|image_pad|>"],
        video_token_id=words["<|video_pad|>"],
        vision_start_token_id=words["<|vision_start|>"],
        vision_end_token_id=words["<|vision_end|>"],
    )
    pipeline.update_components(
        text_encoder=Qwen3VLForConditionalGeneration(config).eval(),
        tokenizer=processor(_tokenizer()),
        vae=_flux2_vae(),
        transformer=Flux3Transformer2DModel(
            in_channels=16,
            cond_in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=8 * HIDDEN,
            timestep_channels=32,
            axes_dims_rope=(4, 4, 4, 4),
            flow_map=True,
        ).eval(),
    )
    return pipeline


FAMILIES = {
    "flux2-klein": flux2_klein,
    "z-image": z_image,
    "ernie-image": ernie_image,
    "flux3-klein": flux3_klein,
}


def _flux2_vae():
    return AutoencoderKLFlux2(
        block_out_channels=(32, 32, 32, 32),
        latent_channels=4,
        layers_per_block=1,
        sample_size=64,
    ).eval()


def _qwen3(layers):
    return Qwen3Config(
        vocab_size=len(_words()),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=True,
    )


def processor(tokenizer):
    """Return a processor without its part for pictures, which needs torchvision."""
    made = Qwen3VLProcessor.__new__(Qwen3VLProcessor)
    made.tokenizer, made.chat_template = tokenizer, tokenizer.chat_template
    made.image_token, made.video_token = _SPECIAL[3:5]
    return made


def _words():
    plain = [word for word in _vocabulary() if not word.endswith(("</w>", "|>"))]
    return {word: place for place, word in enumerate([*plain, *_SPECIAL])}


def _tokenizer():
    tokenizer = Qwen2Tokenizer(
        vocab=_words(),
        merges=[],
        unk_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(_SPECIAL[3:]),
        model_max_length=1024,
    )
    tokenizer.chat_template = _CHAT
    return tokenizer
