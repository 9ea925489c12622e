"""The load of the comparison with the Hugging Face toolkit, on servers that are none."""

import threading

import pytest

from tests.benchmarks.sections.model_package.toolkit import load
from tests.model_package.servers.launch import Answer


class Server:
    """Answers once as many requests wait as there are clients."""

    def __init__(self, clients, status=200):
        self.asked = 0
        self._status, self._barrier = status, threading.Barrier(clients, timeout=10)

    def ask(self, body, headers):
        self._barrier.wait()
        self.asked += 1
        return Answer(self._status, {}, b"image")

    def log(self):
        return "the reason"


def test_each_client_requests_its_next_image_as_soon_as_it_has_one():
    server = Server(clients=4)
    measured = load(server, clients=4, images=8)
    assert server.asked == 8
    assert measured.rate > 0


def test_a_response_that_is_no_image_ends_the_measurement():
    with pytest.raises(RuntimeError, match="the reason"):
        load(Server(clients=2, status=503), clients=2, images=2)
