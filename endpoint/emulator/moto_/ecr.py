"""ECR: the images that AWS publishes in accounts of its own, of which moto 5.2.5 knows nothing.

Those that the catalogue of serving images names are there, in every such account, as AWS's list of
containers says. Nothing of them can be pulled.

CreateModel refuses images of the account that do not exist, and OCI manifests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from moto.ecr.exceptions import ImageNotFoundException, RepositoryNotFoundException
from moto.ecr.models import ECRBackend, Image, ecr_backends
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import SageMakerModelBackend

from endpoint.catalogue import images
from endpoint.emulator.account import ACCOUNT
from endpoint.emulator.moto_.codebuild import SERVABLE
from endpoint.emulator.moto_.patching import replace

_URI = re.compile(
    r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/([^:@]+)(?::([^@]+))?(?:@(.+))?"
)


def install() -> None:
    """Patch moto's registry."""
    replace(ECRBackend, "batch_get_image", _also_published)
    replace(SageMakerModelBackend, "create_model", _create_model)


def _also_published(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(
        self: ECRBackend,
        repository_name: str,
        registry_id: str | None = None,
        image_ids: list[dict[str, str]] | None = None,
    ) -> Any:
        if registry_id in {None, ACCOUNT}:
            return original(self, repository_name, registry_id, image_ids)
        published = [
            Image(registry_id, known.tag, "{}", repository_name, digest=known.digest)
            for asked in image_ids or []
            if (known := images.by_content(
                repository_name, asked.get("imageTag"), asked.get("imageDigest")
            ))
        ]  # fmt: skip
        failures = [] if published else [{"failureCode": "ImageNotFound"}]
        return {"images": published, "failures": failures}

    return call


def _create_model(original: Callable[..., Any]) -> Callable[..., Any]:
    def create(
        self: SageMakerModelBackend,
        model_name: str,
        execution_role_arn: str,
        primary_container: dict[str, Any] | None,
        *more: Any,
        **options: Any,
    ) -> Any:
        _check((primary_container or {}).get("Image", ""), self.account_id)
        return original(self, model_name, execution_role_arn, primary_container, *more, **options)

    return create


def _check(uri: str, account: str) -> None:
    match = _URI.fullmatch(uri)
    # The images of AWS's accounts are unknown here.
    if match is None or match[1] != account:
        return
    image_id = {"imageDigest": match[5]} if match[5] else {"imageTag": match[4]}
    try:
        (image,) = ecr_backends[account][match[2]].describe_images(match[3], None, [image_id])
    except (ImageNotFoundException, RepositoryNotFoundException):
        raise ValidationError(message=f"Requested image {uri} not found.") from None
    media_type = image.image_manifest_media_type
    if media_type != SERVABLE:
        # Its words: https://github.com/aws/amazon-sagemaker-feedback/issues/180
        raise ValidationError(
            message=f"Unsupported manifest media type {media_type} for image {uri}."
            " Ensure that valid manifest media type is used for specified image."
        )
