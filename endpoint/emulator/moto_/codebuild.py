"""CodeBuild: builds that take time, log, fail on demand, and push an image.

moto 5.2.5 ends every build as succeeded as soon as somebody asks for it, and nothing comes of it.
Here a build goes through CodeBuild's phases on a clock, writes its log, and pushes what the
buildspec of Easel's image pushes: `TAG` and `COMMIT` of the file image.env in its sources. Its
containers are not run.

A rule of EventBridge can start a build (`event_targets.py`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moto.codebuild.exceptions import InvalidInputException
from moto.codebuild.models import CodeBuildBackend, codebuild_backends
from moto.core.utils import unix_time_millis
from moto.ecr.models import ECRBackend, ecr_backends
from moto.events.models import Rule
from moto.logs.models import logs_backends
from moto.s3.models import s3_backends

from endpoint.emulator.moto_.patching import InUse, replace

SERVABLE = "application/vnd.docker.distribution.manifest.v2+json"
_RUNNING, _SUCCEEDED, _FAILED, _STOPPED = "IN_PROGRESS", "SUCCEEDED", "FAILED", "STOPPED"
# CodeBuild's phases, and their parts of a build's time.
# https://docs.aws.amazon.com/codebuild/latest/userguide/view-build-details.html#view-build-details-phases
_PHASES = (
    ("SUBMITTED", 0.0),
    ("QUEUED", 0.01),
    ("PROVISIONING", 0.05),
    ("DOWNLOAD_SOURCE", 0.02),
    ("INSTALL", 0.0),
    ("PRE_BUILD", 0.02),
    ("BUILD", 0.85),
    ("POST_BUILD", 0.03),
    ("UPLOAD_ARTIFACTS", 0.0),
    ("FINALIZING", 0.02),
)
_IMAGE_BYTES = 3_500_000_000
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Builds:
    """How long builds take, and how they end. What has begun ends as it was begun.

    Attributes:
        now: the emulated seconds.
        epoch: the date at which `now` is 0.
        seconds: the duration of a build.
        fails_with: the reason why the phase BUILD fails; None lets it succeed.
        media_type: of the manifests that builds push.
        fault: what differs for a build that is started, by the names of these fields; given its
            project's name.
    """

    now: Callable[[], float] = time.time
    epoch: datetime = _UNIX
    seconds: float = 0.0
    fails_with: str | None = None
    media_type: str = SERVABLE
    fault: Callable[[str], dict[str, Any]] = field(default=lambda _: {})

    def date(self, seconds: float) -> float:
        """Return an emulated moment as AWS's clients read it: seconds since 1970."""
        return self.epoch.timestamp() + seconds


# By default a build ends at once.
_rules = InUse(Builds())


def builds(use: Builds) -> AbstractContextManager[None]:
    """Let builds that are started while the context lasts go like these."""
    return _rules.use(use)


def install() -> None:
    """Patch moto's classes."""
    backend = CodeBuildBackend
    for name, method in {
        "start_build": _start,
        "batch_get_builds": _batch_get,
        "list_builds_for_project": _list,
        "stop_build": _stop,
        "delete_project": _delete_project,
    }.items():
        setattr(backend, name, method)
    # An image is there when its build has pushed it, whoever asks first.
    for name in ("batch_get_image", "describe_images", "list_images"):
        replace(ECRBackend, name, _settle_first)


def _start(
    self: CodeBuildBackend,
    project_name: str,
    source_version: str | None = None,
    _: Any = None,
) -> dict[str, Any]:
    project = self.codebuild_projects[project_name].project_metadata
    # A copy: what has begun ends as it was begun.
    rules = dataclasses.replace(_rules.value, **_rules.value.fault(project_name))
    number = len(self.build_history[project_name]) + 1
    identity = f"{project_name}:{hashlib.md5(f'{project_name} {number}'.encode()).hexdigest()}"  # noqa: S324 - an id
    group = project.get("logsConfig", {}).get("cloudWatchLogs", {}).get("groupName")
    build = _Build(rules, self.account_id, self.region_name, project, source_version)
    build.data = {
        "id": identity,
        "arn": f"arn:aws:codebuild:{self.region_name}:{self.account_id}:build/{identity}",
        "buildNumber": number,
        "startTime": rules.date(build.start),
        "projectName": project_name,
        "source": project["source"],
        "environment": project["environment"],
        "logs": {
            "groupName": group or f"/aws/codebuild/{project_name}",
            "streamName": identity.partition(":")[2],
        },
        **({"sourceVersion": source_version} if source_version else {}),
    }
    self.build_history[project_name].append(identity)
    self.build_metadata_history[project_name].append(build)  # type: ignore[arg-type]
    return build.describe()


def _batch_get(self: CodeBuildBackend, ids: list[str]) -> list[dict[str, Any]]:
    known = {build.data["id"]: build for build in _all(self)}
    return [known[identity].describe() for identity in ids if identity in known]


def _list(self: CodeBuildBackend, project_name: str) -> list[str]:
    # The newest first, as CodeBuild has it by default.
    return self.build_history.get(project_name, [])[::-1]


def _stop(self: CodeBuildBackend, build_id: str) -> dict[str, Any] | None:
    for build in _all(self):
        if build.data["id"] == build_id:
            build.stop()
            return build.describe()
    raise InvalidInputException("Invalid build ID provided")


def _delete_project(self: CodeBuildBackend, project_name: str) -> None:
    self.codebuild_projects.pop(project_name, None)
    self.build_history.pop(project_name, None)
    self.build_metadata_history.pop(project_name, None)


def _all(backend: CodeBuildBackend) -> list[_Build]:
    items: Any = backend.build_metadata_history.values()
    return [build for item in items for build in item]


