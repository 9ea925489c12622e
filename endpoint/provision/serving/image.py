"""The container image that serves a model: by default the catalogue's."""

from __future__ import annotations

from endpoint.aws.registry import Image
from endpoint.catalogue import images
from endpoint.catalogue.images import KnownImage
from endpoint.core.problems import BadArgument, ScriptError


def choose_image(wanted: str | None, region: str, instance_type: str) -> Image:
    """Return the image to serve with.

    Args:
        wanted: a name of the catalogue or a URI; None for the catalogue's default.
        region: the region of the AWS registry to pull from.
        instance_type: one of the types to run it on; selects the image for GPUs.

    Raises:
        BadArgument: if it is neither a name nor a URI, or AWS has no such image in the region.
        ScriptError: if the core of the SageMaker SDK is not installed and there is no URI.
    """
    known = images.by_name(wanted or images.DEFAULT)
    if known is None:
        return Image.parse(wanted or "")
    return Image.parse(known.pinned(known.uri or _look_up(known, region, instance_type)))


def known_image(image: Image) -> KnownImage | None:
    """Return what the catalogue knows about an image, however it was named."""
    return images.by_content(image.repository, image.tag, image.digest)


def inference_ami(image: Image, wanted: str | None) -> str | None:
    """Return the InferenceAmiVersion for an image: the option, or what the image requires."""
    known = known_image(image)
    return wanted or (known.inference_ami if known else images.needed_ami(image.tag))


def _look_up(known: KnownImage, region: str, instance_type: str) -> str:
    try:
        from sagemaker.core import image_uris  # 1.5 s, and 400 MB of packages: only where needed
    except ImportError as error:
        raise ScriptError(
            "Looking up the serving image requires the core of the SageMaker SDK,"
            " which is not installed.",
            "Run `pip install -r endpoint/requirements-deploy.txt`, or pass an image with --image.",
        ) from error
    try:
        return str(
            image_uris.retrieve(
                "huggingface",
                region,
                **known.lookup,
                instance_type=instance_type,
                image_scope="inference",
            )
        )
    except (ValueError, KeyError) as error:
        raise BadArgument(
            f"AWS lists no serving image for {region}: {error}", "Pass another --region or --image."
        ) from error
