"""The checks of `endpoint/catalogue/beliefs.json`: each asks AWS, and returns what it did.

A check changes nothing that the clean-up does not delete. It raises what its calls raise; then the
belief counts as not checked.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from endpoint.aws.endpoints import VARIANT
from endpoint.core.problems import ScriptError, code_of
from endpoint.core.waiting import Waiting
from endpoint.proof.afterwards import (
    gateway_timeout,
    read_only_task,
    stack_rollback,
    throttled_function,
)
from endpoint.proof.leases import guard_counts, lease_ends
from endpoint.proof.pictures import batch_events, stored_picture, usage_records
from endpoint.proof.subject import Check, Observation, Subject, changes
from endpoint.proof.training import TRAINING
from endpoint.proof.updates import update_in_progress, update_quota, update_rollback, update_scaled

# Of the wake-up: two minutes of the alarm, an instance, its image and the model.
_WAKE_SECONDS = 3600
_FAILURE_SECONDS = 600
_INIT_MILLISECONDS = 10_000
# Above the burst of the method that has the smallest share of `deploy --burst`; a request with a
# field that cannot be read costs no picture.
_REFUSED, _AT_ONCE = "inference/default?seed=no", 60


# --- SageMaker ------------------------------------------------------------------------------------


def asynchronous_output(subject: Subject) -> Observation:
    """Whether the result is where InvokeEndpointAsync said that it would be."""
    answer = _invoke(subject, b'{"prompt": "a proof", "seed": 1}', "proof.png")
    prefix = f"s3://{subject.bucket}/jobs/"
    location = str(answer["OutputLocation"])
    found = _wait_for_object(subject, location)
    return Observation(
        found and location.startswith(prefix),
        f"OutputLocation is {location}; {'the result is there' if found else 'nothing is there'}",
    )


def asynchronous_failure(subject: Subject) -> Observation:
    """Whether failures have objects of their own, with the container's answer in them."""
    answers = [_invoke(subject, b'{"prompt": 1}', f"bad{number}.png") for number in range(2)]
    locations = [str(answer.get("FailureLocation", "none")) for answer in answers]
    found = _wait_for_object(subject, locations[0])
    text = _read(subject, locations[0])[:300].decode(errors="replace") if found else ""
    return Observation(
        found and len(set(locations)) == 2 and "prompt" in text,
        f"FailureLocations are {' and '.join(locations)}; the object says: {text or 'nothing'}",
    )


def endpoint_states(subject: Subject) -> Observation:
    """Whether new endpoints went through the states that the emulator knows."""
    seen = {name: changes(states) for name, states in subject.states.items()}
    held = all(states[:2] in (["Creating", "InService"], ["InService"]) for states in seen.values())
    words = "; ".join(f"{name}: {', '.join(states)}" for name, states in seen.items())
    return Observation(held and bool(seen), words or "no state was seen")


def instance_pools(subject: Subject) -> Observation:
    """Whether SageMaker reports the type of each instance, which the guard counts by."""
    sagemaker = subject.client("sagemaker")
    (variant,) = sagemaker.describe_endpoint(EndpointName=subject.real_time)["ProductionVariants"]
    if not variant.get("InstancePools"):
        raise ScriptError(f"{subject.real_time} has one instance type")
    counts = {
        pool["InstanceType"]: pool.get("CurrentInstanceCount") for pool in variant["InstancePools"]
    }
    held = sum(count or 0 for count in counts.values()) == variant["CurrentInstanceCount"]
    words = ", ".join(f"{count} of {name}" for name, count in counts.items())
    return Observation(held, words)


