"""A picture of a real-time model: painted once for all who visit its URL, and kept after that."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from endpoint.emulator.process.clients import Clients
from tests.end_to_end.access import AUTHORIZED, create_link
from tests.end_to_end.account import BUCKET, REGION, STORED_ENDPOINT
from tests.end_to_end.calls import get, is_picture, picture_url

CLIENTS = 50
# Ten thousand visits, without sockets: tests/gateway/images/test_stored_pictures.py.
VISITS = 4


def stored_url(gateway_url, prompt, **more):
    return picture_url(gateway_url, prompt, model="stored", seed=7, **more)


def test_all_visits_of_many_clients_to_one_url_are_one_run(chalice_local, emulator, prompt):
    url = stored_url(chalice_local, prompt)

    def visit_often(_):
        pictures, statuses = set(), Counter()
        with requests.Session() as client:
            while statuses[200] < VISITS:
                response = client.get(url, timeout=60)
                statuses[response.status_code] += 1
                if response.status_code == 200:
                    pictures.add(response.content)
                else:
                    # One that finds no place to wait is told so, and comes back.
                    assert "Retry-After" in response.headers
                    time.sleep(0.1)
        return pictures, statuses

    with ThreadPoolExecutor(CLIENTS) as clients:
        visits = list(clients.map(visit_often, range(CLIENTS)))

    statuses = sum((counted for _, counted in visits), Counter())
    assert len(set.union(*(pictures for pictures, _ in visits))) == 1
    assert statuses.keys() <= {200, 503}
    assert statuses[200] == CLIENTS * VISITS
    assert emulator.runs(STORED_ENDPOINT) == 1


@pytest.fixture
def stop(aws):
    """Return what deletes the endpoint, as `stop` does; it is there again after the test."""
    sagemaker = Clients(lambda: aws.url).get("sagemaker", REGION)
    stopped = []

    def delete():
        sagemaker.delete_endpoint(EndpointName=STORED_ENDPOINT)
        stopped.append(STORED_ENDPOINT)

    yield delete
    for name in stopped:
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)


def test_stored_pictures_outlive_their_endpoint(gateway_url, stop, prompt):
    urls = [stored_url(gateway_url, f"{prompt} {number}") for number in range(5)]
    before = [get(url).content for url in urls]
    stop()
    after = [get(url) for url in urls]
    other = get(stored_url(gateway_url, f"{prompt} 6"))

    assert all(is_picture(picture) for picture in before)
    assert [each.content for each in after] == before
    assert {each.status_code for each in after} == {200}
    assert (other.status_code, other.json()["error"]["code"]) == (503, "endpoint_missing")


def test_a_picture_without_a_seed_is_not_stored(aws, chalice_local, prompt):
    s3 = Clients(lambda: aws.url).get("s3", REGION)

    def count():
        stored = s3.list_objects_v2(Bucket=BUCKET, Prefix="pictures/stored/")
        return stored["KeyCount"]

    before = count()
    get(picture_url(chalice_local, prompt, model="stored"))
    random = count()
    get(stored_url(chalice_local, prompt))

    assert (random, count()) == (before, before + 2)


def test_a_key_deletes_it_for_all_and_a_link_does_not(guarded_url, emulator, prompt):
    token = create_link(guarded_url, pictures=1)
    url = stored_url(guarded_url, prompt)
    painted = get(url, headers=AUTHORIZED)
    refused = requests.delete(f"{url}&link={token}", timeout=30)
    deleted = requests.delete(url, headers=AUTHORIZED, timeout=30)
    missing = requests.delete(url, headers=AUTHORIZED, timeout=30)

    assert painted.headers["Cache-Control"].startswith("private")
    statuses = [each.status_code for each in (refused, deleted, missing)]
    assert statuses == [403, 204, 404]
    assert get(url, headers=AUTHORIZED).content == painted.content
    assert emulator.runs(STORED_ENDPOINT) == 2
