"""Whether `deploy` has the pictures of real-time models stored."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from endpoint.provision.gateway.gateway import _stores_pictures
from endpoint.provision.gateway.gateway_project import OfferedModel

STORED = {"endpoint": "e", "pictures": "s3://bucket/pictures/sd/"}
QUEUED = {"asynchronous": {"endpoint": "e", "jobs": "s3://bucket/jobs/sd/"}}


@pytest.mark.parametrize("option", [None, True, False])
@pytest.mark.parametrize(
    ("deployed", "stays"),
    [
        (None, True),
        ({"sd": STORED}, True),
        ({"sd": {"endpoint": "e"}}, False),
        ({"sd": {"endpoint": "e"}, "turbo": STORED}, True),
        ({"sdxl": QUEUED}, True),
        ([], True),
        ({"sd": 7}, True),
    ],
)
def test_the_option_decides_and_without_it_all_stays_as_it_is(option, deployed, stays):
    before = {} if deployed is None else {"EASEL_MODELS": json.dumps(deployed)}
    stores = _stores_pictures(SimpleNamespace(stored_pictures=option), before)

    assert stores is (stays if option is None else option)


def test_the_gateway_can_read_where_they_are_stored():
    from chalicelib.settings import Settings

    offered = OfferedModel("sd", "easel-main-sd", "1a", pictures="s3://bucket/pictures/sd/")
    models = json.dumps({"sd": offered.entry()})
    read = Settings.from_environment({"EASEL_MODELS": models})

    assert read.models["sd"].pictures == ("bucket", "pictures/sd/")
