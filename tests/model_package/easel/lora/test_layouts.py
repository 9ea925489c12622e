"""Which layouts of files load: each against peft, which merges the same tensors itself."""

import copy
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from easel.lora.adapters import Loras
from easel.startup.quiet import without_warnings
from tests.conftest import ALL
from tests.model_package.doubles import lora_layouts as layouts
from tests.model_package.doubles.lora_layouts import (
    ATTENTION,
    CONVOLUTIONS,
    adapt,
    loha,
    lokr,
    lora,
)
from tests.packages import ROOT

BOTH = [*ATTENTION, *CONVOLUTIONS]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj"]
METHODS = {
    "LoRA": lora(target_modules=ATTENTION),
    "LoCon": lora(target_modules=BOTH),
    "rank-stabilised LoRA": lora(target_modules=BOTH, use_rslora=True),
    "DoRA": lora(target_modules=BOTH, use_dora=True),
    "LoHa": loha(target_modules=BOTH),
    "LoHa with Tucker": loha(target_modules=BOTH, use_effective_conv2d=True),
    "LoKr": lokr(target_modules=BOTH),
    "LoKr of whole matrices": lokr(target_modules=BOTH, r=64, alpha=64),
    "LoKr of products": lokr(target_modules=BOTH, r=2, decompose_both=True),
    "LoKr with a factor": lokr(target_modules=BOTH, r=2, decompose_factor=4),
    "LoKr with Tucker": lokr(target_modules=BOTH, r=1, use_effective_conv2d=True),
}


def applied(pipeline, path, lora="a"):
    """Return the weights with an adapter on, by part and layer."""
    loras = Loras([("a", path)], [pipeline])
    loras.check(lora)
    with loras.applied(lora):
        weights = {
            (part, name): layer.weight.detach().clone()
            for part in ("unet", "text_encoder", "text_encoder_2")
            for name, layer in getattr(pipeline, part, torch.nn.Module()).named_modules()
            if isinstance(getattr(layer, "weight", None), torch.Tensor)
        }
    loras.restore()
    return weights


def same(pipeline, weights, *adapted):
    """Check each layer: those that peft changed, and all others against the pipeline's own."""
    expected = {(each.part, name): new for each in adapted for name, new in each.merged.items()}
    assert expected
    for (part, name), weight in weights.items():
        original = getattr(pipeline, part).get_submodule(name).weight
        right = expected.get((part, name), original)
        torch.testing.assert_close(weight, right, rtol=1e-4, atol=1e-4, msg=f"{part} {name}")
        assert torch.equal(right, original) == ((part, name) not in expected)


@cache
def of_method(pipeline, method):
    return adapt(pipeline, METHODS[method])


@cache
def of_text(pipeline):
    return adapt(pipeline, lora(target_modules=TEXT, lora_alpha=3), "text_encoder")


@pytest.mark.parametrize("method", METHODS)
def test_each_method_gives_the_weights_that_peft_merges(sdxl, tmp_path, method):
    adapted = of_method(sdxl, method)
    path = layouts.write(tmp_path / "a", layouts.kohya(adapted))
    same(sdxl, applied(sdxl, path), adapted)
    path = layouts.write(tmp_path / "b", layouts.diffusers(adapted))
    same(sdxl, applied(sdxl, path), adapted)


def test_the_methods_are_stored_in_all_of_their_forms(sdxl):
    kinds = {
        (method, kind)
        for method in METHODS
        for of_layer in of_method(sdxl, method).layers.values()
        for kind in of_layer
    }
    assert {
        ("DoRA", "lora_magnitude_vector"),
        ("LoHa with Tucker", "hada_t1"),
        ("LoKr", "lokr_w1"),
        ("LoKr of whole matrices", "lokr_w2"),
        ("LoKr of products", "lokr_w1_b"),
        ("LoKr of products", "lokr_w2_b"),
        ("LoKr with Tucker", "lokr_t2"),
    } <= kinds