def wake_from_zero(subject: Subject) -> Observation:
    """Send the endpoint to zero instances, and time a picture from there, step by step."""
    name, clock = subject.asynchronous, subject.context.clock
    sagemaker = subject.client("sagemaker")
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[{"VariantName": VARIANT, "DesiredInstanceCount": 0}],
    )
    waiting = subject.context.waiting
    _until(waiting, f"{name} goes to zero instances", lambda: _instances(sagemaker, name)[1] == 0)
    start = clock.monotonic()
    answer = _invoke(subject, b'{"prompt": "a proof", "seed": 2}', "wake.png")
    _until(waiting, "the alarm", lambda: _instances(sagemaker, name)[0] > 0)
    asked = clock.monotonic() - start
    _until(waiting, "an instance", lambda: _instances(sagemaker, name)[1] > 0)
    there = clock.monotonic() - start
    found = _wait_for_object(subject, str(answer["OutputLocation"]), _WAKE_SECONDS)
    measured = {
        "seconds until an instance was asked for": round(asked),
        "seconds until it was there": round(there),
        "seconds until the picture": round(clock.monotonic() - start),
    }
    return Observation(found, "one request started an instance", measured)


def _invoke(subject: Subject, body: bytes, file: str) -> dict[str, Any]:
    answer: dict[str, Any] = subject.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName=subject.asynchronous,
        ContentType="application/json",
        Accept="image/png",
        Body=body,
        S3OutputPathExtension="proof",
        Filename=file,
    )
    return answer


def _instances(sagemaker: Any, name: str) -> tuple[int, int]:
    """Return how many instances are desired, and how many there are."""
    (variant,) = sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"]
    return variant.get("DesiredInstanceCount", 0), variant.get("CurrentInstanceCount", 0)


# --- S3 -------------------------------------------------------------------------------------------


def conditional_write(subject: Subject) -> Observation:
    """Whether a second conditional write is refused."""
    arguments = {"Bucket": subject.bucket, "Key": "jobs/proof/once", "IfNoneMatch": "*"}
    s3 = subject.client("s3")
    s3.put_object(**arguments)
    try:
        s3.put_object(**arguments)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return Observation(status == 412, f"{status} {code_of(error)}")
    return Observation(False, "the second write was accepted")


def presigned_url(subject: Subject) -> Observation:
    """Whether a presigned URL works, and names the region's own host."""
    key = "jobs/proof/presigned"
    subject.client("s3").put_object(Bucket=subject.bucket, Key=key, Body=b"a proof")
    # As gateway/chalicelib/aws/clients.py makes them.
    style = {"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"}
    s3 = subject.client("s3", signature_version="s3v4", s3=style)
    url = s3.generate_presigned_url("get_object", {"Bucket": subject.bucket, "Key": key})
    answer = subject.visitor.fetch(url)
    host = urlsplit(url).hostname or ""
    # The emulator has one host for all regions.
    regional = subject.context.account.region in host or "amazonaws.com" not in host
    held = answer.status == 200 and regional and "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url
    return Observation(held, f"{answer.status} from {host}")


def missing_object(subject: Subject) -> Observation:
    """Whether the gateway's role learns that a job does not exist."""
    # Of a model on offer, so that the gateway has to look into S3.
    model = subject.context.deployment.model_of(subject.asynchronous)
    answer = subject.visitor.get(f"jobs/{model}-{'0' * 32}", Accept="application/json")
    return Observation(answer.status == 404, f"an unknown job is {answer.status}")


def _wait_for_object(subject: Subject, location: str, seconds: int = _FAILURE_SECONDS) -> bool:
    if not location.startswith("s3://"):
        return False
    start = subject.context.clock.monotonic()
    while not _exists(subject, location):
        if subject.context.clock.monotonic() - start > seconds:
            return False
        subject.context.clock.sleep(5)
    return True


def _exists(subject: Subject, location: str) -> bool:
    try:
        subject.client("s3").head_object(**_place(location))
    except ClientError as error:
        if code_of(error) not in {"404", "NoSuchKey"}:
            raise
        return False
    return True


def _read(subject: Subject, location: str) -> bytes:
    body: bytes = subject.client("s3").get_object(**_place(location))["Body"].read()
    return body


def _place(location: str) -> dict[str, str]:
    parts = urlsplit(location)
    return {"Bucket": parts.netloc, "Key": parts.path.removeprefix("/")}


# --- API Gateway and Lambda -----------------------------------------------------------------------


