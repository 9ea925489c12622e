"""Easel's public API: a URL that turns a prompt into a picture. Every route is listed here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from chalicelib import __version__
from chalicelib.auth import sessions
from chalicelib.auth.authenticate import Guard
from chalicelib.dialects import automatic1111, automatic1111_lists, openai, urls, usage
from chalicelib.generation import describe
from chalicelib.images.prompts import prompt_from_path
from chalicelib.images.service import ImageService
from chalicelib.settings import Model, Settings, route_prefix
from chalicelib.web.crawlers import robots_response
from chalicelib.web.pages import docs_page, home_page, openapi_document
from chalicelib.web.request import Request
from chalicelib.web.response import (
    Response,
    home_response,
    json_response,
    page_response,
    render_error,
)
from chalicelib.web.routing import Gateway, Routes

if TYPE_CHECKING:
    from chalicelib.dialects.openai_batches import BatchApi
    from chalicelib.dialects.training import TrainingApi

# Read when the first request needs them: `chalice package` imports this module without them.
settings = cache(Settings.from_environment)
guard = Guard(lambda: settings())
# Only Easel's own URLs have HEAD: clients of the other APIs do not send it.
easel = Routes(__name__, guard, render_error, head=True)
images_api = Routes(__name__, guard, openai.render_error)
web_ui = Routes(__name__, guard, automatic1111.render_error)
fine_tuning = Routes(__name__, guard, render_error)


# --- Easel's own URLs -----------------------------------------------------------------------------


@easel.get("/", public=True)
def home(request: Request) -> Response:
    """Show the page with the prompt box; a signed link sets a cookie first."""
    if request.link is not None:
        return sessions.follow_link(settings().protection, request)
    return home_response(home_page(request.root), request)


@easel.get("/inference/{text}")
def picture(request: Request, text: str) -> Response:
    """Return the picture of the prompt in the path."""
    return urls.picture(images(), request, prompt_from_path(text))


@easel.delete("/inference/{text}")
def delete_picture(request: Request, text: str) -> Response:
    """Delete the stored picture of the prompt in the path, and of the query's seed."""
    return urls.delete_picture(images(), request, prompt_from_path(text))


# A literal segment precedes `{text}`, in API Gateway and in `chalice local`.
@easel.get("/inference/default")
def default_picture(request: Request) -> Response:
    """Return the picture of an astronaut riding a horse on mars, or of the query's prompt."""
    return urls.default_picture(images(), request)


@easel.delete("/inference/default")
def delete_default_picture(request: Request) -> Response:
    """Delete the stored picture of the default prompt, or of the query's prompt."""
    return urls.delete_default_picture(images(), request)


@easel.get("/inference")
def random_picture(request: Request) -> Response:
    """Return the picture of a random sentence; a browser is redirected to that sentence's URL."""
    return urls.random_picture(images(), request)


@easel.get("/sentence", public=True)
def sentence(request: Request) -> Response:
    """Return the random sentence of a seed, without its picture."""
    return urls.sentence(settings(), request)


@easel.post("/jobs")
def submit(request: Request) -> Response:
    """Queue a picture, and return its job."""
    return urls.submit(images(), request)


@easel.get("/jobs/{identifier}")
def job(request: Request, identifier: str) -> Response:
    """Return the state of a queued picture."""
    return urls.job(images(), request, identifier)


@easel.delete("/jobs/{identifier}")
def delete_job(request: Request, identifier: str) -> Response:
    """Delete the picture of a job."""
    return urls.delete_job(images(), request, identifier)


@easel.get("/jobs/{identifier}/image")
def job_picture(request: Request, identifier: str) -> Response:
    """Return a queued picture, and wait for it."""
    return urls.job_picture(images(), request, identifier)


@easel.post("/session", public=True)
def sign_in(request: Request) -> Response:
    """Sign a browser in with a key, for its address bar and its `<img>`."""
    return sessions.sign_in(settings().protection, request)


@easel.delete("/session", public=True)
def sign_out(request: Request) -> Response:
    """Sign a browser out."""
    return sessions.sign_out(settings().protection, request)


@easel.post("/links")
def make_link(request: Request) -> Response:
    """Make a signed link with which others can generate pictures without a key."""
    return sessions.make_link(settings().protection, request)


@easel.get("/usage")
def used(request: Request) -> Response:
    """Return what the caller's key has used; with the owner's key, what all have."""
    return usage.usage(images(), request)


@easel.get("/options", public=True)
def options(request: Request) -> Response:
    """Return the fields of a request, and the models on offer."""
    described = [model.describe() for model in models_with_adapters()]
    access = "key" if settings().protection.keys else "open"
    trained = training().options() if settings().training else None
    usage_recorded = settings().usage is not None
    return json_response(
        {
            "fields": describe(),
            "models": described,
            "access": access,
            "training": trained,
            "usage": usage_recorded,
        }
    )


