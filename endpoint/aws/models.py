"""SageMaker's models and endpoint configurations.

SageMaker cannot change either, so every change makes a new version. Their names end in a hash of
their content (`Deployment.versioned`): one that exists already is the right one. Both are free.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.naming import TAG
from endpoint.core.problems import AGAIN, AccessDenied, TookTooLong, code_of, message_of
from endpoint.core.waiting import Waiting

# IAM is eventually consistent: a new role usually reaches SageMaker within seconds.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html
_ROLE_SECONDS = 120


# A tag of the endpoint configuration, because SageMaker keeps no limit of scaling.
MOST_INSTANCES_TAG = "easel-most-instances"


def instance_types(config: dict[str, Any]) -> list[str]:
    """Return the instance types that an endpoint configuration allows."""
    return [
        pool["InstanceType"]
        for variant in config.get("ProductionVariants", [])
        # A variant has either pools or a type of its own.
        for pool in [*variant.get("InstancePools", []), variant]
        if pool.get("InstanceType")
    ]


def is_asynchronous(config: dict[str, Any]) -> bool:
    """Whether an endpoint configuration is for asynchronous invocations."""
    return bool(config.get("AsyncInferenceConfig"))


def is_missing(error: ClientError) -> bool:
    """Whether an error means that the resource does not exist."""
    # SageMaker reports a missing resource as a ValidationException: only the message tells it apart
    # from an invalid parameter.
    return code_of(error) in {"ValidationException", "ResourceNotFound"} and (
        "could not find" in message_of(error).lower()
    )


class Models:
    """Models and endpoint configurations by name."""

    def __init__(self, client: Any, waiting: Waiting) -> None:
        self._client = client
        self._waiting = waiting

    def ensure_model(self, name: str, definition: dict[str, Any], tags: list[Any]) -> None:
        """Create the model unless it exists.

        Waits for a new role, which SageMaker may not see at first.

        Raises:
            AccessDenied: if SageMaker cannot use the role after two minutes.
        """
        if self.find_model(name):
            return
        refusal = ""

        def attempt() -> str | None:
            nonlocal refusal
            try:
                self._client.create_model(ModelName=name, **definition, Tags=tags)
            except ClientError as error:
                if not _is_role_unknown(error):
                    raise
                refusal = message_of(error)
                return "waiting until SageMaker can use the new role"
            return None

        try:
            # Outside the wait, because a dry run waits for nothing but should print the call.
            if attempt() is not None:
                self._waiting.until_done(attempt, at_most=_ROLE_SECONDS, every=5)
        except TookTooLong as error:
            raise AccessDenied(
                f"SageMaker cannot use the endpoint's role: {refusal}",
                f"Check whether a policy of your organization forbids it. {AGAIN}",
            ) from error

    def ensure_config(self, name: str, definition: dict[str, Any], tags: list[Any]) -> None:
        """Create the endpoint configuration unless it exists."""
        if not self.find_config(name):
            self._client.create_endpoint_config(EndpointConfigName=name, **definition, Tags=tags)

    def find_model(self, name: str) -> dict[str, Any] | None:
        """Return SageMaker's description of a model, or None if it does not exist."""
        return self._describe(self._client.describe_model, ModelName=name)

    def find_config(self, name: str) -> dict[str, Any] | None:
        """Return SageMaker's description of a configuration, or None if it does not exist."""
        return self._describe(self._client.describe_endpoint_config, EndpointConfigName=name)

    def tags(self, arn: str) -> dict[str, str]:
        """Return the tags of a SageMaker resource; empty if it does not exist."""
        pages = self._client.get_paginator("list_tags").paginate(ResourceArn=arn)
        try:
            return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
        except ClientError as error:
            if is_missing(error):
                return {}
            raise

    def most_instances(self, config: str) -> int | None:
        """Return the limit of scaling that an endpoint configuration was created with.

        None if it does not exist, or is not Easel's.
        """
        description = self.find_config(config)
        tags = self.tags(description["EndpointConfigArn"]) if description else {}
        return int(tags.get(MOST_INSTANCES_TAG, "1")) if TAG in tags else None

    def configs(self, contains: str) -> list[dict[str, Any]]:
        """Return the summaries of configurations whose name has `contains`, newest first."""
        return self._all("list_endpoint_configs", "EndpointConfigs", contains)

    def models(self, contains: str) -> list[dict[str, Any]]:
        """Return the summaries of models whose name has `contains`, newest first."""
        return self._all("list_models", "Models", contains)

    def _all(self, operation: str, key: str, contains: str) -> list[dict[str, Any]]:
        pages = self._client.get_paginator(operation).paginate(NameContains=contains)
        items = [item for page in pages for item in page[key]]
        return sorted(items, key=lambda item: str(item["CreationTime"]), reverse=True)

    def delete_config(self, name: str) -> None:
        """Delete a configuration, if it exists."""
        _delete(self._client.delete_endpoint_config, EndpointConfigName=name)

    def delete_model(self, name: str) -> None:
        """Delete a model, if it exists."""
        _delete(self._client.delete_model, ModelName=name)

    @staticmethod
    def _describe(describe: Any, **name: str) -> dict[str, Any] | None:
        try:
            description: dict[str, Any] = describe(**name)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return description


def _is_role_unknown(error: ClientError) -> bool:
    message = message_of(error).lower()
    # A role can be known before its policy is: then an image or a file cannot be read yet.
    return code_of(error) == "ValidationException" and any(
        phrase in message
        for phrase in ("could not assume role", "trust relationship", "permission", "access")
    )


def _delete(delete: Any, **name: str) -> None:
    try:
        delete(**name)
    except ClientError as error:
        if not is_missing(error):
            raise
