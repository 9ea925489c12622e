import io
import json
import os
import re
import shutil
from contextlib import redirect_stdout

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from easel.lora.adapters import Loras
from easel.lora.file import LoraFile, find_files
from easel.lora.keys import LoraUnusable
from generation import GenerationRequest, InvalidField
from tests.model_package.conftest import QUICK
from tests.model_package.doubles.lora_files import (
    random_layers,
    write_diffusers,
    write_kohya,
    write_old_diffusers,
)
from tests.model_package.doubles.toolkit import Toolkit
from tests.model_package.easel.lora.helpers import (
    REQUEST,
    generate,
    generator,
)

SUFFIXES = [
    ".lora_down.weight",
    ".lora_up.weight",
    ".lora_mid.weight",
    ".alpha",
    ".dora_scale",
    ".hada_w1_a",
    ".lokr_w1",
    ".lokr_w2",
    ".diff",
    ".diff_b",
    ".w_norm",
    ".oft_blocks",
    "",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
CONFIGS = st.dictionaries(
    st.sampled_from(["unet.lora_alpha", "unet.alpha_pattern", "unet.r", "unet.rank_pattern", "r"]),
    JSON | st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
).map(json.dumps)
METADATA = st.dictionaries(
    st.sampled_from(["lora_adapter_metadata", "format", "ss_tag_frequency"]),
    CONFIGS | JSON | st.text(max_size=9),
    max_size=3,
)


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


def extra(path, layers, key, tensor, **metadata):
    write_kohya(path, layers)
    save_file({**load_file(path), key: tensor}, path, metadata)


NAME = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


def changed(key, tensor):
    return lambda path, layers: extra(path, layers, key, tensor)


def described(text):
    return lambda path, layers: extra(path, layers, f"{NAME}.alpha", torch.tensor(1.0), **text)


def configured(**values):
    """Describe a file without alphas, which the configuration has then."""
    text = json.dumps({f"unet.{key}": value for key, value in values.items()})

    def damage(path, layers):
        write_diffusers(path, layers)
        save_file(load_file(path), path, {"lora_adapter_metadata": text})

    return damage


def pair(down, up, **others):
    tensors = {"lora_down.weight": down, "lora_up.weight": up, **others}
    return lambda path, _: save_file({f"{NAME}.{key}": each for key, each in tensors.items()}, path)


def method(**tensors):
    return lambda path, _: save_file(
        {f"{NAME}.{key}": torch.zeros(size) for key, size in tensors.items()}, path
    )


def odd_header(path, layers):
    write_kohya(path, layers)
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = {**json.loads(data[8 : 8 + size]), "__metadata__": {"epoch": 1, "tags": {"a": [2]}}}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def whole_model(path, layers):
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4)}, path)


def pointer(path, layers):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def dangling(path, layers):
    path.symlink_to(path.parent / "gone")


CONFIG = "lora_adapter_metadata"


