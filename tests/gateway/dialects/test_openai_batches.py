"""The routes of files and batches: what they refuse, list and keep apart."""

import json
import time

import pytest

import app as gateway
from chalicelib.batches import places
from chalicelib.calendar_month import month_of
from tests.gateway.batch_runs.world import line
from tests.gateway.documented import as_documented
from tests.gateway.doubles import (
    KEY,
    OTHER_KEY,
    GuardedClient,
    error_of,
    guarded,
    key,
    refusal,
)

BATCH = {"endpoint": "/v1/images/generations", "completion_window": "24h"}


@pytest.fixture
def client(monkeypatch):
    keys = (key("ada", usd_per_month=1), key("bob", OTHER_KEY))
    return GuardedClient(
        monkeypatch, guarded(keys=keys), 24, batches=("bucket", ""), usd_per_hour=3.6
    )


def form(*parts, boundary="xYz"):
    body = b""
    for head, content in parts:
        body += f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
        body += content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def upload(client, content=b"", text=OTHER_KEY, purpose=b"batch"):
    head = 'name="file"; filename="cats.jsonl"\r\nContent-Type: application/octet-stream'
    body, kind = form(('name="purpose"', purpose), (head, content))
    return client.request("POST", "/v1/files", body, Content_Type=kind, x_api_key=text)


def post(client, path, value, text=OTHER_KEY):
    return client.post(path, value, x_api_key=text, Content_Type="application/json")


def start(client, *lines, text=OTHER_KEY):
    file = json.loads(upload(client, "\n".join(lines).encode(), text).body)
    return post(client, "/v1/batches", {**BATCH, "input_file_id": file["id"]}, text)


def get(client, path, text=OTHER_KEY):
    return client.get(path, x_api_key=text)


@pytest.mark.parametrize(
    "content", [b"", b"\r\n", b"a\r\nb\n\n", b"--xY\r\n", bytes(range(256)), "ä \u2028".encode()]
)
def test_a_file_comes_back_byte_for_byte(client, content):
    described = as_documented(json.loads(upload(client, content).body), "OpenAIFile")
    assert (described["bytes"], described["filename"]) == (len(content), "cats.jsonl")
    response = get(client, f"/v1/files/{described['id']}/content")

    assert (response.status_code, response.body) == (200, content)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data"),
        (b"--a\r\n", "multipart/form-data; boundary=b"),
        (b"{}", "multipart/form-data; boundary=a"),
    ],
)
def test_a_broken_form_is_refused(client, body, kind):
    response = client.request("POST", "/v1/files", body, Content_Type=kind, x_api_key=KEY)

    assert response.status_code == 400


def test_a_file_needs_the_purpose_of_batches(client):
    response = upload(client, b"{}", purpose=b"fine-tune")

    assert (response.status_code, error_of(response)["param"]) == (400, "purpose")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"input_file_id": None}, "input_file_id"),
        ({"input_file_id": "file-" + "0" * 24}, "input_file_id"),
        ({"input_file_id": "../x"}, "input_file_id"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"speed": "fast"}, "speed"),
    ],
)
def test_a_wrong_field_is_named(client, change, field):
    file = json.loads(upload(client, line(0).encode()).body)["id"]
    response = post(client, "/v1/batches", {**BATCH, "input_file_id": file, **change})

    assert (response.status_code, error_of(response)["param"]) == (400, field)
    assert not client.queued


def test_a_gateway_without_a_queue_names_the_model(client, monkeypatch):
    file = json.loads(upload(client, line(0).encode()).body)["id"]
    client.service.settings.models.pop("slow")
    response = post(client, "/v1/batches", {**BATCH, "input_file_id": file})

    assert (response.status_code, error_of(response)["param"]) == (400, "model")


def test_a_key_is_required(client, monkeypatch):
    assert client.get("/v1/batches").status_code == 401
    link = client.get(f"/v1/files?link={client.link()}")
    assert (link.status_code, error_of(link)["code"]) == (403, "batch_needs_key")
    opened = GuardedClient(monkeypatch, guarded(keys=()), batches=("bucket", ""))
    response = opened.get("/v1/batches")
    assert (response.status_code, error_of(response)["code"]) == (403, "batch_needs_key")


def test_a_gateway_without_a_place_has_none(monkeypatch):
    client = GuardedClient(monkeypatch, guarded())

    assert get(client, "/v1/batches", KEY).status_code == 404
    scheduled = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
    assert gateway.app(scheduled, None) == {}


