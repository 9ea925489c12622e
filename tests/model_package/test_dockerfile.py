"""The Dockerfile through its linters; test_image.py builds it."""

from __future__ import annotations

import json
import re
import subprocess

from endpoint.catalogue import images
from endpoint.emulator.container.local_image import DOCKERFILE
from endpoint.provision.serving.image_source import PARTS
from tests.policies.tools import find_program

TEXT = DOCKERFILE.read_text("utf-8")


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_hadolint_finds_nothing_that_is_not_explained():
    done = run(find_program("hadolint"), str(DOCKERFILE))
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)
    # A reason is on the line before each exception.
    lines = TEXT.splitlines()
    exceptions = [number for number, line in enumerate(lines) if "hadolint ignore" in line]
    assert all(lines[number - 1].startswith("# ") for number in exceptions)


def test_checkov_finds_nothing_that_is_not_explained():
    command = [find_program("checkov"), "--framework", "dockerfile", "-f", str(DOCKERFILE)]
    report = json.loads(run(*command, "--output", "json", "--compact", "--skip-download").stdout)
    assert report["results"]["failed_checks"] == []
    assert report["summary"]["passed"] > 100
    skipped = report["results"]["skipped_checks"]
    assert {check["check_id"] for check in skipped} == {"CKV_DOCKER_3"}
    assert all(check["check_result"]["suppress_comment"] for check in skipped)


def test_the_context_has_what_is_copied_and_nothing_else():
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text("utf-8").splitlines()
    copied = set(re.findall(r"^COPY (\w[\w.]*)", TEXT, re.MULTILINE))
    assert {line[1:] for line in ignored if line.startswith("!")} == PARTS
    assert copied == PARTS


def test_create_asks_for_the_machine_image_that_its_cuda_requires():
    lock = DOCKERFILE.with_name("requirements-cuda.lock").read_text("utf-8")
    versions = dict(re.findall(r"^([\w-]+)==(\S+)", lock, re.MULTILINE))
    cuda = "".join(versions["nvidia-cuda-runtime"].split(".")[:2])
    assert images.needed_ami(f"1-cu{cuda}") == images.AMI_OF_CUDA_13
