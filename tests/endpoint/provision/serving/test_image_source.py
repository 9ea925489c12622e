"""The zip file of the image's sources, and what the buildspec in it does."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import zipfile

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from endpoint.core.problems import ScriptError
from endpoint.provision.serving import image_source

SERVABLE = "application/vnd.docker.distribution.manifest.v2+json"
NAMES = st.from_regex(r"[a-z]{1,8}(\.(py|json|txt|lock))?", fullmatch=True)
PLACES = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
# No file is also the folder of another: which of the two exists would depend on their order.
FILES = st.dictionaries(PLACES, st.binary(max_size=99)).filter(
    lambda files: not any(place[:end] in files for place in files for end in range(1, len(place)))
)


def write(folder, files):
    (folder / "server").mkdir(parents=True)
    (folder / "server" / "buildspec.yml").write_text("version: 0.2\n")
    for parts, body in files.items():
        path = folder.joinpath("code", *parts)
        if not path.exists() and all(not parent.is_file() for parent in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)


@settings(max_examples=30, deadline=None)
@given(files=FILES, late=st.integers(0, 2**31 - 1))
def test_the_bytes_depend_on_the_content_alone(tmp_path_factory, files, late):
    folders = [tmp_path_factory.mktemp("sources") / "model_package" for _ in range(2)]
    write(folders[0], files)
    write(folders[1], dict(reversed(files.items())))
    for path in folders[1].rglob("*"):
        os.utime(path, (late, late))
        path.chmod(0o700)
    first, second = map(image_source.read, folders)
    assert first == second
    (folders[1] / "code").mkdir(exist_ok=True)
    (folders[1] / "code" / "one-more.py").write_text("")
    assert image_source.read(folders[1]).tag != first.tag


def test_only_what_the_dockerfile_copies_without_weights_caches_and_links_is_read(tmp_path):
    write(tmp_path, {("inference.py",): b"1", ("easel", "a.py"): b"2"})
    before = image_source.read(tmp_path)
    for name in (
        "demo/train.py", "demo/weights/unet.safetensors", "training/loop.py", "convert.py",
        "code/model.ckpt", ".cache/x.py",
        "code/__pycache__/inference.cpython-311.pyc", "code/.mypy_cache/a.json", "code/a.pyc",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "code" / "secret.txt").symlink_to("/etc/hostname")
    assert image_source.read(tmp_path) == before
    names = zipfile.ZipFile(io.BytesIO(before.archive)).namelist()
    assert names == ["code/easel/a.py", "code/inference.py", "image.env", "server/buildspec.yml"]


def test_the_commit_is_the_last_that_changed_the_sources_if_they_do_not_differ(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.example")
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    folder = tmp_path / "model_package"
    write(folder, {("inference.py",): b"1"})
    assert image_source.read(folder).commit is None
    git("init", "-q")
    assert image_source.read(folder).commit is None
    git("add", ".")
    git("commit", "-q", "-m", "first")
    head = git("rev-parse", "HEAD")
    clean = image_source.read(folder)
    assert clean.commit == head
    (tmp_path / "README.md").write_text("other")
    git("add", ".")
    git("commit", "-q", "-m", "elsewhere")
    assert image_source.read(folder) == clean
    (folder / "code" / "new.py").write_text("")
    changed = image_source.read(folder)
    assert changed.commit is None
    assert changed.tag != clean.tag
    files = zipfile.ZipFile(io.BytesIO(clean.archive))
    assert files.read("image.env").decode() == f"TAG={clean.tag}\nCOMMIT={head}\n"


def test_without_a_buildspec_there_are_no_sources(tmp_path):
    with pytest.raises(ScriptError, match="no server/buildspec.yml"):
        image_source.read(tmp_path)


def test_this_repositorys_sources_are_small():
    source = image_source.read()
    assert "server/buildspec.yml" in zipfile.ZipFile(io.BytesIO(source.archive)).namelist()
    assert len(source.archive) < 5_000_000


# --- The buildspec, with doubles of `aws` and `docker` ------------------------------------------

_AWS = """#!/bin/sh
echo "aws $*" >> "$CALLS"
case "$*" in
  *get-login-password*) echo secret ;;
  *--query*) echo "$MEDIA_TYPE" ;;
  *describe-images*)
    for tag in $EXISTING; do case "$*" in *imageTag=$tag) exit 0 ;; esac; done
    exit 254 ;;
