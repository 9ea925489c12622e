import json
import shutil
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

from easel.defaults import Defaults
from easel.generator import ImageGenerator
from easel.loading.pipeline import load_pipeline
from easel.loading.refiner import load_refiner
from easel.lora.adapters import Loras
from easel.lora.file import LoraFile, LoraUnusable, find_files
from easel.lora.weights import Addition, Weights
from generation import GenerationRequest, InvalidField
from tests.model_package.doubles.lora_files import (
    random_layers,
    write_diffusers,
    write_kohya,
    write_old_diffusers,
)
from tests.model_package.doubles.toolkit import Toolkit

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}
WISH = {"prompt": "a cat", "seed": 7}
SIZE = Defaults(steps=2, width=64, height=64)
KINDS = ["sd", "sdxl", "ensemble"]


def load(folder):
    if (folder / "base").is_dir():
        base = load_pipeline(folder / "base", **HOW)
        return [base, load_refiner(folder / "refiner", base, **HOW)]
    return [load_pipeline(folder, **HOW)]


@pytest.fixture(scope="module")
def pipelines(stand_in):
    return {kind: load(stand_in(kind=kind)) for kind in KINDS}


def state(pipelines):
    return {
        (place, name, key): value.clone()
        for place, pipeline in enumerate(pipelines)
        for name in ("unet", "text_encoder", "text_encoder_2", "vae")
        for key, value in (getattr(pipeline, name, None) or torch.nn.Module()).state_dict().items()
    }


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


def generator(pipelines, **files):
    refiner = pipelines[1] if len(pipelines) > 1 else None
    loras = Loras(files.items(), pipelines)
    return ImageGenerator(pipelines[0], SIZE, refiner=refiner, loras=loras)


def generate(by, lora="", **fields):
    return by.generate(GenerationRequest(**{**WISH, "lora": lora, **fields})).pixels


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


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
@pytest.mark.parametrize("alpha", [None, 1, 16])
def test_both_formats_give_the_same_picture(pipelines, tmp_path, kind, alpha):
    layers = random_layers(pipelines[kind][0], size=0.1)
    write_diffusers(tmp_path / "d", layers, alpha=alpha)
    write_kohya(tmp_path / "k", layers, alpha=alpha, single=kind == "sd")
    by = generator(pipelines[kind], d=tmp_path / "d", k=tmp_path / "k")
    assert (generate(by, "d") == generate(by, "k")).all()
    assert (generate(by, "d") != generate(by)).any()
    by._loras.restore()


@pytest.mark.parametrize("forms", [("lora.down", "lora.up"), ("lora_A.default", "lora_B.default")])
def test_the_forms_of_diffusers_names_give_the_same_picture(pipelines, tmp_path, forms):
    layers = random_layers(pipelines["sdxl"][0])
    write_diffusers(tmp_path / "new", layers)
    write_diffusers(tmp_path / "other", layers, forms=forms)
    by = generator(pipelines["sdxl"], new=tmp_path / "new", other=tmp_path / "other")
    assert (generate(by, "new") == generate(by, "other")).all()
    by._loras.restore()


def test_files_from_before_peft_are_read(pipelines, tmp_path):
    layers = random_layers(pipelines["sd"][0], parts=("unet",))
    write_diffusers(tmp_path / "new", layers)
    write_old_diffusers(tmp_path / "old", layers)
    assert len(LoraFile(tmp_path / "old").changes) == len(layers)
    by = generator(pipelines["sd"], new=tmp_path / "new", old=tmp_path / "old")
    assert (generate(by, "new") == generate(by, "old")).all()
    by._loras.restore()


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


def test_a_picture_that_breaks_off_leaves_no_trace(pipelines, tmp_path):
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


def test_putting_on_that_breaks_off_leaves_no_trace(pipelines, tmp_path, monkeypatch):
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


def test_restoring_is_exact_in_16_bits_after_many_changes():
    layer = torch.nn.Linear(32, 32).to(torch.bfloat16)
    before, weights = layer.weight.detach().clone(), Weights()
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        addition = Addition(*(torch.randn(32, 32, generator=generator) for _ in range(2)), 0.7)
        weights.change({layer: [addition]})
        assert not torch.equal(layer.weight, before)
    weights.restore()
    assert torch.equal(layer.weight, before)


def test_the_weights_stay_where_they_are_so_that_nothing_is_compiled_again(pipelines, tmp_path):
    base = pipelines["sdxl"][0]
    write_kohya(tmp_path / "a", random_layers(base))
    loras = Loras([("a", tmp_path / "a")], [base])
    places = [(id(each), each.data_ptr()) for each in base.unet.parameters()]
    modules = [type(each) for each in base.unet.modules()]
    with loras.applied("a"):
        assert [(id(each), each.data_ptr()) for each in base.unet.parameters()] == places
        assert [type(each) for each in base.unet.modules()] == modules
    loras.restore()


