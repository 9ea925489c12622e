"""Build the deployment's own serving image on AWS: no Docker is needed on this machine.

    infrastructure   the stack, which has the repository and the build's project
    sources          model_package/ as a zip file, in the stack's versioned bucket
    build            CodeBuild runs model_package/server/buildspec.yml; its log is shown here
    check            the manifest's type, which SageMaker has to accept

`create` and `deploy` do the same, if the image does not exist. Ctrl-C stops the build.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from endpoint.cli import script
from endpoint.cli.context import Context
from endpoint.cli.options import CommonOptions, common_parser
from endpoint.cli.script import Result
from endpoint.provision import infrastructure
from endpoint.provision.ownership import Ownership
from endpoint.provision.serving import image_source, own_image


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return common_parser("build_image", "Build Easel's serving image on AWS, without Docker here.")


def build_image(context: Context, _: CommonOptions) -> Result:
    """Build the image, unless it exists; report its digest."""
    source = image_source.read()
    image = own_image.address(context, source)
    before = own_image.find(context, source)
    if before is None:
        Ownership(context).refuse_other_stack()
        for line in own_image.plan(context, image):
            context.console.say(line)
        context.console.ask(f"Build it in {context.account.region}?")
        infrastructure.ensure(context, image)
    built = own_image.ensure(context, source)
    data = {
        "image": built.uri,
        "tag": source.tag,
        "commit": source.commit,
        "digest": built.digest,
        "built": before is None and not context.dry_run,
    }
    if context.dry_run and before is None:
        return Result(data, ["Dry run: nothing was built."])
    lines = [
        f"{built.uri} {'is built' if before is None else 'exists already; nothing was built'}.",
        "`deploy` and `create` use it; other sources make another image.",
    ]
    return Result(data, lines)


def main(argv: Sequence[str] | None = None, **overrides: Any) -> int:
    """Run the script and return its exit code; `overrides` as in `script.run`."""
    return script.run(parser(), CommonOptions, build_image, argv, **overrides)
