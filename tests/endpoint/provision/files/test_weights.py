from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace

import pytest

from endpoint.catalogue.models import Model, Repository
from endpoint.core.console import Console
from endpoint.core.problems import BadArgument, UploadFailed
from endpoint.provision.backends import CREATED, EASEL
from endpoint.provision.files import weights
from endpoint.provision.files.weights import choose, gather
from tests.endpoint.doubles import BUCKET, create
from tests.endpoint.world import contents
from tests.model_folders import SD, write_ensemble, write_file, write_pipeline

INDEX = {
    "_class_name": "TinyPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "safety_checker": [None, None],
}
REPOSITORY = [
    "README.md",
    "model_index.json",
    "v1-5-pruned.safetensors",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "safety_checker/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
]


def test_only_the_pipelines_own_files_are_selected_in_16_bits():
    assert sorted(choose(REPOSITORY, INDEX, "fp16")) == [
        "model_index.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
    ]


def test_without_16_bit_files_the_plain_ones_are_selected():
    taken = choose(REPOSITORY, INDEX, None)
    assert [path for path in taken if path.endswith("safetensors")] == [
        "unet/diffusion_pytorch_model.safetensors"
    ]


def test_shards_and_their_index_are_selected_together():
    paths = [
        "model_index.json",
        "unet/model-00001-of-00002.safetensors",
        "unet/model-00002-of-00002.safetensors",
        "unet/model.safetensors.index.json",
    ]
    assert sorted(choose(paths, {"unet": ["a", "b"]}, "fp16")) == sorted(paths)
    small = [path.replace("model-", "model.fp16-") for path in paths]
    assert sorted(choose(small, {"unet": ["a", "b"]}, "fp16")) == sorted(small)


OTHERS = [name for name in CREATED if name != EASEL]


def _stored(folder, backend, console):
    """Return what is stored of a folder for a backend, by its place below the prefix."""
    model = Model("tiny", "tiny", None, {}, folder=folder, backend=backend)
    return {file.place: file.path for file in gather(model, console)}


@pytest.mark.parametrize("backend", OTHERS)
def test_servers_that_know_no_variant_get_the_16_bit_weights_under_plain_names(
    world, tmp_path, backend
):
    folder = _folder(tmp_path)
    for place in ("unet/diffusion_pytorch_model.safetensors.index.json",
                  "loras/ink.fp16.safetensors"):  # fmt: skip
        write_file(folder / place)
    stored = _stored(folder, backend, Console(world))
    small = folder / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    assert stored.pop("unet/diffusion_pytorch_model.safetensors") == small
    assert set(stored) == {
        "loras/ink.fp16.safetensors",
        "model_index.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
    }
    own = _stored(folder, EASEL, Console(world))
    assert own["unet/diffusion_pytorch_model.fp16.safetensors"] == small


def test_plain_diffusers_loads_what_is_stored_for_them(world, tmp_path):
    from diffusers import StableDiffusionPipeline

    from model_package.stand_in import make_stand_in

    folder = make_stand_in(tmp_path / "tiny", variant="fp16")
    for place, path in _stored(folder, "hugging-face", Console(world)).items():
        copy = tmp_path / "stored" / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(path)
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path / "stored", local_files_only=True)
    original = StableDiffusionPipeline.from_pretrained(folder, variant="fp16")
    for name in ("unet", "text_encoder"):
        before, after = (getattr(one, name).state_dict() for one in (original, loaded))
        assert all(after[key].equal(value) for key, value in before.items())


def test_16_bit_shards_are_refused_because_their_index_has_their_names(world, tmp_path):
    folder = _folder(tmp_path)
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    names = [f"diffusion_pytorch_model.fp16-0000{part}-of-00002.safetensors" for part in (1, 2)]
    for name in names:
        write_file(folder / "unet" / name)
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json"
    index.write_text(json.dumps({"weight_map": dict(zip("ab", names, strict=True))}))
    with pytest.raises(BadArgument, match="16-bit weights of unet are several files") as caught:
        _stored(folder, "vllm-omni", Console(world))
    assert "without `variant`" in caught.value.advice


