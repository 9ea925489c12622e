"""Create the pool: images as latents with their specs, in shards.

    python -m model_package.demo.pool

Captions are not in it; they are written for each use (`data/captions.py`). Run it again with a
larger `SHARDS` to add more; existing shards are kept.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model_package.demo.artwork import load_artwork
from model_package.demo.data.codec import Codec
from model_package.demo.data.compose import Composer, Spec, SpecMaker
from model_package.demo.data.styles import Style
from model_package.demo.work_dir import WORK_DIR, use_threads

# Settings
WORKERS = int(os.environ.get("EASEL_POOL_WORKERS", "1"))  # processes
SHARDS = 16
SHARD_SIZE = 5_000  # 80 000 images in all
CODEC_PICTURES = 3_000

CODEC_FILE = WORK_DIR / "codec.npz"


@dataclass(frozen=True)
class Pool:
    """All shards, in memory."""

    specs: list[Spec]
    latents: Tensor  # (N, 8, 16, 16) float16

    @classmethod
    def load(cls) -> "Pool":
        shards = [np.load(path) for path in sorted(WORK_DIR.glob("pool-*.npz"))]
        if not shards:
            raise FileNotFoundError(f"no pool in {WORK_DIR}: run model_package.demo.pool first")
        rows = np.concatenate([shard["specs"] for shard in shards])
        latents = np.concatenate([shard["latents"] for shard in shards])
        return cls([Spec(*map(int, row)) for row in rows], torch.from_numpy(latents))


def draw_pictures(
    composer: Composer, count: int, seed: int, style: Style | None = None
) -> tuple[list[Spec], Tensor]:
    """Draw random images, (N, 3, 128, 128) in -1..1; the same seed draws the same ones."""
    rng = np.random.default_rng(seed)
    maker = SpecMaker(rng)
    specs = [maker.make() for _ in range(count)]
    drawn = [composer.draw(spec, rng) for spec in specs]
    return specs, to_pixels([style(picture) for picture in drawn] if style else drawn)


def to_pixels(pictures: Sequence[Image.Image]) -> Tensor:
    """Return images as a tensor, (N, 3, 128, 128) in -1..1."""
    drawn = np.stack([np.asarray(picture) for picture in pictures])
    return torch.from_numpy(drawn).movedim(-1, 1).float() / 127.5 - 1


def load_codec(composer: Composer) -> Codec:
    """Return the codec from the working folder, fitted on the first call."""
    if not CODEC_FILE.exists():
        _, pictures = draw_pictures(composer, CODEC_PICTURES, seed=0)
        Codec.fit(pictures).save(CODEC_FILE)
    return Codec.load(CODEC_FILE)


def make_shard(composer: Composer, codec: Codec, number: int) -> None:
    """Draw one shard; its number is its seed."""
    path = WORK_DIR / f"pool-{number:03}.npz"
    if path.exists():
        return
    specs, pictures = draw_pictures(composer, SHARD_SIZE, seed=number)
    latents = codec.encode(pictures).half().numpy()
    np.savez(path, specs=np.array([spec.row() for spec in specs], np.int16), latents=latents)
    print(f"{path.name}: {SHARD_SIZE} pictures", flush=True)


def make_shards(numbers: Sequence[int]) -> None:
    """Draw some shards, in one process."""
    use_threads(1)
    composer = Composer(load_artwork())
    codec = load_codec(composer)
    for number in numbers:
        make_shard(composer, codec, number)


def main() -> None:
    """Create all missing shards."""
    numbers = range(1, SHARDS + 1)
    load_codec(Composer(load_artwork()))  # once, before several processes need it
    if WORKERS == 1:
        make_shards(numbers)
        return
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as processes:
        list(processes.map(make_shards, [numbers[start::WORKERS] for start in range(WORKERS)]))


if __name__ == "__main__":
    main()
