from __future__ import annotations

from typing import Any

from endpoint.emulator.sagemaker.lifecycle import Fleet, Lifecycle, Transitions


class Time:
    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return self.seconds


def fleet(config, instances=1):
    variant: dict[str, Any] = {"VariantName": "AllTraffic", "CurrentInstanceCount": instances}
    return Fleet(config, [variant], {"AllTraffic": "ml.g5.xlarge"}, None, {})


def created(time, **changed):
    transitions = Transitions(time.now, 240, 120, 60, **changed)
    states = Lifecycle(transitions, fleet("first"))
    states.create()
    return states


def in_service(time, **changed):
    states = created(time, **changed)
    time.seconds += 240
    return states


def test_an_endpoint_is_in_service_when_its_creation_is_over():
    time = Time()
    states = created(time)

    assert (states.status, states.is_in_progress, states.is_serving) == ("Creating", True, False)
    time.seconds = 240
    assert (states.status, states.is_in_progress, states.is_serving) == ("InService", False, True)


def test_a_creation_that_fails_gives_its_reason_at_its_end():
    time = Time()
    states = in_service(time, fails_with="no capacity")

    assert (states.status, states.is_serving) == ("Failed", False)
    assert states.failure_reason == "no capacity"
    assert states.instances("ml.g5.xlarge") == 0


def test_an_update_answers_on_the_old_fleet_until_the_new_one_is_ready():
    time = Time()
    states = in_service(time)
    states.update(fleet("second"))

    assert (states.status, states.is_serving, states.fleet.config) == ("Updating", True, "first")
    time.seconds += 120
    assert (states.status, states.fleet.config, states.second) == ("InService", "second", None)


def test_an_update_needs_the_instances_of_both_fleets():
    time = Time()
    states = in_service(time)
    states.update(fleet("second", instances=2))

    assert states.instances("ml.g5.xlarge") == 3
    assert states.instances("ml.g6.xlarge") == 0
    time.seconds += 120
    assert states.instances("ml.g5.xlarge") == 2


def test_an_update_that_is_rolled_back_ends_on_the_old_fleet_with_a_reason():
    time = Time()
    states = in_service(time, update_rolls_back=True)
    states.update(fleet("second"))

    time.seconds += 120
    assert (states.status, states.is_serving, states.fleet.config) == ("RollingBack", True, "first")
    time.seconds += 120
    assert (states.status, states.fleet.config, states.second) == ("InService", "first", None)
    assert states.failure_reason is not None


def test_a_deletion_takes_time_and_nothing_answers_meanwhile():
    time = Time()
    states = in_service(time)
    states.delete()

    assert (states.status, states.is_in_progress, states.is_serving) == ("Deleting", True, False)
    time.seconds += 60
    assert (states.status, states.is_in_progress) == ("gone", False)


def test_without_durations_everything_happens_at_once():
    states = Lifecycle(Transitions(Time().now), fleet("first"))
    states.create()
    assert states.status == "InService"

    states.update(fleet("second"))
    assert (states.status, states.fleet.config) == ("InService", "second")

    states.delete()
    assert states.status == "gone"
