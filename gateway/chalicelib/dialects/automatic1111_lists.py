"""What clients of AUTOMATIC1111's web UI ask before they generate: settings, models, samplers.

A Lambda stores nothing between two calls, so there are no settings to change and no progress to
report; what the gateway does not have is an empty list, in the shape that clients expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chalicelib.batches.automatic1111 import FORMATS
from chalicelib.dialects.automatic1111 import SAMPLER
from chalicelib.errors import InvalidRequest, NotOffered
from chalicelib.settings import Model
from chalicelib.web.body import read_json_object
from chalicelib.web.request import Request
from chalicelib.web.response import Response, json_response

_ERROR = {"error": "not known here"}
_API = "/sdapi/v1"
# What a web UI has and a gateway does not, by route.
EMPTY: dict[str, Any] = {
    f"{_API}/upscalers": [],
    f"{_API}/latent-upscale-modes": [],
    f"{_API}/sd-vae": [],
    f"{_API}/hypernetworks": [],
    f"{_API}/face-restorers": [],
    f"{_API}/prompt-styles": [],
    f"{_API}/embeddings": {"loaded": {}, "skipped": {}},
    f"{_API}/scripts": {"txt2img": [], "img2img": []},
    f"{_API}/extensions": [],
    f"{_API}/cmd-flags": {},
    f"{_API}/memory": {"ram": _ERROR, "cuda": _ERROR},
}
# What a web UI reads again from its disk; here a list is ten seconds old at most.
REFRESHED = (f"{_API}/refresh-checkpoints", f"{_API}/refresh-loras", f"{_API}/refresh-vae")
# Operations of a web UI that start from a picture.
FROM_PICTURES = (
    f"{_API}/img2img",
    f"{_API}/extra-single-image",
    f"{_API}/extra-batch-images",
    f"{_API}/interrogate",
    f"{_API}/png-info",
)


def options(models: Sequence[Model]) -> dict[str, Any]:
    """Return the settings that clients read; the first model is the default."""
    return {"sd_model_checkpoint": models[0].name, "samples_format": "png", "sd_vae": "Automatic"}


def set_options(models: Sequence[Model], request: Request) -> Response:
    """Accept settings that have these values already.

    Raises:
        InvalidRequest: naming the first that does not: it could not be stored.
    """
    current = options(models)
    for name, value in read_json_object(request).items():
        if name in current and value != current[name]:
            raise InvalidRequest(_not_stored(name), field=name)
    return json_response(None)


def _not_stored(name: str) -> str:
    where = "in each request's override_settings"
    if name == "sd_vae":
        return "sd_vae: every model has its own VAE, which cannot be changed"
    if name == "samples_format":
        return f"samples_format: settings are not stored; name {', '.join(FORMATS)} {where}"
    return f"{name}: settings are not stored; name the model {where}"


def models(offered: Sequence[Model]) -> Response:
    """Return the models as the web UI's checkpoints."""
    checkpoints = [
        {
            "title": model.name,
            "model_name": model.name,
            # The web UI's short hashes have ten digits.
            "hash": model.revision[:10] or None,
            "sha256": None,
            "filename": model.name,
            "config": None,
        }
        for model in offered
    ]
    return json_response(checkpoints)


def loras(offered: Sequence[Model]) -> Response:
    """Return the LoRA adapters, each once, with the models that have it."""
    names = {name for model in offered for name in model.loras or ()}
    adapters = [
        {
            "name": name,
            "alias": name,
            "path": name,
            "metadata": {
                "models": [model.name for model in offered if name in (model.loras or ())]
            },
        }
        for name in sorted(names)
    ]
    return json_response(adapters)


def samplers() -> Response:
    """Return the one sampler; a call can name any, and uses this one."""
    return json_response([{"name": SAMPLER, "aliases": [], "options": {}}])


def schedulers() -> Response:
    """Return the one schedule, by the name of the web UI's own default."""
    schedule = {
        "name": "automatic",
        "label": SAMPLER,
        "aliases": None,
        "default_rho": -1.0,
        "need_inner_model": False,
    }
    return json_response([schedule])


def progress() -> Response:
    """Return the progress of an idle web UI, in the shape that clients poll for."""
    state = {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": "",
        "job_count": 0,
        "job_timestamp": "0",
        "job_no": 0,
        "sampling_step": 0,
        "sampling_steps": 0,
    }
    body = {
        "progress": 0.0,
        "eta_relative": 0.0,
        "state": state,
        "current_image": None,
        "textinfo": "Progress is not available.",
    }
    return json_response(body)


def empty(route: str) -> Response:
    """Return the empty list of a route, whatever prefix that has."""
    return json_response(EMPTY[f"{_API}/{route.rpartition('/')[2]}"])


def interrupt() -> Response:
    """Refuse to stop a picture.

    Raises:
        NotOffered: always; SageMaker cannot cancel a request.
    """
    raise NotOffered("A picture in progress cannot be stopped.")


def from_picture() -> Response:
    """Refuse the operations that start from a picture; raises NotOffered."""
    raise NotOffered("Only text to image is supported: use /sdapi/v1/txt2img.")
