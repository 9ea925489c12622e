from __future__ import annotations

from endpoint.emulator.sagemaker.request_log import Entry, RequestLog


def entry(body, endpoint="sd"):
    return Entry.of("InvokeEndpoint", endpoint, {}, body.encode())


def bodies(log, endpoint=None):
    return [each["body"] for each in log.list(endpoint)]


def test_the_log_keeps_the_latest_and_does_not_grow():
    log = RequestLog(most=3)
    for number in range(5):
        log.add(entry(str(number)))

    assert bodies(log) == ["2", "3", "4"]


def test_one_endpoint_can_be_cleared_and_the_bound_still_holds():
    log = RequestLog(most=2)
    log.add(entry("cat", "sd"))
    log.add(entry("dog", "sdxl"))

    log.clear("sd")
    assert (bodies(log), bodies(log, "sdxl")) == (["dog"], ["dog"])
    log.add(entry("fox"))
    log.add(entry("owl"))
    assert bodies(log) == ["fox", "owl"]

    log.clear()
    assert bodies(log) == []
