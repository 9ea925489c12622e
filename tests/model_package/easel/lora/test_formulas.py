"""What peft has no counterpart for, against the formulas of LyCORIS and ComfyUI written out."""

import pytest
import torch
from torch.nn import functional

from easel.lora.adapters import Loras
from easel.lora.formulas import Decomposed, Whole
from generation import InvalidField
from tests.model_package.doubles import lora_layouts as layouts
from tests.model_package.doubles.lora_files import random_layers, write_kohya
from tests.model_package.easel.lora.helpers import generate, generator, same, state

LINEAR = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
CONVOLUTION = "mid_block.resnets.0.conv1"
NORM = "mid_block.resnets.0.norm1"
OUT = "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def changed(pipeline, path, tensors, name, lora="a:1", kind="weight"):
    """Return a layer's weight before and after adapters of these tensors are applied."""
    start = f"lora_unet_{name.replace('.', '_')}"
    layouts.write(path, ({f"{start}.{key}": each for key, each in tensors.items()}, {}))
    loras = Loras([("a", path)], [pipeline])
    loras.check(lora)
    weight = getattr(pipeline.unet.get_submodule(name), kind)
    before = weight.detach().clone()
    with loras.applied(lora):
        after = weight.detach().clone()
    loras.restore()
    assert torch.equal(weight, before)
    return before, after


def test_a_convolution_with_a_tensor_in_the_middle_is_three_convolutions(sdxl, tmp_path):
    rows, columns = sdxl.unet.get_submodule(CONVOLUTION).weight.shape[:2]
    down, up = numbers(3, columns, 1, 1), numbers(rows, 2, 1, 1, seed=1)
    middle = numbers(2, 3, 3, 3, seed=2)
    tensors = {
        "lora_down.weight": down,
        "lora_mid.weight": middle,
        "lora_up.weight": up,
        "alpha": torch.tensor(1.5),
    }
    before, after = changed(sdxl, tmp_path / "a", tensors, CONVOLUTION)
    image = numbers(1, columns, 5, 5, seed=3)
    inner = functional.conv2d(functional.conv2d(image, down), middle, padding=1)
    torch.testing.assert_close(
        functional.conv2d(image, after - before, padding=1),
        functional.conv2d(inner, up) * 1.5 / 3,  # ComfyUI divides by the rank of the down tensor
    )


