"""The real huggingface_hub against a stand-in of the hub, in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from easel.errors import ModelUnusable
from easel.loading.hub import choose_files
from easel.loading.pipeline import find_folder
from easel.loading.refiner import find_refiner
from easel.settings import Settings
from tests.model_package.doubles.hub import COMMIT, GATED, Hub

CODE = Path(__file__).parents[4] / "model_package" / "code"
# huggingface_hub reads its variables once, when it is imported.
FETCH = """
import sys
sys.path.insert(0, sys.argv[1])
from easel.errors import ModelUnusable
from easel.loading.hub import fetch
for name, revision in zip(sys.argv[2::2], sys.argv[3::2]):
    try:
        print(fetch(name, revision or None, allow_pickle=False))
    except ModelUnusable as error:
        print("refused:", error)
"""


@pytest.fixture
def hub(stand_in, tmp_path):
    """A hub with a repository that holds its model in many forms, as real ones do."""
    full = tmp_path / "full"
    shutil.copytree(stand_in(), full)
    shutil.copytree(stand_in(variant="fp16"), full, dirs_exist_ok=True)
    shutil.copytree(stand_in(pickled=True), full, dirs_exist_ok=True)
    (full / "vae_decoder").mkdir()
    parts = tmp_path / "parts"
    shutil.copytree(stand_in(), parts / "base")
    shutil.copytree(stand_in(), parts / "refiner")
    for name in ("easel.json", "loras/sub/pixel.SAFETENSORS", "loras/._pixel.safetensors"):
        (parts / name).parent.mkdir(parents=True, exist_ok=True)
        (parts / name).write_text("{}")
    for name in ("sd.safetensors", "sd.ckpt", "vae_decoder/model.onnx", "README.md"):
        (full / name).write_bytes(b"0" * 64)
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "config.json").write_text("{}")
    repositories = {
        "somebody/full": full,
        "somebody/parts": parts,
        "somebody/plain": plain,
        "somebody/pickled": stand_in(pickled=True),
        GATED: stand_in(),
    }
    with Hub(repositories).serve() as serving:
        yield serving


def fetch(hub_address, cache, name, revision="", *others, code=FETCH, **variables):
    environ = {"PATH": os.environ["PATH"], "HF_HOME": str(cache), "HF_ENDPOINT": hub_address}
    finished = subprocess.run(
        [sys.executable, "-c", code, str(CODE), name, revision, *others],
        env={**environ, "HF_HUB_DISABLE_TELEMETRY": "1", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return finished.stdout.strip()


def test_parts_that_are_there_already_are_not_fetched(hub, tmp_path):
    extra = 'without=["vae"], variables="EASEL_REFINER"'
    code = FETCH.replace("allow_pickle=", f"{extra}, allow_pickle=")
    assert code != FETCH
    fetch(hub.address, tmp_path / "cache", "somebody/full", code=code)
    assert {path.partition("/")[0] for path in hub.fetched if "/" in path} == {
        "scheduler",
        "text_encoder",
        "tokenizer",
        "unet",
    }
    message = fetch(hub.address, tmp_path / "cache", "somebody/none", code=code)
    assert "check EASEL_REFINER_ID" in message


def test_a_repository_is_fetched_in_one_form_and_found_again_without_the_hub(hub, tmp_path):
    cache = tmp_path / "cache"
    folder = fetch(hub.address, cache, "somebody/full", HF_TOKEN="hf_secret")
    weights = sorted(path for path in hub.fetched if not path.endswith((".json", ".txt")))
    assert weights == [
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]
    assert "easel.json" in hub.fetched
    assert "Bearer hf_secret" in hub.tokens
    assert fetch(hub.address, cache, "somebody/full", HF_HUB_OFFLINE="1") == folder
    assert fetch("http://127.0.0.1:9", cache, "somebody/full") == folder
    assert Path(folder, "model_index.json").is_file()


def test_a_repositorys_refiner_and_adapters_belong_to_it(hub, tmp_path):
    cache = tmp_path / "cache"
    folder = fetch(hub.address, cache, "somebody/parts")
    files = {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*")}
    assert {"easel.json", "base/model_index.json", "refiner/model_index.json"} <= files
    assert "loras/sub/pixel.SAFETENSORS" in files
    assert "loras/._pixel.safetensors" not in files
    assert "base/unet/diffusion_pytorch_model.safetensors" in files
    assert "refiner/unet/diffusion_pytorch_model.safetensors" in files
    # The refiner has them from its base.
    assert not [name for name in files if name.startswith(("refiner/vae/", "refiner/text"))]
    assert fetch("http://127.0.0.1:9", cache, "somebody/parts") == folder

    home = Path(folder)
    settings = Settings(model_id="somebody/parts")
    assert find_folder(home, settings) == home / "base"
    assert find_refiner(tmp_path, settings, home) == home / "refiner"


def test_a_revision_may_be_a_commit(hub, tmp_path):
    assert fetch(hub.address, tmp_path / "cache", "somebody/full", COMMIT).endswith(COMMIT)


def test_what_cannot_be_fetched_says_what_to_do(hub, tmp_path):
    cases = [
        ("somebody/nothing", "", "does not exist on the hub, or is private: check EASEL_MODEL_ID"),
        ("not//a name", "", "does not exist on the hub"),
        ("somebody/full", "v9", "has no revision v9: check EASEL_MODEL_REVISION"),
        ("somebody/plain", "", "it is not a diffusers model"),
        ("somebody/pickled", "", "EASEL_ALLOW_PICKLE=on"),
        (GATED, "", "is gated: accept its terms on its page, and set HF_TOKEN"),
    ]
    names = [text for name, revision, _ in cases for text in (name, revision)]
    refusals = fetch(hub.address, tmp_path / "cache", *names).splitlines()
    for refusal, (name, _, says) in zip(refusals, cases, strict=True):
        assert refusal.startswith("refused: "), name
        assert says in refusal, name


def test_a_hub_that_cannot_be_reached_is_said_so(tmp_path):
    response = fetch("http://127.0.0.1:9", tmp_path / "cache", "somebody/full")
    assert "the hub could not be reached" in response


def test_pickled_weights_are_chosen_if_they_are_allowed_and_are_the_only_ones():
    files = ["model_index.json", "unet/a.bin", "vae/a.bin", "vae/a.safetensors", "vae/config.json"]
    with pytest.raises(ModelUnusable, match="unet exist only pickled"):
        choose_files(files, ["unet", "vae"], allow_pickle=False)
    assert choose_files(files, ["unet", "vae"], allow_pickle=True) == [
        "model_index.json",
        "unet/a.bin",
        "vae/config.json",
        "vae/a.safetensors",
    ]


# What else a model needs from other repositories, in one process: the start of one takes seconds.
OTHERS = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from easel.errors import ModelUnusable
from easel.loading.merged_lora import find_merged_lora
from easel.loading.pipeline import find_home
from easel.loading.quantised import find_quantised
from easel.settings import Settings

nothing = Path(sys.argv[2])
model = {"EASEL_MODEL_ID": "somebody/modular"}
gguf = {**model, "EASEL_QUANTISE": "gguf", "EASEL_QUANTISED_ID": "somebody/quantised"}
nunchaku = {**gguf, "EASEL_QUANTISE": "nunchaku_lite"}
lora = {"EASEL_MERGED_LORA_ID": "somebody/few-steps"}

def show(call, environ):
    settings = Settings.from_environ(environ)
    try:
        found = call(settings)
        inside = [found] if found.is_file() else sorted(found.rglob("*"))
        print([path.name for path in inside if path.is_file()])
    except ModelUnusable as error:
        print("refused:", error)

show(lambda settings: find_home(nothing, settings), {**gguf, "EASEL_QUANTISED_FILE": "a.gguf"})
show(lambda settings: find_home(nothing, settings), model)
quantised = lambda settings: find_quantised(nothing, nothing, settings)
show(quantised, {**gguf, "EASEL_QUANTISED_FILE": "a.gguf"})
show(quantised, {**gguf, "EASEL_QUANTISED_FILE": "b.gguf"})
show(quantised, {**nunchaku, "EASEL_QUANTISED_FILE": "transformer"})
merged = lambda settings: find_merged_lora(nothing, nothing, settings)
show(merged, {**lora, "EASEL_MERGED_LORA_FILE": "few.safetensors"})
show(merged, {**lora, "EASEL_MERGED_LORA_FILE": "many.safetensors"})
other = {"EASEL_MERGED_LORA_REVISION": "x"}
show(merged, {**lora, **other, "EASEL_MERGED_LORA_FILE": "few.safetensors"})
"""


