"""Write the trained model as a folder that `StableDiffusionPipeline.from_pretrained` loads.

    python -m model_package.demo.export

Half precision and standard file names, so that it loads without a `variant`. A trained refiner and
trained LoRAs are written to `refiner/` and `loras/`, where the model package finds them; plain
diffusers ignores both folders.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from model_package.demo.data.description import description
from model_package.demo.pipeline import GUIDANCE_SCALE, STEPS, assemble
from model_package.demo.pool import CODEC_FILE
from model_package.demo.tokens import FOLDER as TOKENIZER
from model_package.demo.tokens import load_tokenizer
from model_package.demo.train_decoder import load_autoencoder
from model_package.demo.train_lora import FOLDER as LORAS
from model_package.demo.train_refiner import load_refiner
from model_package.demo.train_unet import load_conditioned_unet
from model_package.demo.work_dir import PICTURE_SIZE, WEIGHTS

PREFIX = "text_model."
CODEC_NAME = "codec.npz"  # next to the components; loaders ignore it, `restart.py` needs it
LIMIT = 25_000_000  # bytes of the model without refiner and LoRAs, because git stores them


def export(pipeline: StableDiffusionPipeline, tokenizer: Path, folder: Path) -> int:
    """Replace the folder's files; return their size in bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):
        # transformers 5 writes only its own tokenizer.json; other loaders need these.
        shutil.copy(tokenizer / name, folder / "tokenizer" / name)
    use_published_names(folder / "text_encoder" / "model.safetensors")
    # transformers 5 loads in the precision of the configuration and diffusers in single precision;
    # tensors of both are multiplied, so the configuration must say single precision, too.
    amend(folder / "text_encoder" / "config.json", dtype="float32")
    defaults = {
        "steps": STEPS,
        "guidance_scale": GUIDANCE_SCALE,
        "width": PICTURE_SIZE,
        "height": PICTURE_SIZE,
        # The refiner is off by default: the benchmark's judge sees no gain in it.
        "refiner_start": 1,
        # It has seen no other size: in a larger picture, things are drawn twice or as frames.
        "largest_area": PICTURE_SIZE**2,
    }
    write_json(folder / "easel.json", {**defaults, **description()})
    return size_of(folder)


def export_refiner(unet: UNet2DConditionModel, folder: Path) -> int:
    """Write a second UNet for the last steps into a model's folder; return its size in bytes.

    It uses the model's other components, so the folder needs only the UNet and the model's index.
    """
    refiner = folder / "refiner"
    unet.to(dtype=torch.float16).save_pretrained(refiner / "unet", safe_serialization=True)
    shutil.copy(folder / "model_index.json", refiner)
    return size_of(refiner)


def export_loras(trained: Path, folder: Path) -> int:
    """Copy trained LoRAs into a model's folder; return their size in bytes."""
    (folder / "loras").mkdir(exist_ok=True)
    for path in sorted(trained.glob("*.safetensors")):
        shutil.copy(path, folder / "loras")
    return size_of(folder / "loras")


def size_of(folder: Path) -> int:
    """Return the size of all files in a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def use_published_names(path: Path) -> None:
    """Give a text encoder's weights the names that all versions of transformers read.

    transformers 5 saves without the prefix and reads both; 4 reads only names with it and fills
    missing weights with random numbers.
    """
    weights = load_file(path)
    renamed = {f"{PREFIX}{name.removeprefix(PREFIX)}": weight for name, weight in weights.items()}
    save_file(renamed, path, metadata={"format": "pt"})


def amend(path: Path, **settings: Any) -> None:
    """Update a JSON file."""
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **settings})


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write indented JSON; a vocabulary's lists take a line each."""
    content = dict(content)
    vocabulary = content.pop("vocabulary", None)
    text = json.dumps(content, indent=2)
    if vocabulary:
        lines = ",\n".join(f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in vocabulary.items())
        text = f'{text[:-2]},\n  "vocabulary": {{\n{lines}\n  }}\n}}'
    path.write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    """Export the model in the working folder to the committed folder."""
    model = load_conditioned_unet()
    pipeline = assemble(model.unet, model.encoder, load_tokenizer(), load_autoencoder())
    size = export(pipeline, TOKENIZER, WEIGHTS)
    shutil.copy(CODEC_FILE, WEIGHTS / CODEC_NAME)
    print(f"{WEIGHTS}: {size / 1e6:.1f} MB")
    refiner = load_refiner()
    if refiner is not None:
        print(f"refiner: {export_refiner(refiner, WEIGHTS) / 1e6:.1f} MB")
    if LORAS.exists():
        print(f"LoRAs: {export_loras(LORAS, WEIGHTS) / 1e6:.1f} MB")
    if size > LIMIT:
        raise SystemExit(f"the model exceeds the limit of {LIMIT / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
