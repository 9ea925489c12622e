"""CodeBuild: the project that builds a deployment's image, its builds, and EventBridge's rule.

A build is billed by the minute while it runs; a project and a rule cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.problems import code_of

_RUNNING = "IN_PROGRESS"
_MISSING = "ResourceNotFoundException"
# BatchGetBuilds takes 100 ids. The newest are enough: a build ends after an hour.
_MOST_BUILDS = 100


@dataclass(frozen=True)
class Build:
    """One build.

    Attributes:
        id: `<project>:<uuid>`.
        status: IN_PROGRESS, SUCCEEDED, FAILED, FAULT, TIMED_OUT or STOPPED.
        phase: what it is doing, such as PROVISIONING or BUILD.
        version: the version of the sources that it builds.
        since: its start.
        until: its end; None while it runs.
        log: the log group and the stream in it; None until it writes one.
        reasons: why phases of it failed.
    """

    id: str
    status: str
    phase: str
    version: str
    since: datetime
    until: datetime | None
    log: tuple[str, str] | None
    reasons: tuple[str, ...]

    @property
    def runs(self) -> bool:
        """Whether it is billed."""
        return self.status == _RUNNING

    def seconds(self, now: datetime) -> float:
        """Return how long it has run."""
        return max(((self.until or now) - self.since).total_seconds(), 0)


def _build(item: dict[str, Any]) -> Build:
    logs = item.get("logs", {})
    group, stream = logs.get("groupName"), logs.get("streamName")
    contexts = [
        context for phase in item.get("phases", []) for context in phase.get("contexts", [])
    ]
    return Build(
        id=item["id"],
        status=item["buildStatus"],
        phase=item.get("currentPhase", ""),
        version=item.get("sourceVersion", ""),
        since=item["startTime"],
        until=item.get("endTime"),
        log=(group, stream) if group and stream else None,
        reasons=tuple(context["message"] for context in contexts if context.get("message")),
    )


class Builds:
    """The account's projects and builds.

    Args:
        client: the client of codebuild.
        events: the client of events.
    """

    def __init__(self, client: Any, events: Any) -> None:
        self._client = client
        self._events = events

    def projects(self, prefix: str) -> list[str]:
        """Return the names of the projects with this prefix."""
        pages = self._client.get_paginator("list_projects").paginate()
        names = [name for page in pages for name in page["projects"]]
        return [name for name in names if name.startswith(prefix)]

    def project_tags(self, name: str) -> dict[str, str]:
        """Return a project's tags; empty if it does not exist."""
        projects = self._client.batch_get_projects(names=[name])["projects"]
        return {tag["key"]: tag["value"] for item in projects for tag in item.get("tags") or []}

    def rules(self, prefix: str) -> list[str]:
        """Return the names of EventBridge's rules with this prefix."""
        rules = self._events.list_rules(NamePrefix=prefix)["Rules"]
        return [rule["Name"] for rule in rules]

    def rule_tags(self, arn: str) -> dict[str, str]:
        """Return a rule's tags; empty if it does not exist."""
        try:
            tags = self._events.list_tags_for_resource(ResourceARN=arn)["Tags"]
        except ClientError as error:
            if code_of(error) != _MISSING:
                raise
            return {}
        return {tag["Key"]: tag["Value"] for tag in tags}

    def start(self, project: str, version: str) -> str:
        """Start a build of one version of the sources; return its id."""
        started = self._client.start_build(projectName=project, sourceVersion=version)
        # A dry run has no build.
        return str(started.get("build", {}).get("id", project))

    def find(self, build: str) -> Build:
        """Return a build by its id."""
        return _build(self._client.batch_get_builds(ids=[build])["builds"][0])

    def running(self, project: str) -> list[Build]:
        """Return a project's builds that run, the newest first; none without the project."""
        try:
            ids = self._client.list_builds_for_project(projectName=project)["ids"]
        except ClientError as error:
            if code_of(error) != _MISSING:
                raise
            return []
        if not ids:
            return []
        items = self._client.batch_get_builds(ids=ids[:_MOST_BUILDS])["builds"]
        builds = [_build(item) for item in items]
        return sorted((b for b in builds if b.runs), key=lambda b: b.since, reverse=True)

    def stop(self, build: str) -> None:
        """Stop a build, if it runs."""
        try:
            self._client.stop_build(id=build)
        except ClientError as error:
            # It has ended, or its project is gone.
            if code_of(error) not in {_MISSING, "InvalidInputException"}:
                raise