def test_at_the_cap_nothing_is_started(client):
    name = f"spend/{month_of(time.time())}.json"
    client.service.spend._store = client.service.store_of("bucket", "spend/")
    spending = {"state": "reached", "cap_usd": 1, "usd": 1, "month": "x"}
    client.bucket.objects[name] = json.dumps(spending).encode()
    response = start(client, line(0))

    assert response.status_code == 402
    assert error_of(response)["type"] == "insufficient_quota"


def test_a_budget_that_is_too_small_refuses_the_batch(client):
    # 0.002 USD each, of 1 USD.
    batch = json.loads(start(client, *(line(number, n=10) for number in range(60)), text=KEY).body)
    described = json.loads(get(client, f"/v1/batches/{batch['id']}", KEY).body)

    assert described["status"] == "failed"
    assert described["errors"]["data"][0]["code"] == "budget_used"
    assert not client.queued


def test_who_asks_for_a_batch_continues_it(client):
    batch = as_documented(json.loads(start(client, line(0), line(1)).body), "OpenAIBatch")
    assert batch["status"] == "validating"
    described = json.loads(get(client, f"/v1/batches/{batch['id']}").body)

    assert described["status"] == "in_progress"
    assert described["request_counts"] == {"total": 2, "completed": 0, "failed": 0}
    assert (described["output_file_id"], client.queued) == (None, 2)
    response = post(client, f"/v1/batches/{batch['id']}/cancel", {})
    assert json.loads(response.body)["status"] == "cancelling"


def repeat(client, body, name="retry-1", text=OTHER_KEY):
    return client.post(
        "/v1/batches", body, x_api_key=text, Content_Type="application/json", Idempotency_Key=name
    )


def batches(client, text=OTHER_KEY):
    return [one["id"] for one in json.loads(get(client, "/v1/batches", text).body)["data"]]


def test_a_repeated_request_has_the_batch_of_the_first_one(client):
    file = json.loads(upload(client, line(0).encode()).body)["id"]
    body = {**BATCH, "input_file_id": file, "metadata": {"a": "b"}}
    first = json.loads(repeat(client, body).body)
    get(client, f"/v1/batches/{first['id']}")  # which continues it
    # Whatever the order of its fields, and whether or not its file is still there.
    client.request("DELETE", f"/v1/files/{file}", x_api_key=OTHER_KEY)
    again = as_documented(
        json.loads(repeat(client, dict(reversed(body.items()))).body), "OpenAIBatch"
    )

    assert (again["id"], again["status"]) == (first["id"], "in_progress")
    assert batches(client) == [first["id"]]
    response = repeat(client, {**body, "metadata": {"a": "c"}})
    assert response.status_code == 422
    assert error_of(response)["code"] == "idempotency_key_reused"
    assert response.headers["x-should-retry"] == "false"
    # Another name is another request, and so is that of another key.
    file = json.loads(upload(client, line(0).encode()).body)["id"]
    body = {**BATCH, "input_file_id": file}
    assert json.loads(repeat(client, body, "retry-2").body)["id"] in batches(client)
    assert len(batches(client)) == 2
    file = json.loads(upload(client, line(0).encode(), KEY).body)["id"]
    assert repeat(client, {**BATCH, "input_file_id": file}, text=KEY).status_code == 200


@pytest.mark.parametrize("name", ["", "x" * 256, "a\tb"])
def test_an_idempotency_key_of_another_form_is_refused(client, name):
    response = repeat(client, BATCH, name)

    assert (response.status_code, error_of(response)["param"]) == (400, "Idempotency-Key")


def test_a_refused_request_does_not_use_up_its_idempotency_key(client):
    assert repeat(client, {**BATCH, "input_file_id": "file-x"}).status_code == 400
    file = json.loads(upload(client, line(0).encode()).body)["id"]

    assert repeat(client, {**BATCH, "input_file_id": file}).status_code == 200


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(6))
def test_a_request_that_is_repeated_after_a_crash_has_one_batch(client, call, after):
    file = json.loads(upload(client, line(0).encode()).body)["id"]
    body = {**BATCH, "input_file_id": file}
    breaks = client.bucket._breaks
    breaks.error = refusal("SlowDown")
    breaks.arm(call, after=after)
    first = repeat(client, body)
    breaks.left = None
    again = json.loads(repeat(client, body).body)

    assert first.status_code == 503 or json.loads(first.body) == again
    assert batches(client) == [again["id"]]
    described = json.loads(get(client, f"/v1/batches/{again['id']}").body)
    assert (described["status"], client.queued) == ("in_progress", 1)


