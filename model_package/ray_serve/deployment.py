"""Easel on AWS's Ray Serve image: the application that `config.yaml` names.

The image runs Ray Serve on port 8000. Its adapter on port 8080 passes POST /invocations on to
POST /, with the type, Accept and the headers of SageMaker:
https://aws.github.io/deep-learning-containers/ray/deployment/sagemaker/

One replica has one model and the queue of `server/`, so pictures are batched, refused and stopped
as by Easel's own server. Ray Serve only carries requests to it.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import ray
from ray import serve
from server.service import Service, State
from server.settings import Settings
from server.web.app import make_app
from starlette.requests import Request
from starlette.responses import Response

_TICK_SECONDS = 0.1


@serve.deployment(
    num_replicas=1,
    # Ray Serve hides devices that were not asked for; a machine without one has none to ask for.
    ray_actor_options={"num_gpus": min(1, ray.cluster_resources().get("GPU", 0))},
    # The queue is the server's, which knows deadlines.
    max_ongoing_requests=10_000,
    graceful_shutdown_timeout_s=28,
)
class Easel:
    """The server's queue and worker, in one replica."""

    async def __init__(self) -> None:  # type: ignore[misc] # Ray Serve awaits it
        settings = Settings.read(["serve"], os.environ)
        self._service = Service.of(settings)
        self._app = make_app(self._service, settings)
        self._service.start()
        self._checked = False
        # Ray Serve sends requests to a replica whose constructor has returned.
        while self._service.state is State.STARTING:
            await asyncio.sleep(_TICK_SECONDS)

    async def check_health(self) -> None:
        """Raise RuntimeError once nothing can be generated: Ray Serve starts another one."""
        # Ray Serve checks once before it sends requests. It would send none after an error, and
        # leave callers without a response; this way the server answers 503.
        is_first, self._checked = not self._checked, True
        if self._service.fatal is not None and not is_first:
            raise RuntimeError(self._service.fatal)

    async def __call__(self, request: Request) -> Response:
        """Answer a request that the adapter passes on, or one of the server's other paths."""
        scope = dict(request.scope)
        if scope["method"] == "POST" and scope["path"] == "/":
            scope["path"] = "/invocations"
        messages: list[Any] = []

        async def keep(message: Any) -> None:
            messages.append(message)

        await self._app(scope, request.receive, keep)
        start, *parts = messages
        response = Response(b"".join(part.get("body", b"") for part in parts), start["status"])
        response.raw_headers = start["headers"]
        return response


app = Easel.bind()  # type: ignore[attr-defined] # the decorator makes a deployment of it
