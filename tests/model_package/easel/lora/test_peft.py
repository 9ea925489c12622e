"""Our way of adding a LoRA against diffusers' and peft's."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from easel.defaults import Defaults
from easel.generator import ImageGenerator
from easel.loading.pipeline import load_pipeline
from easel.lora import layer_names
from easel.lora.adapters import Loras
from easel.startup.quiet import without_warnings
from generation import GenerationRequest
from tests.model_package.doubles.lora_files import random_layers, write_diffusers, write_kohya

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}
SIZE = Defaults(steps=2, width=64, height=64)

# As in stabilityai/stable-diffusion-xl-base-1.0.
SDXL = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}

# What diffusers replaces after its table of blocks.
BLOCKS = {"input_blocks": "down_blocks", "middle_block": "mid_block", "output_blocks": "up_blocks"}


def generate(pipeline, loras=None, lora=""):
    request = GenerationRequest(prompt="a cat", seed=7, lora=lora)
    return ImageGenerator(pipeline, SIZE, loras=loras).generate(request).pixels.astype(int)


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
@pytest.mark.parametrize("write", [write_diffusers, write_kohya])
def test_the_picture_is_the_one_that_diffusers_generates_with_the_same_file(
    stand_in, tmp_path, kind, write
):
    ours, theirs = (load_pipeline(stand_in(kind=kind), **HOW) for _ in range(2))
    path = tmp_path / "a.safetensors"
    write(path, random_layers(ours, size=0.2), alpha=2)
    with without_warnings():
        theirs.load_lora_weights(tmp_path, weight_name=path.name, adapter_name="a")
        theirs.set_adapters(["a"], [0.7])
    expected, actual = generate(theirs), generate(ours, Loras([("a", path)], [ours]), "a:0.7")
    assert np.abs(expected - actual).max() <= 1
    assert np.abs(generate(load_pipeline(stand_in(kind=kind), **HOW)) - actual).max() > 10


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"alpha_pattern": {"to_q": 8}},
        {"use_rslora": True},
    ],
)
def test_the_alpha_of_pefts_configuration_is_read_from_the_file(stand_in, tmp_path, extra):
    pipeline = load_pipeline(stand_in(kind="sdxl"), **HOW)
    config = LoraConfig(
        r=4, lora_alpha=2, target_modules=["to_q", "to_k"], init_lora_weights=False, **extra
    )
    pipeline.unet.add_adapter(config)
    layers = get_peft_model_state_dict(pipeline.unet)
    settings = {
        f"unet.{key}": value
        for key, value in config.to_dict().items()
        if key in {"r", "lora_alpha", "alpha_pattern", "use_rslora"}
    }
    with without_warnings():
        StableDiffusionXLPipeline.save_lora_weights(
            tmp_path,
            unet_lora_layers=layers,
            unet_lora_adapter_metadata={
                key.removeprefix("unet."): value for key, value in settings.items()
            },
        )
    (path,) = tmp_path.glob("*.safetensors")
    ours = load_pipeline(stand_in(kind="sdxl"), **HOW)
    expected, actual = generate(pipeline), generate(ours, Loras([("a", path)], [ours]), "a")
    assert np.abs(expected - actual).max() <= 1


def test_stabilitys_names_lead_where_diffusers_own_table_leads():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL)
    layers = layer_names.layers(unet)
    names = {id(layer): name.replace(".", "_") for name, layer in unet.named_modules()}
    theirs = [name for name in layers if "put_blocks" in name or "middle_block" in name]
    inside = [name for name in theirs if "attn" in name or "proj_" in name or "ff_net" in name]
    assert len(inside) > 500
    for name in inside:
        key = f"lora_unet_{name}.lora_down.weight"
        (mapped,) = _maybe_map_sgm_blocks_to_diffusers({key: 0}, unet.config)
        for stability, diffusers in BLOCKS.items():
            mapped = mapped.replace(stability, diffusers)
        assert mapped == f"lora_unet_{names[id(layers[name])]}.lora_down.weight"


@pytest.mark.parametrize(
    ("stability", "diffusers"),
    [
        ("input_blocks_0_0", "conv_in"),
        ("time_embed_2", "time_embedding_linear_2"),
        ("label_emb_0_0", "add_embedding_linear_1"),
        ("input_blocks_1_0_in_layers_2", "down_blocks_0_resnets_0_conv1"),
        ("input_blocks_3_0_op", "down_blocks_0_downsamplers_0_conv"),
        ("input_blocks_4_0_skip_connection", "down_blocks_1_resnets_0_conv_shortcut"),
        ("input_blocks_8_1_proj_in", "down_blocks_2_attentions_1_proj_in"),
        ("middle_block_2_out_layers_3", "mid_block_resnets_1_conv2"),
        ("output_blocks_0_0_emb_layers_1", "up_blocks_0_resnets_0_time_emb_proj"),
        ("output_blocks_2_2_conv", "up_blocks_0_upsamplers_0_conv"),
        ("output_blocks_8_0_in_layers_2", "up_blocks_2_resnets_2_conv1"),
        ("out_2", "conv_out"),
    ],
)
def test_stabilitys_names_of_the_rest_are_those_of_its_code(stability, diffusers):
    with torch.device("meta"):
        layers = layer_names.layers(UNet2DConditionModel(**SDXL))
    assert layers[stability] is layers[diffusers]


def test_a_lora_for_sdxl_by_kohya_may_name_layers_as_stability_does(stand_in, tmp_path):
    pipeline = load_pipeline(stand_in(kind="sdxl"), **HOW)
    layers = random_layers(pipeline, parts=("unet",))
    table = layer_names.layers(pipeline.unet)
    named = {id(layer): name for name, layer in table.items()}  # Stability's name comes last
    by_name = dict(pipeline.unet.named_modules())
    other = {("unet", named[id(by_name[name])]): pair for (_, name), pair in layers.items()}
    assert all("block" in name and "blocks_0_attentions" not in name for _, name in other)
    write_kohya(tmp_path / "diffusers", layers)
    write_kohya(tmp_path / "stability", other)
    loras = Loras([(path.name, path) for path in tmp_path.iterdir()], [pipeline])
    pictures = [generate(pipeline, loras, lora) for lora in ("diffusers", "stability", "")]
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] != pictures[2]).any()
