"""What a job would be: everything that can be checked before it costs money, and its price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chalicelib.generation import InvalidField
from chalicelib.settings import Settings
from chalicelib.training.datasets import DataSet, check_captions, with_captions
from chalicelib.training.training_request import TrainingRequest, check_texts, invalid
from chalicelib.training_jobs import price
from chalicelib.training_jobs.job import Job
from chalicelib.training_jobs.kohya import Row
from chalicelib.training_settings import TrainableModel, TrainingSettings


@dataclass(frozen=True)
class Plan:
    """A job that has passed all checks, and its price.

    Attributes:
        model: the name of the model.
        job: with the number of its steps.
        estimate: of time and money.
        dataset: as it was read.
        captions: that have to be written to the data set.
        rows: what became of each key of kohya's file.
        on_demand: whether it pays the full price.
        warning: the category of a text that the prompt filter let through with a warning.
    """

    model: str
    job: Job
    estimate: price.Estimate
    dataset: DataSet
    captions: Mapping[str, str]
    rows: list[Row]
    on_demand: bool
    warning: str | None = None


def plan(
    requested: TrainingRequest,
    dataset: DataSet,
    settings: Settings,
    training: TrainingSettings,
    longest: int,
) -> Plan:
    """Return the plan of a job, without its name having been looked for.

    Args:
        requested: by the caller.
        dataset: of the caller.
        settings: the gateway's; its prompt filter is applied.
        training: of which models, and with which optimizers.
        longest: the most seconds that the job may take.

    Raises:
        InvalidRequest: naming the field that is wrong.
        PromptRefused: if the prompt filter refuses one of the texts.
    """
    models = training.models
    name = model_name(requested, models)
    job, rows = requested.job(dataset.pictures, models[name].defaults, prodigy=training.prodigy)
    captions = with_captions(dataset, requested.captions)
    check_captions(dataset, captions, job)
    warning = check_texts(settings.protection, job, captions)
    estimate = _estimate(models[name], job, len(dataset.pictures), requested.on_demand, longest)
    # Those in files next to the pictures stay there.
    written = {one: text for one, text in captions.items() if one not in dataset.in_files}
    return Plan(
        name,
        job,
        estimate,
        dataset,
        written if requested.captions else {},
        rows,
        requested.on_demand,
        warning,
    )


def model_name(requested: TrainingRequest, models: Mapping[str, TrainableModel]) -> str:
    """Return the name of the model to train; raises InvalidRequest."""
    name = requested.model or next(iter(models))
    if name not in models:
        raise invalid("model", f"must be one of {', '.join(models)}")
    return name


def _estimate(
    model: TrainableModel, job: Job, pictures: int, on_demand: bool, longest: int
) -> price.Estimate:
    try:
        return price.estimate(
            job,
            pictures=pictures,
            seconds_per_step=model.seconds_per_step,
            start_seconds=model.start_seconds,
            resolution=model.resolution,
            usd_per_hour=model.usd_per_hour,
            spot_share=None if on_demand else model.spot_share,
            longest=longest,
        )
    except InvalidField as error:
        raise invalid(error.field, error.reason) from error
