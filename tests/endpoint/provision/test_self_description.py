"""What a model says about itself is stored when its endpoint serves, and read by the gateway."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint import delete_endpoint
from endpoint.aws.bucket import Bucket
from endpoint.aws.models import Models
from endpoint.commands import start, stop
from endpoint.core.console import Console
from endpoint.core.waiting import Waiting
from endpoint.provision.model_metadata import (
    described_metadata,
    description,
    read,
)
from tests.endpoint.doubles import BUCKET, create, names
from tests.endpoint.world import DESCRIPTION, PNG, contents

ABOUT = {"about": "Draws what a small zoo has.", "vocabulary": {"things": ["a panda"]}}
ZOO = {
    "defaults": {"steps": 4, "guidance_scale": 1.5, "width": 512, "height": 512},
    "largest_area": 589824,
    "limits": {"steps": {"minimum": 1, "maximum": 50}},
    "loras": ["from-the-hub"],
    "multiple": 8,
    **ABOUT,
}


def stored(world):
    listed = world.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="descriptions/")
    return [item["Key"] for item in listed.get("Contents", [])]


def offered(world, model):
    """Return what a gateway is told of a model: its metadata, and its description."""
    (sagemaker_model,) = [name for name in names(world, "Model") if f"-{model}-" in name]
    bucket = Bucket(world.client("s3"), BUCKET)
    models = Models(world.client("sagemaker"), Waiting(world, Console(world)))
    known = read(models, bucket, model, sagemaker_model)
    known.metadata.pop("seconds", None)  # measured, and not said by the model
    return known.metadata, known.description


@pytest.mark.parametrize("model", ["sd", "sdxl"])  # real-time and asynchronous
def test_the_gateway_is_told_what_the_container_says(world, model):
    world.description = ZOO
    assert create(world, model=model) == 0
    assert stored(world) == [f"descriptions/{model}/{names(world, 'Model')[0]}.json"]
    known = {name: ZOO[name] for name in ("defaults", "largest_area", "limits", "loras")}
    known["adapters"] = f"s3://{BUCKET}/loras/{model}/"
    assert offered(world, model) == (known, ABOUT)


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_a_container_that_does_not_know_the_request_is_reported_and_prevents_nothing(
    world, capsys, model
):
    world.description = None
    assert create(world, model=model) == 0
    assert "does not describe itself" in capsys.readouterr().err
    assert stored(world) == []
    metadata, text = offered(world, model)
    assert metadata["defaults"]["steps"] > 4  # from its EASEL_DEFAULTS
    assert text == {}


@pytest.mark.parametrize(
    "answer",
    [
        "text",
        [],
        {"image": "iVBORw0KGgo="},
        {**DESCRIPTION, "loras": [{}]},
        {**DESCRIPTION, "loras": "pixel"},
        {**DESCRIPTION, "defaults": {"steps": "many"}},
        {**DESCRIPTION, "defaults": {"steps": float("nan")}},
        {**DESCRIPTION, "limits": {"colour": {"maximum": 3}}},
        {**DESCRIPTION, "limits": [1]},
        {**DESCRIPTION, "largest_area": 1},
        {**DESCRIPTION, "about": "a" * 501},
        {**DESCRIPTION, "vocabulary": {}},
    ],
)
def test_what_the_gateway_could_not_read_is_not_stored(world, capsys, answer):
    world.description = answer
    assert create(world) == 0
    assert "easel-main-sd does not describe itself" in capsys.readouterr().err
    assert stored(world) == []


def test_a_container_that_answers_with_a_picture_is_reported(world, capsys):
    world.description = PNG
    assert create(world) == 0
    assert "does not describe itself" in capsys.readouterr().err
    assert stored(world) == []


def test_a_busy_container_is_asked_again(world):
    # The first run is the warm-up.
    busy = {"OriginalStatusCode": 503, "OriginalMessage": "No worker is available"}
    world.fail("InvokeEndpoint", "ModelError", after=1, times=2, extra=busy)
    assert create(world) == 0
    assert len(stored(world)) == 1


def test_a_container_that_stays_busy_prevents_nothing(world, capsys):
    busy = {"OriginalStatusCode": 503, "OriginalMessage": "No worker is available"}
    world.fail("InvokeEndpoint", "ModelError", after=1, extra=busy)
    assert create(world) == 0
    assert "No worker is available" in capsys.readouterr().err
    assert stored(world) == []


def test_a_description_that_is_missing_is_stored_by_the_next_run(world):
    world.description = None
    assert create(world) == 0
    world.description = ZOO
    assert create(world) == 0
    assert offered(world, "sd")[1] == ABOUT


def test_a_description_is_kept_if_the_next_run_gets_none(world):
    world.description = ZOO
    assert create(world) == 0
    world.description = None
    assert create(world) == 0
    assert offered(world, "sd")[1] == ABOUT


def test_a_started_model_is_asked_again(world):
    assert create(world) == 0
    assert world.run(stop.main, "--yes") == 0
    world.description = {**DESCRIPTION, "loras": ["added"]}
    assert world.run(start.main, "--yes") == 0
    assert offered(world, "sd")[0]["loras"] == ["added"]


def test_a_new_version_replaces_the_description_of_the_old_one(world, serving_code):
    assert create(world) == 0
    (old,) = stored(world)
    (serving_code / "generation.py").write_text("STEPS = 30\n")
    world.description = ZOO
    assert create(world) == 0
    (new,) = stored(world)
    assert new != old


def test_a_new_version_without_a_description_does_not_inherit_one(world, serving_code):
    world.description = ZOO
    assert create(world) == 0
    (serving_code / "generation.py").write_text("STEPS = 30\n")
    world.description = None
    assert create(world) == 0
    assert stored(world) == []
    assert offered(world, "sd")[1] == {}


def test_deleting_a_model_deletes_its_description_alone(world):
    assert create(world) == 0
    assert create(world, model="sd-turbo") == 0
    assert world.run(delete_endpoint.main, "--model", "sd", "--yes") == 0
    assert [key.split("/")[1] for key in stored(world)] == ["sd-turbo"]
    assert world.run(delete_endpoint.main, "--yes") == 0
    assert contents(world) == []


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000, b'{"defaults": {}}'])
def test_a_stored_file_that_somebody_spoilt_counts_as_none(world, content):
    assert create(world) == 0
    (key,) = stored(world)
    world.client("s3").put_object(Bucket=BUCKET, Key=key, Body=content)
    metadata, text = offered(world, "sd")
    assert metadata["defaults"]["steps"] == 25
    assert text == {}


def test_a_dry_run_asks_no_container(world, capsys):
    assert create(world, "--dry-run") == 0
    assert "descriptions/" not in capsys.readouterr().err
    assert "sagemaker-runtime.InvokeEndpoint" not in world.calls


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
ANSWERS = JSON | st.fixed_dictionaries(
    {}, optional=dict.fromkeys([*ZOO, "examples"], JSON) | {"defaults": st.just({})}
)


@given(ANSWERS)
def test_any_answer_is_a_description_or_a_value_error(answer):
    for reader in (lambda: described_metadata(answer, None), lambda: description(answer)):
        try:
            result = reader()
        except ValueError:
            continue
        assert isinstance(result, dict)
        json.dumps(result)
