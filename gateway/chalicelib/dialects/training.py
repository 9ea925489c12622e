"""Fine-tuning over HTTP: data sets, training jobs and adapters, and the names of the SDXL guide."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from chalicelib.access_settings import Protection
from chalicelib.auth.authenticate import check_same_origin
from chalicelib.aws.deadline import Deadline, sharing
from chalicelib.errors import (
    GatewayError,
    InvalidRequest,
    TrainingNeedsKey,
    TrainingRunning,
    TrainingUnavailable,
    TrainingUnknown,
)
from chalicelib.image_files import LARGEST_PICTURE
from chalicelib.settings import Settings
from chalicelib.training import datasets, events
from chalicelib.training.jobs import Training
from chalicelib.training.planning import Plan
from chalicelib.training.service import TrainingService
from chalicelib.training.training_request import MOST_PICTURES, TrainingRequest, read_flag
from chalicelib.training_jobs import job as jobs
from chalicelib.training_jobs import places, price
from chalicelib.training_jobs.progress import Progress, loss_svg, read, thinned
from chalicelib.web.body import read_dry_run, read_json_object
from chalicelib.web.pages import teach_page
from chalicelib.web.principal import AuthMethod
from chalicelib.web.request import Request, inference_path
from chalicelib.web.response import Response, has_tag, home_response, json_response, see_other

_LARGEST_BODY = 1_000_000  # bytes
_MOST_POINTS = 500
_LONGEST_STEP = 9  # digits
# A sheet is written once, and a resumed job writes the same again.
_SHEET_CACHING = "public, max-age=86400"
_LINK_SECONDS = 3_600
# Unlike a picture's URL, these are not for other sites' pages.
_OWN_SITE = {"Cross-Origin-Resource-Policy": "same-origin"}
_GUIDE_NAMES = ("collection_s3_path", "prompt", "output_dir_name")


class TrainingApi:
    """The routes of fine-tuning.

    Args:
        settings: the gateway's.
        service: the training service; None for one on AWS.

    Raises:
        TrainingUnavailable: if the gateway was deployed without fine-tuning.
    """

    def __init__(self, settings: Settings, service: TrainingService | None = None) -> None:
        if settings.training is None:
            raise TrainingUnavailable(
                "This gateway does not train. Its operator enables it with `deploy --training`."
            )
        self._settings = settings
        self._service = service or TrainingService(settings, settings.training)

    def page(self, request: Request) -> Response:
        """Handle `GET /api/teach`: show the page; raises TrainingNeedsKey."""
        self._owner_of(request)
        page = teach_page(request.root, self._service.store.upload_origin())
        return home_response(page, request)

    def create_dataset(self, request: Request) -> Response:
        """Handle `POST /api/datasets`: return forms with which the files are uploaded to S3.

        Raises:
            InvalidRequest: naming the file that is wrong.
        """
        with self._working(request) as owner:
            body = _body(request)
            for name in sorted(set(body) - {"files"}):
                raise InvalidRequest(f"{name[:64]}: is not a field", field=name[:64])
            identifier, uploads = self._service.datasets.create(owner, body.get("files"))
            request.log.add(dataset=identifier)
            described = {
                "dataset": identifier,
                "expires": _moment(time.time() + places.DATASET_DAYS * 86_400),
                "uploads": [
                    {"name": one.name, "url": one.form.url, "fields": one.form.fields}
                    for one in uploads
                ],
            }
            return json_response(described, 201)

    def delete_dataset(self, request: Request, identifier: str) -> Response:
        """Handle `DELETE /api/datasets/<id>`; raises TrainingUnknown and WrongState."""
        with self._working(request) as owner:
            self._service.delete_dataset(owner, identifier)
            return Response(204, b"")

    def start(self, request: Request) -> Response:
        """Handle `POST /api/train`: start a job, or report its price.

        Raises:
            GatewayError: if the request is not valid, or the job cannot be started.
        """
        if any(name in request.query for name in _GUIDE_NAMES):
            return self._start_as_guide(request, request.parameters())
        body = _body(request)
        if body.get("action") == "train" and isinstance(body.get("data"), dict):
            return self._start_as_guide(request, body["data"])
        if body.get("action") == "train-status":
            return self.status(request)
        with self._working(request) as owner:
            if read_dry_run(request):
                body = {**body, "dry_run": True}
            requested = TrainingRequest.from_dict(body)
            plan = self._service.plan(owner, requested)
            warning = {"X-Prompt-Warning": plan.warning} if plan.warning else {}
            if requested.dry_run:
                return json_response(_price(plan), headers=warning)
            training = self._started(request, owner, requested, plan)
            described = {**_price(plan), **_short(request, training)}
            headers = {**_location(request, training.record.id), **warning}
            return json_response(described, 202, headers)

    def every(self, request: Request) -> Response:
        """Handle `GET /api/train`: the caller's jobs, the newest first."""
        with self._working(request) as owner:
            described = [_short(request, training) for training in self._service.all_of(owner)]
            return json_response({"jobs": described})

    def show(self, request: Request, identifier: str) -> Response:
        """Handle `GET /api/train/<id>`; raises TrainingUnknown."""
        with self._working(request) as owner:
            training = self._service.find(owner, identifier)
            return json_response(self._described(request, training))

    def curve(self, request: Request, identifier: str) -> Response:
        """Handle `GET /api/train/<id>/loss.svg`; raises TrainingUnknown."""
        with self._working(request) as owner:
            record = self._service.find(owner, identifier).record
            progress = read(self._service.progress(record))
            body = loss_svg(progress, steps=record.steps, title=record.name).encode()
            tag = hashlib.sha256(body).hexdigest()[:32]
            headers = {
                "Content-Type": "image/svg+xml; charset=utf-8",
                "Cache-Control": "private, no-cache",
                "ETag": f'"{tag}"',
                **_OWN_SITE,
            }
            return Response(*((304, b"") if has_tag(request, tag) else (200, body)), headers)

    def sample(self, request: Request, identifier: str, step: str) -> Response:
        """Handle `GET /api/train/<id>/samples/<step>`; raises TrainingUnknown."""
        with self._working(request) as owner:
            record, _ = self._service.jobs.owned(owner, identifier)
            if not (step.isascii() and step.isdigit() and len(step) <= _LONGEST_STEP):
                raise _no_sample()
            key = places.sample(record.id, int(step))
            stored = self._service.store.read(key, longest=LARGEST_PICTURE)
            if stored is None:
                raise _no_sample()
            if stored.size > LARGEST_PICTURE:
                return see_other(self._service.store.link(key, _LINK_SECONDS))
            tag = stored.tag.strip('"')
            headers = {
                "Content-Type": "image/png",
                "Cache-Control": _SHEET_CACHING,
                **_OWN_SITE,
                "ETag": f'"{tag}"',
            }
            return Response(*((304, b"") if has_tag(request, tag) else (200, stored.body)), headers)

    def cancel(self, request: Request, identifier: str) -> Response:
        """Handle `POST /api/train/<id>/cancel`; raises TrainingUnknown and WrongState."""
        with self._working(request) as owner:
            training = self._service.cancel(owner, identifier)
            described = self._described(request, training)
            return json_response(described, 202, _location(request, identifier))

    def resume(self, request: Request, identifier: str) -> Response:
        """Handle `POST /api/train/<id>/resume`; raises TrainingUnknown and WrongState."""
        with self._working(request) as owner:
            body = _body(request) if request.body.strip() else {}
            for name in sorted(set(body) - {"on_demand"}):
                raise InvalidRequest(f"{name[:64]}: is not a field", field=name[:64])
            on_demand = read_flag(body, "on_demand")
            with _naming_running(request):
                training = self._service.resume(owner, identifier, on_demand=on_demand)
            described = self._described(request, training)
            return json_response(described, 202, _location(request, identifier))

    def delete_adapter(self, request: Request, model: str, name: str) -> Response:
        """Handle `DELETE /api/loras/<model>/<name>`; raises TrainingUnknown and WrongState."""
        with self._working(request) as owner:
            self._service.delete_adapter(owner, model, name)
            return Response(204, b"")

    def options(self) -> dict[str, Any] | None:
        """Return what `/api/options` says of training; None if there is none."""
        training = self._service.training
        if not (self._settings.protection.keys or training.open):
            return None
        return {
            "models": list(training.models),
            "fields": jobs.describe(),
            "pictures": {
                "most": MOST_PICTURES,
                "types": list(datasets.PICTURES),
                "largest_file": datasets.LARGEST_PICTURE,
                "largest_set": datasets.LARGEST_SET,
                "most_pixels": datasets.MOST_PIXELS,
            },
        }

    def handle_event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Handle an event of EventBridge's or a pipeline's; raises as `events.handle`."""
        return events.handle(self._service, event)

    # --- The SDXL guide's names -------------------------------------------------------------------

    def status(self, request: Request) -> Response:
        """Handle `GET /api/train-status`: the caller's latest job, in the guide's words."""
        with self._working(request) as owner:
            found = self._service.all_of(owner)
            state = found[0].state.name if found else ""
            if not state:
                word = "Not Started"
            elif state == "published":
                word = "Completed"
            else:
                word = "Failed" if state in {"failed", "stopped"} else "Running"
            return json_response({"status": word})

    def _start_as_guide(self, request: Request, data: Mapping[str, Any]) -> Response:
        """Start a job from the guide's parameters, which are data here and never a command."""
        for name in sorted(set(data) - set(_GUIDE_NAMES)):
            raise InvalidRequest(f"{name[:64]}: is not a parameter", field=name[:64])
        for name in _GUIDE_NAMES:
            if not isinstance(data.get(name), str):
                raise InvalidRequest(f"{name}: is required, as text", field=name)
        with self._working(request) as owner:
            dataset = self._dataset_at(owner, data["collection_s3_path"])
            with _guide_fields():
                requested = TrainingRequest.from_dict(
                    {
                        "dataset": dataset,
                        "instance_prompt": data["prompt"],
                        "name": data["output_dir_name"],
                    }
                )
                plan = self._service.plan(owner, requested)
            if read_dry_run(request):
                return json_response(_price(plan))
            record = self._started(request, owner, requested, plan).record
            described = {
                "detail": "Training process started",
                "output_s3_path": self._service.address(places.adapter(record.model, record.name)),
            }
            return json_response(described, headers=_location(request, record.id))

    def _dataset_at(self, owner: str, path: str) -> str:
        """Return the id of the caller's data set at an address; another's is as unknown as none."""
        start = self._service.address(f"{places.DATASETS}{owner}/")
        identifier = path.removeprefix(start).rstrip("/")
        if not path.startswith(start) or not places.is_id(identifier):
            raise InvalidRequest(
                f"collection_s3_path: must be {start}ID/, with an ID from POST /api/datasets",
                field="collection_s3_path",
            )
        return identifier

    # --- Callers and responses --------------------------------------------------------------------

    def _owner_of(self, request: Request) -> str:
        """Return whose the jobs and data sets of a request are.

        Raises:
            TrainingNeedsKey: for a caller without a key, unless training is open to everyone.
            Unauthorized: if another site's page sent the request.
        """
        principal = request.principal
        if principal.own_key is not None:
            return places.owner_of(principal.own_key.name)
        if principal.method is AuthMethod.OPEN and self._service.training.open:
            # Without a key there is nothing else that keeps other sites' pages from training here.
            check_same_origin(Protection(), request)
            return places.LOCAL
        raise TrainingNeedsKey("Fine-tuning requires an API key.")

    @contextmanager
    def _working(self, request: Request) -> Iterator[str]:
        """Provide the owner, and keep the request's deadline."""
        deadline = Deadline(request.arrived + self._service.settings.deadline_seconds)
        with sharing(deadline):
            yield self._owner_of(request)

    def _started(
        self, request: Request, owner: str, requested: TrainingRequest, plan: Plan
    ) -> Training:
        with _naming_running(request):
            training = self._service.start(owner, requested, plan)
        request.log.add(training=training.record.id, model=training.record.model)
        return training

    def _described(self, request: Request, training: Training) -> dict[str, Any]:
        """Return all that is known of a job."""
        record, url = training.record, _url(request, training.record.id)
        progress = read(self._service.progress(record))
        left = progress.seconds_left(record.steps) if training.state.name == "training" else None
        return {
            **_short(request, training),
            "step": progress.step,
            "loss": _points(progress, "loss"),
            "validation": _points(progress, "validation"),
            "curve": f"{url}/loss.svg",
            "samples": [f"{url}/samples/{step}" for step in self._service.samples(record)],
            "cost": {
                "so_far": round(self._service.cost(training), 4),
                "most": round(record.usd_most + (record.spent if record.ended is None else 0), 4),
                "currency": "USD",
            },
            "spot": record.spot,
            "pictures": record.pictures,
            "attempt": record.attempt,
            "seconds_left": None if left is None else round(left),
            "result": self._result(request, training),
        }

    def _result(self, request: Request, training: Training) -> dict[str, str] | None:
        """Return the adapter, what to ask it for, and that picture's URL; None if there is none."""
        record = training.record
        if not self._service.is_offered(record):
            return None
        prompt = self._service.prompt(record)
        path = inference_path(prompt, {"model": record.model, "lora": record.name})
        return {"lora": record.name, "prompt": prompt, "url": f"{request.root}/{path}"}


