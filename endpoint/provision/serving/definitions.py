"""The definitions of a SageMaker model and of an endpoint configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from endpoint.aws.endpoints import VARIANT
from endpoint.catalogue import quantisation
from endpoint.catalogue.models import Model, Repository
from endpoint.provision.backends import EASEL
from endpoint.provision.model_metadata import BACKEND

# Until the container passes its health check. The default container passes it before its model is
# loaded, but another one can load the model first.
_STARTUP_SECONDS = 1200
# The most that SageMaker allows.
_DOWNLOAD_SECONDS = 3600
# How long SageMaker looks for an instance, in all pools together (see `_instances`): at least, for
# each type, and the most that it allows.
_PROVISION_SECONDS, _PROVISION_SECONDS_EACH, _MOST_PROVISION_SECONDS = 1800, 900, 3600
# The most InstancePools that a variant can have.
_MOST_POOLS = 5
# The server's own default, 6.5 MB, is smaller than a large PNG.
_LARGEST_RESPONSE = 100 * 1024 * 1024
_LARGEST_REQUEST = 25 * 1024 * 1024


@dataclass(frozen=True)
class Serving:
    """The settings for serving a model; any change makes a new version.

    Attributes:
        image: the container image's URI.
        role: the ARN of the container's role.
        data: the S3 address of the code, and of the weights if they are in S3; ends in /. Empty
            for a container that takes no code and fetches the weights.
        adapters: the S3 address where the container looks for LoRA adapters; ends in /. It has no
            version, so that adapters outlive versions of the code. Empty for a compiled model.
        weights_in_s3: whether the weights are stored there as well.
        instance_types: the types to try, in this order.
        output: the S3 address below which asynchronous pictures are stored; ends in /.
        subnets: the private network's subnets, if there is one.
        security_group: the private network's security group.
        inference_ami: SageMaker's machine image, for container images that require another.
        log_prompts: whether the container can log prompts.
        ray_serve: whether the image is AWS's Ray Serve container.
    """

    image: str
    role: str
    data: str
    adapters: str
    weights_in_s3: bool
    instance_types: tuple[str, ...]
    output: str
    subnets: tuple[str, ...] = ()
    security_group: str = ""
    inference_ami: str | None = None
    log_prompts: bool = False
    ray_serve: bool = False

    def model(self, model: Model) -> dict[str, Any]:
        """Return the definition of the SageMaker model."""
        definition: dict[str, Any] = {
            "PrimaryContainer": {
                "Image": self.image,
                **({"ModelDataSource": {"S3DataSource": _prefix(self.data)}} if self.data else {}),
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
        """Return the container's environment; it never contains a secret.

        Every caller that can describe the model can read it. So a token for the hub stays on the
        operator's machine, where `--weights s3` uses it to download a gated model.
        """
        variables = container_environment(
            model, weights_in_s3=self.weights_in_s3, log_prompts=self.log_prompts
        )
        if model.backend != EASEL:
            return variables
        if self.adapters:
            variables["EASEL_LORAS_FROM"] = self.adapters
        if self.ray_serve:
            # How long its adapter waits for Ray Serve: 300 s by default.
            variables["RAYSERVE_BACKEND_TIMEOUT"] = str(_LONGEST_INVOCATION)
        return variables

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
        """Return one instance type, or several as pools: SageMaker tries them by priority.

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
            "VariantInstanceProvisionTimeoutInSeconds": min(
                max(_PROVISION_SECONDS, _PROVISION_SECONDS_EACH * len(pools)),
                _MOST_PROVISION_SECONDS,
            ),
        }

    def _asynchronous(self, model: Model) -> dict[str, Any]:
        return {
            # A second request would only wait inside the container: AWS's has one worker, and in
            # Easel's, models that are slow enough for a queue gain too little from batches
            # (docs/model-server.md).
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1},
            "OutputConfig": {
                # Without a slash at the end, because what SageMaker appends may begin with one.
                "S3OutputPath": f"{self.output}{model.name}/outputs",
                "S3FailurePath": f"{self.output}{model.name}/failures",
            },
        }


def _prefix(address: str) -> dict[str, str]:
    # Files below a prefix, which must end in a slash: an archive would be unpacked at each start.
    return {"S3Uri": address, "S3DataType": "S3Prefix", "CompressionType": "None"}


