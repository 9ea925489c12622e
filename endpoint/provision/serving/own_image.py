"""The deployment's own serving image: built by CodeBuild from the sources of this repository.

    sources   one zip file in a versioned bucket; a rule starts a build of each new version
    build     by the project in the template, which pushes to the deployment's repository
    image     tagged with the hash of its sources, deployed by its digest

A build that runs is found again, and an image that exists is not built again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from endpoint.aws.builds import Build
from endpoint.aws.registry import SERVABLE, Image, Manifest
from endpoint.catalogue import prices
from endpoint.cli.context import Context
from endpoint.core.problems import AGAIN, BuildFailed, ScriptError, TookTooLong
from endpoint.provision.infrastructure import REGIONS_WITHOUT_BUILDS
from endpoint.provision.serving import image_source
from endpoint.provision.serving.image_source import KEY, Source

_SHA256 = "easel-sha256"
# S3 and EventBridge deliver an event within seconds, as a rule.
_RULE_SECONDS = 30
# The project's limits: an hour in the queue, and an hour.
_MOST_SECONDS = 2 * 3600 + 600
_LAST_LINES = 15


def address(context: Context, source: Source | None = None) -> Image:
    """Return the image of these sources, by its tag; whether it exists or not.

    Raises:
        ScriptError: if the region has no CodeBuild, or the sources are incomplete.
    """
    if context.account.region in REGIONS_WITHOUT_BUILDS:
        raise ScriptError(
            f"CloudFormation offers no CodeBuild in {context.account.region}, so that Easel's image"
            " cannot be built there.",
            "Pass an image of yours with --image, or --image aws.",
        )
    source = source or image_source.read()
    deployment = context.deployment
    return Image.parse(f"{deployment.registry}/{deployment.repository}:{source.tag}")


def in_repository(context: Context, image: Image) -> bool:
    """Whether an image is one of the deployment's repository."""
    own = context.deployment
    place = (own.account, own.region, own.repository)
    return (image.account, image.region, image.repository) == place


def is_own(context: Context, image: Image) -> bool:
    """Whether an image is the one of `address`, which may have to be built."""
    if not in_repository(context, image):
        return False
    # The operator can choose another one of the same repository.
    return (image.tag, image.digest) == (image_source.read().tag, None)


def require_stored(context: Context, uri: str) -> None:
    """Raise BuildFailed if an image of the deployment's repository is not in it any more."""
    image = Image.parse(uri)
    if in_repository(context, image) and context.registry.find(image) is None:
        raise BuildFailed(
            f"{uri} does not exist any more: the repository keeps the last ten images.",
            "`python -m endpoint create` builds the image again and updates the endpoint.",
        )


def find(context: Context, source: Source | None = None) -> Manifest | None:
    """Return what ECR stores of the image of these sources; None if it has to be built.

    It is also found by the commit of its sources, which is how another program tags it.
    """
    source = source or image_source.read()
    image = address(context, source)
    stored = context.registry.find(image)
    if stored is None and source.commit:
        name = image.uri.rpartition(":")[0]
        stored = context.registry.find(Image.parse(f"{name}:{source.commit}"))
    return stored


def plan(context: Context, image: Image) -> list[str]:
    """Return that an image has to be built first, and its cost, as lines of text."""
    if not is_own(context, image) or find(context):
        return []
    return [f"{image.uri} does not exist yet. {prices.image_in_words()}"]


def check_servable(image: Image, manifest: Manifest) -> None:
    """Raise BuildFailed if CreateModel would refuse an image."""
    if not manifest.servable:
        raise BuildFailed(unservable(image, manifest), unservable_advice(image))


def unservable(image: Image, manifest: Manifest) -> str:
    """Return that CreateModel refuses an image, in words."""
    return f"{image.uri} has a manifest of the type {manifest.media_type}, which SageMaker refuses."


def unservable_advice(image: Image) -> str:
    """Return what to do about it."""
    name = f"imageTag={image.tag}" if image.tag else f"imageDigest={image.digest}"
    return (
        f"SageMaker takes {SERVABLE} alone: build it with `docker buildx build --provenance=false"
        " --sbom=false --output type=image,push=true,oci-mediatypes=false`. A tag of an image that"
        f" was pushed is free again after `aws ecr batch-delete-image --repository-name"
        f" {image.repository} --image-ids {name}`."
    )


