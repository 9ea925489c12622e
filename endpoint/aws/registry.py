"""ECR: the registry that SageMaker pulls the serving image from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.problems import BadArgument, code_of

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


# CreateModel refuses OCI manifests and lists of manifests:
# https://github.com/aws/amazon-sagemaker-feedback/issues/180
SERVABLE = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Manifest:
    """What ECR stores of an image.

    Attributes:
        digest: its digest.
        media_type: the manifest's type; empty if ECR reports none.
    """

    digest: str
    media_type: str

    @property
    def servable(self) -> bool:
        """Whether CreateModel accepts it."""
        return self.media_type in {SERVABLE, ""}


@dataclass(frozen=True)
class Repository:
    """A repository of the account.

    Attributes:
        name: its name.
        since: its creation date.
        images: the number of its images.
        size: their sizes in bytes, compressed; ECR stores layers that they share once.
    """

    name: str
    since: datetime
    images: int
    size: int


class Registry:
    """ECR, including other accounts' repositories."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def find(self, image: Image) -> Manifest | None:
        """Return what ECR stores of an image; None if it does not exist.

        Uses the call that a pull makes, because AWS's own repositories allow little else.

        Raises:
            ClientError: if the caller is not allowed to find out.
        """
        image_id: dict[str, str | None] = (
            {"imageDigest": image.digest} if image.digest else {"imageTag": image.tag}
        )
        try:
            # AWS's images are in accounts of AWS, 763104351884 in most regions.
            response = self._client.batch_get_image(
                registryId=image.account, repositoryName=image.repository, imageIds=[image_id]
            )
        except ClientError as error:
            if code_of(error) in {"RepositoryNotFoundException", "ImageNotFoundException"}:
                return None
            raise
        for stored in response["images"]:
            digest = stored["imageId"].get("imageDigest", image.digest or "")
            return Manifest(digest, stored.get("imageManifestMediaType") or "")
        return None

    def repositories(self, prefix: str) -> list[Repository]:
        """Return the account's repositories with this prefix."""
        pages = self._client.get_paginator("describe_repositories").paginate()
        found = [item for page in pages for item in page["repositories"]]
        return [
            Repository(item["repositoryName"], item["createdAt"], *self._stored(item))
            for item in found
            if item["repositoryName"].startswith(prefix)
        ]

    def _stored(self, repository: dict[str, Any]) -> tuple[int, int]:
        pages = self._client.get_paginator("describe_images")
        sizes: list[int] = []
        try:
            for page in pages.paginate(repositoryName=repository["repositoryName"]):
                sizes += [image.get("imageSizeInBytes") or 0 for image in page["imageDetails"]]
        except ClientError as error:
            # It can disappear between the two calls.
            if code_of(error) != "RepositoryNotFoundException":
                raise
        return len(sizes), sum(sizes)

    def tags(self, arn: str) -> dict[str, str]:
        """Return a repository's tags; empty if it does not exist."""
        try:
            tags = self._client.list_tags_for_resource(resourceArn=arn)["tags"]
        except ClientError as error:
            if code_of(error) != "RepositoryNotFoundException":
                raise
            return {}
        return {tag["Key"]: tag["Value"] for tag in tags}