def container_environment(
    model: Model, *, weights_in_s3: bool, log_prompts: bool
) -> dict[str, str]:
    """Return the environment of a model's container."""
    if model.backend in _OTHERS:
        variables = _OTHERS[model.backend](model, weights_in_s3)
        variables[BACKEND] = model.backend
        # For the gateway: the container does not read it.
        variables["EASEL_DEFAULTS"] = json.dumps(model.defaults, sort_keys=True)
        return variables
    variables = {
        "SAGEMAKER_PROGRAM": "inference.py",
        # One worker for the one GPU: the default is one per CPU core, each with its own model.
        "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
        "MMS_MAX_RESPONSE_SIZE": str(_LARGEST_RESPONSE),
        "MMS_MAX_REQUEST_SIZE": str(_LARGEST_REQUEST),
        "EASEL_DTYPE": model.dtype,
        "EASEL_LOG_PROMPTS": "on" if log_prompts else "off",
    }
    if model.asynchronous:
        # Easel's own model server would take a request that states no limit for one of real time.
        variables["EASEL_REQUEST_SECONDS"] = str(_LONGEST_INVOCATION)
    if model.defaults:
        variables["EASEL_DEFAULTS"] = json.dumps(model.defaults, sort_keys=True)
    variables |= model.settings
    if quantisation.needs_hub(model.quantise):
        # Without it diffusers does not load the kernels.
        variables["DIFFUSERS_TRUST_REMOTE_KERNELS"] = "true"
    return variables | (_stored(model) if weights_in_s3 else _fetched(model))


def _hugging_face(model: Model, weights_in_s3: bool) -> dict[str, str]:
    """Return the environment of the toolkit's own handler, which SAGEMAKER_PROGRAM would replace.

    https://github.com/aws/sagemaker-huggingface-inference-toolkit
    """
    variables = {
        "HF_TASK": "text-to-image",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
        "MMS_MAX_RESPONSE_SIZE": str(_LARGEST_RESPONSE),
    }
    if weights_in_s3:
        return variables | _OFFLINE
    source = _source_of(model)
    return variables | {"HF_MODEL_ID": source.name, "HF_MODEL_REVISION": source.ref}


def _vllm_omni(model: Model, weights_in_s3: bool) -> dict[str, str]:
    """Return the environment of AWS's image, which makes options of vLLM from SM_VLLM_*.

    https://github.com/aws/deep-learning-containers/blob/main/scripts/docker/vllm/sagemaker_args.py
    """
    variables = {"SM_VLLM_DTYPE": _DTYPES[model.dtype]}
    if weights_in_s3:
        # Where SageMaker puts the files.
        return variables | {"SM_VLLM_MODEL": "/opt/ml/model"} | _OFFLINE
    source = _source_of(model)
    return variables | {"SM_VLLM_MODEL": source.name, "SM_VLLM_REVISION": source.ref}


_OFFLINE = {"HF_HUB_OFFLINE": "1"}
_DTYPES = {"auto": "auto", "fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
_OTHERS = {"hugging-face": _hugging_face, "vllm-omni": _vllm_omni}


def _source_of(model: Model) -> Repository:
    if model.source is None:
        raise ValueError("a model without a repository must have its weights in S3")
    return model.source


# SageMaker's limit for an asynchronous invocation, in seconds.
_LONGEST_INVOCATION = 3600


def _stored(model: Model) -> dict[str, str]:
    # What is in the bucket is read first. A commit that the catalogue does not have is kept here.
    recorded = {name: at for name, at in model.repositories.items() if at.recorded}
    return {
        **({} if quantisation.needs_hub(model.quantise) else _OFFLINE),
        **_of_repositories(recorded),
    }


def _fetched(model: Model) -> dict[str, str]:
    if model.source is None:
        raise ValueError("a model without a repository must have its weights in S3")
    return {
        **_of_repositories(model.repositories),
        # On the instance's local disk, if it has one; the container's own disk is small.
        "HF_HOME": "/tmp/huggingface",  # noqa: S108 - a path in the container, which is alone there
    }


def _of_repositories(repositories: Mapping[str, Repository]) -> dict[str, str]:
    variables = {}
    for name, repository in repositories.items():
        variables[f"{name}_ID"] = repository.name
        variables[f"{name}_REVISION"] = repository.ref
        if repository.file:
            variables[f"{name}_FILE"] = repository.file
    return variables
