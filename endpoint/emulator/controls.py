"""Controls of a running emulator for tests, below `/emulator/`.

GET    /emulator/requests[?endpoint=NAME]    requests that SageMaker Runtime received
DELETE /emulator/requests[?endpoint=NAME]    clear them
GET    /emulator/faults/NAME                 the active faults
PUT    /emulator/faults/NAME                 replace them by one fault or a list; NAME can be a
                                             project of CodeBuild
PUT    /emulator/containers/NAME             {"url": ...} the model server behind an endpoint
PUT    /emulator/images-from            {"url": ...} the Easel model server that makes the images
                                             of imitated containers; null for none
PUT    /emulator/locations/NAME              {"output": ..., "failure": ...} where in S3 results
                                             are written, with the fields of `s3_locations.Rule`
GET    /emulator/queues/NAME                 {"waiting": n} of an asynchronous endpoint
PUT    /emulator/clock                       {"speed": x} and/or {"skip": seconds}
PUT    /emulator/transitions                 {"create_seconds": x, ...} the states of endpoints,
                                             with the fields of `lifecycle.Transitions`
PUT    /emulator/training                    {"start_seconds": x, ...} how training jobs go,
                                             with the fields of `training.rules.Rules`
PUT    /emulator/deliveries                  {"copies": n} how often an event is delivered
GET    /emulator/deliveries                  {"failed": [...]} why events were not delivered
PUT    /emulator/functions/NAME              {"url": ...} gets a Lambda function's events
PUT    /emulator/interruptions/NAME          {} takes the instance of a spot training job away
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from werkzeug.wrappers import Request, Response

from endpoint.emulator.container.imitations.choice import Imitations
from endpoint.emulator.container.imitations.images import from_server
from endpoint.emulator.lambda_.functions import Functions
from endpoint.emulator.moto_.event_targets import Targets
from endpoint.emulator.process.clock import Clock
from endpoint.emulator.sagemaker.containers import Registry
from endpoint.emulator.sagemaker.faults import Fault
from endpoint.emulator.sagemaker.lifecycle import Transitions
from endpoint.emulator.sagemaker.runtime import Runtime
from endpoint.emulator.training.service import Training


class Controls:
    """Answers these requests with the parts of one emulator."""

    def __init__(
        self,
        runtime: Runtime,
        registry: Registry,
        clock: Clock,
        transitions: Transitions,
        training: Training,
        targets: Targets,
        functions: Functions,
        imitations: Imitations,
    ) -> None:
        self._runtime, self._clock, self._targets = runtime, clock, targets
        self._imitations = imitations
        # Each is called with the name in the path, and with the JSON body.
        self._put: dict[str, Callable[[str, Any], None]] = {
            "faults": self._switch_faults,
            "containers": lambda name, data: registry.register(name, data["url"]),
            "images-from": self._set_images_from,
            "locations": runtime.rules.set,
            "transitions": lambda _, data: transitions.change(data),
            "training": lambda _, data: training.rules.change(data),
            "interruptions": lambda name, _: training.interrupt(name),
            "deliveries": self._set_copies,
            "functions": lambda name, data: functions.replace(name, data["url"]),
            "clock": self._set_clock,
        }

    def answer(self, request: Request) -> Response:
        """Do what a request asks for; 400 with the reason if that is not possible."""
        what, _, name = request.path.removeprefix("/emulator/").partition("/")
        try:
            match request.method, what:
                case "GET", _:
                    return self._get(what, name, request.args.get("endpoint"))
                case "DELETE", "requests":
                    self._runtime.log.clear(request.args.get("endpoint"))
                case "PUT", _ if what in self._put:
                    self._put[what](name, json.loads(request.get_data() or b"null"))
                case _:
                    return _json({"error": "no such switch"}, 404)
        except (ValueError, TypeError, KeyError) as error:
            return _json({"error": str(error)}, 400)
        return _json({})

    def _get(self, what: str, name: str, endpoint: str | None) -> Response:
        match what:
            case "requests":
                return _json(self._runtime.log.list(endpoint))
            case "faults":
                return _json([fault.to_dict() for fault in self._runtime.faults.get(name)])
            case "queues":
                return _json({"waiting": self._runtime.queue.waiting(name)})
            case "deliveries":
                return _json({"failed": self._targets.failed})
        return _json({"error": "no such switch"}, 404)

    def _switch_faults(self, name: str, data: Any) -> None:
        faults = data if isinstance(data, list) else [data]
        self._runtime.faults.switch(name, [Fault.from_dict(fault) for fault in faults])

    def _set_images_from(self, _: str, data: Any) -> None:
        url = data["url"]
        self._imitations.images_from = None if url is None else from_server(str(url))

    def _set_copies(self, _: str, data: Any) -> None:
        self._targets.copies = int(data["copies"])

    def _set_clock(self, _: str, data: Any) -> None:
        self._clock.run_at(float(data.get("speed", self._clock.speed)))
        self._clock.skip(float(data.get("skip", 0)))


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value), status, mimetype="application/json")