def binary_body(subject: Subject) -> Observation:
    """Whether a picture arrives as bytes, whatever the client accepts."""
    accepted = ("image/png", "text/html,*/*;q=0.8", "application/json", "*/*")
    path = "inference/a%20red%20apple?seed=1"
    bodies = {accept: subject.visitor.get(path, Accept=accept).body[:8] for accept in accepted}
    wrong = [accept for accept, body in bodies.items() if body != b"\x89PNG\r\n\x1a\n"]
    return Observation(not wrong, f"not a PNG for Accept: {wrong}" if wrong else "PNG for all")


def encoded_path(subject: Subject) -> Observation:
    """Whether a prompt with a slash reaches the gateway in one segment."""
    answer = subject.visitor.get("inference/a%2Fb?seed=no", Accept="application/json")
    # The wrong seed costs no picture; a path that is cut at the slash has no route.
    return Observation(answer.status == 400, f"a%2Fb is {answer.status}")


def unknown_path(subject: Subject) -> Observation:
    """Whether an address that does not exist is a 404 with a sentence."""
    answer = subject.visitor.get("no/such/path", Accept="application/json")
    words = answer.body[:200].decode(errors="replace")
    return Observation(answer.status == 404 and "base URL" in words, f"{answer.status}: {words}")


def remapped_header(subject: Subject) -> Observation:
    """What becomes of WWW-Authenticate."""
    answer = subject.visitor.without_key("inference/a%20proof")
    names = sorted(name for name in answer.headers if "authenticate" in name)
    held = names == ["x-amzn-remapped-www-authenticate"]
    return Observation(held and answer.status == 401, f"{answer.status} with {names}")


def throttled_method(subject: Subject) -> Observation:
    """Whether one method is throttled while another answers."""
    statuses = [subject.visitor.get(_REFUSED).status for _ in range(_AT_ONCE)]
    other = subject.visitor.get("options").status
    refused = statuses.count(429)
    words = f"{refused} of {_AT_ONCE} requests were refused; another method then: {other}"
    return Observation(refused > 0 and other == 200, words)


def cold_start(subject: Subject) -> Observation:
    """Whether the function's initialisation is within Lambda's limit; its log has the duration."""
    group = f"/aws/lambda/{subject.context.deployment.function}"
    events = subject.client("logs").filter_log_events(
        logGroupName=group, filterPattern='"Init Duration"'
    )["events"]
    texts = [event["message"].partition("Init Duration: ")[2] for event in events]
    durations = [float(text.split()[0]) for text in texts if text]
    if not durations:
        return Observation(False, "the log has no Init Duration")
    measured = {"milliseconds of initialisation, median": round(statistics.median(durations))}
    words = f"{len(durations)} cold starts, the longest of {max(durations):.0f} ms"
    return Observation(max(durations) < _INIT_MILLISECONDS, words, measured)


def _until(waiting: Waiting, phase: str, done: Callable[[], bool]) -> None:
    waiting.until_done(lambda: None if done() else phase, at_most=_WAKE_SECONDS, every=5)


# In the order in which they are run. `leftovers` is the clean-up's.
UPDATES_OF_REAL_TIME = (update_quota,)
WITH_BOTH = (
    endpoint_states,
    conditional_write,
    presigned_url,
    missing_object,
    encoded_path,
    unknown_path,
    remapped_header,
    binary_body,
    asynchronous_output,
    asynchronous_failure,
    instance_pools,
    stored_picture,
    usage_records,
    batch_events,
    throttled_method,
    cold_start,
    guard_counts,
)
# Each goes on from where the one before it ended.
UPDATES_OF_ASYNCHRONOUS = (update_scaled, update_in_progress, update_rollback)
# They break the gateway, and need no endpoint.
AFTERWARDS = (read_only_task, gateway_timeout, throttled_function, stack_rollback)
# By their names in beliefs.json.
CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        *UPDATES_OF_REAL_TIME,
        *WITH_BOTH,
        *UPDATES_OF_ASYNCHRONOUS,
        wake_from_zero,
        lease_ends,
        *TRAINING,
        *AFTERWARDS,
    )
}
