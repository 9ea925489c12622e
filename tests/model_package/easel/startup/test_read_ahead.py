from easel.startup.read_ahead import read, read_ahead, weights


def write(folder, *places):
    for place in places:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(b"0" * 1_000)
    return folder


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in weights(folder))


def test_the_weights_that_will_be_loaded_are_read_and_no_others(tmp_path):
    folder = write(
        tmp_path,
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "refiner/unet/model-00001-of-00002.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "loras/style.safetensors",
    )
    assert names(folder) == [
        "refiner/unet/model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]


def test_compiled_programs_are_read_too(tmp_path):
    folder = write(tmp_path, "unet/model.neuron", "vae_decoder/model.neuron", "unet/config.json")
    assert names(folder) == ["unet/model.neuron", "vae_decoder/model.neuron"]


def test_a_folder_is_read_once_and_to_its_end(tmp_path):
    thread = read_ahead(write(tmp_path, "unet/model.safetensors"), {})
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert read_ahead(tmp_path, {}) is None


def test_every_byte_is_read(tmp_path):
    write(tmp_path, "unet/model.safetensors", "vae/model.safetensors")
    assert read(weights(tmp_path)) == 2_000


def test_a_file_that_cannot_be_read_is_left_to_the_loader(tmp_path):
    folder = write(tmp_path, "unet/model.safetensors", "vae/model.safetensors")
    files = weights(folder)
    files[1].unlink()
    assert read(files) == 1_000


def test_it_can_be_switched_off_and_does_without_a_folder(tmp_path):
    folder = write(tmp_path, "unet/model.safetensors")
    assert read_ahead(folder, {"EASEL_READ_AHEAD": "OFF"}) is None
    assert read_ahead(tmp_path / "nothing", {}) is None


def test_a_link_that_leads_nowhere_is_left_to_the_loader(tmp_path):
    folder = write(tmp_path, "vae/model.safetensors")
    (folder / "unet").mkdir()
    (folder / "unet" / "model.safetensors").symlink_to(folder / "unet" / "blob")
    assert names(folder) == ["vae/model.safetensors"]
