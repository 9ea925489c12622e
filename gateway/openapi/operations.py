"""The table of operations for the OpenAPI document: what each accepts, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chalicelib.backends.backend import MEDIA_TYPES
from chalicelib.dialects.automatic1111_lists import EMPTY, FROM_PICTURES, REFRESHED
from chalicelib.dialects.openai_batches import LIMIT, LONGEST_NAME
from chalicelib.dialects.usage import DAYS, FORMATS
from chalicelib.errors import (
    BatchFault,
    BatchNeedsKey,
    BatchOver,
    BatchUnknown,
    BudgetUsed,
    CapReached,
    DeletionFault,
    GatewayError,
    IdempotencyKeyReused,
    InternalError,
    InvalidRequest,
    JobUnknown,
    KeyRequired,
    NameTaken,
    NotOffered,
    PictureUnknown,
    PromptRefused,
    StoreUnavailable,
    TrainingBusy,
    TrainingFault,
    TrainingForbidden,
    TrainingNeedsKey,
    TrainingQuotaUsed,
    TrainingRunning,
    TrainingUnavailable,
    TrainingUnknown,
    Unauthorized,
    UsageNeedsKey,
    WrongState,
    every_error,
)
from openapi.schemas import BINARY, OBJECT, TEXT, WHOLE, Schema, empty, query_parameters, ref

JSON, HTML, PLAIN = "application/json", "text/html; charset=utf-8", "text/plain; charset=utf-8"
CSV = "text/csv; charset=utf-8"
# By status and media type; None for a body that is not JSON.
Responses = Mapping[int, Mapping[str, Schema | None]]


@dataclass(frozen=True)
class Operation:
    """One method of one route.

    Attributes:
        name: a unique name, of which generators make that of a function.
        summary: what it does, in one line.
        group: the heading under which it is listed.
        responses: the schemas of successful responses, by status and media type; None for a body
            that is not JSON.
        errors: what can go wrong.
        problem: the schema of its errors.
        parameters: in path and query.
        body: the schema of the body.
        body_required: whether there must be one.
        form: the schema of a form that can be sent in its place.
        headers: of the response with status 200.
        head: whether HEAD is supported as well.
    """

    name: str
    summary: str
    group: str
    responses: Responses
    errors: Sequence[type[GatewayError]] = (InternalError,)
    problem: str = "Problem"
    parameters: Sequence[Schema] = ()
    body: str | None = None
    body_required: bool = True
    form: Schema | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    head: bool = True


_ANY = tuple(
    error
    for error in every_error()
    if not issubclass(error, BatchFault | DeletionFault | TrainingFault | UsageNeedsKey)
)
_REFUSING = (NotOffered, InternalError)
_READING = (InvalidRequest, InternalError)
_DELETING = (*_READING, KeyRequired, JobUnknown, PictureUnknown, StoreUnavailable)
# A crawler gets HTML for a picture that was not generated before. It is last: generators take the
# first type that they know.
_PICTURE: dict[str, Schema | None] = {
    **dict.fromkeys(MEDIA_TYPES.values(), BINARY),
    HTML: TEXT,
}
_GENERATED: Responses = {
    200: _PICTURE,
    202: {JSON: ref("Job"), HTML: TEXT},
    303: {PLAIN: TEXT},
    304: {},
}
# Last as well: what a dry run returns in its place.
_PRICED: Responses = {**_GENERATED, 200: {**_PICTURE, JSON: ref("DryRun")}}
_MADE_BY = {
    "X-Seed": "The seed; absent for a model that takes none.",
    "X-Model": "The model.",
    "X-Painted-Size": "The size that the model painted, if the picture was scaled up from it.",
    "X-Cost-USD": "What painting it costs in dollars; absent if the model has no price.",
    "X-Prompt": "The prompt in percent-encoded UTF-8, cut after 6,000 bytes.",
    "Content-Disposition": "A file name.",
}
_HOP: Schema = {
    "name": "hop",
    "in": "query",
    "description": "The number of redirects so far.",
    "schema": {**WHOLE, "minimum": 0, "maximum": 999},
}


_DRY_RUN: Schema = {
    "name": "dry_run",
    "in": "query",
    "description": "Whether to return the price only, as JSON, and to generate nothing.",
    "schema": {"type": "boolean"},
}
_USAGE: tuple[Schema, ...] = (
    {
        "name": "days",
        "in": "query",
        "description": "How many days, up to `to`: 30 by default.",
        "schema": DAYS.describe(),
    },
    *(
        {
            "name": name,
            "in": "query",
            "description": f"The {word} day in UTC, such as 2026-11-26; not with `days`."
            if name == "from"
            else f"The {word} day in UTC; today by default.",
            "schema": {**TEXT, "format": "date"},
        }
        for name, word in (("from", "first"), ("to", "last"))
    ),
    {
        "name": "format",
        "in": "query",
        "description": "`csv` for one row for each day, key, link, model and kind.",
        "schema": {**TEXT, "enum": list(FORMATS)},
    },
)


def _in_path(name: str, meaning: str, **schema: Any) -> Schema:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": meaning,
        "schema": {**TEXT, "minLength": 1, **schema},
    }


_PROMPT = _in_path("text", "The prompt; a slash in it is sent as `%2F`.", maxLength=1_000)
_PROMPT_IN_QUERY: Schema = {
    "name": "prompt",
    "in": "query",
    "description": "The prompt.",
    "schema": {**TEXT, "maxLength": 1_000},
}
_JOB = _in_path("identifier", "A job's id.")
_TRAINING_JOB = _in_path("identifier", "A training job's id.")
_GUIDE = {
    "collection_s3_path": "The address of a data set: `s3://bucket/datasets/...`.",
    "prompt": "The caption of pictures without their own.",
    "output_dir_name": "The adapter's name.",
}
_JOBS = _in_path("identifiers", "The jobs' ids, separated by commas.")


def _json(schema: Schema) -> Responses:
    return {200: {JSON: schema}}


def _generating(name: str, summary: str, *parameters: Schema) -> Operation:
    every = (*parameters, *query_parameters(), _DRY_RUN)
    return Operation(name, summary, "Pictures", _PRICED, _ANY, parameters=every, headers=_MADE_BY)


def _deleting(name: str, summary: str, *parameters: Schema) -> Operation:
    return Operation(
        name, summary, "Pictures", {204: {}}, _DELETING, parameters=parameters, head=False
    )


_TRAINING = (
    TrainingUnavailable,
    TrainingNeedsKey,
    StoreUnavailable,
    InternalError,
)
# What any look at a job asks SageMaker, and what a start can meet.
_WATCHING = (*_TRAINING, TrainingUnknown, TrainingBusy, TrainingForbidden)
_STARTING = (*_WATCHING, CapReached, InvalidRequest, NameTaken, TrainingRunning, TrainingQuotaUsed)


def _training(
    name: str, summary: str, responses: Responses, errors: Any = _WATCHING, **more: Any
) -> Operation:
    return Operation(name, summary, "Training", responses, errors, head=False, **more)


# Generators make the name of a class or a folder of a group's.
def _openai(name: str, summary: str, responses: Any, **more: Any) -> Operation:
    problem = "OpenAIProblem"
    return Operation(name, summary, "OpenAI", responses, problem=problem, head=False, **more)


def _web_ui(name: str, summary: str, responses: Any, **more: Any) -> Operation:
    problem = "WebUIProblem"
    return Operation(name, summary, "AUTOMATIC1111", responses, problem=problem, head=False, **more)


def _last(path: str) -> str:
    return path.rpartition("/")[2].replace("-", "_")


def _chained(schema: str) -> Responses:
    return {200: {JSON: ref(schema)}, 303: {PLAIN: TEXT}}


_SDAPI = "/sdapi/v1"
_IMAGES = "/v1/images/generations"
_BATCH_FINDING = (NotOffered, BatchNeedsKey, BatchUnknown, StoreUnavailable, InternalError)
_BATCH_READING = (NotOffered, BatchNeedsKey, InvalidRequest, StoreUnavailable, InternalError)
_FILE = _in_path("name", "The file's id.")
_BATCH = _in_path("name", "The batch's id.")
_IDEMPOTENCY_KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A repeated request with the same key and body has the batch of the first one.",
    "schema": {**TEXT, "minLength": 1, "maxLength": LONGEST_NAME},
}
_PAGE: list[Schema] = [
    {"name": "after", "in": "query", "description": "The id before the page.", "schema": TEXT},
    {
        "name": "limit",
        "in": "query",
        "description": LIMIT.meaning,
        "schema": {**WHOLE, "minimum": LIMIT.least, "maximum": LIMIT.most},
    },
]
_ORDER: Schema = {
    "name": "order",
    "in": "query",
    "description": "The order by age: desc (default) is the newest first.",
    "schema": {**TEXT, "enum": ["asc", "desc"]},
}
_PURPOSE: Schema = {
    "name": "purpose",
    "in": "query",
    "description": "Only files of this purpose.",
    "schema": TEXT,
}


def _batch(
    name: str,
    summary: str,
    responses: Responses,
    errors: Sequence[type[GatewayError]] = _BATCH_FINDING,
    **more: Any,
) -> Operation:
    return Operation(
        name, summary, "OpenAI", responses, errors, problem="OpenAIProblem", head=False, **more
    )


OPERATIONS: dict[str, dict[str, Operation]] = {
    "/": {
        "get": Operation(
            "get_page",
            "The page with the prompt box.",
            "Pictures",
            {200: {HTML: TEXT}, 303: {PLAIN: TEXT}, 304: {}},
        )
    },
    "/inference/{text}": {
        "get": _generating("get_picture", "The picture of the prompt in the path.", _PROMPT),
        "delete": _deleting(
            "delete_picture",
            "Delete the stored picture that GET on this URL returns; the URL must name the seed.",
            _PROMPT,
            *query_parameters(),
        ),
    },
    "/inference/default": {
        "get": _generating(
            "get_default_picture",
            "An astronaut riding a horse on mars; with `prompt`, the picture of a prompt that no"
            " path can spell, such as `..`.",
            _PROMPT_IN_QUERY,
        ),
        "delete": _deleting(
            "delete_default_picture",
            "Delete the stored picture that GET on this URL returns; the URL must name the seed.",
            _PROMPT_IN_QUERY,
            *query_parameters(),
        ),
    },
    "/inference": {
        "get": _generating(
            "get_random_picture",
            "The picture of a random sentence; with `prompt`, as a plain HTML form sends it, a"
            " redirect to that prompt's picture.",
            _PROMPT_IN_QUERY,
        )
    },
    "/sentence": {
        "get": Operation(
            "get_sentence",
            "A random sentence, without its picture.",
            "Pictures",
            _json(ref("Sentence")),
            _READING,
            parameters=query_parameters(),
        )
    },
    "/jobs": {
        "post": Operation(
            "create_job",
            "Queue a picture.",
            "Jobs",
            {200: {JSON: ref("Job")}, 202: {JSON: ref("Job")}},
            _ANY,
            body="Request",
        )
    },
    "/jobs/{identifier}": {
        "get": Operation(
            "get_job",
            "The state of a queued picture.",
            "Jobs",
            {200: {JSON: ref("Job")}, 202: {JSON: ref("Job")}},
            _ANY,
            parameters=[_JOB],
        ),
        "delete": _deleting("delete_job", "Delete the picture of a job.", _JOB),
    },
    "/jobs/{identifier}/image": {
        "get": Operation(
            "get_job_picture",
            "A queued picture, when it is ready.",
            "Jobs",
            _GENERATED,
            _ANY,
            parameters=[_JOB, _HOP],
            headers=_MADE_BY,
        )
    },
    _IMAGES: {
        "post": _openai(
            "create_image",
            "Up to four pictures.",
            _chained("ImagesAnswer"),
            errors=_ANY,
            body="ImagesRequest",
        )
    },
    f"{_IMAGES}/{{identifiers}}": {
        "get": _openai(
            "get_images",
            "The pictures of a call, when they are ready.",
            _chained("ImagesAnswer"),
            errors=_ANY,
            parameters=[_JOBS, _HOP],
        )
    },
    "/v1/files": {
        "post": _batch(
            "create_file",
            "Store a file of requests for a batch; for a large file, request a URL of S3 in JSON.",
            _json(ref("OpenAIFile")),
            _BATCH_READING,
            form=ref("FileForm"),
            body="FileRequest",
        ),
        "get": _batch(
            "list_files",
            "Your files, the newest first.",
            _json(ref("OpenAIFiles")),
            _BATCH_READING,
            parameters=[*_PAGE, _ORDER, _PURPOSE],
        ),
    },
    "/v1/files/{name}": {
        "get": _batch(
            "get_file", "A file's name and size.", _json(ref("OpenAIFile")), parameters=[_FILE]
        ),
        "delete": _batch(
            "delete_file", "Delete a file.", _json(ref("OpenAIDeleted")), parameters=[_FILE]
        ),
    },
    "/v1/files/{name}/content": {
        "get": _batch(
            "get_file_content",
            "A file's content; of a large one, a redirect to S3.",
            {200: {"application/octet-stream": BINARY}, 303: {PLAIN: TEXT}},
            parameters=[_FILE],
        )
    },
    "/v1/batches": {
        "post": _batch(
            "create_batch",
            "Start a batch.",
            _json(ref("OpenAIBatch")),
            (*_BATCH_READING, IdempotencyKeyReused, CapReached, BudgetUsed),
            body="BatchRequest",
            parameters=[_IDEMPOTENCY_KEY],
        ),
        "get": _batch(
            "list_batches",
            "Your batches, the newest first.",
            _json(ref("OpenAIBatches")),
            _BATCH_READING,
            parameters=_PAGE,
        ),
    },
    "/v1/batches/{name}": {
        "get": _batch(
            "get_batch", "The state of a batch.", _json(ref("OpenAIBatch")), parameters=[_BATCH]
        )
    },
    "/v1/batches/{name}/cancel": {
        "post": _batch(
            "cancel_batch",
            "Cancel a batch: nothing more of it is queued.",
            _json(ref("OpenAIBatch")),
            (*_BATCH_FINDING, BatchOver),
            parameters=[_BATCH],
        )
    },
    "/v1/models": {"get": _openai("list_models", "The models on offer.", _json(ref("Models")))},
    "/v1/models/{name}": {
        "get": _openai(
            "retrieve_model",
            "One of the models on offer.",
            _json(ref("OpenAIModel")),
            errors=_REFUSING,
            parameters=[_in_path("name", "The model's name.")],
        )
    },
    **{
        f"/v1/images/{name}s": {
            "post": _openai(f"create_image_{name}", "Not supported.", {}, errors=_REFUSING)
        }
        for name in ("edit", "variation")
    },
    f"{_SDAPI}/txt2img": {
        "post": _web_ui(
            "txt2img",
            "Up to four pictures.",
            _chained("Txt2ImgAnswer"),
            errors=_ANY,
            body="Txt2ImgRequest",
        )
    },
    f"{_SDAPI}/txt2img/{{identifiers}}": {
        "get": _web_ui(
            "get_txt2img",
            "The pictures of a call, when they are ready.",
            _chained("Txt2ImgAnswer"),
            errors=_ANY,
            parameters=[_JOBS, _HOP],
        )
    },
    f"{_SDAPI}/options": {
        "get": _web_ui("get_web_ui_options", "The settings.", _json(ref("WebUIOptions"))),
        "post": _web_ui(
            "set_web_ui_options",
            "Accepts settings that have these values already.",
            _json({}),
            errors=_READING,
            body="WebUISettings",
        ),
    },
    f"{_SDAPI}/sd-models": {
        "get": _web_ui("get_sd_models", "The models on offer.", _json(ref("Checkpoints")))
    },
    **{
        f"{_SDAPI}/{name}": {"get": _web_ui(f"get_{name}", f"The {name}.", _json(ref("Named")))}
        for name in ("loras", "samplers", "schedulers")
    },
    f"{_SDAPI}/progress": {
        "get": _web_ui("get_progress", "The progress of an idle web UI.", _json(ref("Progress")))
    },
    **{
        f"{_SDAPI}/{name}": {"post": _web_ui(name, "Not supported.", {}, errors=_REFUSING)}
        for name in ("interrupt", "skip")
    },
    **{path: {"post": _web_ui(_last(path), "Nothing to do.", _json({}))} for path in REFRESHED},
    **{
        path: {"post": _web_ui(_last(path), "Not supported.", {}, errors=_REFUSING)}
        for path in FROM_PICTURES
    },
    **{
        path: {"get": _web_ui(f"get_{_last(path)}", "Always empty.", _json(empty(value)))}
        for path, value in EMPTY.items()
    },
    "/teach": {
        "get": _training(
            "get_teach_page", "The page that starts and watches jobs.", {200: {HTML: TEXT}}
        )
    },
    "/datasets": {
        "post": _training(
            "create_dataset",
            "Forms with which pictures and captions are uploaded.",
            {201: {JSON: ref("DataSet")}},
            (*_TRAINING, InvalidRequest, TrainingQuotaUsed),
            body="DataSetRequest",
        )
    },
    "/datasets/{identifier}": {
        "delete": _training(
            "delete_dataset",
            "Delete pictures and captions that you have uploaded.",
            {204: {}},
            (*_WATCHING, WrongState),
            parameters=[_in_path("identifier", "A data set's id.")],
        )
    },
    "/train": {
        "get": _training("list_training_jobs", "Your training jobs.", _json(ref("TrainingJobs"))),
        "post": _training(
            "start_training",
            "Start a training job; with `dry_run`, its price. The names of the SDXL guide are"
            " parameters of the query, or `data` of a body with `action`; their response is a 200.",
            {200: {JSON: OBJECT}, 202: {JSON: ref("StartedTraining")}},
            (*_STARTING, PromptRefused),
            body="TrainingRequest",
            body_required=False,
            parameters=[
                {"name": name, "in": "query", "description": meaning, "schema": TEXT}
                for name, meaning in _GUIDE.items()
            ],
        ),
    },
    "/train-status": {
        "get": _training(
            "get_training_status",
            "The state of your latest training job, in the SDXL guide's words.",
            _json(ref("TrainingStatus")),
        )
    },
    "/train/{identifier}": {
        "get": _training(
            "get_training_job",
            "A training job: state, loss, samples, cost and result.",
            _json(ref("TrainingJob")),
            parameters=[_TRAINING_JOB],
        )
    },
    "/train/{identifier}/loss.svg": {
        "get": _training(
            "get_training_curve",
            "The loss curve of a training job.",
            {200: {"image/svg+xml": TEXT}, 304: {}},
            parameters=[_TRAINING_JOB],
        )
    },
    "/train/{identifier}/samples/{step}": {
        "get": _training(
            "get_training_sample",
            "The sample pictures of a step, side by side.",
            {200: {MEDIA_TYPES["png"]: BINARY}, 303: {PLAIN: TEXT}, 304: {}},
            (*_TRAINING, TrainingUnknown),
            parameters=[_TRAINING_JOB, _in_path("step", "A number of steps.", pattern="^[0-9]+$")],
        )
    },
    "/train/{identifier}/cancel": {
        "post": _training(
            "cancel_training",
            "Stop a training job.",
            {202: {JSON: ref("TrainingJob")}},
            (*_WATCHING, WrongState),
            parameters=[_TRAINING_JOB],
        )
    },
    "/train/{identifier}/resume": {
        "post": _training(
            "resume_training",
            "Continue a training job that failed or was stopped, from its newest checkpoint.",
            {202: {JSON: ref("TrainingJob")}},
            (*_STARTING, WrongState),
            parameters=[_TRAINING_JOB],
            body="ResumeRequest",
            body_required=False,
        )
    },
    "/loras/{model}/{name}": {
        "delete": _training(
            "delete_adapter",
            "Delete an adapter that you have trained.",
            {204: {}},
            (*_WATCHING, WrongState),
            parameters=[
                _in_path("model", "The model's name."),
                _in_path("name", "The adapter's name."),
            ],
        )
    },
    "/session": {
        "post": Operation(
            "sign_in",
            "Sign a browser in with a key.",
            "Access",
            {204: {}},
            (*_READING, Unauthorized),
            body="Key",
        ),
        "delete": Operation("sign_out", "Sign a browser out.", "Access", {204: {}}),
    },
    "/links": {
        "post": Operation(
            "create_link",
            "Make a link with which others can generate pictures.",
            "Access",
            {201: {JSON: ref("Link")}},
            _READING,
            body="LinkRequest",
        )
    },
    "/robots.txt": {
        "get": Operation(
            "get_crawler_rules", "The rules for crawlers.", "About", {200: {PLAIN: TEXT}}
        )
    },
    "/usage": {
        "get": Operation(
            "get_usage",
            "The usage of the caller's key; with the key of an owner, that of all keys.",
            "About",
            {200: {JSON: ref("Usage"), CSV: TEXT, HTML: TEXT}, 304: {}},
            (UsageNeedsKey, NotOffered, InvalidRequest, StoreUnavailable, InternalError),
            parameters=_USAGE,
        )
    },
    "/options": {
        "get": Operation(
            "get_options", "The fields, and the models on offer.", "About", _json(ref("Options"))
        )
    },
    "/health": {
        "get": Operation("get_health", "Version and configuration.", "About", _json(ref("Health")))
    },
    "/openapi.json": {
        "get": Operation("get_openapi_document", "This document.", "About", _json(OBJECT))
    },
    "/docs": {
        "get": Operation("get_docs", "This document as a page.", "About", {200: {HTML: TEXT}})
    },
}
