"""One request in, one image out: the loaded pipeline and the rules around a call of it."""

from __future__ import annotations

import gc
import math
import secrets
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from easel import log
from easel.defaults import Defaults
from easel.errors import GenerationFailed, ModelUnusable, ModerationBlocked, OutOfMemory, TooSlow
from easel.loading.pipeline import software
from easel.lora.adapters import Loras, Selection
from easel.model_folder.description import Description
from easel.output.metadata import Provenance
from easel.pipelines.capabilities import Capabilities
from easel.pipelines.ensemble import Ensemble
from easel.pipelines.schedulers import sampler_name, schedule_type
from easel.pipelines.time_limit import TimeLimit
from easel.speed.speed import Batch, Speed
from generation import GenerationRequest, painted_size, painted_step

# Any prompt will do: what a first run sets up depends on the sizes of tensors alone.
_WARM_UP = GenerationRequest(prompt="a warm-up", seed=0)


@dataclass(frozen=True)
class GeneratedImage:
    """The result of one request.

    Attributes:
        pixels: RGB, 8 bits per channel, shaped (height, width, 3).
        provenance: how it was made; its request is complete.
        metadata: whether the file includes the provenance.
    """

    pixels: NDArray[np.uint8]
    provenance: Provenance
    metadata: bool = True


