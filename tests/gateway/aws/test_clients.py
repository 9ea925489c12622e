"""The AWS clients."""

import threading

from chalicelib.aws.clients import LazyClient


def test_a_client_is_made_once_however_many_ask(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    lazy, clients = LazyClient("sagemaker-runtime", 24), []
    threads = [threading.Thread(target=lambda: clients.append(lazy.client())) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(clients) == 10
    assert len({id(client) for client in clients}) == 1


def test_the_runtime_client_never_retries(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    config = LazyClient("sagemaker-runtime", 24).client().meta.config

    assert config.retries["total_max_attempts"] == 1
    assert config.connect_timeout + config.read_timeout < 29
