"""What somebody else put into the bucket is not deleted, and is listed."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoint import delete_endpoint
from endpoint.aws.bucket import Bucket
from endpoint.commands import destroy
from endpoint.provision.files import payload
from tests.conftest import ALL
from tests.endpoint.doubles import BUCKET, create
from tests.endpoint.world import contents, empty_account


def keys(world, prefix=""):
    listed = world.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return {item["Key"] for item in listed.get("Contents", [])}


def put(world, *names):
    for name in names:
        world.client("s3").put_object(Bucket=BUCKET, Key=name, Body=b"mine")


def current(world):
    """Return the prefix of the current version of `sd`."""
    (code,) = [key for key in keys(world, "models/sd/") if key.endswith("/inference.py")]
    return code.removesuffix("code/inference.py")


def test_a_new_version_keeps_the_files_of_others(world, serving_code, capsys):
    assert create(world) == 0
    old = current(world)
    mine = {f"{old}loras/pixel.safetensors", "models/sd/notes.txt", "loras/sd/a.safetensors"}
    put(world, *mine)
    (serving_code / "generation.py").write_text("STEPS = 30\n")
    capsys.readouterr()
    assert create(world) == 0
    assert mine <= keys(world)
    assert keys(world, old) == {f"{old}loras/pixel.safetensors"}
    message = capsys.readouterr().err
    assert f"s3://{BUCKET}/{old}loras/pixel.safetensors" in message
    assert f"Adapters belong into s3://{BUCKET}/loras/sd/" in message
    assert "a.safetensors" not in message.replace("pixel.safetensors", "")


def test_a_file_of_easels_that_somebody_replaced_is_kept(world, serving_code):
    assert create(world) == 0
    old = current(world)
    s3 = world.client("s3")
    # Of the same size, so that the size says nothing.
    size = s3.head_object(Bucket=BUCKET, Key=f"{old}code/generation.py")["ContentLength"]
    s3.put_object(Bucket=BUCKET, Key=f"{old}code/generation.py", Body=b"x" * size)
    (serving_code / "generation.py").write_text("STEPS = 30\n")
    assert create(world) == 0
    assert keys(world, old) == {f"{old}code/generation.py"}


def test_a_copy_of_a_file_of_easels_is_not_easels(world, serving_code):
    assert create(world) == 0
    source = {"Bucket": BUCKET, "Key": f"{current(world)}code/inference.py"}
    world.client("s3").copy(source, BUCKET, "models/sd/backup/inference.py")
    (serving_code / "generation.py").write_text("STEPS = 30\n")
    assert create(world) == 0
    assert "models/sd/backup/inference.py" in keys(world)


def test_deleting_a_model_keeps_its_adapters(world, capsys):
    assert create(world) == 0
    put(world, "loras/sd/a.safetensors")
    assert world.run(delete_endpoint.main, "--model", "sd", "--yes") == 0
    assert keys(world) == {"loras/sd/a.safetensors"}
    assert f"s3://{BUCKET}/loras/sd/a.safetensors" in capsys.readouterr().out


@pytest.mark.parametrize("script", [delete_endpoint, destroy])
def test_deleting_everything_keeps_the_files_of_others_and_their_bucket(world, capsys, script):
    assert create(world) == 0
    mine = {"loras/sd/a.safetensors", "backup.zip"}
    put(world, *mine, "jobs/sd/outputs/1.png", "links/1.json")
    capsys.readouterr()
    assert world.run(script.main, "--yes", "--json") == 1
    result = json.loads(capsys.readouterr().out)
    assert keys(world) == mine == set(result["kept"])
    in_stack = {"bucket", "build project", "guard", "image repository", "log group", "rule"}
    assert {item["kind"] for item in result["left"]} == {*in_stack, "stack"}

    assert world.run(script.main, "--yes") == 1
    text = capsys.readouterr().out
    assert f"s3://{BUCKET}/backup.zip" in text
    assert "run the same command again" in text
    world.client("s3").delete_objects(
        Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in mine]}
    )
    assert world.run(script.main, "--yes") == 0
    assert contents(world) == []


@pytest.mark.parametrize(
    ("script", "arguments"),
    [(delete_endpoint, ()), (delete_endpoint, ("--model", "sd")), (destroy, ())],
)
def test_what_will_be_kept_is_listed_before_the_question(world, capsys, script, arguments):
    assert create(world) == 0
    put(world, "loras/sd/a.safetensors", "loras/sdxl/b.safetensors")
    capsys.readouterr()
    # Nobody can answer, so nothing is deleted.
    assert world.run(script.main, *arguments) == 1
    asked = capsys.readouterr().err
    assert "To be deleted:" in asked
    assert "Kept, because Easel did not upload it:\n" in asked
    assert f"s3://{BUCKET}/loras/sd/a.safetensors" in asked
    assert ("loras/sdxl/b.safetensors" in asked) is (not arguments)
    assert "inference.py" not in asked


def test_the_s3_consoles_empty_folders_prevent_nothing(world):
    assert create(world) == 0
    world.client("s3").put_object(Bucket=BUCKET, Key="loras/sd/", Body=b"")
    assert world.run(delete_endpoint.main, "--yes") == 0
    assert contents(world) == []


def test_many_kept_files_are_not_all_listed():
    lines = payload.Stored("bucket", [], [f"a/{number}" for number in range(100)]).lines()
    assert len(lines) == 22
    assert lines[-1] == "  and 80 more"


PLACES = st.lists(
    st.sampled_from(["models/sd/1/", "loras/sd/", "manifests/sd/", ""]).flatmap(
        lambda start: st.text("ab é/.", min_size=1, max_size=6).map(lambda end: start + end)
    ),
    unique=True,
    max_size=6,
)


@settings(max_examples=25 if ALL else 10, suppress_health_check=[HealthCheck.too_slow])
@given(PLACES, PLACES)
def test_exactly_what_easel_stored_is_easels(own, others):
    with empty_account() as world:
        world.client("s3").create_bucket(Bucket=BUCKET)
        bucket = Bucket(world.session.client("s3"), BUCKET)
        for key in own:
            bucket.put(key, b"easel")
        put(world, *others)
        stored = payload.everything(bucket)
        assert set(stored.others) == set(others)
        assert set(stored.own) == set(own) - set(others)