class ImageGenerator:
    """Generates with one pipeline, one image at a time: pipelines keep state while they run.

    Raises:
        ModelUnusable: by the constructor, if the largest area is too small for this pipeline.
    """

    def __init__(
        self,
        pipeline: Any,
        defaults: Defaults,
        *,
        refiner: Any = None,
        loras: Loras | None = None,
        speed: Speed | None = None,
        description: Description | None = None,
        name: str | None = None,
        metadata: bool = True,
        log_prompts: bool = False,
    ) -> None:
        self._pipeline = pipeline
        self.capabilities = Capabilities.of(pipeline)
        self._defaults = defaults.over(self.capabilities.defaults)
        _check_area(self._defaults.largest_area, self.capabilities.multiple)
        self._loras = Loras([], []) if loras is None else loras
        self._speed = speed or Speed()
        self.ensemble = Ensemble(
            pipeline,
            refiner,
            start=defaults.refiner_start,
            guided_share=self._speed.settings.guidance_cutoff,
            kept_bytes=self._speed.settings.kept_prompts,
        )
        self._description = description or Description()
        self._name = name
        self._metadata = metadata
        self._log_prompts = log_prompts
        self._lock = threading.Lock()

    def check(self, request: GenerationRequest) -> GenerationRequest:
        """Return the request completed with the model's defaults, without fields it ignores.

        A missing seed stays missing; `generate` chooses one.

        Raises:
            InvalidField: naming the field whose value the model or its scheduler does not support,
                or `lora` if it has no such adapter.
            AdaptersUnavailable: if a published adapter could not be looked up.
        """
        self._loras.check(request.lora)
        return self.capabilities.fit(request.complete(**self._defaults.to_dict(), format="png"))

    def is_outdated(self, request: GenerationRequest | None, changed: float) -> bool:
        """Whether `update` has to ask for published adapters; it never does without adapters."""
        return self._loras.is_outdated(None if request is None else request.lora, changed)

    def update(self, request: GenerationRequest | None, changed: float = -math.inf) -> None:
        """Look up the published adapters of a request before `check`; can wait for a network.

        Args:
            request: from a client; None for a description, which lists all adapters.
            changed: when the file of one of its adapters was changed last, as far as the client
                knows, in seconds since 1970.

        Raises:
            AdaptersUnavailable: if a change is known that could not be read.
        """
        self._loras.update(None if request is None else request.lora, changed)

    def adapters(self, request: GenerationRequest) -> Selection:
        """Return the adapters of a request, as they are now; raises as `check`."""
        return self._loras.select(request.lora)

    def describe(self) -> dict[str, object]:
        """Return what a request to this model may contain besides a prompt and a seed, for JSON.

        `merged_lora` is an adapter in the weights of a compiled model, as `name:weight`.
        `published` are those of the adapters that can change while the model runs, after `update`.
        """
        largest, published = self._defaults.largest_area, self._loras.published
        return {
            "model": self._name,
            "fields": sorted(self.capabilities.takes),
            "defaults": self._defaults.to_dict(),
            **({"largest_area": largest} if largest else {}),
            "multiple": self.capabilities.multiple,
            "limits": self.capabilities.limits,
            "loras": self._loras.names,
            **({"merged_lora": self._loras.merged} if self._loras.merged else {}),
            **({"published": published} if published else {}),
            "speed": self._speed.report,
            **self._description.to_dict(),
        }

    def warm_up(self) -> None:
        """Generate in a few steps, so that no request waits for the set-up of a first run.

        This covers the default size, for which a GPU chooses its kernels and torch compiles code,
        and then the sizes of EASEL_WARM_UP. A CPU without compiled code prepares nothing for a
        size, so it uses the smallest one instead of the default. If an optimisation fails, it is
        turned off and the warm-up starts again.

        Raises:
            InvalidField: if the model does not support one of the sizes.
            GenerationFailed: if the model cannot generate at all.
            OutOfMemory: if one of the sizes does not fit.
        """
        while True:
            try:
                return self._warm_up()
            except Exception as error:
                # One at a time, so that the optimisations that work stay on.
                if not self._speed.give_up(error):
                    raise
                log.failure("speed_given_up", error)

    def _warm_up(self) -> None:
        self.check(_WARM_UP)
        for width, height in [self._first_size(), *self._speed.settings.warm_up]:
            request = self.painted(self.quickest(width, height))
            with self._lock:
                self._run(request, self.ensemble, self.adapters(request))

    def quickest(self, width: int | None, height: int | None) -> GenerationRequest:
        """Return a request that uses all parts of the model, in as few steps as that takes.

        Args:
            width: in pixels; None for the default.
            height: likewise.
        """
        request = self.check(replace(_WARM_UP, width=width, height=height))
        if request.steps is None:
            return request
        fewest = self.ensemble.fewest_steps(request.steps)
        return replace(request, steps=max(fewest, self.capabilities.fewest_steps))

    def _first_size(self) -> tuple[int | None, int | None]:
        """Return the first size of the warm-up; None for the default width or height."""
        device = getattr(self._pipeline, "device", None)
        if device is None or device.type != "cpu" or self._speed.compiled:
            return None, None
        return self.capabilities.smallest

    def generate(self, request: GenerationRequest, deadline: float = math.inf) -> GeneratedImage:
        """Return the image for a request, after `update`; the same request gives the same pixels.

        A missing seed is chosen at random; the image's provenance holds it. An image above the
        model's largest area is generated at a smaller size and scaled up.

        Args:
            request: from a client.
            deadline: when the client leaves, by `time.monotonic`: the run stops at its next step.

        Raises:
            InvalidField: as `check`.
            ModerationBlocked: if the model's safety checker blocks the image.
            OutOfMemory: if the image does not fit the GPU.
            GenerationFailed: if the model's numbers overflowed.
            TooSlow: if the deadline passed.
        """
        # Checked before the lock: an invalid request need not wait for a running generation.
        # 32 bits, as the seeds of other tools, so that a seed can be carried between them.
        request, limit = self.complete(request), TimeLimit(deadline)
        adapters = self.adapters(request)
        started = time.perf_counter()  # so that the log includes the wait for the lock
        with self._lock, self._speed.generating():
            return self.paint(request, limit, self.ensemble, adapters, started=started)

    def complete(self, request: GenerationRequest) -> GenerationRequest:
        """Return the request as `check` does, with a seed."""
        return self.check(request.complete(seed=secrets.randbelow(2**32)))

    def paint(
        self,
        request: GenerationRequest,
        limit: TimeLimit,
        ensemble: Ensemble,
        adapters: Selection,
        *,
        started: float | None,
        rows: int = 1,
    ) -> GeneratedImage:
        """Return the image for a complete request; whoever calls it keeps others away.

        Args:
            request: from `complete`.
            limit: stops the run between two steps.
            ensemble: the generator's own, or a twin of it.
            adapters: of the request; those that it began with, should a file be replaced.
            started: when the request arrived, by `time.perf_counter`; None if it is not logged.
            rows: of the batches in which it is painted.

        Raises:
            Exception: as `generate`.
        """
        painted = self.painted(request)
        try:
            limit.check()  # it may have passed while others were generated
            pixels, blocked = self._run(painted, ensemble, adapters, limit)
        except TooSlow:
            if started is not None:
                log.event("picture_abandoned", seconds=round(time.perf_counter() - started, 3))
            raise
        if blocked:
            raise ModerationBlocked("The model's safety checker blocked this image.")
        if painted is not request:
            pixels = _scaled(pixels, request)
        # Models of one size have no width and height in their defaults: the image says them.
        height, width, _ = pixels.shape
        request = replace(request, width=width, height=height)
        if started is not None:
            self._log(request, time.perf_counter() - started)
        return GeneratedImage(pixels, self._provenance(request, rows), self._metadata)

    @contextmanager
    def computing(self, adapters: Selection, *, compiling: bool) -> Iterator[None]:
        """A context for calls of the model's parts outside `paint`, with these adapters applied."""
        with torch.no_grad(), ExitStack() as stack:
            if not compiling:
                stack.enter_context(self._speed.generating())
            stack.enter_context(self._loras.applied(adapters))
            yield

    @property
    def denoiser(self) -> Any:
        """The UNet or transformer; None for a pipeline without one."""
        parts = (getattr(self._pipeline, name, None) for name in ("unet", "transformer"))
        return next((part for part in parts if isinstance(part, torch.nn.Module)), None)

    @property
    def batch(self) -> Batch:
        """The owner's choice of how requests are batched."""
        return self._speed.settings.batch

    def report_batch(self, description: str) -> None:
        """Add how requests are batched to the model's description."""
        self._speed.report["batch"] = description

    def painted(self, request: GenerationRequest) -> GenerationRequest:
        """Return the request at the size at which the model paints it."""
        if request.width is None or request.height is None:
            return request  # the model has one size
        asked = request.width, request.height
        width, height = painted_size(*asked, self._defaults.largest_area)
        return request if (width, height) == asked else replace(request, width=width, height=height)

    def _run(
        self,
        request: GenerationRequest,
        ensemble: Ensemble,
        adapters: Selection,
        limit: TimeLimit | None = None,
    ) -> tuple[NDArray[np.uint8], bool]:
        """Return the pixels, and whether the safety checker blocks them."""
        arguments = self.capabilities.arguments(request)
        try:
            with self._loras.applied(adapters):
                seed, state = request.seed or 0, adapters.state
                result = ensemble.run(arguments, seed=seed, state=state, limit=limit)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            free_memory_of(error)
            raise OutOfMemory(_suggest_smaller_size(request)) from error
        # Only some pipelines have a safety checker, and then one flag for each image.
        flags = getattr(result, "nsfw_content_detected", None) or [False]
        return to_pixels(result.images[0]), bool(flags[0])

    def _provenance(self, request: GenerationRequest, rows: int) -> Provenance:
        scheduler = getattr(self._pipeline, "scheduler", None)
        config = dict(getattr(scheduler, "config", {}))
        painted = self.painted(request)
        return Provenance(
            request=request,
            painted=None if painted is request else f"{painted.width}x{painted.height}",
            sampler=sampler_name(type(scheduler).__name__, config),
            schedule=schedule_type(config),
            model=request.model or self._name,
            software=software(),
            refiner_start=self.ensemble.handover(request.steps),
            batch=rows if rows > 1 else None,
        )

    def _log(self, request: GenerationRequest, seconds: float) -> None:
        fields = request.to_dict()
        # Prompts can be private, so the owner must turn this on.
        if not self._log_prompts:
            fields = {name: fields[name] for name in fields if not name.endswith("prompt")}
        fields["model"] = request.model or self._name
        log.event("picture", seconds=round(seconds, 3), **fields)


