"""Batches by the unmodified OpenAI library, with the rights of the gateway's role."""

import base64
import json
import time

import openai
import pytest
import requests

from chalicelib.dialects.openai_batches import BatchApi
from chalicelib.images.service import ImageService
from chalicelib.settings import Settings
from endpoint.emulator.process.clients import Clients
from endpoint.provision.infrastructure import TEMPLATE
from tests.end_to_end.access import KEY, OTHER_KEY, SETTINGS
from tests.end_to_end.account import BUCKET, REGION
from tests.end_to_end.guarded_aws import GATEWAY_KEY
from tests.gateway.doubles import Provided
from tests.policies import role_policies


def client_of(url, key=KEY):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def lines(*prompts, **more):
    return "".join(
        json.dumps(
            {
                "custom_id": f"request-{number}",
                "method": "POST",
                "url": "/v1/images/generations",
                "body": {"model": "gpt-image-1", "prompt": prompt, "size": "64x64", **more},
            }
        )
        + "\n"
        for number, prompt in enumerate(prompts, 1)
    ).encode()


def finished(client, batch):
    until = time.monotonic() + 60
    while batch.status not in {"completed", "failed", "cancelled", "expired"}:
        assert time.monotonic() < until, batch
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    return batch


def start(client, content, **more):
    file = client.files.create(file=("cats.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/images/generations",
        completion_window="24h",
        **more,
    )


def rows(client, identifier):
    return [json.loads(row) for row in client.files.content(identifier).text.splitlines()]


def test_a_batch_from_the_file_to_the_pictures(guarded_url, prompt):
    client = client_of(guarded_url)
    content = lines(prompt, f"{prompt} two", "a naked child")
    named = {"metadata": {"for": "the blog"}, "extra_headers": {"Idempotency-Key": prompt}}
    batch = start(client, content, **named)
    assert (batch.status, batch.metadata) == ("validating", {"for": "the blog"})

    batch = finished(client, batch)
    assert batch.status == "completed"
    assert (batch.request_counts.total, batch.request_counts.completed) == (3, 2)
    answers = {row["custom_id"]: row for row in rows(client, batch.output_file_id)}
    assert set(answers) == {"request-1", "request-2"}
    (data,) = answers["request-1"]["response"]["body"]["data"]
    assert base64.b64decode(data["b64_json"]).startswith(b"\x89PNG")
    (failed,) = rows(client, batch.error_file_id)
    assert failed["custom_id"] == "request-3"
    assert failed["response"]["body"]["error"]["code"] == "moderation_blocked"

    assert client.files.content(batch.input_file_id).content == content
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"
    again = client.batches.create(
        input_file_id=batch.input_file_id,
        endpoint="/v1/images/generations",
        completion_window="24h",
        **named,
    )
    assert (again.id, again.status) == (batch.id, "completed")
    assert batch.id in [one.id for one in client.batches.list(limit=1)]
    listed = [file.id for file in client.files.list()]
    assert {batch.input_file_id, batch.output_file_id, batch.error_file_id} <= set(listed)
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)
    other = client_of(guarded_url, OTHER_KEY)
    for call, identifier in (
        (other.batches.retrieve, batch.id),
        (other.batches.cancel, batch.id),
        (other.files.retrieve, batch.output_file_id),
        (other.files.content, batch.output_file_id),
        (other.files.delete, batch.input_file_id),
    ):
        with pytest.raises(openai.NotFoundError):
            call(identifier)
    assert client.files.delete(batch.input_file_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(batch.input_file_id)


def test_a_wrong_file_is_refused_with_the_numbers_of_its_lines(guarded_local):
    client = client_of(guarded_local)
    content = lines("a cat") + b"{\n" + lines("a dog", steps=0).replace(b"request-1", b"request-9")
    batch = finished(client, start(client, content))

    assert batch.status == "failed"
    assert [(one.line, one.param) for one in batch.errors.data] == [(2, None), (3, "steps")]


def test_a_large_file_is_put_to_s3(guarded_local, prompt):
    client, content = client_of(guarded_local), lines(prompt)
    sent = {"filename": "large.jsonl", "bytes": len(content), "purpose": "batch"}
    described = client.post("/files", body=sent, cast_to=object)
    with pytest.raises(openai.BadRequestError, match="must be an uploaded file"):
        client.batches.create(
            input_file_id=described["id"],
            endpoint="/v1/images/generations",
            completion_window="24h",
        )
    assert requests.put(described["upload_url"], data=content, timeout=30).status_code == 200

    assert client.files.wait_for_processing(described["id"]).bytes == len(content)
    assert client.files.content(described["id"]).content == content


@pytest.fixture
def events(aws, impatient_environment):
    """Have the rule of the template invoke the gateway's code, with the gateway's rights."""
    settings = Settings.from_environment({**impatient_environment, **SETTINGS})
    own, admin = Clients(lambda: aws.url, GATEWAY_KEY), Clients(lambda: aws.url)
    runtime, s3 = own.get("sagemaker-runtime", REGION), own.get("s3", REGION)
    service = ImageService(settings, Provided(runtime), Provided(s3))
    handled = []

    def handle(event):
        handled.append(event["detail"]["object"]["key"])
        return BatchApi(service).handle_event(event)

    rule = role_policies.read_template(TEMPLATE)["Resources"]["BatchRule"]["Properties"]
    aws.functions.replaced["easel-main"] = handle
    admin.get("s3", REGION).put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    client = admin.get("events", REGION)
    client.put_rule(Name=rule["Name"], EventPattern=json.dumps(rule["EventPattern"]))
    target = {"Id": "gateway", "Arn": rule["Targets"][0]["Arn"]}
    client.put_targets(Rule=rule["Name"], Targets=[target])
    yield handled
    client.remove_targets(Rule=rule["Name"], Ids=["gateway"])
    client.delete_rule(Name=rule["Name"])
    del aws.functions.replaced["easel-main"]


def test_events_alone_finish_a_batch(aws, guarded_local, events, prompt):
    client = client_of(guarded_local)
    batch = start(client, lines(*(f"{prompt} {number}" for number in range(12))))
    s3 = Clients(lambda: aws.url).get("s3", REGION)
    name = batch.id.removeprefix("batch_")
    until = time.monotonic() + 60
    # Nobody asks for the batch, which would continue it.
    while True:
        body = s3.get_object(Bucket=BUCKET, Key=f"batches/{name}/batch.json")["Body"].read()
        if json.loads(body)["status"] == "completed":
            break
        assert time.monotonic() < until, events
        time.sleep(0.1)

    batch = client.batches.retrieve(batch.id)
    answers = rows(client, batch.output_file_id)
    assert sorted(row["custom_id"] for row in answers) == sorted(
        f"request-{number}" for number in range(1, 13)
    )
    assert f"batches/{name}/batch.json" in events
