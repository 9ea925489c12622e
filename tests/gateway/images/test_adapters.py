"""Adapters that are published, replaced and deleted while the gateway runs."""

import json

import pytest
from botocore.exceptions import EndpointConnectionError

from chalicelib.images.adapters import Adapters
from chalicelib.images.resolved_request import job_id
from chalicelib.settings import Model, Queue
from tests.gateway.doubles import Breaks, Bucket, Provided

PLACE = ("bucket", "loras/sd/")
OFFERED = {"sd": Model("sd", "easel-sd", adapters=PLACE, loras=("own",))}


class Shelf(Bucket):
    """A bucket with adapters, which counts the lists that were read."""

    def __init__(self):
        super().__init__(Breaks())
        self.lists, self.now, self.broken = 0, 1_000.0, False

    def list_objects_v2(self, **arguments):
        self.lists += "ContinuationToken" not in arguments
        if self.broken:
            raise EndpointConnectionError(endpoint_url="https://s3")
        return super().list_objects_v2(**arguments)

    def publish(self, *names, content=b"1", at=0):
        for name in names:
            key = f"loras/sd/{name}.safetensors"
            self.objects[key], self.changed[key] = content, at

    def delete(self, name):
        del self.objects[f"loras/sd/{name}.safetensors"]


@pytest.fixture
def shelf(client):
    """The bucket of a gateway with one model, whose clock the test sets."""
    made = Shelf()
    client.offer(OFFERED, made)
    watch(client, made)
    return made


def watch(client, shelf):
    client.service.adapters = Adapters(client.service._store, lambda: shelf.now)


def offered(client):
    (model,) = json.loads(client.get("/options").body)["models"]
    return model["loras"]


def paint(client, lora, **headers):
    return client.get(f"/inference/a%20cat?seed=7&lora={lora}", **headers)


def told(client):
    return client.endpoint.asked[-1]["CustomAttributes"].split(";")


def test_a_published_adapter_is_in_every_list_and_can_be_used(client, shelf):
    assert offered(client) == ["own"]
    shelf.publish("ink", "b", "c", "styles/d", at=990)
    shelf.objects["loras/sd/README.txt"] = b"text"
    shelf.now += 10

    assert offered(client) == ["b", "c", "d", "ink", "own"]
    listed = json.loads(client.get("/sdapi/v1/loras").body)
    assert [adapter["name"] for adapter in listed] == ["b", "c", "d", "ink", "own"]
    assert paint(client, "ink:0.5").status_code == 200
    assert client.asked[-1]["lora"] == "ink:0.5"
    assert "changed=990" in told(client)


def test_the_list_is_read_once_in_ten_seconds_and_only_for_requests_with_adapters(client, shelf):
    assert client.get("/inference/a%20cat").status_code == 200
    assert paint(client, "own").status_code == 200
    assert shelf.lists == 0
    shelf.publish("ink")
    for _ in range(3):
        assert paint(client, "ink").status_code == 200
        offered(client)
        shelf.now += 3
    assert shelf.lists == 1
    shelf.now += 1
    paint(client, "ink")
    assert shelf.lists == 2


def test_an_unknown_name_is_refused_without_a_run_and_looked_up_once_in_ten_seconds(client, shelf):
    shelf.publish("ink")
    for _ in range(9):
        response = paint(client, "oil")
        assert response.status_code == 400
        shelf.now += 1
    assert json.loads(response.body)["error"] == {
        **json.loads(response.body)["error"],
        "message": "lora: unknown adapter oil; available: ink, own",
        "field": "lora",
    }
    assert (shelf.lists, client.asked) == (1, [])
    shelf.publish("oil")
    shelf.now += 1
    assert paint(client, "oil").status_code == 200


def test_a_name_that_nobody_asked_for_yet_is_found_at_once(client, shelf):
    assert paint(client, "own").status_code == 200
    offered(client)
    shelf.publish("oil")
    assert paint(client, "oil").status_code == 200
    assert shelf.lists == 2


def test_a_tag_in_the_prompt_is_named_as_such(client, shelf):
    response = client.get("/inference/a%20cat%20%3Clora:oil:1%3E")
    assert json.loads(response.body)["error"]["field"] == "prompt"


