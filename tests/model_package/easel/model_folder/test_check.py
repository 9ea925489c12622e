"""The faults of a model folder, compared with what the container says when it loads it."""

import json
import os
import shutil
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easel.defaults import _RULES, Defaults
from easel.errors import ModelUnusable
from easel.loading.pipeline import TEXT_TO_IMAGE, find_folder, load_pipeline
from easel.loading.refiner import find_refiner, load_refiner
from easel.model_folder.check import LIMITS, REQUIRED, check
from easel.model_folder.files import REWRITERS
from easel.settings import Settings
from tests.conftest import ALL
from tests.model_folders import safetensors, write_ensemble, write_file, write_pipeline

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
UNET = "unet/diffusion_pytorch_model.safetensors"


def fatal(folder):
    return [str(fault) for fault in check(folder) if fault.fatal]


def is_loaded(folder):
    """Whether the container loads the model in a folder."""
    try:
        own = find_folder(folder, Settings())
        base = load_pipeline(own, **HOW)
        refiner = find_refiner(folder, Settings())
        if refiner is not None:
            load_refiner(refiner, base, **HOW)
        Defaults.from_folder(folder)
        Defaults.from_folder(own)
    except ModelUnusable:
        return False
    return True


@pytest.mark.parametrize(
    "options",
    [{}, {"variant": "fp16"}, {"safety_checker": "passes"}, {"kind": "ensemble"}],
    ids=str,
)
def test_a_model_that_loads_has_no_faults(stand_in, options):
    assert check(stand_in(**options)) == []


def test_the_bundled_model_has_no_faults():
    assert check(Path(__file__).parents[4] / "model_package" / "demo" / "weights") == []


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (UNET, POINTER, "is a Git LFS pointer"),
        (UNET, safetensors()[:-1], "it is cut short"),
        (UNET, safetensors()[:20], "it is cut short"),
        (UNET, safetensors() + b"x", "it is too long"),
        (UNET, b"", "is empty"),
        (UNET, b"no header here at all", "has no safetensors header"),
        (UNET, b"<!DOCTYPE html><title>Sign in</title>", "is a web page"),
        (UNET, None, "is missing"),
        ("vae/config.json", POINTER, "is a Git LFS pointer"),
        ("vae/config.json", b"\xef\xbb\xbf{}", "byte order mark"),
        ("vae/config.json", b"{", "is not complete JSON"),
        ("vae/config.json", b"[]", "is not a JSON object"),
        ("vae/config.json", b"[" * 100_000, "is not complete JSON"),
        ("vae/config.json", None, "is missing"),
        ("model_index.json", b"\xef\xbb\xbf{}", "byte order mark"),
        ("model_index.json", b'{"_class_name": "Stable', "is not complete JSON"),
        ("model_index.json", b"{}", "names no pipeline"),
        ("model_index.json", b"\xff\xfe{\x00}\x00", "is not complete JSON"),
        ("tokenizer/merges.txt", None, "has no complete vocabulary"),
        ("scheduler/scheduler_config.json", None, "is missing"),
        ("easel.json", b"{", "is not complete JSON"),
        ("easel.json", b'{"stps": 3}', "stps"),
        ("easel.json", b'{"width": 65}', "use 64 to 1536, in steps of 8"),
    ],
)
def test_a_fault_names_its_file_and_what_to_do(tmp_path, file, content, words):
    path = write_pipeline(tmp_path) / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)

    (fault, *others) = [fault for fault in check(tmp_path) if fault.fatal]
    assert not others
    assert fault.path.startswith(file.split("/")[0])
    assert words in str(fault)
    assert fault.advice


def test_an_easel_json_may_begin_with_a_byte_order_mark(tmp_path):
    write_pipeline(tmp_path)
    (tmp_path / "easel.json").write_bytes(b'\xef\xbb\xbf{"steps": 3}')

    assert check(tmp_path) == []
    assert Defaults.from_folder(tmp_path).steps == 3


def test_a_missing_folder_of_a_component_is_named(tmp_path):
    shutil.rmtree(write_pipeline(tmp_path) / "text_encoder")

    (text,) = fatal(tmp_path)
    assert text.startswith("text_encoder/ is missing")


