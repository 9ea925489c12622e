import pytest
import torch

from easel.lora.adapters import Loras
from easel.lora.file import LoraFile
from easel.lora.weights import Weights
from tests.model_package.doubles.lora_files import (
    random_layers,
    write_kohya,
)
from tests.model_package.easel.lora.helpers import KINDS, generate, generator, same, state


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_changes_the_picture_and_leaves_no_trace(pipelines, tmp_path, kind):
    pair, path = pipelines[kind], tmp_path / "a.safetensors"
    write_kohya(path, random_layers(pair[0]))
    by, before = generator(pair, a=path), state(pair)
    plain = generate(by)
    styled = generate(by, "a")
    assert (styled != plain).any()
    assert (generate(by) == plain).all()
    assert same(before, state(pair))
    assert (generate(by, "a") == styled).all()
    assert (generate(by, "a:0") == plain).all()
    assert same(before, state(pair))


def test_convolutions_are_changed_too(pipelines, tmp_path):
    ends = ("conv1", "conv2", "conv_shortcut", "proj_in", "downsamplers.0.conv")
    layers = random_layers(pipelines["sdxl"][0], ends=ends, parts=("unet",))
    assert any(down.ndim == 4 and down.shape[-1] == 3 for down, _ in layers.values())
    write_kohya(tmp_path / "a", layers)
    by = generator(pipelines["sdxl"], a=tmp_path / "a")
    assert (generate(by, "a") != generate(by)).any()


def test_weights_scale_and_add_up(pipelines, tmp_path):
    base = pipelines["sdxl"][0]
    for seed, name in enumerate("ab"):
        write_kohya(tmp_path / name, random_layers(base, seed=seed), alpha=2)
    loras = Loras([(name, tmp_path / name) for name in "ab"], [base])
    weight = base.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight
    original, moved = weight.clone(), {}
    for lora in ("a:1", "a:0.5", "a:-2", "b:1", "a:0.5,b:1"):
        with loras.applied(lora):
            moved[lora] = weight - original
    loras.restore()
    layers = random_layers(base, seed=0)
    down, up = layers["unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"]
    torch.testing.assert_close(moved["a:1"], up @ down * 2 / 4)
    torch.testing.assert_close(moved["a:0.5"], moved["a:1"] * 0.5)
    torch.testing.assert_close(moved["a:-2"], moved["a:1"] * -2)
    torch.testing.assert_close(moved["a:0.5,b:1"], moved["a:0.5"] + moved["b:1"])
    assert torch.equal(weight, original)


def test_text_encoders_alone_may_be_changed_and_their_embeddings_are_not_mixed_up(
    pipelines, tmp_path
):
    layers = random_layers(pipelines["sdxl"][0], parts=("text_encoder_2",), size=1)
    write_kohya(tmp_path / "a", layers)
    by = generator(pipelines["sdxl"], a=tmp_path / "a")
    plain, styled = generate(by), generate(by, "a")
    assert (plain != styled).any()
    assert (generate(by) == plain).all()
    assert (generate(by, "a") == styled).all()
    by._loras.restore()


def test_a_file_for_the_refiner_changes_the_refiner_alone(pipelines, tmp_path):
    base, refiner = pipelines["ensemble"]
    ends = ("attn2.to_k", "attn2.to_v")  # these have the width of the text encoders
    write_kohya(tmp_path / "r", random_layers(refiner, ends=ends, parts=("unet",)))
    write_kohya(tmp_path / "b", random_layers(base, ends=ends, parts=("unet",)))
    loras = Loras([("r", tmp_path / "r"), ("b", tmp_path / "b")], [base, refiner])
    before = state([base, refiner])
    for name, place in (("b", 0), ("r", 1)):
        with loras.applied(name):
            after = state([base, refiner])
        changed = {key[:2] for key in after if not torch.equal(after[key], before[key])}
        assert changed == {(place, "unet")}
    loras.restore()
    assert same(before, state([base, refiner]))


def test_a_file_that_fits_both_unets_changes_both(pipelines, tmp_path):
    base, refiner = pipelines["ensemble"]
    write_kohya(tmp_path / "a", random_layers(base, ends=("attn1.to_q",), parts=("unet",)))
    loras, before = Loras([("a", tmp_path / "a")], [base, refiner]), state([base, refiner])
    with loras.applied("a"):
        after = state([base, refiner])
    loras.restore()
    changed = {key[:2] for key in after if not torch.equal(after[key], before[key])}
    assert changed == {(0, "unet"), (1, "unet")}


def test_a_generation_that_fails_leaves_no_trace(pipelines, tmp_path):
    pair = pipelines["ensemble"]
    write_kohya(tmp_path / "a", random_layers(pair[0]))
    by, before = generator(pair, a=tmp_path / "a"), state(pair)
    plain = generate(by)
    for pipeline in pair:
        handle = pipeline.unet.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            generate(by, "a")
        handle.remove()
        assert same(before, state(pair))
    assert (generate(by) == plain).all()


def test_applying_that_fails_leaves_no_trace(pipelines, tmp_path, monkeypatch):
    pair = pipelines["sdxl"]
    write_kohya(tmp_path / "a", random_layers(pair[0]))
    loras, before, added = Loras([("a", tmp_path / "a")], pair), state(pair), []
    whole = Weights._add

    def add(self, layer, additions):
        whole(self, layer, additions)
        added.append(layer)
        if len(added) == 7:
            raise MemoryError

    monkeypatch.setattr(Weights, "_add", add)
    with pytest.raises(MemoryError), loras.applied("a"):
        raise AssertionError("it is not applied")
    assert len(added) == 7
    assert same(before, state(pair))


def test_the_same_adapters_are_not_applied_again_and_their_files_not_read_again(
    pipelines, tmp_path, monkeypatch
):
    pair, read, changed = pipelines["sdxl"], [], []
    write_kohya(tmp_path / "a", random_layers(pair[0]))
    loras = Loras([("a", tmp_path / "a")], pair)
    for owner, name, calls in ((LoraFile, "tensors", read), (Weights, "change", changed)):
        whole = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *args, whole=whole, calls=calls: (calls.append(1), whole(*args))[1]
        )
    for lora in ("a", "a", "a:1.0", "", "a:0.5", "a:0", ""):
        with loras.applied(lora):
            pass
    assert (len(read), len(changed)) == (1, 4)


def test_adapters_above_a_limit_are_not_kept_in_memory(pipelines, tmp_path, monkeypatch):
    pair = pipelines["sdxl"]
    for name in "abc":
        write_kohya(tmp_path / name, random_layers(pair[0]))
    loras = Loras([(name, tmp_path / name) for name in "abc"], pair)
    monkeypatch.setattr("easel.lora.adapters._KEPT_BYTES", 1)
    for name in "abc":
        with loras.applied(name):
            assert [adapter.file.path.name for adapter in loras._kept] == [name]
    loras.restore()
