"""The gateway as a chalice project for one deployment; nothing else writes its settings.

`gateway/` is copied to `.easel/<deployment>-<account>-<region>/`, with a configuration for this
stage alone and chalice's record of what is deployed. That record is written from AWS's state each
time, so that a deployment can continue from any clone, and after any interruption.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from endpoint.aws.gateway import STAGE
from endpoint.core.local_addresses import is_local
from endpoint.core.naming import TAG, Deployment
from endpoint.core.private_files import make_private_folder, write_private
from endpoint.core.problems import ScriptError

_ROOT = Path(__file__).parents[3]
SOURCE = _ROOT / "gateway"
PROJECTS = _ROOT / ".easel"
# The models' descriptions, in the project; chalicelib/settings.py reads it.
DESCRIPTIONS = Path("chalicelib") / "descriptions.json"
# Bytes of names and values together:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_LARGEST_ENVIRONMENT = 4_096
_MOST_WAITING = 1_000  # the gateway's own limit of the setting
# Caches, and the results of chalice commands in the repository itself.
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "deployed", "deployments", "vendor")


@dataclass(frozen=True)
class OfferedModel:
    """A model that the gateway offers.

    Attributes:
        name: its name in requests.
        endpoint: its endpoint.
        revision: changes with its weights or its code, so that cached pictures are not reused.
        jobs: the S3 address below which an asynchronous endpoint stores pictures; None for a
            real-time one.
        metadata: `defaults`, `seconds`, `loras`, `adapters` and the like, without unknown ones.
        description: what the model says about itself to people; empty if it says nothing.
        lease: what the gateway needs to renew it, `schedule` and `wake`; empty without one.
        pictures: the S3 address below which the gateway stores pictures of a real-time endpoint;
            None if it does not.
        facts: what the catalogue says of it; empty for a model that is not in it.
        backend: the setting of what answers in its container; None for Easel's own.
    """

    name: str
    endpoint: str
    revision: str
    jobs: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    description: Mapping[str, Any] = field(default_factory=dict)
    lease: Mapping[str, Any] = field(default_factory=dict)
    pictures: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    backend: str | Mapping[str, Any] | None = None

    def described(self) -> dict[str, Any]:
        """Return what it says about itself, with what the catalogue says of it."""
        facts = {"facts": self.facts} if self.facts else {}
        return {**self.description, **facts}

    def entry(self) -> dict[str, Any]:
        """Return it in the form of the gateway's settings."""
        backend = {"backend": self.backend} if self.backend not in (None, "easel") else {}
        return {**self._place(), **backend}

    def _place(self) -> dict[str, Any]:
        if self.jobs is None:
            kept = {"pictures": self.pictures} if self.pictures else {}
            lease = {"lease": self.lease} if self.lease else {}
            fields = {"endpoint": self.endpoint, **kept, "revision": self.revision}
            return {**fields, **self.metadata, **lease}
        queue = {"endpoint": self.endpoint, "jobs": self.jobs}
        return {"asynchronous": queue, "revision": self.revision, **self.metadata}