def test_a_replaced_file_is_another_picture_and_a_deleted_one_is_none(client, shelf):
    shelf.publish("ink")
    first = paint(client, "ink")
    tag = first.headers["ETag"]

    assert first.headers["Cache-Control"] == "public, no-cache"
    again = paint(client, "ink", **{"If-None-Match": tag})
    assert (again.status_code, again.headers["Cache-Control"]) == (304, "public, no-cache")
    shelf.publish("ink", content=b"2")
    shelf.now += 10
    second = paint(client, "ink", **{"If-None-Match": tag})
    assert (second.status_code, second.headers["ETag"] != tag) == (200, True)
    shelf.publish("ink", at=1_005)  # the first content once more, which a cache may have wrong
    shelf.now += 10
    assert paint(client, "ink").headers["ETag"] not in {tag, second.headers["ETag"]}
    shelf.delete("ink")
    shelf.now += 10
    assert paint(client, "ink", **{"If-None-Match": tag}).status_code == 400


def test_pictures_without_published_adapters_stay_what_they_were(client, shelf):
    shelf.publish("own", "ink")
    for path in ("/inference/a%20cat?seed=7", "/inference/a%20cat?seed=7&lora=own"):
        with_list = client.get(path)
        client.offer({"sd": Model("sd", "easel-sd")}, shelf)
        assert client.get(path).headers["ETag"] == with_list.headers["ETag"]
        assert "immutable" in with_list.headers["Cache-Control"]
        assert all("changed" not in each["CustomAttributes"] for each in client.endpoint.asked)
        client.offer(OFFERED, shelf)
    assert shelf.lists == 0


def test_a_store_that_does_not_answer_stops_only_what_needs_it(client, shelf, log):
    shelf.broken = True
    assert offered(client) == ["own"]
    assert client.get("/inference/a%20cat").status_code == 200
    assert paint(client, "own").status_code == 200
    response = paint(client, "ink")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert shelf.lists == 1
    assert sum("adapters not listed" in line for line in log()) == 1
    shelf.broken = False
    shelf.publish("ink")
    shelf.now += 10
    assert paint(client, "ink").status_code == 200


def test_an_earlier_list_serves_while_the_store_does_not_answer(client, shelf):
    shelf.publish("ink")
    offered(client)
    shelf.broken = True
    shelf.now += 100
    assert paint(client, "ink").status_code == 200
    assert offered(client) == ["ink", "own"]


def test_a_model_whose_own_adapters_are_not_known_is_asked(client):
    shelf = Shelf()
    client.offer({"sd": Model("sd", "easel-sd", adapters=PLACE)}, shelf)
    assert paint(client, "perhaps").status_code == 200
    assert all("changed" not in each["CustomAttributes"] for each in client.endpoint.asked)


def test_a_queued_picture_of_a_replaced_adapter_is_another_job(monkeypatch, client):
    shelf = Shelf()
    shelf.invoke_endpoint_async = lambda **asked: client.endpoint.asked.append(asked) or {}
    client.endpoint.invoke_endpoint_async = shelf.invoke_endpoint_async
    queue = Queue("easel-slow", "bucket", "jobs/")
    client.offer({"slow": Model("slow", None, queue, adapters=PLACE, loras=())}, shelf)
    watch(client, shelf)
    shelf.publish("ink", at=5)
    order = {"prompt": "a cat", "seed": 7, "lora": "ink"}
    first = json.loads(client.post("/jobs", order).body)["id"]

    assert json.loads(client.post("/jobs", order).body)["id"] == first
    assert told(client)[1] == "changed=5"
    assert len(client.endpoint.asked) == 1
    shelf.publish("ink", content=b"2", at=6)
    shelf.now += 10
    assert json.loads(client.post("/jobs", order).body)["id"] != first
    assert told(client)[1] == "changed=6"
    unknown = {"prompt": "a cat <lora:oil:1>", "seed": 7}
    assert json.loads(client.post("/jobs", unknown).body)["error"]["field"] == "prompt"


def test_ids_without_versions_are_those_of_before():
    from chalicelib.generation import GenerationRequest

    request = GenerationRequest(prompt="a cat", seed=7, model="sd", lora="own")
    assert job_id(request, "r") == job_id(request, "r", ())
    assert job_id(request, "r") != job_id(request, "r", ("own 1 0",))


def test_a_list_has_all_pages():
    shelf = Shelf()
    shelf.publish(*(f"a{number}" for number in range(7)))
    from chalicelib.aws.s3 import Store

    assert len(Store(Provided(shelf), *PLACE).listed()) == 7
