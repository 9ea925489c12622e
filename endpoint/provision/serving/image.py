"""The container image that serves a model: by default the deployment's own on a GPU."""

from __future__ import annotations

from endpoint.aws.registry import Image
from endpoint.catalogue import images
from endpoint.catalogue.images import KnownImage
from endpoint.catalogue.prices import is_inferentia
from endpoint.cli.context import Context
from endpoint.core.problems import BadArgument, ScriptError
from endpoint.provision.backends import EASEL
from endpoint.provision.serving import own_image


def choose_image(
    context: Context, wanted: str | None, instance_type: str, backend: str = EASEL
) -> Image:
    """Return the image to serve with; `own_image.ensure` builds it, if it is the deployment's own.

    Args:
        context: the deployment; its region selects the AWS registry to pull from.
        wanted: `aws`, a name of the catalogue, or a URI; None for the deployment's own, and for
            AWS's on Inferentia2.
        instance_type: one of the types to run it on; selects the image for GPUs or Inferentia2.
        backend: what serves in it, which may have an image of AWS's by default.

    Raises:
        BadArgument: if it is neither a name nor a URI, AWS has no such image in the region, or it
            is for the other kind of instance.
        ScriptError: if the core of the SageMaker SDK is not installed and there is no URI.
    """
    if wanted is None and backend != EASEL:
        wanted = images.for_backend(backend).name
    if wanted is None and not is_inferentia(instance_type):
        return own_image.address(context)
    name = wanted or images.INFERENTIA
    known = images.by_name(name) or known_image(Image.parse(name))
    if known is not None and bool(known.neuron) != is_inferentia(instance_type):
        raise BadArgument(
            f"{known.title}, does not run on {instance_type}.",
            "Leave out --image, for the one that does.",
        )
    return named_image(name, context.account.region, instance_type)


def named_image(wanted: str, region: str, instance_type: str, scope: str = "inference") -> Image:
    """Return an image that is not the deployment's own; the arguments are as in `choose_image`.

    With the scope `training`, it is one for training jobs.
    """
    known = images.by_name(wanted, scope)
    if known is None:
        return Image.parse(wanted)
    return Image.parse(known.pinned(known.uri or _look_up(known, region, instance_type)))


def known_image(image: Image) -> KnownImage | None:
    """Return what the catalogue knows about an image, however it was named."""
    return images.by_content(image.repository, image.tag, image.digest)


def inference_ami(context: Context, image: Image, wanted: str | None) -> str | None:
    """Return the InferenceAmiVersion for an image: the option, or what the image requires."""
    known = known_image(image)
    if wanted is None and own_image.in_repository(context, image):
        return images.AMI_OF_CUDA_13  # see model_package/server/requirements-cuda.lock
    return wanted or (known.inference_ami if known else images.needed_ami(image.tag))


def _look_up(known: KnownImage, region: str, instance_type: str) -> str:
    try:
        from sagemaker.core import image_uris  # 1.5 s, and 400 MB of packages: only where needed
    except ImportError as error:
        raise ScriptError(
            "Looking up an image of AWS requires the core of the SageMaker SDK,"
            " which is not installed.",
            "Run `pip install -r endpoint/requirements-deploy.txt`, or pass an image with --image.",
        ) from error
    try:
        return str(
            image_uris.retrieve(
                region=region,
                instance_type=instance_type,
                image_scope=known.scope,
                **known.lookup,
            )
        )
    except (ValueError, KeyError) as error:
        raise BadArgument(
            f"AWS lists no {known.scope} image for {region}: {error}",
            "Pass another --region or --image.",
        ) from error