UNUSABLE = [
    (broken, "it is not a LoRA in a safetensors file"),
    (cut, "it is not a LoRA in a safetensors file"),
    (empty, "it is empty"),
    (pickled, "it is not a LoRA in a safetensors file"),
    (half, "it has only one half of "),
    (another_model, "it does not fit this model: unet down_blocks_7_attn_to_q"),
    (another_size, "it does not fit this model: unet "),
    (wrong_rank, "do not multiply"),
    (lambda path, _: os.mkfifo(path), "its file cannot be read"),
    (changed("x" * 9_999, torch.zeros(1)), "xxx, which is not part of a LoRA"),
    (changed(".lora_A.x" * 60, torch.zeros(1)), "which is not part of a LoRA"),
    (configured(alpha_pattern={".*.*.*.*.*x": 4}), "that is too complex"),
    (pointer, "it is a pointer of Git LFS; download the file itself with git lfs pull"),
    (dangling, "its file cannot be read"),
    (whole_model, "input_blocks.0.0.weight, which is not part of a LoRA"),
    (changed("lora_unet_x.a1.weight", torch.zeros(4)), "x.a1.weight (GLoRA), which is not"),
    (changed("lora_unet_x.oft_blocks", torch.zeros(4)), "x.oft_blocks (OFT), which is not"),
    (changed("lora_unet_x.on_input", torch.zeros(1)), "x.on_input (IA3), which is not"),
    (changed("unet.x.lora_B.bias", torch.zeros(4)), "lora_B.bias (the bias of a LoRA), whic"),
    (changed("unet.x.lora_embedding_A", torch.zeros(4)), "lora_embedding_A (an embedding), "),
    (changed("bundle_emb.a.string_to_param.*", torch.zeros(4)), "(an embedding), which is no"),
    (changed("lora_unet_x.dora_scale", torch.zeros(4)), "it has only one half of unet x"),
    (changed(f"{NAME}.dora_scale", torch.zeros(7, 1)), "attn1_to_q has another size"),
    (changed(f"{NAME}.dora_scale", torch.ones(2, 32)), "attn1_to_q has another size"),
    (changed(f"{NAME}.alpha", torch.zeros(2)), "attn1_to_q is not one number"),
    (changed(f"{NAME}.alpha", torch.tensor(torch.inf)), "alpha is not a finite number"),
    (changed(f"{NAME}.alpha", torch.tensor(1j)), "alpha is not a finite number"),
    (changed(f"{NAME}.lora_mid.weight", torch.zeros(4, 3, 1, 1)), "do not multiply"),
    (changed(f"{NAME}.hada_t1", torch.zeros(4)), "it has only a part of unet mid_block"),
    (changed(f"unet.{NAME[10:]}.lora_A.weight", torch.zeros(4, 4)), "attn1_to_q twice"),
    (pair(torch.zeros(0, 64), torch.zeros(64, 0)), "has a tensor without numbers"),
    (pair(torch.zeros(4, 64).int(), torch.zeros(64, 4)), "has numbers of type I32"),
    (pair(torch.zeros(4), torch.zeros(4)), "do not multiply"),
    (pair(torch.zeros(4, 64), torch.zeros(64, 4, 3, 3)), "is no LoRA layer"),
    (method(lokr_w1=(4, 4)), "it has only a part of unet mid_block"),
    (method(lokr_w1=(4,), lokr_w2=(4, 4)), "lokr_w1 of unet mid_block"),
    (method(lokr_w1=(4, 4), lokr_w2_a=(4, 2), lokr_w2_b=(3, 4)), "do not multiply"),
    (
        method(hada_w1_a=(64, 2), hada_w1_b=(2, 64), hada_w2_a=(64, 2), hada_w2_b=(2, 32)),
        "have different sizes",
    ),
    (odd_header, "it is not a LoRA in a safetensors file"),
    (described({CONFIG: "{"}), "its metadata lora_adapter_metadata is not JSON"),
    (described({CONFIG: "[" * 99_999}), "its metadata lora_adapter_metadata is not JSON"),
    (described({CONFIG: "[1]"}), "its metadata lora_adapter_metadata is not an object"),
    (configured(lora_alpha="4"), "has a lora_alpha that is not a number"),
    (configured(lora_alpha=[4]), "has a lora_alpha that is not a number"),
    (configured(lora_alpha=True), "has a lora_alpha that is not a number"),
    (configured(lora_alpha=float("nan")), "has a lora_alpha that is not a number"),
    (configured(lora_alpha=10**400), "has a lora_alpha that is not a number"),
    (configured(use_rslora="yes"), "has a use_rslora that is not true or false"),
    (configured(alpha_pattern=["to_q"]), "has a alpha_pattern that is not an object"),
    (configured(alpha_pattern={"to_q": None}), "has a alpha_pattern that is not a number"),
    (configured(alpha_pattern={"to_(": 4}), "that is no regular expression: to_("),
    (configured(alpha_pattern={"(a+)+b": 4}), "that is too complex: (a+)+b"),
    (configured(rank_pattern=3), "has a rank_pattern that is not an object"),
]


@pytest.fixture(scope="module")
def unusable(stand_in, pipelines, tmp_path_factory):
    """Load a model with all of these files and a good one; return its folder, it and its log."""
    folder = tmp_path_factory.mktemp("unusable")
    shutil.copytree(stand_in(), folder, dirs_exist_ok=True)
    (folder / "loras").mkdir()
    layers = random_layers(pipelines["sd"][0])
    for place, (damage, _) in enumerate(UNUSABLE):
        damage(folder / "loras" / f"bad{place}.safetensors", layers)
    write_kohya(folder / "loras" / "good.safetensors", layers)
    with redirect_stdout(io.StringIO()) as printed, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EASEL_DEFAULTS", QUICK)
        toolkit = Toolkit(folder)
    return folder, toolkit, [json.loads(line) for line in printed.getvalue().splitlines()]


