"""The container image that serves a model: by default AWS's Hugging Face inference container."""

from __future__ import annotations

from endpoint.aws.registry import Image
from endpoint.core.problems import BadArgument, ScriptError

# torch 2.6.0, diffusers 0.38.0, CUDA 12.4: it runs on SageMaker's default machine image, unlike
# images with CUDA 12.9 and newer. It contains everything that Easel needs, so nothing is installed
# into it: packages that bring another version of torch have prevented it from starting.
_VERSION = "5.5.3"
_BASE = "pytorch2.6.0"
_PYTHON = "py312"


def choose_image(uri: str | None, region: str, instance_type: str) -> Image:
    """Return the image to serve with.

    Args:
        uri: an image to use instead of the default.
        region: the region of the AWS registry to pull from.
        instance_type: one of the types to run it on; selects the image for GPUs.

    Raises:
        BadArgument: if the URI is not valid, or AWS has no such image in the region.
        ScriptError: if the core of the SageMaker SDK is not installed and there is no URI.
    """
    return Image.parse(uri or _default(region, instance_type))


def _default(region: str, instance_type: str) -> str:
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
                version=_VERSION,
                base_framework_version=_BASE,
                py_version=_PYTHON,
                instance_type=instance_type,
                image_scope="inference",
            )
        )
    except (ValueError, KeyError) as error:
        raise BadArgument(
            f"AWS lists no serving image for {region}: {error}", "Pass another --region or --image."
        ) from error
