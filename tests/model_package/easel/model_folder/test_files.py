import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easel.lora.file import find_files
from easel.model_folder.files import (
    FolderUnusable,
    choose_variant,
    components,
    is_utf8,
    is_variant,
    list_files,
    pickled_only,
    printable,
    read_object,
    select,
)
from tests.model_folders import SD, write_ensemble, write_file, write_pipeline
from tests.model_package.doubles.toolkit import Toolkit

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
NAMES = ["scheduler", "unet", "vae"]


def weights(*names):
    return [f"{name}/diffusion_pytorch_model{end}" for name, end in names]


def test_the_components_are_those_that_the_index_names_with_a_class():
    assert components(INDEX) == NAMES


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("unet/diffusion_pytorch_model.fp16.safetensors", True),
        ("unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors", True),
        ("unet/diffusion_pytorch_model-00001-of-00002.fp16.safetensors", True),
        ("unet/diffusion_pytorch_model.safetensors.index.fp16.json", True),
        ("unet/diffusion_pytorch_model.safetensors", False),
        ("fp16/model.safetensors", False),
    ],
)
def test_the_variants_files_are_known_by_their_names(name, variant):
    assert is_variant(name) is variant


@pytest.mark.parametrize(
    ("files", "on_cpu", "on_gpu"),
    [
        ([("unet", ".safetensors"), ("vae", ".safetensors")], None, None),
        ([("unet", ".fp16.safetensors"), ("vae", ".fp16.safetensors")], "fp16", "fp16"),
        ([("unet", ".fp16.safetensors"), ("vae", ".safetensors")], "fp16", "fp16"),
        ([("unet", ".fp16.safetensors"), ("unet", ".safetensors")], None, "fp16"),
    ],
)
def test_16_bit_files_are_read_for_16_bits_or_if_there_are_no_others(files, on_cpu, on_gpu):
    paths = weights(*files)
    assert choose_variant(paths, NAMES, prefer_variant=False) == on_cpu
    assert choose_variant(paths, NAMES, prefer_variant=True) == on_gpu


def test_only_components_without_safetensors_count_as_pickled():
    files = weights(("unet", ".bin"), ("vae", ".bin"), ("vae", ".safetensors"), ("other", ".bin"))
    assert pickled_only(files, NAMES) == ["unet"]


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_an_index_that_cannot_be_read_is_refused(tmp_path, content):
    path = tmp_path / "model_index.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FolderUnusable, match=r"model_index\.json"):
        read_object(path)


def test_everything_that_the_container_reads_belongs_to_the_model(tmp_path):
    write_pipeline(tmp_path)
    write_pipeline(tmp_path / "refiner")
    write_file(tmp_path / "refiner" / "easel.json")
    for name in ("loras/a.safetensors", "loras/more/B.SafeTensors", "easel.json",
                 "compiled/l4.tar.gz"):  # fmt: skip
        write_file(tmp_path / name)
    for name in ("README.md", ".git/config", "loras/._a.safetensors", "loras/notes.txt",
                 "unet/model.onnx", "code/inference.py", "sd.safetensors", "base/config.json",
                 "images/1.png", "images/2.png"):  # fmt: skip
        write_file(tmp_path / name)

    selection = select(tmp_path)
    assert {path.split("/")[0] for path in selection.files} == {
        *SD, "model_index.json", "easel.json", "loras", "compiled", "refiner"}  # fmt: skip
    assert [path for path in selection.files if path.startswith(("loras", "compiled"))] == [
        "compiled/l4.tar.gz", "loras/a.safetensors", "loras/more/B.SafeTensors"]  # fmt: skip
    # The rest of a refiner for Stable Diffusion 1 is its base's.
    assert [path for path in selection.files if path.startswith("refiner")] == [
        "refiner/model_index.json", "refiner/unet/config.json",
        "refiner/unet/diffusion_pytorch_model.safetensors"]  # fmt: skip
    assert selection.left_out == [
        "README.md", "base/", "code/", "images/", "loras/notes.txt", "refiner/easel.json",
        "refiner/scheduler/", "refiner/text_encoder/", "refiner/tokenizer/", "refiner/vae/",
        "sd.safetensors", "unet/model.onnx"]  # fmt: skip


def test_base_and_refiner_belong_to_an_ensemble(tmp_path):
    write_ensemble(tmp_path)
    write_file(tmp_path / "loras" / "a.safetensors")
    write_file(tmp_path / "base" / "easel.json")

    selection = select(tmp_path)
    assert selection.left_out == []
    assert {path.split("/")[0] for path in selection.files} == {"base", "refiner", "loras"}


def test_of_two_precisions_the_smaller_belongs_to_the_model(tmp_path):
    write_pipeline(tmp_path)
    write_file(tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors")

    assert "unet/diffusion_pytorch_model.fp16.safetensors" in select(tmp_path).files
    assert select(tmp_path).left_out == ["unet/diffusion_pytorch_model.safetensors"]


def test_a_folder_without_a_model_has_no_files(tmp_path):
    write_file(tmp_path / "unet" / "config.json")
    with pytest.raises(FolderUnusable, match=r"contains no model_index\.json"):
        select(tmp_path)


def test_links_are_followed_once(tmp_path):
    write_pipeline(tmp_path / "a")
    (tmp_path / "a" / "unet").rename(tmp_path / "unet")
    (tmp_path / "a" / "unet").symlink_to(tmp_path / "unet")
    (tmp_path / "unet" / "loop").symlink_to(tmp_path / "a")

    assert "unet/config.json" in list_files(tmp_path / "a")


@pytest.mark.parametrize("kind", ["", "ensemble"])
def test_the_container_reads_a_copy_of_the_selected_files_alone(stand_in, tmp_path, kind):
    source = stand_in(kind="ensemble") if kind else stand_in()
    selection = select(source)
    for path in selection.files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, tmp_path / path)

    request = {"prompt": "a cat", "seed": 7}
    original = Toolkit(source).post(request, accept="image/png")
    assert original.status == 200
    assert Toolkit(tmp_path).post(request, accept="image/png").body == original.body


def test_every_adapter_that_the_container_finds_is_selected(tmp_path):
    write_pipeline(tmp_path)
    for name in ("a.safetensors", "B c.safetensors", "._d.safetensors", "e.SAFETENSORS",
                 "more/f.safetensors", ".safetensors"):  # fmt: skip
        write_file(tmp_path / "loras" / name)

    found = {path.relative_to(tmp_path).as_posix() for _, path in find_files([tmp_path / "loras"])}
    visible = {path for path in found if not path.split("/")[-1].startswith(".")}
    assert visible <= set(select(tmp_path).files)


def test_a_file_whose_name_is_not_utf8_is_left_out_and_can_be_printed(tmp_path):
    write_pipeline(tmp_path, SD)
    for name in (b"loras/caf\xe9.safetensors", b"unet/caf\xe9.json", b"\xff/a.txt"):
        write_file(tmp_path / os.fsdecode(name))
    selection = select(tmp_path)

    assert selection.left_out == ["\\xff/", "loras/", "unet/caf\\xe9.json"]
    "".join(selection.files).encode()


@given(st.binary() | st.text().map(str.encode))
def test_any_name_that_linux_allows_can_be_printed(name):
    path = os.fsdecode(name)

    assert is_utf8(path) == (name.decode("utf-8", "ignore").encode() == name)
    assert (printable(path) == path) == is_utf8(path)
    printable(path).encode()