@dataclass(frozen=True)
class GatewaySettings:
    """The settings that the gateway is deployed with.

    Attributes:
        models: the offered models, the default first.
        deadline_seconds: the time limit of a response, below API Gateway's 29 s.
        log_prompts: whether the log can contain prompts.
        concurrency: how many Lambda functions can run at once; None for no limit of its own.
        account_concurrency: how many can then, as far as other functions leave them free.
        access: the variables for keys, limits and the prompt filter.
        training: the setting for training, as JSON; None where there is none.
        spend: the S3 address below which the guard counts; empty for an older stack.
    """

    models: tuple[OfferedModel, ...]
    deadline_seconds: float = 24  # leaves 5 s for a cold start of the function
    log_prompts: bool = False
    concurrency: int | None = None
    account_concurrency: int = 10  # a new account's
    access: Mapping[str, str] = field(default_factory=dict)
    training: str | None = None
    spend: str = ""

    @property
    def most_waiting(self) -> int:
        """How many requests can wait for asynchronous pictures at once.

        Each keeps a Lambda function busy. The other half is for pages, health checks and pictures
        of real-time models, which API Gateway answers with 500 when no function is free.
        """
        return min(max((self.concurrency or self.account_concurrency) // 2, 1), _MOST_WAITING)

    def environment(self) -> dict[str, str]:
        """Return the function's environment variables.

        Raises:
            ScriptError: if they exceed Lambda's limit.
        """
        models = {model.name: model.entry() for model in self.models}
        return _checked(
            {
                "EASEL_MODELS": json.dumps(models, separators=(",", ":")),
                "EASEL_DEADLINE_SECONDS": f"{self.deadline_seconds:g}",
                "EASEL_LOG_PROMPTS": "on" if self.log_prompts else "off",
                "EASEL_MOST_WAITING": str(self.most_waiting),
                **self.access,
                **({"EASEL_TRAINING": self.training} if self.training else {}),
                **({"EASEL_SPEND": self.spend} if self.spend else {}),
            }
        )


def _checked(variables: dict[str, str]) -> dict[str, str]:
    size = sum(len(name.encode()) + len(value.encode()) for name, value in variables.items())
    if size > _LARGEST_ENVIRONMENT:
        raise ScriptError(
            f"The gateway's settings have {size:,} bytes; Lambda allows {_LARGEST_ENVIRONMENT:,}.",
            "Offer fewer models behind one URL (`python -m endpoint delete --model NAME` removes"
            " one), fewer LoRA adapters, or fewer keys.",
        )
    return variables


class GatewayProject:
    """A deployment's chalice project on this machine.

    Attributes:
        folder: the project.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        name = f"{deployment.name}-{deployment.account}-{deployment.region}"
        self.folder = PROJECTS / name
        self._configuration = self.folder / ".chalice" / "config.json"

    def write(self, settings: GatewaySettings, role: str) -> None:
        """Copy the gateway and write its configuration, which has secrets in it.

        Args:
            settings: the settings to deploy with.
            role: the ARN of the function's role.
        """
        self._clear()
        make_private_folder(PROJECTS)
        shutil.copytree(SOURCE, self.folder, ignore=_NOT_COPIED, dirs_exist_ok=True)
        # After the copy, which gives folders the modes of their originals.
        make_private_folder(self.folder)
        # A vocabulary takes more than Lambda allows for environment variables.
        descriptions = {model.name: model.described() for model in settings.models}
        (self.folder / DESCRIPTIONS).write_text(json.dumps(descriptions), "utf-8")
        text = json.dumps(self.configuration(settings, role), indent=2)
        write_private(self._configuration, text)

    def remove_configuration(self) -> None:
        """Delete the configuration: its secrets are needed for nothing more than `chalice`."""
        self._configuration.unlink(missing_ok=True)

    def configuration(self, settings: GatewaySettings, role: str) -> dict[str, Any]:
        """Return chalice's configuration: the repository's, with this deployment's stage only."""
        common = json.loads((SOURCE / ".chalice" / "config.json").read_text("utf-8"))
        stage = dict(common.pop("stages")["dev"])
        # infrastructure.yaml defines the role and its policy, so chalice creates neither.
        del stage["iam_policy_file"], stage["autogen_policy"]
        stage |= {
            "api_gateway_stage": STAGE,
            "manage_iam_role": False,
            "iam_role_arn": role,
            "tags": {TAG: self._deployment.name},
            "environment_variables": settings.environment(),
        }
        # A reservation takes its number away from all other functions of the account.
        if settings.concurrency:
            stage["reserved_concurrency"] = settings.concurrency
        return {**common, "stages": {self._deployment.name: stage}}

    def record_deployed(self, function: str | None, api: str | None) -> None:
        """Write chalice's record of the existing function (ARN) and REST API (id)."""
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
        record = {"resources": resources, "schema_version": "2.0", "backend": "api"}
        folder = self.folder / ".chalice" / "deployed"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self._deployment.name}.json").write_text(json.dumps(record, indent=2))

    def remove(self) -> None:
        """Delete the project's folder, if it exists."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _clear(self) -> None:
        """Delete everything but chalice's build of the requirements, which takes minutes."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.name == ".chalice":
                shutil.rmtree(path / "deployed", ignore_errors=True)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def gateway_responses() -> dict[str, Any]:
    """Return the API's own responses to addresses that it does not have, by API Gateway's types."""
    # A template for `chalice package --merge-template`, which `chalice deploy` does not read.
    template = json.loads((SOURCE / ".chalice" / "responses.json").read_text("utf-8"))
    definition = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
    responses: dict[str, Any] = definition["x-amazon-apigateway-gateway-responses"]
    return responses


def url_of(api: str, region: str, endpoint: str = "") -> str:
    """Return the public URL of a REST API's stage; it ends in a slash.

    Args:
        api: its id.
        region: such as us-east-1.
        endpoint: where API Gateway's own calls go. On this machine, by AWS_ENDPOINT_URL, that is
            the emulator, which has the stage at the same address.
    """
    if is_local(urlsplit(endpoint).netloc):
        return f"{endpoint}/{STAGE}/"
    # Other partitions have domains of their own:
    # https://docs.aws.amazon.com/general/latest/gr/rande.html
    domain = _DOMAINS.get(region.partition("-")[0], "amazonaws.com")
    return f"https://{api}.execute-api.{region}.{domain}/{STAGE}/"


_DOMAINS = {"cn": "amazonaws.com.cn", "eusc": "amazonaws.eu"}
