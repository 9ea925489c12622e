"""The process dies before and after its AWS calls.

"Before" is a call that never left; "after" is one that AWS carried out and whose answer never came.
The scripts keep nothing on disk, so dying before a call and after the one before it leave the same
account. That lets each moment be followed by another recovery, and all pairs be covered. For the
same reason, dying at a call that only reads leaves the account of the call before, unless time has
passed in between: such calls are crashed at with `--all` only.

Without `--all`, each test crashes at every third of the calls that change something. The tests of
`create` and of `delete` begin at different calls.
"""

from __future__ import annotations

import pytest

from endpoint import create_endpoint, delete_endpoint
from endpoint.commands import destroy, start, stop
from tests.conftest import ALL
from tests.endpoint import forks
from tests.endpoint.doubles import create_gateway
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, Crash, contents, empty_account

pytestmark = pytest.mark.slow
STRIDE = 1 if ALL else 3
REAL_TIME = f"--model sd --yes --image {IMAGE}"
ASYNCHRONOUS = f"--model sdxl --yes --image {IMAGE} --email a@b.example --budget 20"
CREATE = {
    "real-time": tuple(REAL_TIME.split()),
    "asynchronous": tuple(ASYNCHRONOUS.split()),
}
TURN = {"real-time": 0, "asynchronous": 1}


def crashes(prepare, script, arguments, when, recover, turn=0):
    """Let the script die at its calls, and let `recover` go on in that account.

    Each time a copy of this process dies, so that the account is prepared only once. `recover` gets
    the account and the moment in words. `turn` is the place of the first crash, counted from 0.
    """
    # Without a crash first: the clients that this makes are in all copies.
    with empty_account() as world:
        prepare(world)
        assert world.run(script.main, *arguments) == 0
        recover(world, "at the end")
    with empty_account() as world:
        prepare(world)
        place = -turn

        def at(number, moment):
            nonlocal place
            if moment == when and (ALL or number in world.changes):
                if place % STRIDE == 0 and forks.fork():
                    world.die()
                place += 1

        world.at_call = at
        try:
            assert world.run(script.main, *arguments) == 0
        except Crash:
            world.revive()
            moment = f"{when} call {len(world.calls)}: {world.calls[-1]}"
            forks.end(lambda: recover(world, moment))
        assert place > 10


def nothing(_):
    """Leave the account empty."""


@pytest.mark.parametrize("kind", CREATE)
def test_wherever_create_dies_deleting_leaves_nothing(serving_code, kind):
    def recover(world, at):
        assert world.run(delete_endpoint.main, "--yes") == 0, at
        assert contents(world) == [], at

    crashes(nothing, create_endpoint, CREATE[kind], "before", recover, TURN[kind])


@pytest.mark.parametrize("kind", CREATE)
def test_wherever_create_dies_creating_again_succeeds_and_deleting_leaves_nothing(
    serving_code, kind
):
    def recover(world, at):
        assert world.run(create_endpoint.main, *CREATE[kind]) == 0, at
        assert len(world.client("sagemaker").list_endpoints()["Endpoints"]) == 1, at
        assert len(world.client("sagemaker").list_models()["Models"]) == 1, at
        assert world.run(delete_endpoint.main, "--yes") == 0, at
        assert contents(world) == [], at

    crashes(nothing, create_endpoint, CREATE[kind], "after", recover, TURN[kind])


def with_both(world):
    """Create a real-time and an asynchronous endpoint."""
    for kind in ("real-time", "asynchronous"):
        assert world.run(create_endpoint.main, *CREATE[kind]) == 0


def test_wherever_delete_dies_deleting_again_leaves_nothing(serving_code):
    def recover(world, at):
        assert world.run(delete_endpoint.main, "--yes") == 0, at
        assert contents(world) == [], at

    crashes(with_both, delete_endpoint, ("--yes",), "before", recover)


def test_wherever_delete_dies_creating_again_succeeds_and_deleting_leaves_nothing(serving_code):
    def recover(world, at):
        assert world.run(create_endpoint.main, *CREATE["real-time"]) == 0, at
        names = world.client("sagemaker").list_endpoints()["Endpoints"]
        assert "easel-main-sd" in [item["EndpointName"] for item in names], at
        assert world.run(delete_endpoint.main, "--yes") == 0, at
        assert contents(world) == [], at

    crashes(with_both, delete_endpoint, ("--yes",), "after", recover, turn=1)


@pytest.mark.parametrize("kind", CREATE)
def test_wherever_an_update_dies_updating_again_leaves_one_version(serving_code, kind):
    def with_older_code(world):
        (serving_code / "generation.py").write_text("STEPS = 25\n")
        assert world.run(create_endpoint.main, *CREATE[kind]) == 0
        (serving_code / "generation.py").write_text("STEPS = 26\n")

    def recover(world, at):
        assert world.run(create_endpoint.main, *CREATE[kind]) == 0, at
        client = world.client("sagemaker")
        assert len(client.list_models()["Models"]) == 1, at
        assert len(client.list_endpoint_configs()["EndpointConfigs"]) == 1, at
        bucket = world.client("s3").list_objects_v2(Bucket=f"easel-main-{ACCOUNT}-{REGION}")
        code = [item for item in bucket["Contents"] if item["Key"].startswith("models/")]
        assert len(code) == 2, at

    crashes(with_older_code, create_endpoint, CREATE[kind], "after", recover, TURN[kind])


def test_wherever_stop_dies_starting_brings_all_endpoints_back(serving_code):
    def recover(world, at):
        assert world.run(stop.main, "--yes") == 0, at
        assert world.client("sagemaker").list_endpoints()["Endpoints"] == [], at
        assert world.run(start.main, "--yes") == 0, at
        assert len(world.client("sagemaker").list_endpoints()["Endpoints"]) == 2, at

    crashes(with_both, stop, ("--yes",), "after", recover)


def with_gateway(world):
    """Create an endpoint, and a gateway in front of it as chalice makes one."""
    assert world.run(create_endpoint.main, *CREATE["real-time"]) == 0
    create_gateway(world)


def test_wherever_destroy_dies_destroying_again_leaves_nothing(serving_code):
    def recover(world, at):
        assert world.run(destroy.main, "--yes") == 0, at
        assert contents(world) == [], at

    crashes(with_gateway, destroy, ("--yes",), "after", recover)
