"""Easel's public face: a URL that turns words into a picture."""

from __future__ import annotations

from functools import cache
from urllib.parse import unquote

from chalicelib import __version__
from chalicelib.auth import sessions
from chalicelib.dialects import automatic1111, automatic1111_lists, openai
from chalicelib.generation import GenerationRequest, describe
from chalicelib.images.prompts import DEFAULT_PROMPT, prompt_from_path, random_sentence
from chalicelib.images.service import Painter, random_seed
from chalicelib.settings import Model, Settings, route_prefix
from chalicelib.web.body import read_form, read_request
from chalicelib.web.crawlers import robots_answer
from chalicelib.web.pages import home_page
from chalicelib.web.request import Visit
from chalicelib.web.response import Answer, home_answer, json_answer, page_answer, see_other
from chalicelib.web.routing import Gateway, Routes

settings = cache(Settings.from_environment)
routes = Routes(__name__, lambda: settings())


@routes.get("/")
def home(visit: Visit) -> Answer:
    """Show the page with the prompt box; who comes with a signed link keeps it."""
    if visit.link is not None:
        return sessions.follow_link(settings().protection, visit)
    return home_answer(home_page(visit.root), visit)


@routes.get("/inference/{text}")
def picture(visit: Visit, text: str) -> Answer:
    """Paint the prompt in the path."""
    return painter().paint(visit, prompt_from_path(text))


@routes.get("/inference/default")
def default_picture(visit: Visit) -> Answer:
    """Paint an astronaut riding a horse on mars."""
    return painter().paint(visit, DEFAULT_PROMPT)


@routes.get("/inference")
def random_picture(visit: Visit) -> Answer:
    """Paint a random sentence; a browser is sent to that sentence's own URL."""
    if "prompt" in visit.query:
        return typed_picture(visit)
    seed = _seed(read_request(visit, DEFAULT_PROMPT))
    sentence = random_sentence(seed)
    if visit.is_navigation:
        return see_other(visit.picture_url(sentence, seed))
    return painter().paint(visit, sentence, seed)


def typed_picture(visit: Visit) -> Answer:
    """Send a plain HTML form, whose prompt is a parameter like all others, to the prompt's URL."""
    asked = read_form(visit)
    return see_other(visit.picture_url(asked.prompt, _seed(asked)))


@routes.get("/sentence")
def sentence(visit: Visit) -> Answer:
    """Tell the random sentence of a seed, for somebody who may want it painted."""
    seed = _seed(read_request(visit, DEFAULT_PROMPT))
    return json_answer({"sentence": random_sentence(seed), "seed": seed})


@routes.post("/jobs")
def submit(visit: Visit) -> Answer:
    """Queue a picture, and tell where it will be."""
    return painter().submit(visit)


@routes.get("/jobs/{identifier}")
def job(visit: Visit, identifier: str) -> Answer:
    """Tell how a queued picture stands."""
    return painter().job(visit, identifier)


@routes.get("/jobs/{identifier}/image")
def job_picture(visit: Visit, identifier: str) -> Answer:
    """Show a queued picture, waiting for it."""
    return painter().job_picture(visit, identifier)


@routes.post_openai("/v1/images/generations")
def openai_generate(visit: Visit) -> Answer:
    """Paint as OpenAI's Images API is asked to."""
    return openai.generate(painter(), visit)


@routes.get_openai("/v1/images/generations/{identifiers}")
def openai_resume(visit: Visit, identifiers: str) -> Answer:
    """Wait for pictures that OpenAI's Images API was asked for."""
    return openai.go_on(painter(), visit, unquote(identifiers))


@routes.get_openai("/v1/models")
def openai_models(visit: Visit) -> Answer:
    """List the models on offer as OpenAI does."""
    return openai.models(list(settings().models))


@routes.get_openai("/v1/models/{name}")
def openai_model(visit: Visit, name: str) -> Answer:
    """Tell of one model as OpenAI does."""
    return openai.model(list(settings().models), unquote(name))


@routes.post_openai("/v1/images/edits")
@routes.post_openai("/v1/images/variations")
def openai_edit(visit: Visit) -> Answer:
    """Refuse what starts from a picture."""
    return openai.edit()


@routes.post_sdapi("/sdapi/v1/txt2img")
def sdapi_generate(visit: Visit) -> Answer:
    """Paint as AUTOMATIC1111's web UI is asked to."""
    return automatic1111.generate(painter(), visit)


@routes.get_sdapi("/sdapi/v1/txt2img/{identifiers}")
def sdapi_resume(visit: Visit, identifiers: str) -> Answer:
    """Wait for pictures that AUTOMATIC1111's web UI was asked for."""
    return automatic1111.go_on(painter(), visit, unquote(identifiers))


