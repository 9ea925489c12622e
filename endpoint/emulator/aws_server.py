"""One server for all of AWS: the emulator's SageMaker Runtime in front of moto.

Plain boto3 reaches it when `AWS_ENDPOINT_URL` is its address. A gateway that was deployed there
answers below its stage, `/api/`. Tests control it below `/emulator/` (`controls.py`).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.wrappers import Request, Response

from endpoint.core.local_addresses import foreign_host, foreign_page
from endpoint.emulator.account import ACCOUNT
from endpoint.emulator.apigateway.deployed_gateway import DeployedGateway
from endpoint.emulator.apigateway.proxy_event import HttpRequest
from endpoint.emulator.container.imitations.choice import Definition, Imitations
from endpoint.emulator.container.imitations.images import Generate
from endpoint.emulator.controls import Controls
from endpoint.emulator.lambda_.functions import Functions
from endpoint.emulator.lambda_.inline import InlineFunction
from endpoint.emulator.moto_ import front, shims
from endpoint.emulator.moto_.codebuild import Builds, builds
from endpoint.emulator.moto_.event_targets import Targets, targets
from endpoint.emulator.moto_.pipelines import pipelines
from endpoint.emulator.moto_.sagemaker import transitions
from endpoint.emulator.moto_.schedules import Schedules, running, schedules
from endpoint.emulator.moto_.training import training
from endpoint.emulator.pipelines.service import Pipelines
from endpoint.emulator.process.clients import Clients
from endpoint.emulator.process.clock import Clock
from endpoint.emulator.process.http_server import in_background
from endpoint.emulator.process.keep_alive import KeepAliveHandler
from endpoint.emulator.sagemaker.containers import Container, Registry
from endpoint.emulator.sagemaker.control_plane import Endpoint
from endpoint.emulator.sagemaker.faults import CutOff
from endpoint.emulator.sagemaker.invocations import LONGEST_BODY
from endpoint.emulator.sagemaker.lifecycle import Transitions
from endpoint.emulator.sagemaker.runtime import Runtime
from endpoint.emulator.sagemaker.scaling import Autoscaler
from endpoint.emulator.training.service import Training

# The access key's id of what SageMaker does in the name of an endpoint's role.
SAGEMAKER_KEY = "easel-sagemaker"
# The same for the roles of training jobs, of pipelines, and of EventBridge's targets.
TRAINING_KEY, PIPELINE_KEY, EVENTS_KEY = "easel-training", "easel-pipeline", "easel-events"
# Of the schedules' role, and of the guard.
SCHEDULER_KEY, GUARD_KEY = "easel-scheduler", "easel-guard"


class AwsServer:
    """AWS at one address, in threads of this process.

    Args:
        containers: addresses of model servers, by the names of their endpoints.
        images_from: makes the images of the containers that are imitated.
        longest_body: that InvokeEndpoint accepts, in bytes.

    Attributes:
        url: its address, while it serves.
        registry: the model server of each endpoint.
        imitations: the containers of other backends.
        faults: the active faults of SageMaker Runtime.
        log: the requests that SageMaker Runtime received.
        clock: counts SageMaker's limits.
        transitions: how long endpoints are in their states, on that clock.
        training: the training jobs.
        pipelines: the executions of pipelines.
        targets: delivers events to pipelines and functions.
        schedules: carries out EventBridge Scheduler's schedules, on that clock.
        functions: what Lambda's Invoke reaches; a test can replace one by a function of its own.
        gateway: what `deploy` put into the account, below its stage.
    """

    def __init__(
        self,
        containers: Mapping[str, str] | None = None,
        *,
        images_from: Generate | None = None,
        longest_body: int = LONGEST_BODY,
    ) -> None:
        shims.install()
        self.url = ""
        self.registry = Registry(containers)
        self.imitations = Imitations(images_from)
        self.registry.otherwise = self._imitation
        self.clock = Clock()
        self._runtime = Runtime(
            self.registry,
            Clients(lambda: self.url, SAGEMAKER_KEY),
            self.clock,
            longest_body=longest_body,
        )
        self.faults, self.log = self._runtime.faults, self._runtime.log
        self._queue = self._runtime.queue
        self.transitions = Transitions(self.clock.now, moment=self._now)
        # The clock counts from the start of the emulator.
        self._began = datetime.now(UTC) - timedelta(seconds=self.clock.now())
        self.training = Training(
            lambda: self.url, TRAINING_KEY, self._clients(TRAINING_KEY), self.clock, self._began
        )
        self.pipelines = Pipelines(self._clients(PIPELINE_KEY), self.clock, self._began)
        self.targets = Targets(self._clients(EVENTS_KEY))
        self.schedules = Schedules(
            self._now,
            self._clients(SCHEDULER_KEY).get,
            self._invoke_inline,
            shift=lambda: self._now() - datetime.now(UTC),
        )
        self.gateway = DeployedGateway(lambda: self.url, self.clock)
        self.functions = Functions(self.gateway.invoke)
        self._controls = Controls(
            self._runtime,
            self.registry,
            self.clock,
            self.transitions,
            self.training,
            self.targets,
            self.functions,
            self.imitations,
        )
        self._moto = front.Front(DomainDispatcherApplication(create_backend_app))
        self._autoscaler = Autoscaler(self.clock, self._queue)

    def _imitation(self, endpoint: Endpoint) -> Container | None:
        return self.imitations.find(
            (endpoint.region, endpoint.name, endpoint.created),
            Definition(endpoint.image, endpoint.environment, endpoint.model_data),
        )

    def _now(self) -> datetime:
        return self._began + timedelta(seconds=self.clock.now())

    def _invoke_inline(self, region: str, name: str, event: Any) -> Any:
        clients = self._clients(GUARD_KEY)
        return InlineFunction(ACCOUNT, region, name).invoke(
            event,
            lambda service: clients.get(service, region),
            lambda: self._now().timestamp(),
        )

    def _clients(self, key: str) -> Clients:
        return Clients(lambda: self.url, key)

    @contextmanager
    def serve(self, port: int = 0) -> Iterator[AwsServer]:
        """Listen on 127.0.0.1:`port` (0: any free one) while the context lasts.

        Raises:
            OSError: when the port is taken.
        """
        server = _listen(port, self)
        self.url = f"http://127.0.0.1:{server.port}"
        self._queue.start()
        try:
            building = Builds(self.clock.now, self._began, fault=self.faults.on_build)
            with (
                self._autoscaler.running(),
                transitions(self.transitions),
                builds(building),
                training(self.training),
                pipelines(self.pipelines),
                targets(self.targets),
                schedules(self.schedules),
                in_background(server),
            ):
                try:
                    with running(self.schedules, ACCOUNT):
                        yield self
                finally:
                    # They use this server until they have ended.
                    self.targets.close()
                    self.pipelines.close()
                    self.training.close()
        finally:
            self._queue.close()
            self.gateway.close()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self.gateway.handles(environ["PATH_INFO"]) and not foreign_host(_hosts(environ)):
            # Which pages can use it, the gateway decides.
            return self._visit(Request(environ))(environ, start_response)
        reason = _refusal(environ)
        if reason is not None:
            response = Response(f"{reason}\n", 403, mimetype="text/plain")
            return response(environ, start_response)
        if self._runtime.handles(environ["REQUEST_METHOD"], environ["PATH_INFO"]):
            return self._invoke(Request(environ))(environ, start_response)
        if self.functions.handles(environ["REQUEST_METHOD"], environ["PATH_INFO"]):
            return self.functions.answer(Request(environ))(environ, start_response)
        if environ["PATH_INFO"].startswith("/emulator/"):
            return self._controls.answer(Request(environ))(environ, start_response)
        return self._moto(environ, start_response)

    def _invoke(self, request: Request) -> Response:
        try:
            return self._runtime.answer(request)
        except CutOff:
            _cut(request)
            raise

    def _visit(self, request: Request) -> Response:
        uri = str(request.environ.get("REQUEST_URI") or request.environ["RAW_URI"])
        path, _, query = uri.partition("?")
        asked = HttpRequest(
            method=request.method,
            path=path,
            query=query,
            headers=list(request.headers.items()),
            body=request.get_data(),
            client=request.remote_addr or "127.0.0.1",
        )
        try:
            answer = self.gateway.answer(asked)
        except LookupError as error:
            return Response(json.dumps({"message": str(error)}), 502, mimetype="application/json")
        return Response(answer.body, answer.status, answer.headers)


def _hosts(environ: Mapping[str, Any]) -> list[str]:
    return [environ["HTTP_HOST"]] if "HTTP_HOST" in environ else []


def _refusal(environ: Mapping[str, Any]) -> str | None:
    """Return why a request is refused, which a web page of another site can send."""
    hosts = _hosts(environ)
    origins = [environ["HTTP_ORIGIN"]] if "HTTP_ORIGIN" in environ else []
    # A signed URL of an object: a picture can be shown on any page.
    is_signed_link = (
        environ["REQUEST_METHOD"] in {"GET", "HEAD"} and "Signature=" in environ["QUERY_STRING"]
    )
    # A form with a signed policy, on which S3 decides. localhost and 127.0.0.1 are two sites.
    is_form = environ["REQUEST_METHOD"] == "POST" and environ.get("CONTENT_TYPE", "").startswith(
        "multipart/form-data"
    )
    fetch_site = "" if is_signed_link or is_form else environ.get("HTTP_SEC_FETCH_SITE", "")
    return foreign_host(hosts) or foreign_page(origins, fetch_site)


def _listen(port: int, app: Any) -> BaseWSGIServer:
    # A socket of our own: werkzeug ends the whole process when a port is taken.
    listener = socket.socket()
    try:
        # A restart must not wait for the last connections' TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        # A burst of clients is queued, not refused.
        listener.listen(128)
        # The server makes its own copy of the descriptor.
        return make_server(
            "127.0.0.1",
            port,
            app,
            threaded=True,
            request_handler=KeepAliveHandler,
            fd=listener.fileno(),
        )
    finally:
        listener.close()


def _cut(request: Request) -> None:
    connection: socket.socket = request.environ["werkzeug.socket"]
    # The client may have closed it first.
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