@easel.get("/health", public=True)
def health(request: Request) -> Response:
    """Return the version and the configuration, without using a GPU."""
    configuration = {"models": list(settings().models), "deadline": settings().deadline_seconds}
    return json_response({"status": "ok", "version": __version__, **configuration})


@easel.get("/openapi.json", public=True)
def openapi(request: Request) -> Response:
    """Return the OpenAPI 3.1 document."""
    return json_response(openapi_document(request.origin + request.root))


@easel.get("/docs", public=True)
def docs(request: Request) -> Response:
    """Show the OpenAPI document as a page."""
    return page_response(docs_page(request.origin, request.root))


@easel.get("/robots.txt", public=True)
def robots(request: Request) -> Response:
    """Ask crawlers not to fetch pictures."""
    return robots_response(request)


# --- OpenAI's Images API --------------------------------------------------------------------------


@images_api.post("/v1/images/generations")
def openai_generate(request: Request) -> Response:
    """Generate pictures."""
    return openai.generate(images(), request)


@images_api.get("/v1/images/generations/{identifiers}")
def openai_resume(request: Request, identifiers: str) -> Response:
    """Continue to wait for the pictures of a call."""
    # API Gateway passes path parameters on percent-encoded:
    # https://github.com/aws/chalice/issues/511
    return openai.resume(images(), request, unquote(identifiers))


@images_api.get("/v1/models", public=True)
def openai_models(request: Request) -> Response:
    """Return the models on offer."""
    return openai.models(list(settings().models))


@images_api.get("/v1/models/{name}", public=True)
def openai_model(request: Request, name: str) -> Response:
    """Return one model."""
    return openai.model(list(settings().models), unquote(name))


@images_api.post("/v1/images/edits", "/v1/images/variations")
def openai_edit(request: Request) -> Response:
    """Refuse operations that start from a picture."""
    return openai.edit()


@images_api.post("/v1/files")
def create_file(request: Request) -> Response:
    """Store a file of a batch's requests."""
    return batches().create_file(request)


@images_api.get("/v1/files")
def list_files(request: Request) -> Response:
    """Return the caller's files."""
    return batches().files(request)


@images_api.get("/v1/files/{name}")
def file(request: Request, name: str) -> Response:
    """Return what is known of a file."""
    return batches().file(request, unquote(name))


@images_api.delete("/v1/files/{name}")
def delete_file(request: Request, name: str) -> Response:
    """Delete a file."""
    return batches().delete_file(request, unquote(name))


@images_api.get("/v1/files/{name}/content")
def file_content(request: Request, name: str) -> Response:
    """Return a file's content."""
    return batches().content(request, unquote(name))


@images_api.post("/v1/batches")
def create_batch(request: Request) -> Response:
    """Start a batch."""
    return batches().create(request)


@images_api.get("/v1/batches")
def list_batches(request: Request) -> Response:
    """Return the caller's batches."""
    return batches().batches(request)


@images_api.get("/v1/batches/{name}")
def batch(request: Request, name: str) -> Response:
    """Return the state of a batch."""
    return batches().batch(request, unquote(name))


@images_api.post("/v1/batches/{name}/cancel")
def cancel_batch(request: Request, name: str) -> Response:
    """Queue nothing more of a batch."""
    return batches().cancel(request, unquote(name))


# --- AUTOMATIC1111's web UI -----------------------------------------------------------------------


@web_ui.post("/sdapi/v1/txt2img")
def sdapi_generate(request: Request) -> Response:
    """Generate pictures."""
    return automatic1111.generate(images(), request)


@web_ui.get("/sdapi/v1/txt2img/{identifiers}")
def sdapi_resume(request: Request, identifiers: str) -> Response:
    """Continue to wait for the pictures of a call."""
    return automatic1111.resume(images(), request, unquote(identifiers))


@web_ui.get("/sdapi/v1/options")
def sdapi_options(request: Request) -> Response:
    """Return the settings."""
    return json_response(automatic1111_lists.options(models()))


@web_ui.post("/sdapi/v1/options")
def sdapi_set_options(request: Request) -> Response:
    """Accept settings that have these values already."""
    return automatic1111_lists.set_options(models(), request)


@web_ui.get("/sdapi/v1/sd-models")
def sdapi_models(request: Request) -> Response:
    """Return the models as checkpoints."""
    return automatic1111_lists.models(models())


@web_ui.get("/sdapi/v1/loras")
def sdapi_loras(request: Request) -> Response:
    """Return the LoRA adapters."""
    return automatic1111_lists.loras(models_with_adapters())


@web_ui.get("/sdapi/v1/samplers")
def sdapi_samplers(request: Request) -> Response:
    """Return the one sampler."""
    return automatic1111_lists.samplers()


@web_ui.get("/sdapi/v1/schedulers")
def sdapi_schedulers(request: Request) -> Response:
    """Return the one schedule."""
    return automatic1111_lists.schedulers()


@web_ui.get("/sdapi/v1/progress")
def sdapi_progress(request: Request) -> Response:
    """Return the progress of an idle web UI."""
    return automatic1111_lists.progress()


