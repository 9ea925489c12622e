"""Easel's public face: a URL that turns words into a picture."""

from __future__ import annotations

from functools import cache
from urllib.parse import unquote

from chalicelib import __version__, openai_images, sessions
from chalicelib.answers import Answer, json_answer, page_answer, see_other
from chalicelib.crawlers import robots_answer
from chalicelib.generation import describe
from chalicelib.pages import home_page
from chalicelib.painting import Painter, random_seed, read_request
from chalicelib.prompts import DEFAULT_PROMPT, prompt_from_path, random_sentence
from chalicelib.settings import Settings, route_prefix
from chalicelib.visits import Visit
from chalicelib.web import Gateway, Routes

settings = cache(Settings.from_environment)
routes = Routes(__name__, lambda: settings())


@routes.get("/")
def home(visit: Visit) -> Answer:
    """Show the page with the prompt box; who comes with a signed link keeps it."""
    if visit.link is not None:
        return sessions.follow_link(settings().protection, visit)
    return page_answer(home_page(visit.root))


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
    asked = read_request(visit, DEFAULT_PROMPT)
    seed = random_seed() if asked.seed is None else asked.seed
    sentence = random_sentence(seed)
    if visit.is_navigation:
        return see_other(visit.picture_url(sentence, seed))
    return painter().paint(visit, sentence, seed)


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
    return openai_images.generate(painter(), visit)


@routes.get_openai("/v1/images/generations/{identifiers}")
def openai_resume(visit: Visit, identifiers: str) -> Answer:
    """Wait for pictures that OpenAI's Images API was asked for."""
    return openai_images.resume(painter(), visit, unquote(identifiers))


@routes.get_openai("/v1/models")
def openai_models(visit: Visit) -> Answer:
    """List the models on offer as OpenAI does."""
    return openai_images.models(list(settings().models))


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
    models = [{"name": name} for name in settings().models]
    access = "key" if settings().protection.keys else "open"
    return json_answer({"fields": describe(), "models": models, "access": access})


@routes.get("/health")
def health(visit: Visit) -> Answer:
    """Tell the version and the configuration, touching no GPU."""
    configuration = {"models": list(settings().models), "deadline": settings().deadline_seconds}
    return json_answer({"status": "ok", "version": __version__, **configuration})


@cache
def painter() -> Painter:
    """Return the one painter, and with it the AWS clients."""
    return Painter(settings())


app = Gateway("easel")
app.register_blueprint(routes, url_prefix=route_prefix())
