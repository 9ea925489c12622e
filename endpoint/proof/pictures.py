"""The checks of what the gateway keeps in S3: pictures, the records of their cost, and batches."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from endpoint.core.batches import places
from endpoint.core.http import Answer
from endpoint.core.problems import ScriptError, TookTooLong
from endpoint.proof.subject import Observation, Subject

_SEED = 21  # of no other picture of the proof
_URL = "/v1/images/generations"
# A picture and a few invocations of the function take half a minute; both endpoints cost meanwhile.
# The rule's own schedule, which would hide lost events, comes every 15 minutes.
_BATCH_SECONDS = 240


def stored_picture(subject: Subject) -> Observation:
    """Whether a second request for a seed has the stored picture, and costs no GPU time."""
    model, prompt = _model(subject, subject.real_time), "a stored apple"
    first = subject.visitor.picture(prompt, model, _SEED)
    path = f"inference/{prompt.replace(' ', '%20')}?model={model}&seed={_SEED}"
    answer = subject.visitor.patiently(lambda: subject.visitor.get(path))
    cost, same = answer.headers.get("x-cost-usd", "unknown"), answer.body == first
    words = f"{'the same' if same else 'another'} picture for {cost} USD"
    return Observation(same and cost == "0.000000", words)


def usage_records(subject: Subject) -> Observation:
    """Whether the proof's pictures are in the report of usage."""
    visitor = subject.visitor
    answer = visitor.patiently(lambda: visitor.get("usage?days=1", Accept="application/json"))
    used = _content(answer, "GET /usage")
    words = f"{used['pictures']} pictures for {used['usd']:.4f} USD"
    return Observation(used["pictures"] > 0 and used["usd"] > 0, words)


def batch_events(subject: Subject) -> Observation:
    """Whether the events of S3 alone end a batch of one picture: nobody asks for it."""
    context, identifier = subject.context, _start_batch(subject)
    started = context.clock.monotonic()

    def state() -> dict[str, Any]:
        stored = context.bucket.get(places.record(identifier))
        record: dict[str, Any] = json.loads(stored or b"{}")
        return record

    def poll() -> str | None:
        status = state().get("status")
        return None if status in {"completed", "failed", "expired"} else f"a batch is {status}"

    with suppress(TookTooLong):
        context.waiting.until_done(poll, at_most=_BATCH_SECONDS, every=5)
    record = state()
    held = record.get("status") == "completed" and record.get("completed") == 1
    words = f"{record.get('status')}, with {record.get('completed')} lines of 1"
    return Observation(held, words, {"seconds": round(context.clock.monotonic() - started)})


def _start_batch(subject: Subject) -> str:
    """Start a batch of one picture through OpenAI's API; return its id."""
    visitor = subject.visitor
    body = {"model": _model(subject, subject.asynchronous), "prompt": "a lighthouse at dawn"}
    line = {"custom_id": "proof", "method": "POST", "url": _URL, "body": body}
    form = (
        '--proof\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        '--proof\r\nContent-Disposition: form-data; name="file"; filename="proof.jsonl"\r\n\r\n'
        f"{json.dumps(line)}\r\n--proof--\r\n"
    )
    address, media_type = f"{visitor.url}v1/files", "multipart/form-data; boundary=proof"
    answer = visitor.patiently(lambda: visitor.send(address, form.encode(), media_type))
    file = _content(answer, "POST /v1/files")["id"]
    wanted = {"input_file_id": file, "endpoint": _URL, "completion_window": "24h"}
    answer = visitor.patiently(
        lambda: visitor.post("v1/batches", wanted, Accept="application/json")
    )
    return str(_content(answer, "POST /v1/batches")["id"]).removeprefix("batch_")


def _model(subject: Subject, endpoint: str) -> str:
    return subject.context.deployment.model_of(endpoint)


def _content(answer: Answer, what: str) -> dict[str, Any]:
    if answer.status != 200:
        raise ScriptError(f"{what} returned {answer.status}: {answer.body[:200]!r}")
    content: dict[str, Any] = answer.json()
    return content