@web_ui.post("/sdapi/v1/interrupt", "/sdapi/v1/skip")
def sdapi_interrupt(request: Request) -> Response:
    """Refuse to stop a picture."""
    return automatic1111_lists.interrupt()


@web_ui.get(*automatic1111_lists.EMPTY)
def sdapi_empty(request: Request) -> Response:
    """Return an empty list of what the web UI has and the gateway does not."""
    return automatic1111_lists.empty(request.route)


@web_ui.post(*automatic1111_lists.REFRESHED)
def sdapi_refresh(request: Request) -> Response:
    """Confirm that a list is up to date."""
    return json_response(None)


@web_ui.post(*automatic1111_lists.FROM_PICTURES)
def sdapi_from_picture(request: Request) -> Response:
    """Refuse operations that start from a picture."""
    return automatic1111_lists.from_picture()


# --- Fine-tuning ----------------------------------------------------------------------------------


@fine_tuning.get("/teach")
def teach(request: Request) -> Response:
    """Show the page that starts and watches training jobs."""
    return training().page(request)


@fine_tuning.post("/datasets")
def create_dataset(request: Request) -> Response:
    """Return forms with which pictures and captions are uploaded."""
    return training().create_dataset(request)


@fine_tuning.delete("/datasets/{identifier}")
def delete_dataset(request: Request, identifier: str) -> Response:
    """Delete pictures and captions that the caller has uploaded."""
    return training().delete_dataset(request, identifier)


@fine_tuning.post("/train")
def train(request: Request) -> Response:
    """Start a training job, or report its price."""
    return training().start(request)


@fine_tuning.get("/train")
def training_jobs(request: Request) -> Response:
    """Return the caller's training jobs."""
    return training().every(request)


@fine_tuning.get("/train-status")
def training_status(request: Request) -> Response:
    """Return the state of the caller's latest training job, in the SDXL guide's words."""
    return training().status(request)


@fine_tuning.get("/train/{identifier}")
def training_job(request: Request, identifier: str) -> Response:
    """Return a training job: state, loss, samples, cost and result."""
    return training().show(request, identifier)


@fine_tuning.get("/train/{identifier}/loss.svg")
def training_curve(request: Request, identifier: str) -> Response:
    """Return the loss curve of a training job as a picture."""
    return training().curve(request, identifier)


@fine_tuning.get("/train/{identifier}/samples/{step}")
def training_sample(request: Request, identifier: str, step: str) -> Response:
    """Return the sample pictures of a step of a training job."""
    return training().sample(request, identifier, step)


@fine_tuning.post("/train/{identifier}/cancel")
def cancel_training(request: Request, identifier: str) -> Response:
    """Stop a training job."""
    return training().cancel(request, identifier)


@fine_tuning.post("/train/{identifier}/resume")
def resume_training(request: Request, identifier: str) -> Response:
    """Continue a training job that failed or was stopped."""
    return training().resume(request, identifier)


@fine_tuning.delete("/loras/{model}/{name}")
def delete_adapter(request: Request, model: str, name: str) -> Response:
    """Delete an adapter that the caller has trained."""
    return training().delete_adapter(request, unquote(model), unquote(name))


def models() -> list[Model]:
    """Return the models on offer, the default first."""
    return list(settings().models.values())


def models_with_adapters() -> list[Model]:
    """Return them with the LoRA adapters that they have now."""
    return [
        replace(model, loras=images().adapters.names(model)) if model.adapters else model
        for model in models()
    ]


@cache
def images() -> ImageService:
    """Return the one image service, and with it the AWS clients."""
    return ImageService(settings())


@cache
def training() -> TrainingApi:
    """Return the one API of fine-tuning; raises TrainingUnavailable."""
    # Imported here, because it takes 35 ms that requests for pictures need not wait.
    from chalicelib.dialects.training import TrainingApi

    return TrainingApi(settings())


def batches() -> BatchApi:
    """Return the API of files and batches."""
    # Imported here for the same reason.
    from chalicelib.dialects.openai_batches import BatchApi

    return BatchApi(images())


def on_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """Handle EventBridge's events, and the steps of the training pipeline."""
    # S3's, and those of the schedule, are for batches; the training pipeline reads its own.
    if event.get("source") in ("aws.s3", "aws.events"):
        return batches().handle_event(event)
    return training().handle_event(event)


if "AWS_CHALICE_CLI_MODE" in os.environ:
    # One of chalice's commands, which may be about to zip this module; never the Lambda.
    import prepare_bytecode

    prepare_bytecode.compile_packages()

app = Gateway("easel", on_event)
# `chalice local` has no stage, so the prefix of the public path is part of its routes.
app.register_blueprint(easel, url_prefix=route_prefix())
app.register_blueprint(images_api, url_prefix=route_prefix())
app.register_blueprint(web_ui, url_prefix=route_prefix())
app.register_blueprint(fine_tuning, url_prefix=route_prefix())