esac
"""
_DOCKER = """#!/bin/sh
cat > /dev/null < /dev/stdin
echo "docker $*" >> "$CALLS"
[ "$1" != buildx ] || exit "$BUILD_EXITS"
"""


def _run(tmp_path, *, existing="", commit="c" * 40, exits=0, media_type=SERVABLE):
    """Run the phases as CodeBuild does: one shell, and the last phase whatever happened."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, text in (("aws", _AWS), ("docker", _DOCKER)):
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    (tmp_path / "image.env").write_text(f"TAG=abc\nCOMMIT={commit}\n")
    spec = yaml.safe_load((image_source.FOLDER / "server" / "buildspec.yml").read_text("utf-8"))
    assert spec["env"]["shell"] == "bash"
    lines = ["CODEBUILD_BUILD_SUCCEEDING=1"]
    for phase in ("pre_build", "build"):
        for command in spec["phases"][phase]["commands"]:
            lines.append(f"[ $CODEBUILD_BUILD_SUCCEEDING = 0 ] || {{\n{command}\n}}")
            lines.append("[ $? = 0 ] || CODEBUILD_BUILD_SUCCEEDING=0")
    lines += [*spec["phases"]["post_build"]["commands"], "last=$?"]
    lines.append("[ $last = 0 ] && [ $CODEBUILD_BUILD_SUCCEEDING = 1 ]")
    environment = {
        "PATH": f"{bin_}:/usr/bin:/bin",
        "CALLS": str(tmp_path / "calls"),
        "REPOSITORY": "123456789012.dkr.ecr.us-east-1.amazonaws.com/easel-main",
        "EXISTING": existing,
        "BUILD_EXITS": str(exits),
        "MEDIA_TYPE": media_type,
    }
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", "\n".join(lines)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, (tmp_path / "calls").read_text(), done


def test_the_buildspec_builds_a_docker_manifest_with_both_tags(tmp_path):
    code, calls, done = _run(tmp_path)
    assert code == 0, done
    (built,) = [line for line in calls.splitlines() if line.startswith("docker buildx")]
    for part in (
        "--provenance=false --sbom=false",
        "--file server/Dockerfile",
        "--tag 123456789012.dkr.ecr.us-east-1.amazonaws.com/easel-main:abc",
        f"--tag 123456789012.dkr.ecr.us-east-1.amazonaws.com/easel-main:{'c' * 40}",
        "--output type=image,push=true,oci-mediatypes=false .",
    ):
        assert part in built
    assert "docker login --username AWS --password-stdin 123456789012.dkr" in calls


def test_the_buildspec_builds_no_tag_that_exists_and_sets_none(tmp_path):
    code, calls, done = _run(tmp_path, existing="abc")
    assert code == 0, done
    assert "docker buildx" not in calls


@pytest.mark.parametrize("commit", ["", "d" * 40])
def test_the_buildspec_sets_the_commits_tag_only_if_it_can(tmp_path, commit):
    code, calls, done = _run(tmp_path, commit=commit, existing="d" * 40)
    assert code == 0, done
    (built,) = [line for line in calls.splitlines() if line.startswith("docker buildx")]
    assert built.count("--tag") == 1


@pytest.mark.parametrize(
    "trouble", [{"exits": 1}, {"media_type": "application/vnd.oci.image.index.v1+json"}]
)
def test_the_buildspec_fails_with_its_build_and_with_a_manifest_that_sagemaker_refuses(
    tmp_path, trouble
):
    code, _, done = _run(tmp_path, **trouble)
    assert code != 0, done