def test_a_compiled_layer_changes_without_being_compiled_again(pipelines, tmp_path):
    base, compiled_graphs = pipelines["sdxl"][0], []

    def backend(graph, _):
        compiled_graphs.append(graph)
        return graph.forward

    write_kohya(tmp_path / "a", random_layers(base))
    loras = Loras([("a", tmp_path / "a")], [base])
    layer = torch.compile(base.unet.mid_block.attentions[0].transformer_blocks[0], backend=backend)
    inputs = {
        "hidden_states": torch.ones(1, 4, 64),
        "encoder_hidden_states": torch.ones(1, 3, 64),
    }
    seen, counts = [], []
    for lora in ("", "a", "a:0.5", ""):
        with loras.applied(lora), torch.no_grad():
            seen.append(layer(**inputs))
        counts.append(len(compiled_graphs))
    assert counts[0] > 0
    assert set(counts) == {counts[0]}
    assert torch.equal(seen[0], seen[3])
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_the_same_adapters_are_not_put_on_again_and_their_files_not_read_again(
    pipelines, tmp_path, monkeypatch
):
    pair, read, changed = pipelines["sdxl"], [], []
    write_kohya(tmp_path / "a", random_layers(pair[0]))
    loras = Loras([("a", tmp_path / "a")], pair)
    for owner, name, calls in ((LoraFile, "tensors", read), (Weights, "change", changed)):
        whole = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *each, whole=whole, calls=calls: (calls.append(1), whole(*each))[1]
        )
    for lora in ("a", "a", "a:1.0", "", "a:0.5", "a:0", ""):
        with loras.applied(lora):
            pass
    assert (len(read), len(changed)) == (1, 4)


def test_only_so_many_adapters_are_kept_in_memory(pipelines, tmp_path, monkeypatch):
    pair = pipelines["sdxl"]
    for name in "abc":
        write_kohya(tmp_path / name, random_layers(pair[0]))
    loras = Loras([(name, tmp_path / name) for name in "abc"], pair)
    monkeypatch.setattr("easel.lora.adapters._KEPT_BYTES", 1)
    for name in "abc":
        with loras.applied(name):
            assert list(loras._kept) == [name]
    loras.restore()


def broken(path, layers):
    path.write_bytes(b"not a file of tensors")


def cut(path, layers):
    write_kohya(path, layers)
    path.write_bytes(path.read_bytes()[:-10])


def empty(path, layers):
    save_file({}, path)


def pickled(path, layers):
    torch.save({"a": torch.zeros(1)}, path)


def half(path, layers):
    write_kohya(path, layers)
    tensors = load_file(path)
    tensors.pop(next(key for key in tensors if key.endswith("lora_up.weight")))
    save_file(tensors, path)


def another_model(path, layers):
    write_kohya(path, {("unet", "down_blocks.7.attn.to_q"): next(iter(layers.values()))})


def another_size(path, layers):
    name = next(iter(layers))
    write_kohya(path, {name: (torch.zeros(4, 640), torch.zeros(640, 4))})


def wrong_rank(path, layers):
    name = next(iter(layers))
    write_kohya(path, {name: (torch.zeros(4, 64), torch.zeros(64, 8))})


def another_method(path, layers):
    save_file({"lora_unet_down_blocks_0_attn_to_q.hada_w1_a": torch.zeros(4, 4)}, path)


def dora(path, layers):
    write_kohya(path, layers)
    save_file({**load_file(path), "lora_unet_x.dora_scale": torch.zeros(4)}, path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (broken, "it is not a LoRA in a safetensors file"),
        (cut, "it is not a LoRA in a safetensors file"),
        (empty, "it is empty"),
        (pickled, "it is not a LoRA in a safetensors file"),
        (half, "it has only one half of "),
        (another_model, "it does not fit this model: unet down_blocks_7_attn_to_q"),
        (another_size, "it does not fit this model: unet "),
        (wrong_rank, "do not multiply"),
        (another_method, "hada_w1_a, which is not part of a plain LoRA"),
        (dora, "dora_scale, which is not part of a plain LoRA"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_few_words_and_does_no_harm(
    stand_in, pipelines, tmp_path, capsys, damage, reason
):
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "loras").mkdir()
    layers = random_layers(pipelines["sd"][0])
    damage(tmp_path / "loras" / "bad.safetensors", layers)
    write_kohya(tmp_path / "loras" / "good.safetensors", layers)
    toolkit = Toolkit(tmp_path)
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["event"], each.get("loras")) for each in logged] == [
        ("lora_unusable", None),
        ("model_loaded", ["good"]),
    ]
    assert reason in logged[0]["error"]
    answer = toolkit.post({**WISH, "lora": "bad:0.5"})
    assert (answer.status, answer.error["field"]) == (400, "lora")
    assert reason in answer.error["message"]
    assert len(answer.error["message"]) < 200
    assert str(tmp_path) not in answer.body
    assert toolkit.post({**WISH, "lora": "good"}).status == 200


