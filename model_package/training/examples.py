"""Pictures as the loop needs them: encoded once, in batches whose order follows from the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from PIL import Image, ImageOps
from torch import Tensor

from .base_model import BaseModel
from .buckets import choose_bucket, fit
from .dataset import Item
from .failures import TrainingFailed
from .job import Job
from .pictures import PictureUnusable, decode_all
from .randomness import generator

_ORDERS = 8  # orders of a caption's parts; each is encoded once


@dataclass(frozen=True)
class Example:
    """A picture, encoded.

    Attributes:
        latents: mean and deviation of the latent; a second pair is of the mirrored picture.
        captions: one, or several orders of its parts.
        size: what SDXL is told: original height and width, top and left of the cut, height and
            width.
    """

    latents: list[tuple[Tensor, Tensor]]
    captions: list[str]
    repeats: int
    size: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """A batch for the UNet.

    Attributes:
        latents: (batch, channels, height, width), scaled.
        captions: one for each.
        sizes: (batch, 6).
    """

    latents: Tensor
    captions: list[str]
    sizes: Tensor


class Examples:
    """The pictures of one folder.

    Args:
        examples: the pictures.
        job: its batch size, seed and caption dropout are used.
        purpose: a word that makes these random numbers differ from those of other folders.
    """

    def __init__(self, examples: Sequence[Example], job: Job, purpose: str) -> None:
        self.examples = list(examples)
        self._job = job
        self._purpose = purpose
        self._order = lru_cache(maxsize=2)(self._new_order)

    def captions(self) -> set[str]:
        """Return all texts that a batch can have."""
        return {caption for one in self.examples for caption in one.captions}

    def batch(self, number: int) -> Batch:
        """Return the batch of a number, counted from the start of training."""
        epoch, place = divmod(number, len(self._order(0)))
        return self._draw(self._order(epoch)[place], number)

    def _new_order(self, epoch: int) -> list[list[int]]:
        """Return an epoch's batches: of pictures of one bucket, in random order."""
        random = generator(self._job.seed, epoch, f"{self._purpose}/order")
        places = [place for place, one in enumerate(self.examples) for _ in range(one.repeats)]
        buckets: dict[tuple[int, ...], list[int]] = {}
        for index in torch.randperm(len(places), generator=random).tolist():
            place = places[index]
            buckets.setdefault(tuple(self.examples[place].latents[0][0].shape), []).append(place)
        size = self._job.batch_size
        batches = [
            bucket[start : start + size]
            for _, bucket in sorted(buckets.items())
            for start in range(0, len(bucket), size)
        ]
        return [batches[one] for one in torch.randperm(len(batches), generator=random).tolist()]

    def _draw(self, places: list[int], number: int) -> Batch:
        random = generator(self._job.seed, number, f"{self._purpose}/batch")
        latents, captions = [], []
        for place in places:
            one = self.examples[place]
            mirrored, order = (int(torch.randint(len(choices), (1,), generator=random))
                               for choices in (one.latents, one.captions))  # fmt: skip
            mean, deviation = one.latents[mirrored]
            latents.append(mean + deviation * torch.randn(mean.shape, generator=random))
            dropped = float(torch.rand(1, generator=random)) < self._job.caption_dropout
            captions.append("" if dropped else one.captions[order])
        sizes = torch.tensor([self.examples[place].size for place in places])
        return Batch(torch.stack(latents), captions, sizes)


def encode(items: Sequence[Item], base: BaseModel, job: Job) -> list[Example]:
    """Decode, cut and encode pictures.

    Raises:
        TrainingFailed: naming a picture that cannot be decoded.
    """
    resolution = job.resolution or base.resolution
    examples = []
    pictures = decode_all(item.path for item in items)
    try:
        for item, picture in zip(items, pictures, strict=True):
            if picture.note:
                print(f"{item.path.name}: {picture.note}", flush=True)
            bucket = choose_bucket(
                picture.image.size, resolution, shapes=job.buckets, upscale=job.upscale
            )
            fitted = fit(picture.image, bucket)
            sides: list[Image.Image] = [fitted.image]
            if job.flip:
                sides.append(ImageOps.mirror(fitted.image))
            latents = [base.encode_image(side) for side in sides]
            size = (*fitted.original, *fitted.top_left, bucket[1], bucket[0])
            orders = caption_orders(item.caption, job)
            examples.append(Example(latents, orders, item.repeats, size))
    except PictureUnusable as error:
        raise TrainingFailed(f"{error}; remove or replace it.") from error
    if not all(bool(torch.isfinite(mean).all()) for one in examples for mean, _ in one.latents):
        raise TrainingFailed("The model's VAE encodes a picture to infinite numbers.")
    return examples


def caption_orders(caption: str, job: Job) -> list[str]:
    """Return the caption, or several random orders of its parts between commas."""
    if not job.shuffle_tags:
        return [caption]
    parts = [part.strip() for part in caption.split(",")]
    kept, rest = parts[: job.keep_tags], parts[job.keep_tags :]
    random = generator(job.seed, 0, f"caption/{caption}")
    orders = [torch.randperm(len(rest), generator=random).tolist() for _ in range(_ORDERS)]
    return list(dict.fromkeys(", ".join([*kept, *(rest[one] for one in order)])
                              for order in orders))  # fmt: skip


def digest(items: Sequence[Item]) -> str:
    """Return a hash of pictures, captions and repeats."""
    total = hashlib.sha256()
    for item in items:
        content = hashlib.sha256(item.path.read_bytes()).hexdigest()
        total.update(f"{content} {item.repeats} {item.caption}\n".encode())
    return total.hexdigest()