def settle(account: str, region: str) -> None:
    """Let the builds that have ended push their images."""
    for build in _all(codebuild_backends[account][region]):
        build.settle()


def _settle_first(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: ECRBackend, *arguments: Any, **options: Any) -> Any:
        settle(self.account_id, self.region_name)
        return original(self, *arguments, **options)

    return call


@dataclass
class _Build:
    """One build on the clock of its rules."""

    rules: Builds
    account: str
    region: str
    project: dict[str, Any]
    version: str | None
    data: dict[str, Any] = field(default_factory=dict)
    stopped: float | None = None
    # The phases whose log is written, and whether the image is pushed.
    logged: int = 0
    pushed: bool = False

    def __post_init__(self) -> None:
        self.start = self.rules.now()
        self.source = _environment(self.account, self.project, self.version)
        failing = "DOWNLOAD_SOURCE" if self.source is None else "BUILD"
        self.reason = "The sources do not exist." if self.source is None else self.rules.fails_with
        self.fails_in = failing if self.reason else None
        self.ends: list[tuple[str, float]] = []
        moment = self.start
        for name, part in _PHASES:
            moment += part * self.rules.seconds
            self.ends.append((name, moment))
            if name == self.fails_in:
                break

    def settle(self) -> None:
        """Log what has happened since, and push the image at the end."""
        done = [name for name, end in self.ends if end <= self._now()]
        for name in done[self.logged :]:
            failed = name == self.fails_in
            state = f"Phase complete: {name} State: {_FAILED if failed else _SUCCEEDED}"
            lines = [self.reason, state] if failed else [state]
            self._log([f"[Container] {line}" for line in lines])
        self.logged = max(self.logged, len(done))
        if self._status() == _SUCCEEDED and not self.pushed:
            self.pushed = True
            self._push()

    def stop(self) -> None:
        """Stop it, unless it has ended."""
        self.settle()
        if self._status() == _RUNNING:
            self.stopped = self.rules.now()

    def describe(self) -> dict[str, Any]:
        """Return CodeBuild's description."""
        self.settle()
        status = self._status()
        over = {} if status == _RUNNING else {"endTime": self.rules.date(self._end())}
        phase = next((name for name, end in self.ends if end > self._now()), "COMPLETED")
        return {
            **self.data,
            **over,
            "buildStatus": status,
            "buildComplete": status != _RUNNING,
            "currentPhase": phase if status == _RUNNING else "COMPLETED",
            "phases": self._phases(),
        }

    def _phases(self) -> list[dict[str, Any]]:
        phases = []
        for name, end in self.ends[: self.logged]:
            failed = name == self.fails_in
            contexts = [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": self.reason}]
            phase = {"phaseType": name, "phaseStatus": _FAILED if failed else _SUCCEEDED}
            more = {"contexts": contexts} if failed else {}
            phases.append({**phase, **more, "endTime": self.rules.date(end)})
        return phases

    def _now(self) -> float:
        return self.rules.now() if self.stopped is None else self.stopped

    def _end(self) -> float:
        return self.ends[-1][1] if self.stopped is None else self.stopped

    def _status(self) -> str:
        if self.stopped is not None:
            return _STOPPED
        if self.rules.now() < self._end():
            return _RUNNING
        return _FAILED if self.fails_in else _SUCCEEDED

    def _log(self, lines: list[str]) -> None:
        logs = logs_backends[self.account][self.region]
        group, stream = self.data["logs"]["groupName"], self.data["logs"]["streamName"]
        if group not in logs.groups:
            return  # the role of the builds makes streams alone
        if stream not in logs.groups[group].streams:
            logs.create_log_stream(group, stream)
        now = int(unix_time_millis())
        events = [{"timestamp": now, "message": line} for line in lines]
        logs.put_log_events(group, stream, events)

    def _push(self) -> None:
        source = self.source or {}
        variables = self.project["environment"].get("environmentVariables") or []
        repository = {v["name"]: v["value"] for v in variables}.get("REPOSITORY", "")
        _, _, name = repository.partition("/")
        if name not in (ecr := ecr_backends[self.account][self.region]).repositories:
            return
        layer = "sha256:" + hashlib.sha256(source["TAG"].encode()).hexdigest()
        manifest = {
            "schemaVersion": 2,
            "mediaType": self.rules.media_type,
            "config": {"digest": layer, "size": _IMAGE_BYTES},
            "layers": [{"digest": layer, "size": _IMAGE_BYTES}],
        }
        tags = {tag for image in ecr.repositories[name].images for tag in image.image_tags}
        # The buildspec builds nothing that exists, and sets no tag that exists.
        if source["TAG"] not in tags:
            for tag in (source["TAG"], source.get("COMMIT", "")):
                if tag and tag not in tags:
                    ecr.put_image(name, json.dumps(manifest), tag, self.rules.media_type)


def _environment(
    account: str, project: dict[str, Any], version: str | None
) -> dict[str, str] | None:
    """Return the variables in the sources of a build; None if that version does not exist."""
    bucket, _, key = project["source"].get("location", "").partition("/")
    with suppress(Exception):  # of the many that moto and a broken archive raise
        stored = s3_backends[account]["aws"].get_object(bucket, key, version_id=version)
        with zipfile.ZipFile(io.BytesIO(stored.value)) as archive:  # type: ignore[union-attr]
            lines = archive.read("image.env").decode().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)
    return None


def build_by_rule(rule: Rule, arn: str, payload: dict[str, Any]) -> None:
    """Start the build of a project, with what its rule sends: parameters of StartBuild."""
    backend = codebuild_backends[rule.account_id][rule.region_name]
    project = arn.rpartition("/")[2]
    if project in backend.codebuild_projects:
        backend.start_build(project, payload.get("sourceVersion"))