def test_code_compiled_for_the_model_is_selected_with_it():
    compiled = ["compiled/torch2.6.0-NVIDIA-L4-sm89.tar.gz"]
    others = ["compiled/notes.md", "compiled/old/torch.tar.gz", "unet/compiled/torch.tar.gz"]
    taken = choose([*REPOSITORY, *compiled, *others], INDEX, "fp16")
    assert set(taken) == {*choose(REPOSITORY, INDEX, "fp16"), *compiled}


def test_weights_that_can_run_code_are_refused():
    with pytest.raises(BadArgument, match="unet are not in the safetensors format"):
        choose(["unet/model.bin"], {"unet": ["a", "b"]}, None)


def test_of_a_transformer_that_is_quantised_elsewhere_the_configuration_is_selected():
    index = {"transformer": ["diffusers", "A"], "vae": ["diffusers", "B"]}
    paths = [
        "model_index.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
        "transformer/diffusion_pytorch_model.safetensors.index.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert choose(paths, index, None, ("transformer",)) == [paths[0], paths[4], paths[1]]
    assert sorted(choose(paths, index, None)) == paths


def _folder(tmp_path):
    folder = tmp_path / "tiny"
    for place in REPOSITORY:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        write_file(folder / place)
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    return folder


def test_a_full_disk_says_what_to_do(world, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights, "_fetch", full)
    model = Model("sd", "SD", Repository("some/model", "main"), {})
    with pytest.raises(UploadFailed, match="disk is full") as caught:
        gather(model, Console(world))
    assert "HF_HOME" in caught.value.advice


def test_a_refiners_files_are_in_a_folder_of_their_own(world, tmp_path, monkeypatch):
    folder = _folder(tmp_path)
    monkeypatch.setattr(weights, "_fetch", lambda *_: folder)
    source = Repository("some/model", "main")
    files = gather(Model("sdxl", "SDXL", source, {}, refiner=source), Console(world))
    places = {file.place for file in files}
    assert {"model_index.json", "refiner/model_index.json", "unet/config.json"} <= places


def test_what_is_merged_and_what_is_quantised_have_folders_of_their_own(
    world, tmp_path, monkeypatch
):
    import huggingface_hub

    hub = tmp_path / "hub"
    for place in ("lora.safetensors", "transformer/config.json", "transformer/model.safetensors"):
        (hub / place).parent.mkdir(parents=True, exist_ok=True)
        write_file(hub / place)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(hub))
    monkeypatch.setattr(weights, "_fetch", lambda *_: _folder(tmp_path))
    model = Model(
        "xl",
        "XL",
        Repository("some/model", "main"),
        {},
        lora=Repository("some/lora", "main", "lora.safetensors"),
        quantise="nunchaku_lite",
        quantised={"nunchaku_lite": Repository("some/four-bits", "main", "transformer")},
    )
    places = {file.place for file in gather(model, Console(world))}
    assert {
        "merged_lora/lora.safetensors",
        "quantised/config.json",
        "quantised/model.safetensors",
    } <= places

    gone = replace(model, lora=Repository("some/lora", "main", "other.safetensors"))
    with pytest.raises(UploadFailed, match=r"some/lora has no other\.safetensors"):
        gather(gone, Console(world))


def test_a_refiner_shares_its_bases_components():
    index = {"unet": ["a", "b"], "vae": ["a", "b"]}
    paths = ["model_index.json", "unet/model.safetensors", "vae/model.safetensors"]
    assert choose(paths, index, None, without=("vae",)) == paths[:2]


def test_an_endpoint_from_a_folder_has_its_weights_and_code_in_one_prefix(world, tmp_path):
    folder, arguments = str(_folder(tmp_path)), ("--weights", "s3")
    assert create(world, *arguments, model=folder) == 0
    s3 = world.client("s3")
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    places = {key.split("/", 3)[3] for key in keys if key.startswith("models/tiny/")}
    assert {"code/inference.py", "model_index.json", "unet/config.json"} <= places
    client = world.client("sagemaker")
    (model,) = client.list_models()["Models"]
    container = client.describe_model(ModelName=model["ModelName"])["PrimaryContainer"]
    assert "EASEL_MODEL_ID" not in container["Environment"]
    assert container["Environment"]["HF_HUB_OFFLINE"] == "1"