@pytest.mark.parametrize("call", range(7))
def test_two_equal_requests_at_a_time_have_one_batch(client, call):
    file = json.loads(upload(client, line(0).encode()).body)["id"]
    body, meanwhile = {**BATCH, "input_file_id": file}, []
    breaks = client.bucket._breaks
    breaks.interrupt(call, lambda: meanwhile.append(json.loads(repeat(client, body).body)["id"]))
    first = json.loads(repeat(client, body).body)["id"]
    breaks.left = None

    assert {first, *meanwhile} == {*batches(client)}
    assert len(batches(client)) == 1


def test_the_events_of_s3_and_of_the_schedule_continue_it(client):
    client.get("/health")  # has the app use this client's gateway
    batch = json.loads(start(client, line(0)).body)["id"].removeprefix("batch_")
    event = {"source": "aws.s3", "detail-type": "Object Created"}
    detail = {"bucket": {"name": "bucket"}, "object": {"key": places.record(batch)}}
    assert gateway.app({**event, "detail": detail}, None) == {"batch": batch}
    assert client.queued == 1
    other = json.loads(start(client, line(1)).body)["id"]
    gateway.app({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}, None)

    assert client.queued == 2
    assert json.loads(get(client, f"/v1/batches/{other}").body)["status"] == "in_progress"
    unknown = {**detail, "object": {"key": "jobs/slow/failures/1-error.out"}}
    assert gateway.app({**event, "detail": unknown}, None) == {"batch": ""}


@pytest.mark.parametrize(
    "event",
    [
        {"source": "aws.s3"},
        {"source": "aws.s3", "detail-type": "Object Created", "detail": {}},
        {"source": "aws.s3", "detail-type": "Object Created", "detail": {"object": {"key": 5}}},
        {"source": "aws.s3", "detail-type": "Other", "detail": {"object": {"key": "a"}}},
    ],
)
def test_an_event_of_another_shape_is_an_error(client, event):
    client.get("/health")
    with pytest.raises(ValueError, match="about no object"):
        gateway.app(event, None)


def test_lists_have_pages_and_the_newest_first(client, monkeypatch):
    made = []
    for moment in range(3):
        monkeypatch.setattr(time, "time", lambda moment=moment: 2e9 + moment)
        made.insert(0, json.loads(start(client, line(0)).body)["id"])
    start(client, line(0), text=KEY)
    first = as_documented(json.loads(get(client, "/v1/batches?limit=2").body), "OpenAIBatches")
    assert [one["id"] for one in first["data"]] == made[:2]
    assert first["has_more"]
    rest = json.loads(get(client, f"/v1/batches?after={first['last_id']}").body)
    assert [one["id"] for one in rest["data"]] == made[2:]
    assert not rest["has_more"]
    files = as_documented(json.loads(get(client, "/v1/files?order=asc").body), "OpenAIFiles")
    assert len(files["data"]) == 3
    created = [one["created_at"] for one in files["data"]]
    assert created == sorted(created)
    for query in ("limit=0", "limit=x", "after=batch_x", "x=1"):
        assert get(client, f"/v1/batches?{query}").status_code == 400


def test_another_keys_files_and_batches_do_not_exist(client):
    batch = json.loads(start(client, line(0)).body)
    paths = [f"/v1/batches/{batch['id']}", f"/v1/files/{batch['input_file_id']}"]
    for path in [*paths, f"{paths[1]}/content"]:
        assert get(client, path, KEY).status_code == 404
        assert get(client, path).status_code == 200
    taken = post(client, "/v1/batches", {**BATCH, "input_file_id": batch["input_file_id"]}, KEY)
    assert error_of(taken)["param"] == "input_file_id"


def test_a_file_that_is_put_to_s3_has_its_size_signed(client):
    sent = {"filename": "large.jsonl", "bytes": 5, "purpose": "batch"}
    described = as_documented(json.loads(post(client, "/v1/files", sent).body), "OpenAIFile")
    assert described["status"] == "uploaded"
    key_of_content = described["upload_url"].partition("example/")[2].partition("?")[0]
    client.bucket.objects[key_of_content] = b"12345"
    described = json.loads(get(client, f"/v1/files/{described['id']}").body)

    assert (described["status"], described["bytes"]) == ("processed", 5)
    for change in ({"bytes": 0}, {"bytes": 60_000_000}, {"bytes": None}, {"filename": 5}):
        assert post(client, "/v1/files", {**sent, **change}).status_code == 400


def test_a_large_file_is_a_redirect(client):
    file = json.loads(upload(client, b"x").body)["id"]
    name = next(one for one in client.bucket.objects if one.endswith(".jsonl"))
    client.bucket.objects[name] = bytes(6_000_000)
    response = get(client, f"/v1/files/{file}/content")

    assert response.status_code == 303
    assert response.headers["Location"].startswith("https://bucket.example/files/")
