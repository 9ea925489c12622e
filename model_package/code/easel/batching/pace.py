"""How long a picture takes, learned from those that were generated."""

from __future__ import annotations

from dataclasses import dataclass

from generation import GenerationRequest

_NEW = 0.3  # the weight of the latest picture: a machine's speed changes slowly
_UNKNOWN = 10.0  # seconds, before anything was generated


@dataclass
class _Known:
    step: float
    rest: float


class Pace:
    """Seconds of a denoising step, and of everything else, by size and guidance."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bool], _Known] = {}

    def learn(self, request: GenerationRequest, *, step: float, rest: float) -> None:
        """Take in what a picture that was generated alone took, in seconds."""
        known = self._known.setdefault(_kind(request), _Known(step, rest))
        known.step += _NEW * (step - known.step)
        known.rest += _NEW * (rest - known.rest)

    def seconds(self, request: GenerationRequest) -> float:
        """Return the estimate for a picture that is generated alone.

        For a size that was not generated yet: that of the nearest one, in proportion to the area.
        """
        area, is_guided = _kind(request)
        if not self._known:
            return _UNKNOWN
        nearest = min(self._known, key=lambda kind: (kind[1] != is_guided, abs(kind[0] - area)))
        known, share = self._known[nearest], area / nearest[0]
        guidance = {(True, False): 0.5, (False, True): 2.0}.get((nearest[1], is_guided), 1.0)
        return share * (known.rest + (request.steps or 1) * known.step * guidance)


def guided(request: GenerationRequest) -> bool:
    """Whether the request is generated with guidance, as far as it says."""
    return request.guidance_scale is not None and request.guidance_scale > 1


def _kind(request: GenerationRequest) -> tuple[int, bool]:
    # Models of one size have neither.
    return max((request.width or 0) * (request.height or 0), 1), guided(request)