def test_new_code_does_not_send_the_weights_again(world, tmp_path, serving_code):
    folder, arguments = str(_folder(tmp_path)), ("--weights", "s3")
    assert create(world, *arguments, model=folder) == 0
    (serving_code / "generation.py").write_text("STEPS = 30\n")
    first = len(world.calls)
    assert create(world, *arguments, model=folder) == 0
    # Two of code, the manifest, and the model's description.
    assert world.calls[first:].count("s3.PutObject") == 4
    assert "s3.CopyObject" in world.calls[first:]


@pytest.mark.parametrize("write", [write_ensemble, write_pipeline])
def test_everything_that_the_container_reads_is_uploaded(world, tmp_path, capsys, write):
    folder = write(tmp_path / "tiny")
    write_file(folder / "loras" / "pixel.safetensors")
    write_file(folder / "notes.md")
    assert create(world, "--weights", "s3", model=str(folder)) == 0
    keys = [item["Key"] for item in world.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]]
    places = {key.split("/", 3)[3] for key in keys if key.startswith("models/tiny/")}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {place for place in places if not place.startswith("code/")} == files - {"notes.md"}
    assert "left out, because no part of the model: notes.md" in capsys.readouterr().err


def test_unusable_files_are_refused_before_anything_is_created(world, tmp_path, capsys):
    folder = write_pipeline(tmp_path / "tiny")
    (folder / "unet" / "config.json").write_text("{")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    assert create(world, "--weights", "s3", model=str(folder)) == 2
    message = capsys.readouterr().err
    assert "unet/config.json is not complete JSON" in message
    assert "vae/diffusion_pytorch_model.safetensors is empty: download it again." in message
    assert contents(world) == []


def _modular_without_its_unet(folder):
    write_pipeline(folder)
    (folder / "model_index.json").unlink()
    shutil.rmtree(folder / "unet")
    place = {"pretrained_model_name_or_path": "somebody/published"}
    parts = {name: [*kind, place] for name, kind in SD.items()}
    index = {"_class_name": "SomeModularPipeline", **parts}
    (folder / "modular_model_index.json").write_text(json.dumps(index))
    return folder


def test_a_component_that_only_the_hub_has_is_refused_before_an_upload(
    world, tmp_path, monkeypatch, capsys
):
    folder = _modular_without_its_unet(tmp_path / "tiny")
    assert create(world, "--weights", "s3", model=str(folder)) == 2
    said = "unet/ is not here, and modular_model_index.json names somebody/published: copy it"
    assert said in capsys.readouterr().err
    assert contents(world) == []
    monkeypatch.setattr(weights, "_fetch", lambda *_: folder)
    with pytest.raises(BadArgument) as caught:
        gather(Model("sd", "SD", Repository("some/model", "main"), {}), Console(world))
    assert f"{said} from there, because the model loads without the hub." in caught.value.advice


@pytest.mark.parametrize("index", [b"\xef\xbb\xbf{}", b"{", b"[1]"])
def test_an_index_from_the_hub_that_cannot_be_read_is_refused(tmp_path, world, monkeypatch, index):
    (tmp_path / "model_index.json").write_bytes(index)
    monkeypatch.setattr(weights, "_fetch", lambda *_: tmp_path)
    with pytest.raises(BadArgument, match=r"model_index\.json"):
        gather(Model("sd", "SD", Repository("some/model", "main"), {}), Console(world))


def test_a_hub_that_cannot_be_reached_is_said_in_one_sentence(world, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert create(world, "--weights", "s3", "--model", "somebody/model") == 1
    message = capsys.readouterr().err
    assert "error: somebody/model cannot be downloaded" in message
    assert "Check its name, the revision and the network" in message
