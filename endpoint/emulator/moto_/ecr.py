"""ECR: the images that AWS publishes in accounts of its own, of which moto 5.2.5 knows nothing.

Those that the catalogue of serving images names are there, in every such account, as AWS's list of
containers says. Nothing of them can be pulled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.ecr.models import ECRBackend, Image

from endpoint.catalogue import images
from endpoint.emulator.account import ACCOUNT
from endpoint.emulator.moto_.patching import replace


def install() -> None:
    """Patch moto's registry."""
    replace(ECRBackend, "batch_get_image", _also_published)


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
