from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from endpoint.catalogue import images
from tests.endpoint.emulator.doubles import REGION

AWS = "763104351884"


@pytest.mark.parametrize("known", images.read().values(), ids=lambda known: known.name)
def test_the_images_of_the_catalogue_are_in_the_accounts_of_aws(clients, known):
    def found(tag, registry=AWS):
        response = clients.get("ecr", REGION).batch_get_image(
            registryId=registry, repositoryName=known.repository, imageIds=[{"imageTag": tag}]
        )
        return [image["imageId"]["imageTag"] for image in response["images"]]

    assert found(known.tag) == [known.tag]
    assert found("another") == []
    with pytest.raises(ClientError, match="RepositoryNotFoundException"):
        found(known.tag, "123456789012")
