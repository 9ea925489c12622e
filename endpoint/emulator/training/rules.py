"""How long training jobs are in their states, and what goes wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass
class Rules:
    """The settings of all training jobs. May be changed between calls.

    Times are seconds on the emulator's clock, unless they say otherwise.

    Attributes:
        start_seconds: from the creation, or an interruption, until there is an instance.
        download_seconds: for the image and the channels; at least the time that copying takes.
        upload_seconds: before the results are there.
        mirror_seconds: real seconds between two uploads of changed checkpoints.
        fails_with: the FailureReason of every job whose container has ended well, None for none.
        missing: the instance types without capacity. A spot job waits for it; another one fails.
        billed_share: BillableTimeInSeconds of a spot job as a share of TrainingTimeInSeconds.
    """

    start_seconds: float = 0.0
    download_seconds: float = 0.0
    upload_seconds: float = 0.0
    mirror_seconds: float = 1.0
    fails_with: str | None = None
    missing: Collection[str] = ()
    billed_share: float = 0.3

    def change(self, values: Mapping[str, Any]) -> None:
        """Change the named attributes; raises TypeError if there is no such attribute."""
        vars(self).update(vars(replace(self, **values)))
