"""What pictures cost a caller, through the whole gateway."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from chalicelib.auth.link_quota import RUNS_PER_PICTURE
from chalicelib.images.service import ImageService
from chalicelib.settings import Model, Queue
from tests.gateway.doubles import (
    BROWSER,
    KEY,
    GuardedClient,
    Provided,
    cookies_of,
    error_of,
    guarded,
    key,
    refusal,
)

QUEUED = "model=slow"


def paths(token, *seeds, more=""):
    return [f"/inference/a%20cat?seed={seed}&link={token}{more}" for seed in seeds]


def test_a_link_generates_pictures_until_its_quota_is_used_up(client):
    token = client.link(pictures=2)
    responses = [client.get(path) for path in paths(token, 1, 2, 3)]

    assert [each.status_code for each in responses] == [200, 200, 429]
    assert [each.headers.get("X-Link-Pictures-Left") for each in responses] == ["1", "0", None]
    assert error_of(responses[2])["code"] == "rate_limited"
    assert int(responses[2].headers["Retry-After"]) > 80_000
    assert client.generated == 2


def test_the_same_picture_asked_for_again_costs_nothing_more_a_few_times(client):
    token = client.link(pictures=1)
    (path,) = paths(token, 1)

    assert [client.get(path).status_code for _ in range(4)] == [200] * RUNS_PER_PICTURE + [429]
    assert client.generated == RUNS_PER_PICTURE


def test_a_replayed_link_has_no_second_budget(client, monkeypatch):
    token = client.link(pictures=1)
    client.get(*paths(token, 1))
    elsewhere = GuardedClient(monkeypatch, guarded())
    elsewhere.bucket.objects = client.bucket.objects  # another Lambda, the same bucket

    assert elsewhere.get(*paths(token, 2)).status_code == 429


def test_the_hops_to_a_slow_picture_cost_one_picture_and_keep_the_link(client):
    token = client.link(pictures=1)
    response = client.get(*paths(token, 1, more=f"&{QUEUED}"))
    for _ in range(2):
        assert response.status_code == 303
        location = response.headers["Location"]
        assert location.endswith(f"&link={token}")
        response = client.get(location)

    assert client.queued == 1
    assert client.get(*paths(token, 1, more=f"&{QUEUED}")).status_code == 303
    assert client.get(*paths(token, 2, more=f"&{QUEUED}")).status_code == 429


def test_a_picture_that_exists_costs_nothing(client):
    path = f"/inference/a%20cat?seed=1&{QUEUED}"
    client.get(path, x_api_key=KEY, Prefer="respond-async")
    (run,) = client.runtime.runs.queued
    place = f"jobs/outputs/{run['S3OutputPathExtension']}/{run['Filename']}"
    client.bucket.objects[place] = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x00IEND\xaeB`\x82"
    token = client.link(pictures=1)

    assert client.get(f"{path}&link={token}").status_code == 200
    assert client.get(*paths(token, 9)).status_code == 200
    assert client.queued == 1


@pytest.mark.parametrize(
    "trouble",
    [
        refusal("ThrottlingException"),
        refusal("ValidationError", "Endpoint x of account y not found."),
        EndpointConnectionError(endpoint_url="u"),
    ],
)
def test_what_never_reached_a_gpu_is_refunded(client, trouble):
    token = client.link(pictures=1)
    client.runtime.outcome = trouble
    assert client.get(*paths(token, 1)).status_code == 503
    client.runtime.outcome = None

    assert client.get(*paths(token, 2)).status_code == 200


def test_a_picture_that_may_have_cost_a_run_stays_charged_and_can_be_requested_again(client):
    token = client.link(pictures=1)
    client.runtime.outcome = refusal("InternalFailure")
    assert client.get(*paths(token, 1)).status_code == 502
    client.runtime.outcome = None

    assert client.get(*paths(token, 2)).status_code == 429
    assert client.get(*paths(token, 1)).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/inference/a?steps=0&link={}", "/inference/%00?link={}", "/inference/a?model=x&link={}"],
)
def test_a_bad_request_costs_nothing(client, path):
    token = client.link(pictures=1)

    assert client.get(path.format(token)).status_code == 400
    assert client.request("HEAD", *paths(token, 1)).status_code == 200
    assert client.get(*paths(token, 1), **{"Sec-Purpose": "prefetch"}).status_code == 503
    assert client.get(*paths(token, 1), User_Agent="Slackbot 1.0").status_code == 200
    assert client.generated == 0
    assert client.get(*paths(token, 2)).status_code == 200


def test_a_link_without_a_number_holds_until_it_expires(client):
    token = client.link(pictures=None)

    assert {client.get(path).status_code for path in paths(token, *range(12))} == {200}
    assert client.bucket.objects == {}


def test_a_browser_keeps_the_link_that_it_came_with(client):
    token = client.link(pictures=2)
    arrival = client.get(f"/?link={token}", **BROWSER)
    cookie = cookies_of(arrival)

    assert (arrival.status_code, arrival.headers["Location"]) == (303, "/")
    assert "; HttpOnly; SameSite=Lax" in arrival.headers["Set-Cookie"][0]
    assert client.get("/inference/a%20cat?seed=1", Cookie=cookie).status_code == 200
    landing = client.get(*paths(token, 2), **BROWSER)
    assert cookies_of(landing) == cookie
    assert client.get("/inference/a%20cat?seed=3", Cookie=cookie).status_code == 429


def test_an_invalid_link_sets_no_cookie(client):
    arrival = client.get("/?link=nonsense", **BROWSER)

    assert arrival.status_code == 401
    assert "Set-Cookie" not in arrival.headers


def test_pictures_that_required_a_key_or_a_link_stay_out_of_shared_caches(client):
    token = client.link(pictures=None)

    for response in (
        client.get("/inference/a?seed=1", x_api_key=KEY),
        client.get("/inference/a?seed=1", Cookie=client.sign_in()),
        client.get(f"/inference/a?seed=1&link={token}"),
    ):
        assert response.headers["Cache-Control"] == "private, max-age=31536000, immutable"


def test_a_client_has_a_limit_of_pictures_per_minute(monkeypatch):
    client = GuardedClient(monkeypatch, guarded(keys=(), per_minute=2))
    responses = [client.get(f"/inference/a?seed={seed}") for seed in range(3)]

    assert [each.status_code for each in responses] == [200, 200, 429]
    assert responses[0].headers["RateLimit"].startswith('"pictures";r=1;t=')
    assert responses[2].headers["x-should-retry"] == "false"
    assert 1 <= int(responses[2].headers["Retry-After"]) <= 60
    assert client.get("/options").status_code == 200
    assert client.generated == 2


def test_a_client_cannot_choose_the_address_that_is_counted(monkeypatch):
    client = GuardedClient(monkeypatch, guarded(keys=(), per_minute=1))
    forged = [{"X-Forwarded-For": f"10.0.0.{n}", "X-Real-Ip": f"10.0.0.{n}"} for n in range(3)]
    responses = [client.get(f"/inference/a?seed={n}", **each) for n, each in enumerate(forged)]

    assert [each.status_code for each in responses] == [200, 429, 429]


def test_a_limit_is_reported_to_openais_libraries_in_openais_format(monkeypatch):
    client = GuardedClient(monkeypatch, guarded(keys=(), per_minute=1))
    ask = ("/v1/images/generations", {"prompt": "a cat"})
    client.post(*ask)
    response = client.post(*ask)

    assert response.status_code == 429
    assert error_of(response)["code"] == "rate_limit_exceeded"


def test_waiting_for_a_picture_is_not_counted(monkeypatch):
    client = GuardedClient(monkeypatch, guarded(keys=(), per_minute=1))
    first = client.post("/jobs", {"prompt": "a", "seed": 1, "model": "slow"})
    again = [client.get(first.headers["Location"]) for _ in range(3)]
    again += [client.post("/jobs", {"prompt": "a", "seed": 1, "model": "slow"})]

    assert {each.status_code for each in [first, *again]} == {202}
    other = client.post("/jobs", {"prompt": "a", "seed": 2, "model": "slow"})
    assert other.status_code == 429
    assert client.queued == 1


def test_a_key_has_a_limit_of_its_own_or_none(monkeypatch):
    keys = (key(per_minute=1), key("bob", "easel-bob"))
    client = GuardedClient(monkeypatch, guarded(keys=keys, per_minute=2))
    limited = [client.get(f"/inference/a?seed={n}", x_api_key=KEY) for n in range(3)]
    free = [client.get(f"/inference/a?seed={n}", x_api_key="easel-bob") for n in range(5)]

    assert [each.status_code for each in limited] == [200, 429, 429]
    assert {each.status_code for each in free} == {200}


# --- The URL of one picture -----------------------------------------------------------------------


def picture_path(client, seed=7, **more):
    order = {"prompt": "a cat", "seed": seed, "response_format": "url", **more}
    response = client.post("/v1/images/generations", order, x_api_key=KEY)
    url = json.loads(response.body)["data"][0]["url"]
    return url[url.index("/jobs" if "/jobs/" in url else "/inference") :]


@pytest.mark.parametrize("accounts", [("bucket", "links/"), None])
def test_the_url_of_a_picture_pays_for_three_runs(monkeypatch, accounts):
    client = GuardedClient(monkeypatch, guarded(accounts=accounts))
    path = picture_path(client)
    responses = [client.get(path, **BROWSER) for _ in range(5)]

    assert [each.status_code for each in responses] == [200] * RUNS_PER_PICTURE + [429, 429]
    assert client.generated == RUNS_PER_PICTURE
    assert b"minute" not in responses[-1].body
    assert not any({"Set-Cookie", "X-Link-Pictures-Left"} & set(each.headers) for each in responses)
    assert client.get(picture_path(client, seed=8)).status_code == 200


def test_three_runs_are_those_of_all_instances(monkeypatch):
    client, other = (GuardedClient(monkeypatch, guarded()) for _ in range(2))
    other.bucket.objects = client.bucket.objects
    path = picture_path(client)

    assert [client.get(path).status_code for _ in range(2)] == [200, 200]
    assert [other.get(path).status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("more", [{}, {"User_Agent": "Slackbot 1.0"}, {"Prefer": "respond-async"}])
def test_the_url_of_a_picture_opens_no_other_that_exists(client, more):
    token = picture_path(client, model="slow").partition("link=")[2]
    path = f"/inference/a%20dog?seed=1&{QUEUED}"
    assert client.get(path, x_api_key=KEY, Prefer="respond-async").status_code == 202
    run = client.runtime.runs.queued[-1]
    waiting = client.get(f"{path}&link={token}", **more)
    place = f"jobs/outputs/{run['S3OutputPathExtension']}/{run['Filename']}"
    client.bucket.objects[place] = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x00IEND\xaeB`\x82"
    done = client.get(f"{path}&link={token}", **more)

    assert (waiting.status_code, done.status_code) == (401, 401)
    assert error_of(waiting)["message"] == error_of(done)["message"]


# --- What a key hands out -------------------------------------------------------------------------


def test_what_a_key_hands_out_counts_for_the_key(monkeypatch):
    client = GuardedClient(monkeypatch, guarded(keys=(key(per_minute=3),)))
    link = client.link(pictures=1_000)
    addresses = [picture_path(client, seed) for seed in range(20, 30)]

    assert client.get(*paths(link, 1)).status_code == 200
    assert client.get(addresses[0]).status_code == 200
    assert client.get("/inference/a?seed=2", x_api_key=KEY).status_code == 200
    refused = [client.get(path) for path in [*paths(link, 3, 4), *addresses[1:]]]
    assert {each.status_code for each in refused} == {429}
    assert client.get("/inference/a?seed=3", x_api_key=KEY).status_code == 429
    assert client.generated == 3


def test_a_guest_who_is_refused_uses_up_nothing_of_the_keys(monkeypatch):
    client = GuardedClient(monkeypatch, guarded(keys=(key(per_minute=3),), per_minute=1))
    link = client.link(pictures=None)

    statuses = [client.get(path).status_code for path in paths(link, *range(9))]
    assert statuses == [200] + [429] * 8
    own = [client.get(f"/inference/a?seed={n}", x_api_key=KEY).status_code for n in range(3)]
    assert own == [200, 200, 429]


# --- Runs that may have begun ---------------------------------------------------------------------


@pytest.fixture
def both(client):
    """A gateway whose one model has both kinds of endpoint."""
    queue = Queue("easel-slow", "bucket", "jobs/")
    client.settings = replace(client.settings, models={"sd": Model("sd", "easel-sd", queue)})
    client.service = ImageService(
        client.settings, Provided(client.runtime), Provided(client.bucket)
    )
    return client


LATE = ReadTimeoutError(endpoint_url="u")
DOWN = refusal("ModelError", OriginalStatusCode=503, OriginalMessage="")
FULL = refusal(
    "ModelError",
    OriginalStatusCode=503,
    OriginalMessage='{"code": 503, "message": "No worker is available to serve request: model"}',
)
THROTTLED = refusal("ThrottlingException")


@pytest.mark.parametrize(
    ("trouble", "is_paid"), [(LATE, True), (DOWN, True), (FULL, False), (THROTTLED, False)]
)
def test_a_queue_that_refuses_gives_nothing_back_of_a_run_that_may_have_begun(
    both, trouble, is_paid
):
    token = both.link(pictures=1)
    both.runtime.outcome, both.runtime.runs.trouble = trouble, "refused"
    failing = both.get(*paths(token, 1))
    both.runtime.outcome = None

    assert failing.status_code == 503
    assert both.get(*paths(token, 2)).status_code == (429 if is_paid else 200)


@pytest.mark.parametrize("trouble", [DOWN, LATE])
def test_a_container_that_may_have_run_is_not_refunded(client, trouble):
    token = client.link(pictures=1)
    client.runtime.outcome = trouble
    assert client.get(*paths(token, 1)).status_code in {503, 504}
    client.runtime.outcome = None

    assert client.get(*paths(token, 2)).status_code == 429
    assert client.get(*paths(token, 1)).status_code == 200


@pytest.mark.parametrize("trouble", [LATE, DOWN, FULL, THROTTLED])
def test_a_real_time_try_and_the_queue_cost_one_picture_together(both, trouble):
    token = both.link(pictures=1)
    both.runtime.outcome = trouble

    assert both.get(*paths(token, 1)).status_code == 303
    assert both.queued == 1
    assert both.get(*paths(token, 2)).status_code == 429


# --- Many at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("owners", [1, 2])
def test_many_requests_for_one_queued_picture_are_one_payment_and_no_refusal(client, owners):
    tokens = [client.link(pictures=1) for _ in range(owners)]
    every = [*paths(tokens[0], 1, more=f"&{QUEUED}"), *paths(tokens[-1], 1, more=f"&{QUEUED}")]
    with ThreadPoolExecutor(16) as pool:
        ask = partial(client.get, Prefer="respond-async")
        statuses = list(pool.map(lambda n: ask(every[n % 2]).status_code, range(50)))

    assert set(statuses) == {202}
    assert client.queued == 1
    ledgers = [body for name, body in client.bucket.objects.items() if name.startswith("links/")]
    assert [list(json.loads(body).values()) for body in ledgers] == [[1]]


def test_a_race_costs_one_use_of_the_rate_limit(monkeypatch):
    client = GuardedClient(monkeypatch, guarded(keys=(key(per_minute=2),)))
    path = f"/inference/a?seed=1&{QUEUED}"
    with ThreadPoolExecutor(16) as pool:
        ask = partial(client.get, x_api_key=KEY, Prefer="respond-async")
        statuses = {response.status_code for response in pool.map(ask, [path] * 30)}

    assert statuses == {202}
    assert client.get("/inference/a?seed=2", x_api_key=KEY).status_code == 200
    assert client.get("/inference/a?seed=3", x_api_key=KEY).status_code == 429


def test_whoever_cannot_pay_claims_no_run(client):
    token = client.link(pictures=1)
    client.get(*paths(token, 1))

    assert client.get(*paths(token, 2, more=f"&{QUEUED}")).status_code == 429
    assert not any("records/" in name for name in client.bucket.objects)
