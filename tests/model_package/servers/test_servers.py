"""One contract, several servers: the same requests and faults, and where they end differently."""

from __future__ import annotations

import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from tests.model_package.doubles.toolkit import Toolkit
from tests.model_package.servers import launch
from tests.model_package.servers.cases import FAULTS, FINISHED, JSON, REQUESTS, STOPPED, body
from tests.model_package.servers.script.widths import SLOW

# The imitation and the container must behave as what they stand for.
KINDS = {
    "easel": ("easel", launch.easel),
    "container": ("easel", launch.container),
    "imitation": ("toolkit", launch.imitation),
    "toolkit": ("toolkit", launch.toolkit),
    "ray": ("ray", launch.ray_serve),
}
ORDINARY = ("easel", "imitation")
SERVERS = [
    name
    if name in ORDINARY
    else pytest.param(name, marks=[pytest.mark.own_environment, pytest.mark.slow])
    for name in KINDS
]
BY_KEY = {case.key: case for case in FAULTS}
STEPS = 15


@pytest.fixture(scope="module")
def model(stand_in):
    return stand_in(safety_checker="passes")


@pytest.fixture(scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def server(name, model, tmp_path_factory):
    """A server whose model waits to be loaded until the first test has looked at it."""
    folder = tmp_path_factory.mktemp(name)
    (folder / "home").mkdir()
    base = launch.make_base(folder / "opt", model)
    with KINDS[name][1](base, folder / "home") as running:
        yield running


@pytest.fixture(scope="module")
def ready(server):
    (server.home / "go").touch()
    server.until(lambda: server.ping() == 200 and server.paint().status == 200)
    return server


@pytest.fixture(scope="module")
def expected(model):
    """The same image without a server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EASEL_DEFAULTS", launch.DEFAULTS)
        patch.setenv("EASEL_METADATA", "off")
        return Toolkit(model).post(json.loads(body()), accept="image/png").body


def outcome(answer):
    """Return a response in the words of the cases."""
    if answer.status is None:
        return "no response"
    if answer.status < 400:
        return f"{answer.status} `{answer.headers['content-type']}`"
    try:
        content = json.loads(answer.body)
    except ValueError:
        return f"{answer.status}"
    error = content.get("error", {"code": content.get("type")})
    culprit = f" ({error['field']})" if "field" in error else ""
    return f"{answer.status} `{error['code']}`{culprit}"


def right(name, key):
    return BY_KEY[key].outcomes(KINDS[name][0])


@pytest.mark.parametrize("name", SERVERS, indirect=True)
def test_ping_while_the_model_is_loaded(server, name):
    server.until((server.home / "loading").exists)
    assert f"{server.ping()}" in right(name, "loading")


@pytest.mark.parametrize("name", SERVERS, indirect=True)
def test_an_image_is_the_same_as_without_a_server(ready, name, expected):
    assert ready.paint().body == expected


@pytest.mark.parametrize("name", SERVERS, indirect=True)
@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_a_request_ends_as_the_table_says(ready, name, case):
    answer = ready.ask(case.body, case.headers, case.path, case.method)
    assert outcome(answer) in case.outcomes(KINDS[name][0]), answer.body[:500]
    if outcome(answer).startswith("200 `image/"):
        assert f"image/{Image.open(io.BytesIO(answer.body)).format.lower()}" in outcome(answer)


@pytest.mark.parametrize("name", SERVERS, indirect=True)
def test_the_type_of_an_error(ready, name):
    answer = ready.ask(b"{}", JSON)
    assert f"`{answer.headers['content-type']}`" in right(name, "type")
    assert json.loads(answer.body)["error"]["field"] == "prompt"


@pytest.mark.parametrize("name", SERVERS, indirect=True)
def test_a_deadline_that_passes_while_it_is_painted(ready, name):
    attributes = {"X-Amzn-SageMaker-Custom-Attributes": "trace;within=0.5"}
    answer = ready.ask(body(width=SLOW, steps=STEPS), {**JSON, **attributes})
    assert outcome(answer) in right(name, "deadline")


@pytest.mark.parametrize("name", SERVERS, indirect=True)
def test_the_run_of_a_client_that_has_left(ready, name):
    before = ready.calls()
    connection = ready.connect(body(width=SLOW, steps=STEPS), JSON)
    ready.until(lambda: ready.calls() > before + 1)
    connection.close()
    # A server that goes on does so before it finishes this image, or in turns with it.
    calls = None
    while calls != ready.calls():
        calls = ready.calls()
        assert ready.paint().status == 200
    calls -= before
    assert (FINISHED if calls == STEPS else STOPPED) in right(name, "left")


@pytest.mark.parametrize("name", ["easel"], indirect=True)
def test_a_url_is_an_image_in_the_format_that_it_names(ready):
    path = "/predict?prompt=7&seed=7&steps=1&guidance_scale=2.5"
    assert outcome(ready.ask(b"", {}, f"{path}&format=webp", "GET")) == "200 `image/webp`"
    answer = ready.ask(b"", {"Accept": "application/json"}, path, "GET")
    assert json.loads(answer.body)["request"]["prompt"] == "7"


@pytest.mark.parametrize("name", ["easel"], indirect=True)
def test_requests_that_overlap_are_painted_together_and_each_gets_its_own(ready):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda seed: ready.paint(seed=seed, steps=50), range(4)))
    assert [answer.status for answer in answers] == [200] * 4
    assert len({answer.body for answer in answers}) == 4
    batch = json.loads(ready.ask(b"", {}, "/health", "GET").body)["batch"]
    assert (batch["capacity"], batch["mode"]) == (4, "auto")
    # The first one that arrives may be painted alone.
    assert sum(count for size, count in batch["painted"].items() if int(size) > 1) >= 2


@pytest.mark.parametrize("name", SERVERS, indirect=True)
def test_the_process_with_the_model_is_killed(ready, name):
    """The last one: the server may end."""
    answer = ready.ask(BY_KEY["killed"].body, JSON)
    if answer.status is None:
        ready.until(ready.ended)
        after = ", and the server ends"
    else:
        ready.until(lambda: ready.paint().status == 200)
        after = ", and later requests work"
    assert outcome(answer) + after in right(name, "killed")


@pytest.mark.own_environment
@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS, indirect=True)
def test_a_model_that_cannot_be_loaded(name, model, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "go").touch()
    base = launch.make_base(tmp_path / "opt", model)
    shutil.rmtree(base / "model" / "unet")
    with KINDS[name][1](base, home) as server:
        server.until(lambda: server.ended() or server.ping() == 200)
        if server.ended():
            found = "the server ends"
        else:
            found = f"{outcome(server.paint())}, and `/ping` is {server.ping()}"
        assert found in right(name, "unusable")
