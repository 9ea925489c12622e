"""The lock files of the serving image: that they agree with the requirements, and say no more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from model_package.lock_packages import REQUIREMENTS, VARIANTS, lock_file

# What only torch's build for GPUs requires.
OF_GPUS = re.compile(r"(nvidia-|cuda-|triton$)")
LINUX = {
    "extra": "",
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.2",
    "python_version": "3.11",
    "sys_platform": "linux",
}


def locked(variant):
    """Return the versions of a lock file by the names of their packages."""
    text = lock_file(variant).read_text("utf-8")
    pins = re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    assert len(pins) == len(dict(pins))
    return {canonicalize_name(name): version for name, version in pins}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_requirement_is_locked_in_its_version(variant):
    pins = locked(variant)
    for path in REQUIREMENTS:
        for line in path.read_text("utf-8").splitlines():
            if re.match(r"\w", line):  # else a comment, or another file
                requirement = Requirement(line)
                assert pins[canonicalize_name(requirement.name)] in requirement.specifier, line


def test_the_twins_differ_in_what_gpus_need():
    cuda, cpu = locked("cuda"), locked("cpu")
    assert cpu.pop("torch") == f"{cuda.pop('torch')}+cpu"
    assert {name: cuda[name] for name in cuda if not OF_GPUS.match(name)} == cpu
    assert {"triton", "nvidia-cublas", "nvidia-cudnn-cu13"} <= set(cuda)


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_that_a_package_requires_is_missing(variant):
    """As far as the packages are installed here; the build runs `pip check`."""
    pins = locked(variant)
    checked = 0
    for name in pins:
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, requires):
            if requirement.marker is None or requirement.marker.evaluate(LINUX):
                assert pins[canonicalize_name(requirement.name)] in requirement.specifier, name
                checked += 1
    assert checked > 50


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_lock_file_has_pins_and_hashes_and_no_address(variant):
    lines = lock_file(variant).read_text("utf-8").splitlines()
    comment, *pins = lines
    assert comment == "# Made by `python model_package/lock_packages.py`."
    pattern = r"[\w.-]+==[\w.+]+( \\)?|    --hash=sha256:[0-9a-f]{64}( \\)?"
    assert [line for line in pins if not re.fullmatch(pattern, line)] == []
    hashed = sum(line.startswith("    --hash") for line in pins)
    assert hashed > len(locked(variant)) if variant == "cuda" else hashed == 0


def test_without_uv_it_says_what_to_install(tmp_path):
    done = subprocess.run(
        [sys.executable, "model_package/lock_packages.py"],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "uv is not installed: run `pip install uv`, and start this again\n"