@pytest.mark.parametrize("name", [LINEAR, CONVOLUTION])
@pytest.mark.parametrize("by_input", [False, True])
@pytest.mark.parametrize("method", ["lora", "loha", "lokr"])
def test_dora_scales_rows_or_input_channels_of_any_method(sdxl, tmp_path, name, by_input, method):
    shape = sdxl.unet.get_submodule(name).weight.shape
    rows, columns, inner = shape[0], shape[1], shape[1:].numel()
    if method == "lora":
        down, up = numbers(2, *shape[1:]), numbers(rows, 2, *[1] * (len(shape) - 2), seed=1)
        tensors = {"lora_down.weight": down, "lora_up.weight": up}
        change = up.flatten(1) @ down.flatten(1)
    elif method == "loha":
        a, b, c, d = (
            numbers(rows, 2),
            numbers(2, inner),
            numbers(rows, 2, seed=1),
            numbers(2, inner),
        )
        tensors = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d}
        change = (a @ b) * (c @ d)
    else:
        first, second = numbers(4, 2), numbers(rows // 4, columns // 2, *shape[2:], seed=1)
        tensors = {"lokr_w1": first, "lokr_w2": second}
        change = torch.kron(first, second.flatten(1))
    lengths = columns if by_input else rows
    sizes = [1] * len(shape)
    sizes[1 if by_input else 0] = lengths
    magnitude = numbers(lengths).abs() + 0.5
    tensors["dora_scale"] = magnitude.reshape(sizes)
    before, after = changed(sdxl, tmp_path / "a", tensors, name)
    whole = before + change.reshape(shape)
    expected = whole.clone()
    for place in range(lengths):
        part = (slice(None), place) if by_input else place
        expected[part] = whole[part] * magnitude[place] / whole[part].pow(2).sum().sqrt()
    torch.testing.assert_close(after, expected)


@pytest.mark.parametrize("weight", [-1, 0, 0.5, 3])
def test_a_weight_moves_a_dora_along_its_change(sdxl, tmp_path, weight):
    adapted = layouts.adapt(sdxl, layouts.lora(target_modules=["to_q"], use_dora=True))
    path = layouts.write(tmp_path / "a", layouts.kohya(adapted))
    loras, layer = Loras([("a", path)], [sdxl]), sdxl.unet.get_submodule(LINEAR)
    original = layer.weight.detach().clone()
    with loras.applied(f"a:{weight}"):
        moved = layer.weight - original
    loras.restore()
    torch.testing.assert_close(
        moved, (adapted.merged[LINEAR] - original) * weight, rtol=1e-4, atol=1e-5
    )


def test_a_row_of_zeros_has_no_length_to_divide_by():
    formula = Decomposed(Whole(torch.zeros(2, 3)), torch.ones(2), by_input=False)
    assert torch.equal(formula.change(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_whole_differences_change_weights_biases_and_norms(sdxl, tmp_path):
    for name, key, kind in [
        (LINEAR, "diff", "weight"),
        (CONVOLUTION, "diff", "weight"),
        (CONVOLUTION, "diff_b", "bias"),
        (OUT, "diff_b", "bias"),
        (NORM, "w_norm", "weight"),
        (NORM, "b_norm", "bias"),
    ]:
        difference = numbers(*getattr(sdxl.unet.get_submodule(name), kind).shape)
        before, after = changed(sdxl, tmp_path / "a", {key: difference}, name, "a:0.5", kind)
        torch.testing.assert_close(after, before + difference * 0.5)


def test_a_layer_without_a_bias_cannot_get_one(sdxl, tmp_path):
    with pytest.raises(InvalidField, match="does not fit this model: unet mid_block.*bias"):
        changed(sdxl, tmp_path / "a", {"diff_b": numbers(64)}, LINEAR)


def test_a_layer_under_two_names_is_refused(sdxl, tmp_path):
    names = layouts.stability(sdxl)
    tensors = {
        f"lora_unet_{name}.{key}": numbers(*size)
        for name in (LINEAR.replace(".", "_"), names[LINEAR])
        for key, size in (("lora_down.weight", (2, 64)), ("lora_up.weight", (64, 2)))
    }
    layouts.write(tmp_path / "a", (tensors, {}))
    with pytest.raises(InvalidField, match="it has a layer of unet twice, under two names"):
        Loras([("a", tmp_path / "a")], [sdxl]).check("a")


TYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]


@pytest.mark.parametrize("first", TYPES)
def test_adapters_of_all_types_and_methods_combine(sdxl, tmp_path, first):
    files = {}
    for place, dtype in enumerate((first, torch.float32, torch.float8_e4m3fn)):
        adapted = layouts.adapt(
            sdxl,
            [layouts.lora, layouts.lora, layouts.lokr][place](target_modules=["to_q"]),
            seed=place,
        )
        tensors, _ = layouts.kohya(adapted)
        tensors = {
            key: each if key.endswith("alpha") else each.to(dtype) for key, each in tensors.items()
        }
        files["abc"[place]] = layouts.write(tmp_path / "abc"[place], (tensors, {}))
    loras, layer = Loras(files.items(), [sdxl]), sdxl.unet.get_submodule(LINEAR)
    original, moved = layer.weight.detach().clone(), {}
    for lora in ("a", "b", "c", "a,b:-2,c:0.5"):
        with loras.applied(lora):
            moved[lora] = layer.weight - original
    loras.restore()
    assert all(change.abs().max() > 0.01 for change in moved.values())
    torch.testing.assert_close(
        moved["a,b:-2,c:0.5"], moved["a"] - 2 * moved["b"] + moved["c"] / 2, rtol=1e-4, atol=1e-5
    )


def test_every_method_leaves_no_trace(pipelines, tmp_path):
    pair = pipelines["sdxl"]
    files = {"plain": tmp_path / "plain"}
    write_kohya(files["plain"], random_layers(pair[0]))
    for name, config in {
        "dora": layouts.lora(target_modules=["to_q", "conv1"], use_dora=True),
        "loha": layouts.loha(target_modules=["to_q", "conv1"]),
        "lokr": layouts.lokr(target_modules=["to_q", "conv1"]),
    }.items():
        files[name] = layouts.write(tmp_path / name, layouts.kohya(layouts.adapt(pair[0], config)))
    by, before = generator(pair, **files), state(pair)
    plain = generate(by)
    pictures = [generate(by, name) for name in (*files, "dora,loha:0.5,lokr,plain")]
    assert all((picture != plain).any() for picture in pictures)
    assert (generate(by) == plain).all()
    assert same(before, state(pair))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_methods_work_on_weights_of_16_bits(sdxl, tmp_path, dtype):
    layer = sdxl.unet.get_submodule(LINEAR)
    original = layer.weight.data
    try:
        layer.weight.data = original.to(dtype)
        adapted = layouts.adapt(sdxl, layouts.loha(target_modules=[LINEAR]))
        path = layouts.write(tmp_path / "a", layouts.kohya(adapted))
        with Loras([("a", path)], [sdxl]).applied("a"):
            torch.testing.assert_close(layer.weight, adapted.merged[LINEAR], rtol=0.02, atol=0.02)
    finally:
        layer.weight.data = original
