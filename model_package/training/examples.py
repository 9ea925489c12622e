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
_HELD_OUT, _ENOUGH = 0.1, 20  # the share that is held out of so many pictures
_MOST_HELD_OUT = 16  # each costs time whenever the validation loss is computed


@dataclass(frozen=True)
class Example:
    """A picture, encoded.

    Attributes:
        latents: mean and deviation of the latent; a second pair is of the mirrored picture.
        captions: one, or several orders of its parts.
        size: what SDXL is told: original height and width, top and left of the cut, height and
            width.
        caption_dropout: share of the times without a caption.
    """

    latents: list[tuple[Tensor, Tensor]]
    captions: list[str]
    repeats: int
    size: tuple[int, ...]
    caption_dropout: float = 0.0


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
        job: its batch size and seed are used.
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

    def largest_batch(self) -> int:
        """Return the number of a batch that needs as much memory as any."""
        sizes = [
            len(places) * self.examples[places[0]].latents[0][0].numel()
            for places in self._order(0)
        ]
        return sizes.index(max(sizes))

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
            dropped = float(torch.rand(1, generator=random)) < one.caption_dropout
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
            if item.flip:
                sides.append(ImageOps.mirror(fitted.image))
            latents = [base.encode_image(side) for side in sides]
            size = (*fitted.original, *fitted.top_left, bucket[1], bucket[0])
            orders = caption_orders(item, job.seed)
            examples.append(Example(latents, orders, item.repeats, size, item.caption_dropout))
    except PictureUnusable as error:
        raise TrainingFailed(f"{error}; remove or replace it.") from error
    if not all(bool(torch.isfinite(mean).all()) for one in examples for mean, _ in one.latents):
        raise TrainingFailed("The model's VAE encodes a picture to infinite numbers.")
    return examples


def hold_out(items: Sequence[Item], job: Job) -> tuple[list[Item], list[Item]]:
    """Return the pictures to train on, and those that only the validation loss sees.

    Of few pictures, each is worth more in training.
    """
    share = job.held_out
    if share is None:
        share = _HELD_OUT if len(items) >= _ENOUGH else 0.0
    count = min(max(round(share * len(items)), 1), len(items) - 1, _MOST_HELD_OUT) if share else 0
    order = torch.randperm(len(items), generator=generator(job.seed, 0, "held out")).tolist()
    chosen = set(order[:count])
    return (
        [item for place, item in enumerate(items) if place not in chosen],
        [item for place, item in enumerate(items) if place in chosen],
    )


def caption_orders(item: Item, seed: int) -> list[str]:
    """Return the caption, or several random orders of its parts between commas."""
    if not item.shuffle_tags:
        return [item.caption]
    parts = [part.strip() for part in item.caption.split(",")]
    kept, rest = parts[: item.keep_tags], parts[item.keep_tags :]
    random = generator(seed, 0, f"caption/{item.caption}")
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
