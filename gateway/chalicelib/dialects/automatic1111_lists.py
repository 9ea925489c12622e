"""What clients of AUTOMATIC1111's web UI ask before they paint: settings, models, samplers.

A Lambda keeps nothing between two calls, so there are no settings to change and no progress to
tell; what there is not is an empty list, in the shape that clients expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chalicelib.dialects.automatic1111 import FORMATS
from chalicelib.errors import InvalidRequest, NotOffered
from chalicelib.settings import Model
from chalicelib.web.body import read_json_object
from chalicelib.web.request import Visit
from chalicelib.web.response import Answer, json_answer

# Each model paints with the scheduler that it was trained for or came with.
SAMPLER = "Automatic"
_ERROR = {"error": "not known here"}
# What a web UI has and a gateway has none of.
NOTHING: dict[str, Any] = {
    "upscalers": [],
    "latent-upscale-modes": [],
    "sd-vae": [],
    "hypernetworks": [],
    "face-restorers": [],
    "prompt-styles": [],
    "embeddings": {"loaded": {}, "skipped": {}},
    "scripts": {"txt2img": [], "img2img": []},
    "extensions": [],
    "cmd-flags": {},
    "memory": {"ram": _ERROR, "cuda": _ERROR},
}
# What a web UI reads again from its disk; here the lists are always as they are.
FRESH = ("refresh-checkpoints", "refresh-loras", "refresh-vae")
# What a web UI makes of pictures that are there already.
FROM_PICTURES = ("img2img", "extra-single-image", "extra-batch-images", "interrogate", "png-info")


def options(models: Sequence[Model]) -> dict[str, Any]:
    """Return the settings that clients look at; the first model paints unless a call names one."""
    return {"sd_model_checkpoint": models[0].name, "samples_format": "png", "sd_vae": "Automatic"}


def set_options(models: Sequence[Model], visit: Visit) -> Answer:
    """Accept settings that are so already.

    Raises:
        InvalidRequest: naming the first that is not: nothing would remember it.
    """
    now = options(models)
    for name, value in read_json_object(visit).items():
        if name in now and value != now[name]:
            raise InvalidRequest(_unkept(name), field=name)
    return json_answer(None)


def _unkept(name: str) -> str:
    each = "in each request's override_settings"
    if name == "sd_vae":
        return "sd_vae: every model has its own VAE here, and no other"
    if name == "samples_format":
        return f"samples_format: settings are not kept here; name {', '.join(FORMATS)} {each}"
    return f"{name}: settings are not kept here; name the model {each}"


def models(offered: Sequence[Model]) -> Answer:
    """List the models on offer; the web UI's checkpoints."""
    listed = [
        {
            "title": model.name,
            "model_name": model.name,
            "hash": model.revision[:10] or None,
            "sha256": None,
            "filename": model.name,
            "config": None,
        }
        for model in offered
    ]
    return json_answer(listed)


def loras(offered: Sequence[Model]) -> Answer:
    """List the adapters that are known of, each once, with the models that have it."""
    names = {name for model in offered for name in model.loras or ()}
    listed = [
        {
            "name": name,
            "alias": name,
            "path": name,
            "metadata": {"models": [each.name for each in offered if name in (each.loras or ())]},
        }
        for name in sorted(names)
    ]
    return json_answer(listed)


def samplers() -> Answer:
    """List the one sampler; a call may name any, and gets this one."""
    return json_answer([{"name": SAMPLER, "aliases": [], "options": {}}])


def schedulers() -> Answer:
    """List the one way of spacing noise levels, by the name of the web UI's own default."""
    listed = {
        "name": "automatic",
        "label": SAMPLER,
        "aliases": None,
        "default_rho": -1.0,
        "need_inner_model": False,
    }
    return json_answer([listed])


def progress() -> Answer:
    """Tell that nothing is known to be under way, in the shape that clients wait for."""
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
    told = {
        "progress": 0.0,
        "eta_relative": 0.0,
        "state": state,
        "current_image": None,
        "textinfo": "How far a picture is, is not known here.",
    }
    return json_answer(told)


def interrupt() -> Answer:
    """Refuse to stop a picture.

    Raises:
        NotOffered: always; SageMaker takes nothing back once it has it.
    """
    raise NotOffered("A picture that is under way cannot be stopped.")


def from_picture() -> Answer:
    """Refuse what the web UI does with pictures that are there already; raises NotOffered."""
    raise NotOffered("Pictures are made from words alone here: use /sdapi/v1/txt2img.")
