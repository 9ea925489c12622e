"""ECR: the registry that the serving image is pulled from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from endpoint.core.problems import BadArgument, code_of

_URI = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/"
    r"(?P<repository>[a-z0-9._/-]+)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Image:
    """A container image in ECR.

    Raises:
        BadArgument: from `parse`, if the text is no image's URI.
    """

    uri: str
    account: str
    region: str
    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, uri: str) -> Image:
        """Read `<account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>`."""
        found = _URI.fullmatch(uri)
        if not found or not (found["tag"] or found["digest"]):
            raise BadArgument(
                f"{uri!r} is not the URI of an image in ECR.",
                "It looks like 763104351884.dkr.ecr.us-east-1.amazonaws.com/name:tag.",
            )
        return cls(uri, **found.groupdict())

    def repository_arn(self, partition: str) -> str:
        """Return the repository's ARN, for the role that pulls it."""
        return f"arn:{partition}:ecr:{self.region}:{self.account}:repository/{self.repository}"


class Registry:
    """ECR, also of other accounts."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def has(self, image: Image) -> bool | None:
        """Whether the image is there; None if that may not be asked.

        Asks as a pull does, because AWS's own repositories allow pulling and little else.
        """
        wanted = {"imageDigest": image.digest} if image.digest else {"imageTag": image.tag}
        try:
            answer = self._client.batch_get_image(
                registryId=image.account, repositoryName=image.repository, imageIds=[wanted]
            )
        except ClientError as error:
            if code_of(error) in {"RepositoryNotFoundException", "ImageNotFoundException"}:
                return False
            if code_of(error) in {"AccessDeniedException", "AccessDenied"}:
                return None
            raise
        return bool(answer["images"])
