"""The images route of the real vllm-omni, without vLLM, a GPU and a model.

Run as a program with the folder of the package and a list of requests, it prints a line of JSON for
each. The modules of the route are the package's own. Whatever else they import is made up here: it
is used in signatures, or by other routes. vLLM is not installed, so that its error handlers are not
run: what they would get is printed instead.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.abc
import importlib.machinery
import json
import logging
import sys
from collections import namedtuple
from types import SimpleNamespace

from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from PIL import Image
from pydantic import BaseModel

PACKAGE = "vllm_omni.entrypoints.openai"
REAL = {
    f"{PACKAGE}.api_server",
    f"{PACKAGE}.errors",
    f"{PACKAGE}.image_api_utils",
    f"{PACKAGE}.protocol.images",
    f"{PACKAGE}.utils",
    "vllm_omni.errors",
    "vllm_omni.lora.utils",
}
MADE_UP = {"vllm", "vllm_omni", "httpx"}
MODEL = "black-forest-labs/FLUX.2-klein-4B"


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes up the modules that are not there, and hides those that need them."""

    def __init__(self, folder):
        self._folder = folder

    def find_spec(self, name, path, target=None):
        if name in REAL or name.partition(".")[0] not in MADE_UP:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.__path__ = [f"{self._folder}/{module.__name__.replace('.', '/')}"]
        module.__getattr__ = lambda name: made_up(module, name)


def made_up(module, name):
    if name.startswith("__"):
        raise AttributeError(name)
    kinds = {
        "init_logger": logging.getLogger,
        "with_cancellation": lambda function: function,
        "load_aware_call": lambda function: function,
        "LoRARequest": namedtuple("LoRARequest", ["name", "number", "path"]),
        "OmniDiffusionSamplingParams": SimpleNamespace,
    }
    base = Exception if name.endswith("Error") else BaseModel
    value = kinds.get(name) or type(name, (base,), {"__module__": module.__name__})
    setattr(module, name, value)
    return value


def application(api, calls):
    """Return an application with the route, whose engine remembers its calls."""

    async def generate(*, gen_params, prompt, **_):
        calls.append((gen_params, prompt))
        size = getattr(gen_params, "width", 64), getattr(gen_params, "height", 48)
        count = gen_params.num_outputs_per_prompt
        return SimpleNamespace(images=[Image.new("RGB", size, "red") for _ in range(count)])

    api._generate_with_async_omni = generate
    app = FastAPI()
    app.include_router(api.router)
    app.state.engine_client = object()
    app.state.stage_configs = [{"stage_type": "diffusion"}]
    app.state.openai_serving_models = SimpleNamespace(
        base_model_paths=[SimpleNamespace(name=MODEL)]
    )
    app.state.args = SimpleNamespace(max_generated_image_size=1_048_576)

    @app.exception_handler(RequestValidationError)
    async def invalid(_, error):
        return JSONResponse({"errors": [str(item) for item in error.errors()]}, 400)

    @app.exception_handler(HTTPException)
    async def refused(_, error):
        return JSONResponse({"detail": error.detail}, error.status_code)

    return app


async def post(app, body, content_type):
    """Return the status, the headers and the body of a response."""
    sent, bodies = [], [body]

    async def receive():
        if not bodies:
            # The client stays connected.
            await asyncio.Event().wait()
        return {"type": "http.request", "body": bodies.pop(), "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/images/generations",
        "raw_path": b"/v1/images/generations",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"content-type", content_type.encode()), (b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }
    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(item.get("body", b"") for item in sent[1:])


def main():
    folder, cases = sys.argv[1], json.loads(sys.argv[2])
    sys.meta_path.insert(0, Finder(folder))
    api = importlib.import_module(f"{PACKAGE}.api_server")
    calls = []
    app = application(api, calls)
    for text, content_type in cases:
        calls.clear()
        status, headers, body = asyncio.run(post(app, text.encode(), content_type))
        result = {"status": status, "type": headers.get("content-type")}
        if status == 200 and headers["content-type"].startswith("image/"):
            result["file"] = base64.b64encode(body).decode()
        elif status != 200 or headers["content-type"] == "application/json":
            result["content"] = json.loads(body)
        if calls:
            params, prompt = calls[-1]
            lora = getattr(params, "lora_request", None)
            result["call"] = {
                "prompt": prompt["prompt"],
                "negative_prompt": prompt.get("negative_prompt"),
                "lora": lora and [lora.path, getattr(params, "lora_scale", 1.0)],
                **{
                    name: getattr(params, name, None)
                    for name in ("width", "height", "num_inference_steps", "guidance_scale", "seed")
                },
            }
        print(json.dumps(result))


if __name__ == "__main__":
    logging.disable()
    main()
