"""The file, read by Easel and by diffusers."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from torch import nn

from easel.lora.adapters import Loras
from model_package.training.adapter import Adapter, _conv_size, _is_trained, kohya_key, metadata
from model_package.training.base_model import load
from model_package.training.job import Job
from tests.model_package.training.conftest import DEMO

PIPELINES = {"sd": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
ALL = {"rank": 2, "alpha": 3.0, "conv": True, "conv_rank": 3, "conv_alpha": 6.0,
       "text_encoder_rate": 1e-4}  # fmt: skip


@pytest.fixture(scope="module", params=["sd", "sdxl", "demo"])
def written(request, stand_in, tmp_path_factory):
    """Return a model's kind and folder, an adapter of all its layers, and the adapter's file."""
    folder = DEMO if request.param == "demo" else stand_in(kind=request.param)
    base = load(folder, "auto")
    job = Job(name="zorble", trigger="zorble", instance_prompt="a private caption", **ALL)
    adapter = Adapter(base, job)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in adapter.layers:
            layer.up.copy_(torch.randn(layer.up.shape, generator=random) / 10)
    path = tmp_path_factory.mktemp("lora") / "zorble.safetensors"
    adapter.write(path, metadata(base, job, pictures=2, steps=3, resolution=64))
    return PIPELINES.get(request.param, StableDiffusionPipeline), folder, base, path


def changes(base):
    """Return what peft adds to each layer's weight, by part and name."""
    parts = {"unet": base.unet, **base.encoders}
    return {
        (part, name.removeprefix("text_model.")): layer.get_delta_weight("default")
        for part, module in parts.items()
        for name, layer in module.named_modules()
        if isinstance(layer, LoraLayer)
    }


def test_convolutions_of_3_x_3_have_their_own_rank_and_alpha(written):
    _, _, _, path = written
    with safe_open(path, "pt") as file:
        shapes = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        args = file.metadata()["ss_network_args"]
    seen = set()
    for name, tensor in shapes.items():
        if name.endswith("lora_down.weight"):
            kernel = tuple(tensor.shape[2:])
            alpha = float(shapes[name.replace("lora_down.weight", "alpha")])
            seen.add((kernel == (3, 3), tensor.shape[0], alpha))
    assert seen == {(True, 3, 6.0), (False, 2, 3.0)}
    assert json.loads(args) == {"conv_dim": "3", "conv_alpha": "6"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"rank": 8}, (8, 8)),
        ({"rank": 8, "alpha": 2.0}, (8, 2)),
        ({"rank": 8, "alpha": 2.0, "conv_rank": 4}, (4, 1)),
        ({"rank": 8, "conv_rank": 4, "conv_alpha": 1.0}, (4, 1)),
    ],
)
def test_without_their_own_they_have_the_scale_of_other_layers(fields, expected):
    assert _conv_size(Job(name="a", conv=True, **fields)) == expected


def test_easel_adds_what_was_trained(written):
    kind, folder, base, path = written
    pipeline = kind.from_pretrained(folder)
    parts = [part for part in ("unet", "text_encoder", "text_encoder_2") if hasattr(pipeline, part)]

    def weights():
        return {
            (part, name.removeprefix("text_model.")): layer.weight.detach().clone()
            for part in parts
            for name, layer in getattr(pipeline, part).named_modules()
            if isinstance(layer, nn.Linear | nn.Conv2d)
        }

    before = weights()
    loras = Loras([("zorble", path)], [pipeline])
    assert loras.names == ["zorble"]
    with loras.applied("zorble"):
        after = weights()
    expected = changes(base)
    assert len(expected) > 20
    for key, weight in after.items():
        change = expected.get(key, torch.zeros(()))
        torch.testing.assert_close(weight - before[key], change.expand_as(weight),
                                   atol=2e-4, rtol=5e-3)  # fmt: skip


def test_diffusers_adds_what_was_trained(written):
    kind, folder, base, path = written
    pipeline = kind.from_pretrained(folder)
    pipeline.load_lora_weights(path.parent, weight_name=path.name)

    expected, found = changes(base), 0
    for part in ("unet", *base.encoders):
        for name, layer in getattr(pipeline, part).named_modules():
            if isinstance(layer, LoraLayer):
                (adapter,) = layer.lora_A
                change = expected[part, name.removeprefix("text_model.")]
                torch.testing.assert_close(layer.get_delta_weight(adapter), change,
                                           atol=2e-4, rtol=5e-3)  # fmt: skip
                found += 1
    assert found == len(expected)


def test_the_file_has_no_captions(written):
    with safe_open(written[-1], "pt") as file:
        values = file.metadata()

    assert (values["ss_network_dim"], values["ss_network_alpha"]) == ("2", "3")
    assert values["modelspec.trigger_phrase"] == "zorble"
    assert "private" not in str(values)


SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8}
SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
}


@pytest.mark.parametrize(
    ("config", "is_xl", "layers", "numbers"),
    [(SD15, False, 192, 423_936), (SDXL, True, 722, 2_659_840)],
)
def test_the_layers_are_those_of_kohyas_scripts(config, is_xl, layers, numbers):
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    base = SimpleNamespace(unet=unet, is_xl=is_xl)
    job = Job(name="a")
    trained = {
        kohya_key("unet", name, base): layer.weight.shape[0] + layer.weight.shape[1]
        for name, layer in unet.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and _is_trained("unet", f".{name}.", job)
    }

    assert (len(trained), sum(trained.values())) == (layers, numbers)
    if is_xl:
        rows = {re.match(r"lora_unet_(\w+?)_transformer_blocks", key) for key in trained}
        assert {row[1] for row in rows if row} == {
            *(f"input_blocks_{row}_1" for row in (4, 5, 7, 8)),
            "middle_block_1",
            *(f"output_blocks_{row}_1" for row in range(6)),
        }
    else:
        assert "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q" in trained
        assert "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj" in trained


def test_convolutions_have_kohyas_names():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL)
    base = SimpleNamespace(unet=unet, is_xl=True)

    names = {
        "down_blocks.0.resnets.1.conv1": "input_blocks_2_0_in_layers_2",
        "down_blocks.0.downsamplers.0.conv": "input_blocks_3_0_op",
        "down_blocks.1.resnets.0.conv_shortcut": "input_blocks_4_0_skip_connection",
        "mid_block.resnets.1.time_emb_proj": "middle_block_2_emb_layers_1",
        "up_blocks.0.upsamplers.0.conv": "output_blocks_2_2_conv",
        "up_blocks.2.resnets.0.conv2": "output_blocks_6_0_out_layers_3",
    }
    assert {name: kohya_key("unet", name, base) for name in names} == {
        name: f"lora_unet_{key}" for name, key in names.items()
    }
