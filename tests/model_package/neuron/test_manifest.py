import json

import pytest

from easel.errors import ModelUnusable
from model_package.neuron.job import MergedLora
from model_package.neuron.manifest import Manifest, check_machine, numbers, read_manifest
from tests.model_package.neuron.doubles import write_compiled

MANIFEST = Manifest("StableDiffusionPipeline", ("unet",), 512, 512, "2.21.33363.0", "inf2", None)


def change(path, **changes):
    data = json.loads(path.read_text())
    data["neuron"].update(changes)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_a_folder_says_what_it_was_compiled_for(tmp_path, recorded, kind):
    manifest = read_manifest(write_compiled(tmp_path, recorded, kind))
    assert (manifest.width, manifest.height) == (80, 128)
    assert (manifest.instance, manifest.compiler) == ("inf2", "2.21.33363.0+82129205")
    assert ("text_encoder_2" in manifest.parts) == (kind == "sdxl")
    assert manifest.lora is None


def test_the_adapter_is_in_the_manifests_file(tmp_path, recorded):
    folder = write_compiled(tmp_path, recorded)
    (folder / "neuron.json").write_text('{"lora": {"name": "watercolour", "weight": 1}}')
    assert read_manifest(folder).lora == MergedLora("watercolour", 1)


def test_a_manifest_that_was_changed_by_hand_is_refused(tmp_path, recorded):
    folder = write_compiled(tmp_path, recorded)
    (folder / "neuron.json").write_text('{"lora": "watercolour"}')
    with pytest.raises(ModelUnusable, match=r"neuron\.json: lora: must be null"):
        read_manifest(folder)


def test_the_newest_compiler_of_the_parts_counts(tmp_path, recorded):
    folder = write_compiled(tmp_path, recorded)
    change(folder / "vae_decoder" / "config.json", compiler_version="2.22.1.0")
    assert read_manifest(folder).compiler == "2.22.1.0"


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: (folder / "unet/model.neuron").unlink(), "unet is not compiled"),
        (lambda folder: (folder / "vae_decoder/config.json").write_text("{}"), "is not compiled"),
        (lambda folder: (folder / "text_encoder_2/config.json").unlink(), "cannot be read"),
        (lambda folder: (folder / "model_index.json").write_text("["), "not complete JSON"),
        (
            lambda folder: change(folder / "vae_decoder/config.json", instance_type="trn2"),
            "for another machine than the UNet",
        ),
        (
            lambda folder: change(folder / "unet/config.json", static_batch_size=2),
            "several pictures at a time",
        ),
        (
            lambda folder: change(folder / "unet/config.json", dynamic_batch_size=True),
            "several pictures at a time",
        ),
    ],
)
def test_a_folder_that_cannot_be_served_is_refused(tmp_path, recorded, break_it, words):
    folder = write_compiled(tmp_path, recorded)
    break_it(folder)
    with pytest.raises(ModelUnusable, match=words):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("machine", "compiler"),
    [("inf2", "2.21.33363.0+1"), ("trn1", "2.22.0.0"), ("trn1n", "3.0"), ("trn1", "2.21.33363.0")],
)
def test_the_first_trainium_and_newer_images_run_it_too(machine, compiler):
    check_machine(MANIFEST, compiler=compiler, machine=machine, cores=2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cores": 0}, "0 Neuron cores and needs 2"),
        ({"cores": 1}, "1 Neuron cores and needs 2"),
        ({"machine": "trn2"}, "compiled for inf2, this is trn2"),
        ({"compiler": "2.21.9999.0"}, "this image has 2.21.9999.0"),
    ],
)
def test_another_machine_is_refused_with_what_to_change(changes, words):
    machine = {"compiler": "2.21.33363.0", "machine": "trn1", "cores": 2, **changes}
    with pytest.raises(ModelUnusable, match=words):
        check_machine(MANIFEST, **machine)


def test_versions_are_compared_by_their_numbers():
    assert numbers("2.21.33363.0+82129205") == numbers("2.21.33363.0") < numbers("2.100")