def test_files_that_cannot_be_used_are_logged_and_the_model_is_loaded(unusable):
    _, _, logged = unusable
    assert [line["event"] for line in logged] == ["lora_unusable"] * len(UNUSABLE) + [
        "model_loaded"
    ]
    assert logged[-1]["loras"] == ["good"]


@pytest.mark.parametrize(
    ("name", "reason"), [(f"bad{place}", reason) for place, (_, reason) in enumerate(UNUSABLE)]
)
def test_a_file_that_cannot_be_used_is_refused_in_few_words_and_does_no_harm(
    unusable, name, reason
):
    folder, toolkit, logged = unusable
    (line,) = [line for line in logged if line.get("lora") == name]
    assert reason in line["error"]
    response = toolkit.post({**REQUEST, "lora": f"{name}:0.5"})
    assert (response.status, response.error["field"]) == (400, "lora")
    assert reason in response.error["message"]
    assert len(response.error["message"]) < 200
    assert str(folder) not in response.body
    assert toolkit.post({**REQUEST, "lora": "good"}).status == 200


def test_a_text_encoder_that_the_model_lacks_is_named(pipelines, tmp_path):
    write_kohya(
        tmp_path / "a", random_layers(pipelines["sdxl"][0], parts=("unet", "text_encoder_2"))
    )
    with pytest.raises(InvalidField, match="has no text_encoder_2|does not fit"):
        Loras([("a", tmp_path / "a")], pipelines["sd"]).check("a")