def test_weights_of_another_variant_say_how_to_rename_them(tmp_path):
    path = write_pipeline(tmp_path) / UNET
    path.rename(path.with_name("diffusion_pytorch_model.bf16.safetensors"))

    (text,) = fatal(tmp_path)
    assert "unet/diffusion_pytorch_model.bf16.safetensors" in text
    assert "rename it to diffusion_pytorch_model.safetensors" in text


def test_weights_in_parts_must_be_complete(tmp_path):
    path = write_pipeline(tmp_path) / UNET
    stem = "diffusion_pytorch_model"
    path.rename(path.with_name(f"{stem}-00001-of-00002.safetensors"))
    assert "index.json is missing" in fatal(tmp_path)[0]

    parts = {"a": f"{stem}-00001-of-00002.safetensors", "b": f"{stem}-00002-of-00002.safetensors"}
    index = path.with_name(f"{stem}.safetensors.index.json")
    index.write_text(json.dumps({"weight_map": parts}))
    assert "00002-of-00002.safetensors is missing" in fatal(tmp_path)[0]

    write_file(path.with_name(parts["b"]))
    assert fatal(tmp_path) == []


def test_pickled_weights_are_refused_unless_they_are_allowed(tmp_path):
    path = write_pipeline(tmp_path) / UNET
    path.rename(path.with_suffix(".bin"))

    assert "is pickled" in fatal(tmp_path)[0]
    assert not [fault for fault in check(tmp_path, allow_pickle=True) if fault.fatal]


@pytest.mark.parametrize("name", ["dream.safetensors", "Dream.CKPT"])
def test_a_single_file_checkpoint_says_how_to_convert_it(tmp_path, name):
    write_file(tmp_path / name)

    (text,) = fatal(tmp_path)
    assert text.startswith(f"{name} is a single-file checkpoint")
    assert "model_package/convert.py" in text


def test_a_folder_above_the_models_says_which_to_pass(tmp_path):
    write_pipeline(tmp_path / "sd")

    assert f"pass {tmp_path / 'sd'}" in fatal(tmp_path)[0]


def test_an_adapter_whose_name_is_not_utf8_is_named_with_the_reason(tmp_path):
    write_pipeline(tmp_path)
    write_file(tmp_path / "loras" / os.fsdecode(b"caf\xe9.safetensors"))

    (fault,) = check(tmp_path)
    assert not fault.fatal
    assert str(fault) == (
        "loras/caf\\xe9.safetensors has a name that is not UTF-8, so it is not offered: rename it"
    )


def test_an_unusable_adapter_does_not_make_the_model_unusable(tmp_path):
    write_pipeline(tmp_path)
    (write_file(tmp_path / "loras" / "a.safetensors")).write_bytes(POINTER)

    (fault,) = check(tmp_path)
    assert not fault.fatal
    assert str(fault).startswith("loras/a.safetensors is a Git LFS pointer")


def test_hidden_files_are_no_weights(tmp_path):
    path = write_pipeline(tmp_path) / UNET
    path.rename(path.with_name(f"._{path.name}"))

    assert "is missing" in fatal(tmp_path)[0]


def test_a_link_to_nothing_is_a_missing_file(tmp_path):
    path = write_pipeline(tmp_path) / UNET
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")

    assert "is missing" in fatal(tmp_path)[0]


def test_a_refiner_is_checked_without_what_it_shares(tmp_path):
    folder = write_ensemble(tmp_path)
    assert check(folder) == []
    (folder / "refiner" / UNET).unlink()

    assert fatal(folder) == [f"refiner/{UNET} is missing: copy it from the model's source again"]


def test_a_refiner_of_another_class_is_refused(tmp_path):
    write_pipeline(tmp_path)
    write_pipeline(tmp_path / "refiner", "FluxPipeline")

    assert "cannot follow StableDiffusionPipeline" in fatal(tmp_path)[0]


def test_neither_a_file_nor_nothing_is_a_model_folder(tmp_path):
    assert fatal(tmp_path)
    assert fatal(tmp_path / "missing")
    assert fatal(write_file(tmp_path / "a.json"))


MODULAR = [kind for kind in REQUIRED if kind.endswith("ModularPipeline")]


@pytest.mark.parametrize("kind", MODULAR)
def test_the_required_components_are_expected_by_their_modular_pipelines_blocks(kind):
    blocks = getattr(diffusers, getattr(diffusers, kind).default_blocks_name)()
    known = {spec.name for spec in blocks.expected_components}
    made = {"guider", "image_processor"}

    assert {*REQUIRED[kind]} == known - made - REWRITERS


