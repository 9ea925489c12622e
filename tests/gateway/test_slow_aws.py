"""AWS that stops answering at any call: every visit ends with its deadline all the same.

S3 and SageMaker Runtime are doubles behind real sockets, and called by the real clients. They hold
their n-th call until its visit has ended, so a visit that waits for them never ends.
"""

import json
import threading
from email.utils import formatdate
from urllib.parse import urlsplit

import pytest

from chalicelib.aws import deadline
from chalicelib.aws.clients import LazyClient
from chalicelib.images.service import ImageService
from endpoint.emulator.process.http_server import QuietHandler, serving
from tests.gateway.doubles import BROWSER, KEY, GuardedClient, guarded, tag

# The fuse of a test that fails: what is held is let go, and the visit counts as late.
_FUSE_SECONDS = 20


class HoldingAws:
    """S3's objects, and how many calls pass before one is held."""

    def __init__(self):
        self.objects, self.lock = {}, threading.Lock()
        self.calls, self.passing, self.is_late = 0, None, False
        self.visit_ended = threading.Event()

    def hold_after(self, passing):
        self.calls, self.passing = 0, passing
        self.visit_ended.clear()

    def arrive(self):
        with self.lock:
            self.calls += 1
            held = self.passing is not None and self.calls > self.passing
        if held and not self.visit_ended.wait(_FUSE_SECONDS):
            self.is_late = True


class Handler(QuietHandler):
    def _serve(self):
        aws, body = self.server.aws, self.body()
        aws.arrive()
        key = urlsplit(self.path).path
        with aws.lock:
            status, headers, answer = getattr(self, f"_{self.command.lower()}")(aws, key, body)
        self.answer(status, headers, answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def handle_expect_100(self):
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def _get(self, aws, key, _body):
        if key not in aws.objects:
            return 404, [], b"<Error><Code>NoSuchKey</Code></Error>"
        headers = [("ETag", tag(aws.objects[key])), ("Last-Modified", formatdate(usegmt=True))]
        return 200, headers, aws.objects[key]

    _head = _get

    def _put(self, aws, key, body):
        present = aws.objects.get(key)
        if "If-None-Match" in self.headers and present is not None:
            return 412, [], b"<Error><Code>PreconditionFailed</Code></Error>"
        if "If-Match" in self.headers and (
            present is None or tag(present) != self.headers["If-Match"]
        ):
            return 412, [], b"<Error><Code>PreconditionFailed</Code></Error>"
        aws.objects[key] = body
        return 200, [("ETag", tag(body))], b""

    def _delete(self, aws, key, _body):
        aws.objects.pop(key, None)
        return 204, [], b""

    def _post(self, aws, key, body):
        if key.endswith("/async-invocations"):
            location = ("X-Amzn-SageMaker-FailureLocation", "s3://bucket/jobs/failures/1")
            return 202, [location], b'{"InferenceId": "1"}'
        error = b'{"Message": "Rate exceeded"}'
        return 400, [("X-Amzn-ErrorType", "ThrottlingException")], error


@pytest.fixture
def aws(monkeypatch):
    double = HoldingAws()
    with serving(Handler, aws=double) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setattr(deadline, "_ENDING_SECONDS", 0.05)
        yield double
        double.visit_ended.set()


@pytest.fixture
def client(aws, monkeypatch):
    # Patient clients: only the deadline ends a call.
    made = GuardedClient(monkeypatch, guarded(), deadline_seconds=0.25)
    runtime, s3 = (
        LazyClient(name, read_seconds=600, attempts=2) for name in ("sagemaker-runtime", "s3")
    )
    made.service = ImageService(made.settings, runtime, s3)
    # Made before the first visit: that takes longer than its deadline.
    runtime.client(), s3.client()
    return made


SLOW = "model=slow&seed=1"
VISITS = {
    "image": lambda client, more: client.get(f"/inference/a cat{more}?{SLOW}", x_api_key=KEY),
    "page": lambda client, more: client.get(
        f"/inference/a cat{more}?{SLOW}", x_api_key=KEY, **BROWSER
    ),
    "link": lambda client, more: client.get(
        f"/inference/a cat{more}?{SLOW}&link={client.link(pictures=5)}"
    ),
    "job": lambda client, more: client.post(
        "/jobs", {"prompt": f"a cat{more}", "model": "slow", "seed": 1}, x_api_key=KEY
    ),
    "openai": lambda client, more: client.post(
        "/v1/images/generations",
        {"prompt": f"a cat{more}", "model": "slow", "n": 2},
        x_api_key=KEY,
    ),
    "web ui": lambda client, more: client.post(
        "/sdapi/v1/txt2img",
        {
            "prompt": f"a cat{more}",
            "override_settings": {"sd_model_checkpoint": "slow"},
            "n_iter": 2,
        },
        x_api_key=KEY,
    ),
    "real-time": lambda client, more: client.get(f"/inference/a cat{more}?model=sd", x_api_key=KEY),
}


def in_time(aws, client, passing, visit):
    aws.hold_after(passing)
    response = visit()
    aws.visit_ended.set()
    assert not aws.is_late
    assert response.status_code in {200, 202, 303, 502, 503, 504}, response.body
    if response.status_code >= 500:
        assert int(response.headers["Retry-After"]) > 0
    return response


@pytest.mark.parametrize("visit", VISITS)
def test_a_visit_ends_when_aws_stops_answering_at_any_call(aws, client, visit):
    for passing in range(10):
        in_time(aws, client, passing, lambda passing=passing: VISITS[visit](client, f" {passing}"))


def test_a_jobs_visits_end_when_s3_stops_answering_at_any_call(aws, client):
    receipt = VISITS["job"](client, "")
    assert receipt.status_code == 202
    address = json.loads(receipt.body)["url"]
    path = address[address.index("/jobs/") :]
    for route in (path, f"{path}/image"):
        for passing in range(4):
            in_time(aws, client, passing, lambda route=route: client.get(route, x_api_key=KEY))


def test_nothing_is_sent_after_the_deadline(aws, client):
    with deadline.sharing(deadline.Deadline(-1.0)):
        response = VISITS["job"](client, " late")
    assert response.status_code == 202  # each visit has a deadline of its own
    calls = aws.calls
    with deadline.sharing(deadline.Deadline(0.0)), pytest.raises(deadline.NoTimeLeft):
        client.service._s3.client().get_object(Bucket="bucket", Key="late")
    assert aws.calls == calls