@pytest.mark.parametrize(
    "spell",
    [
        lambda each, _: layouts.kohya(each),
        lambda each, _: layouts.diffusers(each),
        lambda each, _: layouts.diffusers(each, form="{}.{}.default.weight"),
        lambda each, _: layouts.diffusers(each, start=f"{each.part}.base_model.model."),
        lambda each, _: layouts.diffusers(each, start=f"base_model.model.{each.part}."),
        lambda each, pipeline: layouts.comfy(each, pipeline),
        lambda each, _: layouts.old_diffusers(each),
        lambda each, _: layouts.diffusers(each, start=f"{each.part}._orig_mod."),
        lambda each, _: layouts.diffusers(each, start=f"{each.part}.module."),
    ],
    ids=[
        "kohya",
        "diffusers",
        "named",
        "peft",
        "peft outside",
        "comfy",
        "diffusers of 2023",
        "compiled",
        "parallel",
    ],
)
def test_each_spelling_reaches_unet_and_text_encoder(sdxl, tmp_path, spell):
    unet, text = of_method(sdxl, "LoRA"), of_text(sdxl)
    path = layouts.write(tmp_path / "a", spell(unet, sdxl), spell(text, sdxl))
    same(sdxl, applied(sdxl, path), unet, text)


def test_kohyas_names_for_sdxl_and_those_of_simpletuner_reach_the_unet(sdxl, tmp_path):
    adapted = of_method(sdxl, "LoKr")
    path = layouts.write(tmp_path / "a", layouts.kohya(adapted, layouts.stability(sdxl)))
    same(sdxl, applied(sdxl, path), adapted)
    path = layouts.write(tmp_path / "b", layouts.kohya(adapted, prefix="lycoris_"))
    same(sdxl, applied(sdxl, path), adapted)


PATTERNS = [
    "to_q",
    "q",  # the end of a name, and not of a word of it
    "o_q",
    "attn1.to_q",
    "attn1_to_q",
    "^to_q",
    "^down_blocks.*to_k",
    r"mid_block\..*\.to_(k|v)",
    "transformer_blocks.0.attn2.to_v",
    ".*attn1.*",
    "to_out.0",
    "0",
]


@settings(
    max_examples=30 if ALL else 12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    method=st.sampled_from([lora, loha, lokr]),
    ranks=st.dictionaries(st.sampled_from(PATTERNS), st.integers(1, 6), max_size=3),
    alphas=st.dictionaries(st.sampled_from(PATTERNS), st.integers(0, 20), max_size=3),
    rank=st.integers(1, 6),
    alpha=st.integers(0, 9),
    targets=st.sampled_from([ATTENTION, CONVOLUTIONS, BOTH]),
    dora=st.booleans(),
    spell=st.sampled_from([layouts.kohya, layouts.diffusers]),
    seed=st.integers(0, 99),
)
def test_any_configuration_gives_the_weights_that_peft_merges(
    sdxl, tmp_path, method, ranks, alphas, rank, alpha, targets, dora, spell, seed
):
    options = {
        "r": rank,
        "target_modules": targets,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        ("lora_alpha" if method is lora else "alpha"): alpha,
        **({"use_dora": dora} if method is lora else {}),
    }
    adapted = adapt(sdxl, method(**options), seed=seed)
    path = layouts.write(tmp_path / "a", spell(adapted))
    weights = applied(sdxl, path)
    for name, merged in adapted.merged.items():
        torch.testing.assert_close(weights["unet", name], merged, rtol=1e-4, atol=1e-4, msg=name)


def _spelled(spell, method, text=False):
    """Return a function that makes a layout's adapters, and their files' parts."""

    def make(pipeline):
        adapted = [of_method(pipeline, method)]
        if text:
            adapted.append(of_text(pipeline))
        return adapted, [spell(each, pipeline) for each in adapted]

    return make


def _kohya(each, _):
    return layouts.kohya(each)


def _diffusers(each, _):
    return layouts.diffusers(each)