def found(*names, folder):
    """Create files, and return the names of the adapters by file."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return {str(path.relative_to(folder)): name for name, path in find_files([folder])}


def test_a_name_that_fits_is_kept_and_another_one_is_made_of_the_file_alone(tmp_path):
    files = ["x", "-x", "_x", "a b", "a-b", "a&b", "Ink & wash v1.0", "日本", "y" * 63, "y" * 80]
    names = found(*(f"{name}.safetensors" for name in files), folder=tmp_path)
    for name in ("x", "a-b", "y" * 63):
        assert names[f"{name}.safetensors"] == name
    made = names["Ink & wash v1.0.safetensors"]
    assert re.fullmatch("Ink-wash-v1.0-[0-9a-f]{6}", made)
    assert re.fullmatch("lora-[0-9a-f]{6}", names["日本.safetensors"])
    assert len(set(names.values())) == len(files)
    for name in names.values():
        assert GenerationRequest(prompt="a", lora=name).lora == f"{name}:1"


@given(st.lists(st.text(st.sampled_from("ab-_. &é"), min_size=1, max_size=5), max_size=8))
def test_adding_a_file_never_renames_another(tmp_path_factory, stems):
    folder, names = tmp_path_factory.mktemp("loras"), {}
    for stem in stems:
        now = found(f"{stem}.safetensors", folder=folder)
        assert {path: now[path] for path in names} == names
        assert len(set(now.values())) == len(now)
        names = now


def test_hidden_files_do_not_count(tmp_path):
    hidden = ["._x.safetensors", ".x.safetensors", ".cache/a.safetensors", "b/._c.safetensors"]
    assert found("x.safetensors", *hidden, folder=tmp_path) == {"x.safetensors": "x"}


def test_subfolders_and_upper_case_endings_are_found(tmp_path):
    files = ["a.SAFETENSORS", "styles/b.safetensors", "styles/old/c.SafeTensors", "d.bin", "e.pt"]
    assert set(found(*files, folder=tmp_path).values()) == {"a", "b", "c"}
    assert list(find_files([tmp_path / "none"])) == []


def test_of_two_files_with_one_name_the_first_has_it_and_the_log_names_the_other(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    found("x.safetensors", "x.SAFETENSORS", "old/x.safetensors", folder=first)
    found("x.safetensors", folder=second)
    capsys.readouterr()
    assert list(find_files([first, second])) == [("x", first / "x.safetensors")]
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["event"], each["lora"], each["error"]) for each in logged] == [
        ("lora_unusable", "x", "its name x is that of x.safetensors; rename one of them")
    ] * 3
    assert [each["path"] for each in logged] == [
        str(first / "x.SAFETENSORS"),
        str(first / "old/x.safetensors"),
        str(second / "x.safetensors"),
    ]


def test_folders_that_overlap_are_not_reported(tmp_path, capsys):
    found("styles/x.safetensors", folder=tmp_path)
    names = [name for name, _ in find_files([tmp_path, tmp_path / "styles", tmp_path])]
    assert names == ["x"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e5m2])
def test_values_that_are_not_finite_are_a_400_that_names_the_adapter(
    stand_in, pipelines, tmp_path, capsys, value, dtype
):
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "loras").mkdir()
    layers = random_layers(pipelines["sd"][0])
    path = tmp_path / "loras" / "bad.safetensors"
    write_kohya(path, layers)
    tensors = load_file(path)
    key = next(key for key in tensors if key.endswith("up.weight"))
    tensors[key][0, 0] = value
    tensors[key] = tensors[key].to(dtype)
    save_file(tensors, path)
    write_kohya(tmp_path / "loras" / "good.safetensors", layers)
    toolkit = Toolkit(tmp_path)
    for lora in ("bad", "bad:0.5,good", "bad"):
        response = toolkit.post({**REQUEST, "lora": lora})
        assert (response.status, response.error["field"]) == (400, "lora")
        assert response.error["message"].startswith("lora: bad cannot be used: lora_te1_text")
        assert "infinite or not a number" in response.error["message"]
    assert toolkit.post({"describe": True}).json()["loras"] == ["good"]
    assert toolkit.post({**REQUEST, "lora": "good"}).status == 200
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["lora"] for each in logged if each["event"] == "lora_unusable"] == ["bad"]


def test_values_that_are_too_large_for_the_model_are_a_400_that_names_the_adapter(
    stand_in, pipelines, tmp_path
):
    shutil.copytree(stand_in(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "loras").mkdir()
    write_kohya(
        tmp_path / "loras" / "large.safetensors", random_layers(pipelines["sd"][0], size=1e19)
    )
    toolkit = Toolkit(tmp_path)
    response = toolkit.post({**REQUEST, "lora": "large:20"})
    assert (response.status, response.error["field"]) == (400, "lora")
    assert response.error["message"] == (
        "lora: large:20 gives numbers that are too large for this model; use smaller weights"
    )
    assert toolkit.post(REQUEST).status == 200


@given(st.data())
def test_any_fault_in_a_file_is_a_reason(pipelines, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("loras") / "a.safetensors"
    layers = random_layers(pipelines["sd"][0], ends=("attn1.to_q",), parts=("unet",))
    write_kohya(path, layers)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    keys = st.sampled_from(sorted(header))
    for _ in range(data.draw(st.integers(1, 3))):
        key, other = data.draw(keys), data.draw(st.sampled_from(SUFFIXES))
        entry = header.pop(key, None)
        values = {"key": key.rpartition(".lora")[0] + other, "entry": entry}
        header[values["key"]] = data.draw(st.sampled_from([entry, {"a": 1}, None, 7]))
    header["__metadata__"] = data.draw(METADATA)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    loras = Loras([("a", path)], pipelines["sd"])
    reasons = []
    try:
        loras.check("a")
        with loras.applied("a"):
            pass
    except InvalidField as error:
        reasons.append(error)
    assert all(error.field == "lora" and len(error.reason) < 250 for error in reasons)
    loras.restore()


def test_what_nobody_foresaw_makes_one_file_unusable(pipelines, tmp_path, monkeypatch, capsys):
    for name in "ab":
        write_kohya(tmp_path / name, random_layers(pipelines["sd"][0]))
    whole = LoraFile.__init__

    def init(self, path):
        whole(self, path)
        if path.name == "a":
            raise KeyError("secret")

    monkeypatch.setattr(LoraFile, "__init__", init)
    loras = Loras([(name, tmp_path / name) for name in "ab"], pipelines["sd"])
    assert loras.names == ["b"]
    with pytest.raises(InvalidField, match=r"a cannot be used: it cannot be read \(KeyError\)"):
        loras.check("a")


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(LoraUnusable):
        LoraFile(tmp_path / "none")


def test_a_path_that_is_not_utf8_is_the_reason(pipelines, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.safetensors")
    write_kohya(tmp_path / "a", random_layers(pipelines["sd"][0]))
    (tmp_path / "a").rename(path)
    ((name, _),) = find_files([tmp_path])

    with pytest.raises(InvalidField, match=f"{name} cannot be used: its path is not UTF-8, which"):
        Loras([(name, path)], pipelines["sd"]).check(name)
