"""Controls a running emulator from Python, for tests."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import quote

import urllib3

from endpoint.emulator.sagemaker.faults import Fault


class EmulatorClient:
    """Controls the emulator at `url`. A rejected request raises ValueError with the reason."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        # Tests poll: a kept connection saves most of each call.
        self._pool = urllib3.PoolManager()

    def _ask(self, method: str, path: str, data: Any = None) -> Any:
        body = None if data is None else json.dumps(data)
        answer = self._pool.request(method, f"{self._url}/emulator/{path}", body=body)
        result = json.loads(answer.data)
        if answer.status != 200:
            raise ValueError(result.get("error"))
        return result

    def set_faults(self, endpoint: str, *faults: Fault) -> None:
        """Replace an endpoint's faults; without any, the endpoint is healthy again."""
        self._ask("PUT", f"faults/{quote(endpoint)}", [fault.to_dict() for fault in faults])

    def faults(self, endpoint: str) -> list[Fault]:
        """Return the active faults."""
        return [Fault.from_dict(data) for data in self._ask("GET", f"faults/{quote(endpoint)}")]

    @contextmanager
    def fault(self, endpoint: str, kind: str, **details: Any) -> Iterator[None]:
        """Activate one fault while the context lasts."""
        self.set_faults(endpoint, Fault(kind, **details))
        try:
            yield
        finally:
            self.set_faults(endpoint)

    def requests(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """Return the requests received, with the members of `request_log.Entry`."""
        result: list[dict[str, Any]] = self._ask("GET", f"requests{_filter(endpoint)}")
        return result

    def runs(self, endpoint: str) -> int:
        """Return the number of GPU runs: how often a model server was invoked."""
        return sum(entry["runs"] for entry in self.requests(endpoint))

    def clear_requests(self, endpoint: str | None = None) -> None:
        """Clear the request log."""
        self._ask("DELETE", f"requests{_filter(endpoint)}")

    def set_container(self, endpoint: str, url: str | None) -> None:
        """Put a model server behind an endpoint."""
        self._ask("PUT", f"containers/{quote(endpoint)}", {"url": url})

    def set_images_from(self, url: str | None) -> None:
        """Have an Easel model server make the images of the containers that are imitated."""
        self._ask("PUT", "images-from", {"url": url})

    def set_locations(self, endpoint: str, **rule: str) -> None:
        """Replace where an asynchronous endpoint's results are written, as `s3_locations.Rule`."""
        self._ask("PUT", f"locations/{quote(endpoint)}", rule)

    def waiting(self, endpoint: str) -> int:
        """Return how many requests wait in an asynchronous endpoint's queue."""
        count: int = self._ask("GET", f"queues/{quote(endpoint)}")["waiting"]
        return count

    def set_transitions(self, **values: Any) -> None:
        """Change how endpoints go through their states, as `lifecycle.Transitions`."""
        self._ask("PUT", "transitions", values)

    def set_training(self, **values: Any) -> None:
        """Change how training jobs go, as `training.rules.Rules`."""
        self._ask("PUT", "training", values)

    def interrupt_training(self, job: str) -> None:
        """Take the instance of a spot training job away, which starts again with another."""
        self._ask("PUT", f"interruptions/{quote(job)}", {})

    def set_deliveries(self, copies: int) -> None:
        """Deliver each event to pipelines and functions so often: EventBridge may do so."""
        self._ask("PUT", "deliveries", {"copies": copies})

    def undelivered(self) -> list[str]:
        """Return why events did not reach pipelines and functions."""
        reasons: list[str] = self._ask("GET", "deliveries")["failed"]
        return reasons

    def replace_function(self, name: str, url: str | None) -> None:
        """Post the events of a function of Lambda to an address; None ends that."""
        self._ask("PUT", f"functions/{quote(name)}", {"url": url})

    def set_clock(self, *, speed: float | None = None, skip: float | None = None) -> None:
        """Run SageMaker's time `speed` times as fast, or skip `skip` seconds of it."""
        changes = {"speed": speed, "skip": skip}
        # A clock cannot stand still, and skipping 0 s changes nothing.
        self._ask("PUT", "clock", {name: value for name, value in changes.items() if value})


def _filter(endpoint: str | None) -> str:
    return "" if endpoint is None else f"?endpoint={quote(endpoint)}"


@contextmanager
def deaf_address() -> Iterator[str]:
    """Yield an address that never accepts a connection, as behind a wrong security group.

    A listener whose backlog is full drops further connections' first packet.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
