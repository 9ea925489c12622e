"""The response to a client whose picture is not ready."""

import json

import pytest

from chalicelib.dialects.calls import longest_wait
from chalicelib.dialects.not_ready import not_ready
from chalicelib.errors import StillPainting
from chalicelib.generation import GenerationRequest
from chalicelib.images.jobs import Job, State
from chalicelib.web.request import Request

IDENTIFIER = "sdxl-" + "0" * 32
BROWSER = {"accept": "text/html,*/*;q=0.8"}
JOB = Job(
    IDENTIFIER,
    State.WAITING,
    GenerationRequest(prompt="<b>", seed=7, model="sdxl"),
    waited=12.34,
    attempt=1,
    output="outputs/picture.png",
)


def request(hop=None, **headers):
    query = {} if hop is None else {"hop": [hop]}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("GET", "/inference/{text}", "/inference/x", names, query, "id", root="/api")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 20),
        ({"accept": "image/png"}, 20),
        (BROWSER, 4),
        ({"prefer": "respond-async"}, 0),
        ({"prefer": "wait=5"}, 5),
        ({"prefer": 'Respond-Async, Wait="5"'}, 5),
        ({"prefer": "wait=600"}, 20),
        ({"prefer": "return=minimal"}, 20),
    ],
)
def test_a_request_waits_as_long_as_suits_its_client(headers, seconds):
    assert min(longest_wait(request(**headers)), 20) == seconds


def test_an_image_client_follows_a_chain():
    first = not_ready(request(), JOB)
    second = not_ready(request(hop="1"), JOB)

    assert (first.status, second.status) == (303, 303)
    assert first.headers["Location"] == f"/api/jobs/{IDENTIFIER}/image?hop=1"
    assert second.headers["Location"] == f"/api/jobs/{IDENTIFIER}/image?hop=2"


@pytest.mark.parametrize(
    ("agent", "budget"),
    [
        ("", 18),
        ("OpenAI/Python 3.51.0", 18),
        ("python-requests/2.34", 28),
        ("curl/8.5.0", 48),
        ("Python/3.11 aiohttp/3.13.0", 8),
        ("python-urllib3/2.5.0", 2),
        ("Python-urllib/3.11", 9),
        ("Java-http-client/17.0.9", 3),
        ("libwww-perl/6.72", 6),
        ("OpenAPI-Generator/1.0.0/python", 2),
        ("Lavf/60.16.100", 7),
        ("Links (2.29; Linux 6.1 x86_64)", 14),
    ],
)
def test_the_chain_ends_before_the_clients_redirect_budget(agent, budget):
    not_ready(request(hop=str(budget - 1), user_agent=agent), JOB)
    with pytest.raises(StillPainting, match=f"/api/jobs/{IDENTIFIER}/image"):
        not_ready(request(hop=str(budget), user_agent=agent), JOB)

    assert StillPainting.resend is False


@pytest.mark.parametrize("hop", ["", "-1", "x", "1e9", "99999", "1.5"])
def test_a_hop_that_no_chain_of_ours_has_counts_as_the_first(hop):
    assert not_ready(request(hop=hop), JOB).headers["Location"].endswith("?hop=1")


def test_a_browser_gets_a_page_that_waits():
    response = not_ready(request(**BROWSER), JOB)

    assert response.status == 202
    assert response.headers["Content-Type"].startswith("text/html")
    assert b"<h1>&lt;b&gt;</h1>" in response.body
    assert IDENTIFIER.encode() in response.body


def test_a_client_that_prefers_it_gets_a_receipt():
    response = not_ready(request(prefer="respond-async", **BROWSER), JOB)

    assert response.status == 202
    assert response.headers["Location"] == f"/api/jobs/{IDENTIFIER}"
    assert int(response.headers["Retry-After"]) > 0
    assert json.loads(response.body)["waited_seconds"] == 12.3
