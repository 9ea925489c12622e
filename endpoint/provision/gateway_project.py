"""The gateway as a chalice project for one deployment: the one place that writes its settings.

`gateway/` is copied to `.easel/<deployment>-<account>-<region>/`, where chalice finds a
configuration for just this stage, and notes of what is deployed already. Those notes are written
anew from AWS each time, so that a deployment can be continued from any clone, and after any
interruption.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from endpoint.aws.gateway import STAGE
from endpoint.core.naming import TAG, Deployment
from endpoint.core.problems import ScriptError

_ROOT = Path(__file__).parents[2]
SOURCE = _ROOT / "gateway"
PROJECTS = _ROOT / ".easel"
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html; names count as well.
_LARGEST_ENVIRONMENT = 4_096
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "deployed", "deployments", "vendor")


@dataclass(frozen=True)
class OfferedModel:
    """A model that the gateway offers.

    Attributes:
        name: what visitors call it.
        endpoint: its endpoint.
        revision: tells its pictures from those of other weights or other code.
        jobs: the S3 address below which an asynchronous endpoint's pictures are kept; None for a
            real-time one.
        known: what visitors are told of it beside: `defaults`, `seconds` and `loras`, each only if
            it is known.
    """

    name: str
    endpoint: str
    revision: str
    jobs: str | None = None
    known: Mapping[str, Any] = field(default_factory=dict)

    def entry(self) -> dict[str, Any]:
        """Return it as the gateway reads it."""
        if self.jobs is None:
            return {"endpoint": self.endpoint, "revision": self.revision, **self.known}
        queue = {"endpoint": self.endpoint, "jobs": self.jobs}
        return {"asynchronous": queue, "revision": self.revision, **self.known}


@dataclass(frozen=True)
class GatewaySettings:
    """What the gateway is deployed with.

    Attributes:
        models: what is on offer, the default first.
        deadline_seconds: how long an answer may take, below API Gateway's 29.
        log_prompts: whether prompts may appear in the log.
        concurrency: how many Lambda functions may run at once; None for no limit of its own.
        access: variables that say who may paint, and how much.
    """

    models: tuple[OfferedModel, ...]
    deadline_seconds: float = 24
    log_prompts: bool = False
    concurrency: int | None = None
    access: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Return the function's environment variables.

        Raises:
            ScriptError: if they take more than Lambda has room for.
        """
        models = {model.name: model.entry() for model in self.models}
        return _checked(
            {
                "EASEL_MODELS": json.dumps(models, separators=(",", ":")),
                "EASEL_DEADLINE_SECONDS": f"{self.deadline_seconds:g}",
                "EASEL_LOG_PROMPTS": "on" if self.log_prompts else "off",
                **self.access,
            }
        )


def _checked(variables: dict[str, str]) -> dict[str, str]:
    size = sum(len(name.encode()) + len(value.encode()) for name, value in variables.items())
    if size > _LARGEST_ENVIRONMENT:
        raise ScriptError(
            f"The gateway's settings take {size:,} bytes, and Lambda has room for"
            f" {_LARGEST_ENVIRONMENT:,}.",
            "Offer fewer models behind one URL (`delete_endpoint --model NAME` removes one), or"
            " fewer LoRA adapters, or give out fewer keys.",
        )
    return variables


class GatewayProject:
    """A deployment's chalice project on this machine.

    Attributes:
        folder: where it is.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        name = f"{deployment.name}-{deployment.account}-{deployment.region}"
        self.folder = PROJECTS / name

    def write(self, settings: GatewaySettings, role: str) -> None:
        """Copy the gateway and write its configuration.

        Args:
            settings: what it is deployed with.
            role: the ARN of the role that the function runs as.
        """
        self._clear()
        shutil.copytree(SOURCE, self.folder, ignore=_NOT_COPIED, dirs_exist_ok=True)
        text = json.dumps(self.configuration(settings, role), indent=2)
        (self.folder / ".chalice" / "config.json").write_text(text)

    def configuration(self, settings: GatewaySettings, role: str) -> dict[str, Any]:
        """Return chalice's configuration: the repository's, with this deployment's stage."""
        common = json.loads((SOURCE / ".chalice" / "config.json").read_text("utf-8"))
        stage = dict(common.pop("stages")["dev"])
        # The role comes with its policy from infrastructure.yaml; chalice makes none.
        del stage["iam_policy_file"], stage["autogen_policy"]
        stage |= {
            "api_gateway_stage": STAGE,
            "manage_iam_role": False,
            "iam_role_arn": role,
            "tags": {TAG: self._deployment.name},
            "environment_variables": settings.environment(),
        }
        if settings.concurrency:
            stage["reserved_concurrency"] = settings.concurrency
        return {**common, "stages": {self._deployment.name: stage}}

    def note_deployed(self, function: str | None, api: str | None) -> None:
        """Write chalice's notes of what there is: the function's ARN, the REST API's id."""
        resources = []
        if function:
            resources.append(
                {
                    "name": "api_handler",
                    "resource_type": "lambda_function",
                    "lambda_arn": function,
                }
            )
        if api:
            resources.append(
                {
                    "name": "rest_api",
                    "resource_type": "rest_api",
                    "rest_api_id": api,
                    "rest_api_url": url_of(api, self._deployment.region),
                }
            )
        notes = {"resources": resources, "schema_version": "2.0", "backend": "api"}
        folder = self.folder / ".chalice" / "deployed"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self._deployment.name}.json").write_text(json.dumps(notes, indent=2))

    def remove(self) -> None:
        """Delete the project's folder, if it is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _clear(self) -> None:
        """Delete all but what chalice built for these requirements before."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.name == ".chalice":
                shutil.rmtree(path / "deployed", ignore_errors=True)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def url_of(api: str, region: str) -> str:
    """Return the public address of a REST API's stage; ends in a slash."""
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{api}.execute-api.{region}.{suffix}/{STAGE}/"
