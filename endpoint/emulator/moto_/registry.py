"""What SageMaker checks of an image when a model is created, which moto 5.2.5 does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from moto.ecr.exceptions import ImageNotFoundException, RepositoryNotFoundException
from moto.ecr.models import ecr_backends
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import SageMakerModelBackend

from endpoint.emulator.moto_.codebuild import SERVABLE
from endpoint.emulator.moto_.patching import replace

_URI = re.compile(
    r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/([^:@]+)(?::([^@]+))?(?:@(.+))?"
)


def install() -> None:
    """Let CreateModel refuse images of the account that do not exist, and OCI manifests."""
    replace(SageMakerModelBackend, "create_model", _create_model)


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
