"""Write the trained model as a folder that `StableDiffusionPipeline.from_pretrained` loads.

    python -m model_package.demo.export

Half precision, standard file names: no `variant` is needed to load it. What of a refiner and LoRAs
has been trained lies in `refiner/` and `loras/`, where the model package looks for them and plain
diffusers passes over them.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

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
CODEC_NAME = "codec.npz"  # beside the parts; loaders pass over it, `restart.py` needs it
LIMIT = 25_000_000  # bytes of the model without refiner and LoRAs: it lies in a git repository


def export(pipeline: StableDiffusionPipeline, tokenizer: Path, folder: Path) -> int:
    """Write all files anew; return their size in bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):
        # transformers 5 writes its own tokenizer.json alone; other loaders look for these.
        shutil.copy(tokenizer / name, folder / "tokenizer" / name)
    name_as_before(folder / "text_encoder" / "model.safetensors")
    # transformers 5 loads in the precision that the settings name, and diffusers its parts in
    # single precision: without a `dtype` the two would not fit together.
    amend(folder / "text_encoder" / "config.json", dtype="float32")
    defaults = {
        "steps": STEPS,
        "guidance_scale": GUIDANCE_SCALE,
        "width": PICTURE_SIZE,
        "height": PICTURE_SIZE,
        # The refiner lies there to be tried: the judge sees no gain in what it does.
        "refiner_start": 1,
    }
    write_json(folder / "easel.json", defaults)
    return size_of(folder)


def export_refiner(unet: UNet2DConditionModel, folder: Path) -> int:
    """Write a second UNet for the last steps into a model's folder; return its size in bytes.

    All else is the model's own, so the refiner is that and a note that it is the same kind.
    """
    refiner = folder / "refiner"
    unet.to(dtype=torch.float16).save_pretrained(refiner / "unet", safe_serialization=True)
    shutil.copy(folder / "model_index.json", refiner)
    return size_of(refiner)


def export_loras(found: Path, folder: Path) -> int:
    """Copy trained LoRAs into a model's folder; return their size in bytes."""
    (folder / "loras").mkdir(exist_ok=True)
    for path in sorted(found.glob("*.safetensors")):
        shutil.copy(path, folder / "loras")
    return size_of(folder / "loras")


def size_of(folder: Path) -> int:
    """Bytes in all of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def name_as_before(path: Path) -> None:
    """Give a text encoder's weights the names that all versions of transformers know.

    transformers 5 drops the prefix when it saves and reads both; 4 reads only names with it, and
    where it finds none it goes on with random weights.
    """
    weights = load_file(path)
    renamed = {f"{PREFIX}{name.removeprefix(PREFIX)}": held for name, held in weights.items()}
    save_file(renamed, path, metadata={"format": "pt"})


def amend(path: Path, **settings: Any) -> None:
    """Change some settings in a JSON file."""
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **settings})


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write settings as people read them."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Export this working folder's model to the folder that is committed."""
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
        raise SystemExit(f"more than the {LIMIT / 1e6:.0f} MB that were agreed on")


if __name__ == "__main__":
    main()