def test_what_comes_from_other_repositories_is_fetched_file_by_file(tmp_path):
    modular, quantised, few = (tmp_path / name for name in ("modular", "quantised", "few"))
    for path, text in (
        (modular / "modular_model_index.json", MODULAR),
        (modular / "transformer/config.json", "{}"),
        (modular / "transformer/diffusion_pytorch_model.safetensors", ""),
        (modular / "vae/config.json", "{}"),
        (modular / "upsampler/model.safetensors", ""),
        (quantised / "a.gguf", "GGUF"),
        (quantised / "transformer/config.json", "{}"),
        (quantised / "transformer/model.safetensors", ""),
        (few / "few.safetensors", ""),
        (few / "other.safetensors", ""),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    names = ("somebody/modular", "somebody/quantised", "somebody/few-steps")
    folders = dict(zip(names, (modular, quantised, few), strict=True))
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    with Hub(folders).serve() as hub:
        printed = fetch(hub.address, tmp_path / "cache", str(nothing), code=OTHERS)

    index = "modular_model_index.json"
    weights = "diffusion_pytorch_model.safetensors"
    gguf, whole, file, no_file, folder, lora, no_lora, no_revision = printed.splitlines()
    assert gguf == str([index, "config.json", "config.json"])
    assert whole == str([index, "config.json", weights, "config.json"])
    assert file == "['a.gguf']"
    assert no_file.startswith("refused: EASEL_QUANTISED_FILE is b.gguf, which somebody/quantised")
    assert folder == "['config.json', 'model.safetensors']"
    assert lora == "['few.safetensors']"
    assert no_lora.startswith("refused: EASEL_MERGED_LORA_FILE is many.safetensors, which")
    assert no_revision.endswith("has no revision x: check EASEL_MERGED_LORA_REVISION")
    assert "upsampler/model.safetensors" not in hub.fetched


MODULAR = json.dumps(
    {
        "_class_name": "Flux3DistilledModularPipeline",
        "transformer": ["diffusers", "Flux3Transformer2DModel", {}],
        "vae": ["diffusers", "AutoencoderKLFlux2", {}],
        "prompt_upsampler": ["transformers", "Qwen3_5ForConditionalGeneration", {}],
    }
)
