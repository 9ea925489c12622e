"""How a model is served: the definitions that SageMaker is given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from endpoint.aws.endpoints import VARIANT
from endpoint.catalogue.models import Model

# Until the container answers its health check. The default container does so before its model is
# loaded, but another one may load first.
_STARTUP_SECONDS = 1200
_DOWNLOAD_SECONDS = 3600
# How long each instance type is tried before the next: the least that SageMaker allows.
_PROVISION_SECONDS = 300
_MOST_POOLS = 5
_LARGEST_RESPONSE = 100 * 1024 * 1024  # the server's own default, 6.5 MB, is less than a large PNG
_LARGEST_REQUEST = 25 * 1024 * 1024


@dataclass(frozen=True)
class Serving:
    """All that decides how a model is served; whatever changes here makes a new version.

    Attributes:
        image: the container image's URI.
        role: the ARN of the role that the container runs as.
        data: the S3 address below which code (and weights, if they come from S3) lie; ends in /.
        weights_in_s3: whether the weights lie there, too.
        instance_types: tried in this order when an instance is to be had.
        subnets: of the private network, if there is one.
        security_group: of the private network.
        inference_ami: SageMaker's machine image, for container images that need another.
        log_prompts: whether the container may log prompts.
        output: the S3 address below which asynchronous pictures are put; ends in /.
    """

    image: str
    role: str
    data: str
    weights_in_s3: bool
    instance_types: tuple[str, ...]
    output: str
    subnets: tuple[str, ...] = ()
    security_group: str = ""
    inference_ami: str | None = None
    log_prompts: bool = False

    def model(self, model: Model) -> dict[str, Any]:
        """Return the definition of the SageMaker model."""
        source = {"S3Uri": self.data, "S3DataType": "S3Prefix", "CompressionType": "None"}
        definition: dict[str, Any] = {
            "PrimaryContainer": {
                "Image": self.image,
                "ModelDataSource": {"S3DataSource": source},
                "Environment": self.environment(model),
            },
            "ExecutionRoleArn": self.role,
        }
        if self.subnets:
            definition["VpcConfig"] = {
                "Subnets": list(self.subnets),
                "SecurityGroupIds": [self.security_group],
            }
        return definition

    def environment(self, model: Model) -> dict[str, str]:
        """Return the container's environment: no secret is ever in it.

        A model's environment is readable for everyone who may describe it. So a token for the hub
        stays on the user's machine, where `--weights s3` uses it to fetch a gated model.
        """
        variables = {
            "SAGEMAKER_PROGRAM": "inference.py",
            # One worker per GPU: SageMaker's default is one per core, each with its own model.
            "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
            "MMS_MAX_RESPONSE_SIZE": str(_LARGEST_RESPONSE),
            "MMS_MAX_REQUEST_SIZE": str(_LARGEST_REQUEST),
            "EASEL_DTYPE": model.dtype,
            "EASEL_LOG_PROMPTS": "on" if self.log_prompts else "off",
        }
        if model.defaults:
            variables["EASEL_DEFAULTS"] = json.dumps(model.defaults, sort_keys=True)
        return variables | (_OFFLINE if self.weights_in_s3 else _fetched(model))

    def config(self, model: Model, model_name: str) -> dict[str, Any]:
        """Return the definition of the endpoint configuration."""
        variant: dict[str, Any] = {
            "VariantName": VARIANT,
            "ModelName": model_name,
            "InitialInstanceCount": 1,
            "ContainerStartupHealthCheckTimeoutInSeconds": _STARTUP_SECONDS,
            "ModelDataDownloadTimeoutInSeconds": _DOWNLOAD_SECONDS,
            **self._instances(),
        }
        if self.inference_ami:
            variant["InferenceAmiVersion"] = self.inference_ami
        definition: dict[str, Any] = {"ProductionVariants": [variant]}
        if model.asynchronous:
            definition["AsyncInferenceConfig"] = self._asynchronous(model)
        return definition

    def _instances(self) -> dict[str, Any]:
        """Return one instance type, or several in SageMaker's own order of fallback.

        https://docs.aws.amazon.com/sagemaker/latest/dg/realtime-endpoints-heterogeneous.html
        """
        if len(self.instance_types) == 1:
            return {"InstanceType": self.instance_types[0]}
        pools = [
            {"InstanceType": name, "Priority": rank}
            for rank, name in enumerate(self.instance_types[:_MOST_POOLS], 1)
        ]
        return {
            "InstancePools": pools,
            "VariantInstanceProvisionTimeoutInSeconds": _PROVISION_SECONDS,
        }

    def _asynchronous(self, model: Model) -> dict[str, Any]:
        return {
            # The container has one worker.
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1},
            "OutputConfig": {
                "S3OutputPath": f"{self.output}{model.name}/outputs/",
                "S3FailurePath": f"{self.output}{model.name}/failures/",
            },
        }


_OFFLINE = {"HF_HUB_OFFLINE": "1"}


def _fetched(model: Model) -> dict[str, str]:
    if model.source is None:
        raise ValueError("a model without a repository has its weights in S3")
    variables = {
        "EASEL_MODEL_ID": model.source.name,
        "EASEL_MODEL_REVISION": model.source.revision,
        # Where an instance's local disk is, if it has one; the container's own is small.
        "HF_HOME": "/tmp/huggingface",  # noqa: S108 - a path in the container, which is alone there
    }
    if model.refiner:
        variables["EASEL_REFINER_ID"] = model.refiner.name
        variables["EASEL_REFINER_REVISION"] = model.refiner.revision
    return variables