def ensure(context: Context, source: Source | None = None) -> Image:
    """Build the image, if it does not exist; return it by its digest.

    In a dry run, it is returned by its tag.

    Raises:
        BuildFailed: if the build failed, or its image cannot be served.
    """
    source = source or image_source.read()
    image = address(context, source)
    stored = find(context, source)
    if stored is None:
        context.begin(f"image {image.uri}: built by {context.deployment.build_project}")
        _build(context, source)
        if context.dry_run:
            return image
        stored = context.registry.find(image)
    if stored is None:
        raise BuildFailed(
            f"The build succeeded, but {image.uri} does not exist.",
            f"Its log group is {context.deployment.build_log}. {AGAIN}",
        )
    check_servable(image, stored)
    uri = f"{image.uri.rpartition(':')[0]}@{stored.digest}"
    return replace(image, uri=uri, digest=stored.digest)


def _build(context: Context, source: Source) -> None:
    """Upload the sources, and follow the build that this starts.

    Ctrl-C stops the build. After any other failure it goes on, and ends by itself.
    """
    before = _uploaded(context, source)
    try:
        version = before or context.source_bucket.put(KEY, source.archive, {_SHA256: source.sha256})
        build = _running(context, version) if before else _started_by_rule(context, version)
        project = context.deployment.build_project
        build = build or context.builds.start(project, version)
        context.begin(f"build {build}, {prices.build_per_hour():.2f} USD per hour")
        if not context.dry_run:
            _follow(context, build, source)
    except KeyboardInterrupt:
        _withdraw(context, source)
        raise


def _uploaded(context: Context, source: Source) -> str | None:
    """Return the version of the sources in the bucket; None if it has others."""
    current = context.source_bucket.current(KEY)
    return current[0] if current and current[1].get(_SHA256) == source.sha256 else None


def _running(context: Context, version: str) -> str | None:
    builds = context.builds.running(context.deployment.build_project)
    return next((build.id for build in builds if build.version == version), None)


def _started_by_rule(context: Context, version: str) -> str | None:
    """Wait for the build that the rule starts; None if it does not."""
    build: str | None = None

    def poll() -> str | None:
        nonlocal build
        build = _running(context, version)
        return None if build else "waiting for the rule that starts the build"

    with suppress(TookTooLong):
        context.waiting.until_done(poll, at_most=_RULE_SECONDS, every=3)
    return build


def _follow(context: Context, identity: str, source: Source) -> None:
    """Show a build's log until it ends.

    The rule's event can be late and start a second build: the first to push ends the other one.

    Raises:
        BuildFailed: unless it succeeded, or another one has pushed the image.
    """
    last: list[str] = []
    token: str | None = None

    def show(build: Build) -> None:
        nonlocal token
        if build.log:
            lines, token = context.logs.new_lines(*build.log, token)
            for line in lines:
                context.console.say(f"    {line}")
            last[:] = [*last, *lines][-_LAST_LINES:]

    def poll() -> str | None:
        build = context.builds.find(identity)
        show(build)
        if not build.runs:
            return None
        usd = prices.build(build.seconds(context.clock.now()))
        return f"image build: {build.phase.lower().replace('_', ' ')}, {usd:.2f} USD so far"

    context.waiting.until_done(poll, at_most=_MOST_SECONDS)
    build = context.builds.find(identity)
    usd = prices.build(build.seconds(context.clock.now()))
    if build.status != "SUCCEEDED" and find(context, source) is None:
        raise _failed(context, build, last, usd)
    _stop(context, build.version)
    context.console.say(f"  the image is built; the build cost about {usd:.2f} USD")


def _failed(context: Context, build: Build, last: list[str], usd: float) -> BuildFailed:
    reason = "; ".join(build.reasons) or "CodeBuild gave no reason"
    words = build.status.lower().replace("_", " ")
    message = [f"The build {build.id} ended as {words}: {reason}. It cost about {usd:.2f} USD."]
    if last:
        message += ["The last lines of its log:", *(f"  {line}" for line in last)]
    return BuildFailed(
        "\n".join(message),
        f"All of the log is in {context.deployment.build_log}. Run the same command again to build"
        " again, or pass an image with --image.",
    )


def _withdraw(context: Context, source: Source) -> None:
    """Delete the sources from the bucket, and stop what builds them.

    Without them, the rule's event builds nothing, which can still be on its way.
    """
    if version := _uploaded(context, source):
        context.source_bucket.delete_version(KEY, version)
        _stop(context, version)


def _stop(context: Context, version: str) -> None:
    for build in context.builds.running(context.deployment.build_project):
        if build.version == version:
            context.builds.stop(build.id)
            usd = prices.build(build.seconds(context.clock.now()))
            context.console.say(f"The build {build.id} is stopped; it cost about {usd:.2f} USD.")