@routes.get_sdapi("/sdapi/v1/options")
def sdapi_options(visit: Visit) -> Answer:
    """Tell the web UI's settings."""
    return json_answer(automatic1111_lists.options(offered()))


@routes.post_sdapi("/sdapi/v1/options")
def sdapi_set_options(visit: Visit) -> Answer:
    """Accept the web UI's settings, if they are so already."""
    return automatic1111_lists.set_options(offered(), visit)


@routes.get_sdapi("/sdapi/v1/sd-models")
def sdapi_models(visit: Visit) -> Answer:
    """List the models on offer as the web UI does."""
    return automatic1111_lists.models(offered())


@routes.get_sdapi("/sdapi/v1/loras")
def sdapi_loras(visit: Visit) -> Answer:
    """List the LoRA adapters as the web UI does."""
    return automatic1111_lists.loras(offered())


@routes.get_sdapi("/sdapi/v1/samplers")
def sdapi_samplers(visit: Visit) -> Answer:
    """List the one sampler."""
    return automatic1111_lists.samplers()


@routes.get_sdapi("/sdapi/v1/schedulers")
def sdapi_schedulers(visit: Visit) -> Answer:
    """List the one schedule."""
    return automatic1111_lists.schedulers()


@routes.get_sdapi("/sdapi/v1/progress")
def sdapi_progress(visit: Visit) -> Answer:
    """Tell that nothing is known to be under way."""
    return automatic1111_lists.progress()


@routes.post_sdapi("/sdapi/v1/interrupt")
@routes.post_sdapi("/sdapi/v1/skip")
def sdapi_interrupt(visit: Visit) -> Answer:
    """Refuse to stop a picture."""
    return automatic1111_lists.interrupt()


def sdapi_fresh(visit: Visit) -> Answer:
    """Agree that the lists are fresh."""
    return json_answer(None)


def sdapi_from_picture(visit: Visit) -> Answer:
    """Refuse what starts from a picture."""
    return automatic1111_lists.from_picture()


def sdapi_nothing(visit: Visit) -> Answer:
    """Tell that there is nothing of the kind."""
    return json_answer(automatic1111_lists.NOTHING[visit.route.rpartition("/")[2]])


for _name in automatic1111_lists.NOTHING:
    routes.get_sdapi(f"/sdapi/v1/{_name}")(sdapi_nothing)
for _name in automatic1111_lists.FRESH:
    routes.post_sdapi(f"/sdapi/v1/{_name}")(sdapi_fresh)
for _name in automatic1111_lists.FROM_PICTURES:
    routes.post_sdapi(f"/sdapi/v1/{_name}")(sdapi_from_picture)


@routes.post("/session")
def sign_in(visit: Visit) -> Answer:
    """Sign a browser in with a key, so that its address bar and its `<img>` may paint."""
    return sessions.sign_in(settings().protection, visit)


@routes.delete("/session")
def sign_out(visit: Visit) -> Answer:
    """Sign a browser out."""
    return sessions.sign_out(settings().protection, visit)


@routes.post("/links")
def invite(visit: Visit) -> Answer:
    """Make a signed link with which a friend may paint without a key."""
    return sessions.invite(settings().protection, visit)


@routes.get("/robots.txt")
def robots(visit: Visit) -> Answer:
    """Ask crawlers to leave the pictures alone."""
    return robots_answer(visit)


@routes.get("/options")
def options(visit: Visit) -> Answer:
    """Tell which fields a request may have, and which models are on offer."""
    models = [model.describe() for model in offered()]
    access = "key" if settings().protection.keys else "open"
    return json_answer({"fields": describe(), "models": models, "access": access})


@routes.get("/openapi.json")
def openapi(visit: Visit) -> Answer:
    """Tell everything that may be asked and answered here, as OpenAPI 3.1."""
    from chalicelib.openapi.document import (
        document,  # what pictures do without, a cold start does too
    )

    return json_answer(document(visit.origin + visit.root))


@routes.get("/docs")
def docs(visit: Visit) -> Answer:
    """Show the same for a person to read."""
    from chalicelib.openapi.page import openapi_page

    return page_answer(openapi_page(visit.origin, visit.root))


@routes.get("/health")
def health(visit: Visit) -> Answer:
    """Tell the version and the configuration, touching no GPU."""
    configuration = {"models": list(settings().models), "deadline": settings().deadline_seconds}
    return json_answer({"status": "ok", "version": __version__, **configuration})


def offered() -> list[Model]:
    """Return the models on offer, the default first."""
    return list(settings().models.values())


def _seed(asked: GenerationRequest) -> int:
    return random_seed() if asked.seed is None else asked.seed


@cache
def painter() -> Painter:
    """Return the one painter, and with it the AWS clients."""
    return Painter(settings())


app = Gateway("easel")
app.register_blueprint(routes, url_prefix=route_prefix())