@contextmanager
def _guide_fields() -> Iterator[None]:
    """Name a field as the guide's client names it."""
    theirs = {"instance_prompt": "prompt", "name": "output_dir_name"}
    try:
        yield
    except GatewayError as error:
        if error.field in theirs:
            error.message = error.message.replace(f"{error.field}:", f"{theirs[error.field]}:", 1)
            error.field = theirs[error.field]
        raise


def _body(request: Request) -> dict[str, Any]:
    if len(request.body) > _LARGEST_BODY:
        raise InvalidRequest(f"The body must be at most {_LARGEST_BODY:,} bytes.")
    return read_json_object(request)


@contextmanager
def _naming_running(request: Request) -> Iterator[None]:
    """Add the URL of the job that is running to the error that says so."""
    try:
        yield
    except TrainingRunning as error:
        if error.job:
            error.headers.update(_location(request, error.job))
        raise


def _location(request: Request, identifier: str) -> dict[str, str]:
    return {"Location": _url(request, identifier)}


def _url(request: Request, identifier: str) -> str:
    return f"{request.root}/train/{identifier}"


def _price(plan: Plan) -> dict[str, Any]:
    estimate = plan.estimate
    return {
        "model": plan.model,
        "name": plan.job.name,
        "pictures": len(plan.dataset.pictures),
        "steps": estimate.steps,
        "seconds": _rounded(estimate.seconds, 0),
        "cost": {**_rounded(estimate.usd, 4), "currency": "USD"},
        "spot": not plan.on_demand,
        "kohya": [{"key": row.key, "state": row.state, "text": row.text} for row in plan.rows],
    }


def _rounded(values: price.Range, digits: int) -> dict[str, float]:
    numbers = {"low": values.low, "expected": values.expected, "most": values.most}
    return {name: round(number, digits) for name, number in numbers.items()}


def _short(request: Request, training: Training) -> dict[str, Any]:
    """Return what a list says of a job."""
    record = training.record
    return {
        "id": record.id,
        "name": record.name,
        "model": record.model,
        "state": training.state.name,
        "steps": record.steps,
        "created": _moment(record.created),
        "error": training.state.error or None,
        "url": _url(request, record.id),
    }


def _points(progress: Progress, name: str) -> list[list[float]]:
    points = thinned(getattr(progress, name), _MOST_POINTS)
    return [[step, round(value, 6)] for step, value in points]


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _no_sample() -> TrainingUnknown:
    return TrainingUnknown("There is no sample of this step.")