@pytest.mark.parametrize("kind", [kind for kind in REQUIRED if kind not in MODULAR])
def test_the_required_components_are_parameters_of_their_pipeline(kind):
    pipeline = getattr(diffusers, kind)
    known = {*pipeline._get_signature_keys(pipeline)[0]}
    optional = {*pipeline._optional_components}

    assert {*REQUIRED[kind]} <= known
    assert known - optional - {"text_encoder_3", "tokenizer_3"} <= {*REQUIRED[kind]}
    assert kind in TEXT_TO_IMAGE


def test_the_limits_of_defaults_are_the_contracts():
    names = [name for name in _RULES if name in Defaults.__dataclass_fields__]
    assert [*LIMITS] == names
    for name, (least, most, unit) in LIMITS.items():
        rule = _RULES[name]
        assert (rule.least, rule.most, getattr(rule, "step", None)) == (least, most, unit)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 2000) | st.floats(-1, 40) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)


@given(st.dictionaries(st.sampled_from([*LIMITS, "stps"]), JSON) | JSON)
def test_defaults_that_pass_are_defaults_that_the_container_reads(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "defaults"
    folder.mkdir(exist_ok=True)
    write_pipeline(folder)
    (folder / "easel.json").write_text(json.dumps(data), encoding="utf-8")
    if not fatal(folder):
        Defaults.from_folder(folder)


DAMAGES = {
    "missing": lambda _: None,
    "empty": lambda _: b"",
    "half": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-1],
    "a pointer": lambda _: POINTER,
    "with a byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    "noise": lambda _: bytes(range(256)),
}


@settings(max_examples=40 if ALL else 15, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_what_passes_the_check_loads_in_the_container(stand_in, tmp_path_factory, data):
    options = data.draw(st.sampled_from([{}, {"kind": "ensemble"}, {"safety_checker": "passes"}]))
    source = stand_in(**options)
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(source, folder, dirs_exist_ok=True)
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    chosen = data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=2, unique=True))
    for path in chosen:
        _damage(folder / path, data)
    if not fatal(folder):
        assert is_loaded(folder)
    shutil.rmtree(folder)


def _damage(path, data):
    if path.is_dir():
        shutil.rmtree(path)
    elif path.name == "model_index.json" and data.draw(st.booleans()):
        index = json.loads(path.read_text())
        name = data.draw(st.sampled_from(sorted(index)))
        index[name] = data.draw(st.sampled_from([None, [None, None], ["diffusers"], 5, "x", {}]))
        path.write_text(json.dumps(index))
    elif path.is_file():
        content = DAMAGES[data.draw(st.sampled_from(sorted(DAMAGES)))](path.read_bytes())
        path.unlink() if content is None else path.write_bytes(content)


@given(st.binary(max_size=300) | st.lists(st.integers(0, 400), max_size=4))
def test_a_damaged_file_of_weights_never_passes_what_the_library_refuses(tmp_path_factory, noise):
    from safetensors import SafetensorError, safe_open

    folder = tmp_path_factory.getbasetemp() / "noise"
    write_pipeline(folder)
    content = bytearray(safetensors())
    if isinstance(noise, bytes):
        content = bytearray(noise)
    else:
        for place in noise:
            content[place % len(content)] = (place * 7) % 256
    (folder / UNET).write_bytes(content)
    if not fatal(folder):
        try:
            with safe_open(folder / UNET, "pt") as file:
                [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
        except SafetensorError as error:
            pytest.fail(f"the library refuses {bytes(content)!r}: {error}")


def test_the_check_needs_the_standard_library_alone():
    folder = Path(sys.modules["easel.model_folder.check"].__file__).parent
    text = "".join(path.read_text() for path in folder.glob("*.py"))

    for name in ("torch", "diffusers", "easel", "endpoint", "safetensors"):
        assert f"import {name}" not in text
        assert f"from {name}" not in text


@pytest.mark.parametrize(
    ("places", "meant"),
    [
        (["deep/in/sd", "z/sd"], "z/sd"),
        (["sdxl/base", "sdxl/refiner"], "sdxl"),
        (["a/sdxl/base"], "a/sdxl"),
    ],
)
def test_the_folder_that_is_advised_has_a_model(tmp_path, places, meant):
    for place in places:
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "model_index.json").write_text("{}")

    assert f"pass {tmp_path / meant}, or" in fatal(tmp_path)[0]
