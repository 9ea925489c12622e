"""What a caller asks to train: the body of `POST /api/train`, read and checked without any call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chalicelib.access_settings import Protection
from chalicelib.errors import InvalidRequest, PromptRefused
from chalicelib.generation import InvalidField, Text, Whole
from chalicelib.images.prompt_filter import prompt_filter
from chalicelib.training_jobs import kohya
from chalicelib.training_jobs.dataset import epoch, with_trigger
from chalicelib.training_jobs.job import Job
from chalicelib.training_jobs.kohya import Row
from chalicelib.training_jobs.places import is_id
from chalicelib.training_jobs.request import read_job

MOST_PICTURES = 200
_LARGEST_KOHYA = 200_000  # bytes
CAPTION = Text("A caption.", 1, 1_000)
_COUNT = Whole("How many pictures there will be.", 1, MOST_PICTURES)
_OWN = ("dataset", "pictures", "model", "captions", "kohya", "on_demand", "dry_run")


@dataclass(frozen=True)
class TrainingRequest:
    """What to train.

    Attributes:
        dataset: the id of the data set; empty if only the number of pictures is known.
        model: the model's name; None for the first that can be trained.
        fields: of the job, which have priority over those of kohya's file.
        captions: texts by the name of a picture, with or without its ending.
        kohya: the text of a configuration file of sd-scripts, empty if there is none.
        on_demand: whether to pay the full price and not to wait for spot instances.
        dry_run: whether only to report the price.
        pictures: how many there will be, for the price of a data set that is not uploaded yet;
            their names are 0001, 0002 and so on, as `DataSets.create` names them.
    """

    dataset: str
    model: str | None
    fields: Mapping[str, Any]
    captions: Mapping[str, str] = field(default_factory=dict)
    kohya: str = ""
    on_demand: bool = False
    dry_run: bool = False
    pictures: int | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainingRequest:
        """Read decoded JSON; null means unset.

        Raises:
            InvalidRequest: naming the first field that is wrong.
        """
        data = {name: value for name, value in data.items() if value is not None}
        captions = data.get("captions", {})
        own = set(_OWN) if isinstance(captions, Mapping) else set(_OWN) - {"captions"}
        dry_run = read_flag(data, "dry_run")
        pictures = _pictures(data, dry_run)
        requested = cls(
            dataset=_dataset(data.get("dataset")) if pictures is None else "",
            model=_text(data, "model"),
            fields={name: value for name, value in data.items() if name not in own},
            captions=_captions(captions) if "captions" in own else {},
            kohya=_text(data, "kohya") or "",
            on_demand=read_flag(data, "on_demand"),
            dry_run=dry_run,
            pictures=pictures,
        )
        if len(requested.kohya.encode()) > _LARGEST_KOHYA:
            raise invalid("kohya", f"must be at most {_LARGEST_KOHYA:,} bytes")
        # What is wrong with a field is said before anything is looked up.
        requested.job(["0001.png"])
        return requested

    def job(
        self,
        pictures: Sequence[str],
        defaults: Mapping[str, Any] | None = None,
        *,
        prodigy: bool = True,
    ) -> tuple[Job, list[Row]]:
        """Return the job, and what became of each key of kohya's file.

        Args:
            pictures: their names; epochs become steps with their number.
            defaults: fields that suit the model; kohya's file has the defaults of its scripts.
            prodigy: whether the trainer has the optimizer Prodigy.

        Raises:
            InvalidRequest: naming the first field that is wrong.
        """
        try:
            fields, rows = self._translated(pictures, prodigy)
            if not self.kohya:
                fields = {**(defaults or {})}
            job = read_job({**fields, **self.fields})
        except InvalidField as error:
            raise invalid(error.field, error.reason) from error
        if job.optimizer == "prodigy" and not prodigy:
            raise invalid("optimizer", "prodigy needs the package prodigyopt here; use adamw")
        return job, rows

    def _translated(
        self, pictures: Sequence[str], prodigy: bool
    ) -> tuple[dict[str, Any], list[Row]]:
        if not self.kohya:
            return {}, []
        config = kohya.parse(self.kohya, "kohya")
        # As the trainer does: an epoch has each picture as often as the file says.
        job = read_job({**kohya.translate(config, prodigy=prodigy)[0], **self.fields})
        return kohya.translate(config, epoch(pictures, job), prodigy=prodigy)


def check_texts(protection: Protection, job: Job, captions: Mapping[str, str]) -> str | None:
    """Apply the prompt filter to everything that the model learns or paints.

    Returns:
        The category of a text that the filter lets through with a warning, if there is one.

    Raises:
        PromptRefused: naming the field, if the filter refuses a word in it.
    """
    if protection.filter_mode == "off":
        return None
    words = prompt_filter(protection.filter_words)
    warning = None
    for name, text in _texts(job, captions):
        match = words.check(text)
        if match is not None and protection.filter_mode == "refuse":
            message = f"{name}: contains {match.reason}, which this gateway refuses"
            raise PromptRefused(message, field=name)
        warning = warning or (match.category if match else None)
    return warning


def _texts(job: Job, captions: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield "trigger", job.trigger
    yield "instance_prompt", job.instance_prompt
    yield "class_prompt", job.class_prompt
    for one in job.sets:
        yield "sets", one.trigger or ""
        yield "sets", one.instance_prompt or ""
    for text in job.sample_prompts:
        yield "sample_prompts", text
    for text in captions.values():
        yield "captions", with_trigger(text, job.trigger)  # as the model reads it


def invalid(name: str, reason: str) -> InvalidRequest:
    """Return the error of a field."""
    return InvalidRequest(f"{name}: {reason}", field=name)


def read_flag(data: Mapping[str, Any], name: str) -> bool:
    """Return true or false of a field that may be missing; raises InvalidRequest."""
    value = data.get(name, False)
    if not isinstance(value, bool):
        raise invalid(name, "must be true or false")
    return value


def _pictures(data: Mapping[str, Any], dry_run: bool) -> int | None:
    if "pictures" not in data:
        return None
    if not dry_run or "dataset" in data:
        raise invalid("pictures", "is for dry_run, in the place of dataset")
    try:
        return _COUNT.clean(data["pictures"])
    except ValueError as error:
        raise invalid("pictures", str(error)) from error


def _dataset(value: object) -> str:
    if not isinstance(value, str) or not is_id(value):
        raise invalid("dataset", "must be the id of a data set, from POST /api/datasets")
    return value


def _text(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    if not isinstance(value, str | None):
        raise invalid(name, "must be text")
    return value


def _captions(value: Mapping[Any, Any]) -> dict[str, str]:
    if len(value) > MOST_PICTURES:
        raise invalid("captions", f"must have at most {MOST_PICTURES} of them")
    try:
        return {str(name): CAPTION.clean(text) for name, text in value.items()}
    except ValueError as error:
        raise invalid("captions", f"each of them {error}") from error
