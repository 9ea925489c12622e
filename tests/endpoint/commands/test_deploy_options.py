"""What cannot be deployed is refused before anything changes; nothing is opened without a word."""

from __future__ import annotations

import json
import urllib.request

import pytest

from endpoint import create_endpoint
from endpoint.catalogue import models
from endpoint.commands import deploy
from endpoint.provision.files import weights
from tests.endpoint.doubles import create_gateway
from tests.endpoint.world import IMAGE, contents

pytestmark = pytest.mark.usefixtures("ungated_hub")
KEYS = {"name": "ada", "sha256": "0" * 64}


def attempt(world, *argv):
    """Run `deploy`; return its exit code, 2 where the command line itself is wrong."""
    try:
        return world.run(deploy.main, "--image", IMAGE, *argv)
    except SystemExit as refused:
        return refused.code


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("--cors-origins", "x.org"), "--cors-origins"),
        (("--cors-origins", "https://x.org,*"), "--cors-origins"),
        (("--cors-origins", "https://x.org/a"), "--cors-origins"),
        (("--pictures-per-minute", "-5"), "--pictures-per-minute"),
        (("--pictures-per-minute", "5000"), "--pictures-per-minute"),
        (("--prompt-filter-words", "*"), "--prompt-filter-words"),
        (("--requests-per-second", "nan"), "--requests-per-second"),
        (("--requests-per-second", "-1"), "--requests-per-second"),
        (("--burst", "0"), "--burst"),
        (("--concurrency", "-1"), "--concurrency"),
        (("--budget", "nan", "--email", "a@b.example"), "--budget"),
        (("--budget", "-5", "--email", "a@b.example"), "--budget"),
        (("--also", "no such model"), "no such model"),
        (("--keys", "missing.json"), "missing.json"),
        (("--keys", "keys.json", "--open"), "--open"),
    ],
)
def test_an_unusable_option_is_refused_by_name_before_anything_changes(world, capsys, argv, named):
    assert attempt(world, "--yes", *argv) == 2
    assert named in capsys.readouterr().err
    assert contents(world) == []


def test_settings_that_lambda_has_no_room_for_are_refused(world, capsys):
    assert attempt(world, "--yes", "--prompt-filter-words", "x" * 5_000) == 1
    assert "Lambda allows" in capsys.readouterr().err
    assert contents(world) == []


def test_a_catalogues_entry_that_the_container_cannot_read_is_refused(world, capsys, monkeypatch):
    listed = models.read()["sd"]
    odd = models.Model(**{**vars(listed), "defaults": {"steps": 0}})
    monkeypatch.setattr(models, "resolve", lambda *_: odd)
    for script in (deploy, create_endpoint):
        assert world.run(script.main, "--yes", "--image", IMAGE) == 2
        assert "EASEL_DEFAULTS" in capsys.readouterr().err
    assert contents(world) == []


def with_keys(world):
    variables = {
        "EASEL_API_KEYS": json.dumps([KEYS]),
        "EASEL_SECRET": "s" * 32,
        "EASEL_CORS_ORIGINS": "https://x.org/",
    }
    role = "arn:aws:iam::123456789012:role/easel-main-gateway-us-east-1"
    assert world.run(create_endpoint.main, "--yes", "--image", IMAGE) == 0
    create_gateway(world, role, Environment={"Variables": variables}, Tags={"easel": "main"})
    return contents(world)


def test_every_change_from_keyed_to_open_asks(world, capsys, tmp_path):
    before = with_keys(world)
    empty = tmp_path / "keys.json"
    empty.write_text("[]")

    assert attempt(world, "--yes", "--keys", str(empty)) == 2
    assert "pass --open instead" in capsys.readouterr().err
    assert attempt(world, "--open") == 1
    assert "Delete all keys" in capsys.readouterr().err
    assert attempt(world) == 1
    # Keys stay, so the first question is that of the endpoint.
    assert "Delete all keys" not in capsys.readouterr().err
    assert contents(world) == before


def test_a_first_deployment_that_is_open_says_so(world, capsys):
    assert attempt(world) == 1
    assert "Everybody who knows the URL" in capsys.readouterr().err
    assert attempt(world, "--open") == 1
    assert "Everybody who knows the URL" not in capsys.readouterr().err
    assert contents(world) == []


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "model_index.json"),
        urllib.request.URLError("no network"),
        RuntimeError("a connection error of the hub's own kind"),
        ValueError("not JSON"),
    ],
)
def test_weights_that_cannot_be_read_are_one_sentence(world, capsys, monkeypatch, error):
    def gather(*_):
        raise error

    monkeypatch.setattr(weights, "gather", gather)
    arguments = ("--yes", "--image", IMAGE, "--weights", "s3")
    assert world.run(create_endpoint.main, *arguments) == 1
    said = capsys.readouterr().err
    assert "error: The weights of " in said
    assert "Traceback" not in said


def test_code_that_cannot_be_read_is_one_sentence(world, capsys, serving_code, monkeypatch):
    read = type(serving_code).open

    def refuse(self, *arguments, **more):
        if self.name == "generation.py":
            raise PermissionError(13, "Permission denied", str(self))
        return read(self, *arguments, **more)

    monkeypatch.setattr(type(serving_code), "open", refuse)
    assert world.run(create_endpoint.main, "--yes", "--image", IMAGE) == 1
    assert "generation.py: Permission denied" in capsys.readouterr().err
