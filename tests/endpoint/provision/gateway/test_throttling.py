"""The methods that are throttled are the gateway's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import app as gateway
from endpoint.aws.gateway import PAINTING

PAGES = Path(gateway.__file__).parent / "chalicelib" / "pages"
DOCUMENT = json.loads((PAGES / "openapi.json").read_text("utf-8"))


def test_exactly_the_methods_that_can_start_a_run_share_the_limit():
    # The prompt filter refuses before each run, and nowhere else: of the others that report a
    # refusal, HEAD starts nothing, and the rest have the id of what was started.
    starting = {
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
        # Training jobs are counted by key, one at a time and so many in a month.
        if method in {"get", "post"}
        and operation["tags"] != ["Training"]
        and "moderation" in json.dumps(operation.get("responses"))
        and "{identifier" not in path
    }
    assert starting == set(PAINTING)
    assert sum(PAINTING.values()) == pytest.approx(1)


@pytest.mark.parametrize(("method", "path"), PAINTING)
def test_each_is_a_route_of_the_gateway(method, path):
    assert method in gateway.app.routes[path]
