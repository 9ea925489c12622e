"""ECR: the registry that SageMaker pulls the serving image from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.problems import AccessDenied, BadArgument, code_of, translated

# Regions of other partitions have other domains.
_URI = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.(?:com|com\.cn|eu)/"
    r"(?P<repository>[a-z0-9._/-]+)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Image:
    """A container image in ECR."""

    uri: str
    account: str
    region: str
    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, uri: str) -> Image:
        """Read `<account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>`.

        Raises:
            BadArgument: if the text is not the URI of an image in ECR.
        """
        match = _URI.fullmatch(uri)
        # Without either, the URI does not identify one image.
        if not match or not (match["tag"] or match["digest"]):
            raise BadArgument(
                f"{uri!r} is not the URI of an image in ECR.",
                "An example is 763104351884.dkr.ecr.us-east-1.amazonaws.com/name:tag.",
            )
        return cls(uri, **match.groupdict())

    def repository_arn(self, partition: str) -> str:
        """Return the repository's ARN, for the policy of the role that pulls the image."""
        return f"arn:{partition}:ecr:{self.region}:{self.account}:repository/{self.repository}"


class Registry:
    """ECR, including other accounts' repositories."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def has(self, image: Image) -> bool | None:
        """Whether the image exists; None if the caller is not allowed to find out.

        Uses the call that a pull makes, because AWS's own repositories allow little else.
        """
        image_id: dict[str, str | None] = (
            {"imageDigest": image.digest} if image.digest else {"imageTag": image.tag}
        )
        try:
            with translated():
                return self._find(image, image_id)
        except AccessDenied:
            return None

    def _find(self, image: Image, image_id: dict[str, str | None]) -> bool:
        try:
            # AWS's images are in accounts of AWS, 763104351884 in most regions.
            response = self._client.batch_get_image(
                registryId=image.account, repositoryName=image.repository, imageIds=[image_id]
            )
        except ClientError as error:
            if code_of(error) in {"RepositoryNotFoundException", "ImageNotFoundException"}:
                return False
            raise
        return bool(response["images"])
