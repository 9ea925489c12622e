"""Everything that can go wrong behind the gateway, switched on in the emulator."""

import base64
import json
import subprocess

import pytest

from endpoint.emulator.client import deaf_address
from endpoint.emulator.lambda_.lambda_runtime import LambdaFunction
from tests.end_to_end.account import ENDPOINT
from tests.end_to_end.calls import BROWSER, get, picture_url
from tests.packages import proxy_event

OURS = {"error": {"code": "moderation_blocked", "message": "The safety checker refused it."}}
FIELD = {"error": {"code": "invalid_request", "message": "width: too large", "field": "width"}}
TOOLKIT = {"code": 400, "type": "InternalServerException", "message": "name 'x' is not defined"}
FAULTS = {
    "throttled": ("throttled", {}, 503, "endpoint_busy"),
    "unavailable": ("unavailable", {}, 503, "endpoint_busy"),
    "an internal dependency": ("dependency", {}, 503, "endpoint_busy"),
    "still loading": ("cold", {}, 503, "endpoint_busy"),
    "not allowed": ("denied", {}, 502, "endpoint_forbidden"),
    "an internal failure": ("failed", {}, 502, "endpoint_failed"),
    "the model fails": ("failing", {}, 502, "endpoint_failed"),
    "the script fails": (
        "failing",
        {"status": 400, "body": json.dumps(TOOLKIT)},
        502,
        "endpoint_failed",
    ),
    "cut off": ("cut", {}, 502, "connection_cut"),
    "cut in the middle": ("cut-body", {}, 502, "connection_cut"),
    "a page in its place": ("rubbish", {"rubbish": "html"}, 502, "bad_picture"),
    "half a picture": ("rubbish", {"rubbish": "truncated"}, 502, "bad_picture"),
    "nothing": ("rubbish", {"rubbish": "empty"}, 502, "bad_picture"),
}
TOO_SLOW = {
    "too slow": ("slow", {"seconds": 30}, 504, "endpoint_too_slow"),
    "dripping": ("trickle", {"seconds": 30}, 504, "endpoint_too_slow"),
    "silent": ("silent", {"seconds": 30}, 504, "endpoint_too_slow"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_own_error(gateway_url, emulator, fault):
    check_answer(gateway_url, emulator, *FAULTS[fault])


@pytest.mark.parametrize("fault", TOO_SLOW)
def test_an_endpoint_that_is_too_slow_is_an_error_in_time(impatient_url, emulator, fault):
    check_answer(impatient_url, emulator, *TOO_SLOW[fault])


def check_answer(url, emulator, kind, details, status, code):
    with emulator.fault(ENDPOINT, kind, **details):
        response = get(picture_url(url, "a secret wish", seed=7))

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert int(response.headers["Retry-After"]) == error["retry_after"] > 0
    assert response.headers["Cache-Control"] == "no-store"
    assert len(emulator.requests(ENDPOINT)) == 1, "a generation must never be sent twice"
    assert not any(word in response.text for word in ("arn:", "boto", "Traceback", "secret"))


@pytest.mark.parametrize("fault", ["throttled", "too slow", "half a picture"])
def test_a_browser_gets_an_error_page(impatient_url, emulator, fault):
    kind, details, status, _ = {**FAULTS, **TOO_SLOW}[fault]
    with emulator.fault(ENDPOINT, kind, **details):
        response = get(picture_url(impatient_url, "<b>", seed=7), BROWSER)

    assert response.status_code == status
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Retry-After"] in response.text
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_an_endpoint_that_does_not_exist_is_reported_as_missing(gateway_url, emulator):
    response = get(picture_url(gateway_url, "a cat", model="gone"))

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "endpoint_missing"
    assert int(response.headers["Retry-After"]) > 0


def test_what_the_container_refuses_is_a_400_with_its_reason(gateway_url, emulator):
    for status, body, code in [(422, OURS, "moderation_blocked"), (400, FIELD, "invalid_request")]:
        with emulator.fault(ENDPOINT, "failing", status=status, body=json.dumps(body)):
            response = get(picture_url(gateway_url, "a cat", seed=7))
        assert response.status_code == 400
        assert response.json()["error"]["code"] == code
        assert response.json()["error"]["message"] == body["error"]["message"]
        assert "Retry-After" not in response.headers


def test_the_next_picture_is_whole_again(impatient_url, emulator):
    for kind in ("cut", "cut-body", "trickle"):
        with emulator.fault(ENDPOINT, kind, seconds=30):
            assert get(picture_url(impatient_url, "a cat")).status_code in {502, 504}
        assert get(picture_url(impatient_url, "a cat")).status_code == 200


def test_an_address_that_does_not_answer_is_reported_before_api_gateway_gives_up(package):
    with deaf_address() as url:
        error = _invoke(package, url)["error"]

    assert error["code"] == "endpoint_unreachable"


def test_an_address_without_a_listener_is_reported_at_once(package):
    assert _invoke(package, "http://127.0.0.1:9")["error"]["code"] == "endpoint_unreachable"


def test_a_missing_setting_is_in_the_log_and_not_in_the_response(package, tmp_path):
    log = tmp_path / "log"
    event = proxy_event("/inference/a", "/inference/{text}", text="a")
    with (
        log.open("wb") as output,
        LambdaFunction(package / "deployment.zip", {}, output=output) as fn,
    ):
        payload = fn.invoke(event).payload

    assert payload["statusCode"] == 500
    assert "EASEL_MODELS" not in json.dumps(payload)
    assert '"variable":"EASEL_MODELS","problem":"is not set' in log.read_text()


def _invoke(package, url):
    """Return what the packaged gateway answers when AWS is at `url`."""
    event = proxy_event("/inference/a", "/inference/{text}", text="a")
    variables = {"AWS_ENDPOINT_URL": url, "EASEL_MODELS": '{"sd": {"endpoint": "easel-sd"}}'}
    with LambdaFunction(
        package / "deployment.zip", variables, output=subprocess.DEVNULL
    ) as function:
        return json.loads(base64.b64decode(function.invoke(event).payload["body"]))
