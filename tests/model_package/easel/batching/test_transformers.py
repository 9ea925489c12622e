"""Transformers of several families: their calls can be one, and no row of it depends on another."""

import diffusers
import pytest
import torch

from easel.batching.calls import StandIn, run_together

SIDE, TEXT = 8, 20


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def places(axes):
    ids = torch.zeros(SIDE * SIDE, axes)
    ids[:, 1], ids[:, 2] = torch.arange(SIDE * SIDE) // SIDE, torch.arange(SIDE * SIDE) % SIDE
    return ids


def of_rows(seed, **more):
    """Return arguments in which each tensor has one row for the image."""
    return (), {
        "hidden_states": noise(seed, 1, SIDE * SIDE, 16),
        "encoder_hidden_states": noise(seed + 50, 1, TEXT, 32),
        "timestep": torch.tensor([0.5 + seed / 10]),
        "guidance": None,
        "return_dict": False,
        **more,
    }


SMALL = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
}
FAMILIES = {
    "FLUX.1": (
        "FluxTransformer2DModel",
        {**SMALL, "num_single_layers": 1, "pooled_projection_dim": 32, "axes_dims_rope": (4, 4, 8)},
        lambda seed: of_rows(
            seed,
            pooled_projections=noise(seed + 90, 1, 32),
            txt_ids=torch.zeros(TEXT, 3),
            img_ids=places(3),
        ),
    ),
    "FLUX.2": (
        "Flux2Transformer2DModel",
        {**SMALL, "num_single_layers": 1, "axes_dims_rope": (4,) * 4, "guidance_embeds": False},
        lambda seed: of_rows(seed, txt_ids=torch.zeros(1, TEXT, 4), img_ids=places(4)[None]),
    ),
    "Qwen-Image": (
        "QwenImageTransformer2DModel",
        {**SMALL, "out_channels": 16, "axes_dims_rope": (4, 4, 8)},
        lambda seed: of_rows(
            seed,
            encoder_hidden_states_mask=torch.ones(1, TEXT),
            img_shapes=[[(1, SIDE, SIDE)]],
            attention_kwargs={},
        ),
    ),
    "ERNIE-Image": (
        "ErnieImageTransformer2DModel",
        {
            "hidden_size": 64,
            "num_attention_heads": 2,
            "num_layers": 1,
            "ffn_hidden_size": 64,
            "in_channels": 16,
            "out_channels": 16,
            "text_in_dim": 32,
            "rope_axes_dim": (8, 12, 12),
        },
        lambda seed: (
            (),
            {
                "hidden_states": noise(seed, 1, 16, SIDE, SIDE),
                "timestep": torch.full((1,), 500.0 + seed),
                "text_bth": noise(seed + 50, 1, TEXT, 32),
                "text_lens": torch.tensor([TEXT]),
                "return_dict": False,
            },
        ),
    ),
    "FLUX.3": (
        "Flux3Transformer2DModel",
        {
            **{name: value for name, value in SMALL.items() if name != "patch_size"},
            "num_single_layers": 1,
            "cond_in_channels": 16,
            "timestep_channels": 32,
            "axes_dims_rope": (4,) * 4,
        },
        lambda seed: (
            (),
            {
                "hidden_states": noise(seed, 1, SIDE * SIDE, 16),
                "encoder_hidden_states": noise(seed + 50, 1, TEXT, 32),
                "timestep": torch.tensor([0.5 + seed / 10]),
                "txt_ids": torch.zeros(TEXT, 4),
                "img_ids": places(4),
                "return_dict": False,
            },
        ),
    ),
    # Takes each image, and each prompt, as an item of a list.
    "Z-Image": (
        "ZImageTransformer2DModel",
        {
            "in_channels": 4,
            "dim": 64,
            "n_layers": 1,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 2,
            "cap_feat_dim": 32,
            "axes_dims": [8, 12, 12],
            "axes_lens": [256, 64, 64],
        },
        lambda seed: (
            ([noise(seed, 4, 1, 16, 16)], torch.tensor([0.5]), [noise(seed + 50, TEXT, 32)]),
            {"return_dict": False},
        ),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [2, 4])
def test_an_image_is_the_same_whoever_shares_its_call(family, size):
    name, config, arguments = FAMILIES[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = getattr(diffusers, name)(**config).eval()
        for parameter in transformer.parameters():
            if not parameter.any():  # training begins with zeros, which would hide all differences
                torch.nn.init.normal_(parameter, std=0.1)
    calls = []
    part = StandIn(transformer, calls.append, name="transformer", shared=True)
    for seed in range(size):
        args, kwargs = arguments(seed)
        part(*args, **kwargs)
    with torch.no_grad():
        single = image(calls[0].run())
        alone = image(run_together(calls[:1], size)[0])
        among = image(run_together([*calls[1:], calls[0]], size)[-1])

    assert len({call.key for call in calls}) == 1
    assert calls[0].key is not None
    assert torch.equal(alone, among)
    assert torch.allclose(alone, single, atol=1e-5)
    assert not torch.equal(alone, image(calls[1].run()))


def image(result):
    (rows,) = result
    return rows[0]