ROWS = {
    "kohya: LoRA": _spelled(_kohya, "LoRA", text=True),
    "kohya for SDXL: LoRA": _spelled(lambda e, p: layouts.kohya(e, layouts.stability(p)), "LoRA"),
    "kohya, LyCORIS: LoCon (convolutions)": _spelled(_kohya, "LoCon"),
    "diffusers and peft: LoRA": _spelled(_diffusers, "LoRA", text=True),
    "diffusers and peft: LoRA with convolutions": _spelled(_diffusers, "LoCon"),
    "diffusers and peft: rank-stabilised LoRA": _spelled(_diffusers, "rank-stabilised LoRA"),
    "peft: adapters with their names": _spelled(
        lambda e, _: layouts.diffusers(e, form="{}.{}.default.weight"), "LoRA"
    ),
    "diffusers of 2023: LoRA": _spelled(lambda e, _: layouts.old_diffusers(e), "LoRA", text=True),
    "ComfyUI: LoRA": _spelled(layouts.comfy, "LoRA", text=True),
    "diffusers and peft: DoRA": _spelled(_diffusers, "DoRA"),
    "LyCORIS: DoRA": _spelled(_kohya, "DoRA"),
    "LyCORIS: LoHa": _spelled(_kohya, "LoHa"),
    "LyCORIS: LoHa with Tucker": _spelled(_kohya, "LoHa with Tucker"),
    "LyCORIS: LoKr": _spelled(_kohya, "LoKr of products"),
    "LyCORIS: LoKr of whole matrices": _spelled(_kohya, "LoKr of whole matrices"),
    "LyCORIS: LoKr with Tucker": _spelled(_kohya, "LoKr with Tucker"),
    "SimpleTuner: LoKr": _spelled(lambda e, _: layouts.kohya(e, prefix="lycoris_"), "LoKr"),
    "diffusers and peft: LoKr": _spelled(_diffusers, "LoKr"),
    "diffusers and peft: LoHa": _spelled(_diffusers, "LoHa"),
}


def by_diffusers(pipeline, path):
    """Return the weights after diffusers has loaded and fused a file, or None if it raises."""
    other = copy.deepcopy(pipeline)
    try:
        with without_warnings():
            other.load_lora_weights(path.parent, weight_name=path.name, adapter_name="a")
            other.fuse_lora()
            other.unload_lora_weights()
    except Exception:  # noqa: BLE001 - any of them is a file that it does not load
        return None
    return other


def is_right(pipeline, *adapted):
    """Whether all layers have the weights that peft merges."""
    for each in adapted:
        part = getattr(pipeline, each.part)
        for name, merged in each.merged.items():
            if not torch.allclose(part.get_submodule(name).weight, merged, rtol=1e-3, atol=1e-3):
                return False
    return True


@settings(
    max_examples=6,
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    ranks=st.dictionaries(st.sampled_from(PATTERNS), st.integers(1, 6), max_size=3),
    alphas=st.dictionaries(st.sampled_from(PATTERNS), st.integers(1, 20), max_size=3),
    rank=st.integers(1, 6),
    alpha=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_any_ranks_and_alphas_give_the_weights_that_diffusers_fuses(
    sdxl, tmp_path, ranks, alphas, rank, alpha, seed
):
    # From a file of kohya's with several alphas, diffusers 0.42 gets other weights than peft.
    config = lora(
        r=rank,
        lora_alpha=alpha,
        rank_pattern=ranks,
        alpha_pattern=alphas,
        target_modules=ATTENTION,
    )
    path = layouts.write(
        tmp_path / "a.safetensors", layouts.diffusers(adapt(sdxl, config, seed=seed))
    )
    theirs = by_diffusers(sdxl, path)
    assert theirs is not None
    for (part, name), weight in applied(sdxl, path).items():
        expected = getattr(theirs, part).get_submodule(name).weight
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-4, msg=f"{part} {name}")


def test_the_documented_table_is_what_was_measured(sdxl, tmp_path):
    rows = []
    for place, (name, make) in enumerate(ROWS.items()):
        adapted, files = make(sdxl)
        path = layouts.write(tmp_path / f"{place}.safetensors", *files)
        same(sdxl, applied(sdxl, path), *adapted)
        theirs = by_diffusers(sdxl, path)
        diffusers = "no" if theirs is None else "yes" if is_right(theirs, *adapted) else "partly"
        comfy = "yes" if layouts.comfy_reads(sdxl, load_file(path)) else "no"
        rows.append(f"| {name} | yes | {diffusers} | {comfy} |\n")
    page = (ROOT / "docs" / "model-package.md").read_text(encoding="utf-8")
    table = page.split("<!-- layouts -->\n")[1].split("<!-- /layouts -->")[0]
    head = "| Layout | Easel | diffusers | ComfyUI |\n|---|---|---|---|\n"
    assert table == head + "".join(rows)