def to_pixels(image: Any) -> NDArray[np.uint8]:
    """Return the 8-bit pixels of an image whose values are in 0 to 1.

    A tensor, shaped (3, height, width), is converted on its own device: one byte per value is a
    quarter of the copy that 32-bit floats would need, and that copy is the only wait for the GPU.

    Raises:
        GenerationFailed: if values overflowed, which would otherwise return a black image.
    """
    if isinstance(image, torch.Tensor):
        # As diffusers rounds: to 32 bits first, then times 255.
        scaled = (image.detach().float() * 255).round()
        all_finite = torch.isfinite(scaled).all()
        # nan and infinity become arbitrary bytes, so one more byte says whether there were any.
        values = scaled.nan_to_num().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).flatten()
        copied = torch.cat([values, all_finite.to(torch.uint8).reshape(1)]).cpu().numpy()
        height, width = image.shape[-2:]
        pixels, finite = copied[:-1].reshape(height, width, -1), bool(copied[-1])
    else:
        finite = bool(np.isfinite(image).all())
        with np.errstate(invalid="ignore"):
            pixels = (image * 255).round().astype(np.uint8)
    if not finite:
        raise GenerationFailed("The model's numbers overflowed. Set EASEL_DTYPE to bf16 or fp32.")
    return pixels


def _scaled(pixels: NDArray[np.uint8], request: GenerationRequest) -> NDArray[np.uint8]:
    """Return the pixels in the request's size, by Lanczos: smooth, and without new detail."""
    size = (request.width or 0, request.height or 0)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _check_area(largest: int | None, multiple: int) -> None:
    if largest is not None and painted_step(largest) % multiple:
        raise ModelUnusable(
            f"largest_area: must be 262144 or more for this model, whose sides are multiples of"
            f" {multiple}"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a failure of the model means that there was too little memory."""
    # PyTorch's CPU allocator, cuBLAS and cuDNN raise a plain RuntimeError.
    texts = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    own_class = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return own_class or any(text in str(error).lower() for text in texts)


def free_memory_of(error: BaseException) -> None:
    """Free the tensors of the failed call: the frames in its traceback keep them alive."""
    log.failure("out_of_memory", error)
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if torch.cuda.is_available():
        # Cached blocks have the sizes of the failed request; a smaller one needs others.
        torch.cuda.empty_cache()


def _suggest_smaller_size(request: GenerationRequest) -> str:
    if request.width is None or request.height is None:
        return "The model ran out of memory; try again later."
    # Half of each side, within the rules for a request: a multiple of 8, at least 64.
    width, height = (max(side // 16 * 8, 64) for side in (request.width, request.height))
    return (
        f"The model ran out of memory at {request.width} x {request.height} pixels; "
        f"request a smaller size, such as {width} x {height}."
    )