def test_a_text_encoder_that_the_model_lacks_is_named(pipelines, tmp_path):
    write_kohya(
        tmp_path / "a", random_layers(pipelines["sdxl"][0], parts=("unet", "text_encoder_2"))
    )
    with pytest.raises(InvalidField, match="has no text_encoder_2|does not fit"):
        Loras([("a", tmp_path / "a")], pipelines["sd"]).check("a")


def test_an_unknown_name_is_a_400_with_the_names_that_there_are(stand_in, pipelines, tmp_path):
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "loras").mkdir()
    for name in ("pixel art!", "watercolour"):
        write_kohya(tmp_path / "loras" / f"{name}.safetensors", random_layers(pipelines["sd"][0]))
    toolkit = Toolkit(tmp_path)
    answer = toolkit.post({**WISH, "lora": "watercolor"})
    assert answer.status == 400
    assert answer.error == {
        "code": "invalid_request",
        "message": "lora: unknown adapter watercolor; available: pixel-art-, watercolour",
        "field": "lora",
    }
    assert Toolkit(stand_in()).post({**WISH, "lora": "a"}).error["message"] == (
        "lora: unknown adapter a; this model has no adapters"
    )


def test_whoever_asks_is_told_the_names_and_what_else_the_model_takes(
    stand_in, pipelines, tmp_path
):
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "loras").mkdir()
    for name in "ba":
        write_kohya(tmp_path / "loras" / f"{name}.safetensors", random_layers(pipelines["sd"][0]))
    toolkit = Toolkit(tmp_path)
    for accept in (None, "image/png"):
        told = toolkit.post({"describe": True}, accept=accept).json()
        assert told.pop("speed")["sampler"] == "own"
        assert told == {
            "model": None,
            "fields": ["guidance_scale", "height", "negative_prompt", "steps", "width"],
            "defaults": {"steps": 2, "guidance_scale": 5.0, "width": 64, "height": 64},
            "multiple": 8,
            "loras": ["a", "b"],
        }
    assert toolkit.post({"describe": False}).error["field"] == "describe"


def test_a_setting_names_a_folder_of_adapters(stand_in, pipelines, tmp_path, monkeypatch):
    write_kohya(tmp_path / "a.safetensors", random_layers(pipelines["sd"][0]))
    monkeypatch.setenv("EASEL_LORAS", str(tmp_path))
    monkeypatch.setenv("EASEL_METADATA", "off")  # which names the adapters, too
    toolkit = Toolkit(stand_in())
    bodies = {toolkit.post({**WISH, "lora": lora}, accept="image/png").body for lora in ("", "a")}
    assert len(bodies) == 2


def test_names_are_made_of_the_files_names(tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    for name in ("Ink & wash v1.0", "_x", "x", "日本", "y" * 80):
        (tmp_path / f"{name}.safetensors").touch()
    (tmp_path / "a.bin").touch()
    (more / "x.safetensors").touch()
    names = [name for name, _ in find_files([tmp_path, more, tmp_path / "none"])]
    assert sorted(names) == sorted(["Ink-wash-v1.0", "x", "x-2", "lora", "y" * 63, "x-3"])
    for name in names:
        assert GenerationRequest(prompt="a", lora=name).lora == f"{name}:1"


def test_threads_with_different_adapters_get_what_they_would_get_alone(
    stand_in, pipelines, tmp_path, monkeypatch
):
    monkeypatch.setenv("EASEL_METADATA", "off")
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "loras").mkdir()
    for seed, name in enumerate("ab"):
        layers = random_layers(pipelines["sd"][0], seed=seed)
        write_kohya(tmp_path / "loras" / f"{name}.safetensors", layers)
    toolkit = Toolkit(tmp_path)
    wishes = [{**WISH, "lora": lora} for lora in ("", "a", "b:0.5", "b,a:-1")]
    alone = [toolkit.post(wish, accept="image/png").body for wish in wishes]
    assert len(set(alone)) == 4
    together = {}

    def ask(place):
        together[place] = toolkit.post(wishes[place % 4], accept="image/png").body

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[place] for place in range(12)] == alone * 3


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(LoraUnusable):
        LoraFile(tmp_path / "none")
