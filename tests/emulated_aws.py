"""An emulated AWS for tests. moto keeps one account's resources for the whole process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from moto.moto_api._internal.models import moto_api_backend

from endpoint.emulator.aws_server import AwsServer


@contextmanager
def empty_aws(server: AwsServer | None = None) -> Iterator[AwsServer]:
    """Serve AWS without the resources of tests before, while the context lasts.

    Not for use while another server of this process is in use, whose resources would go, too. A
    fixture of it has at most the scope `package`: the tests of other folders start an account of
    their own.

    Args:
        server: the server; by default one without policies.
    """
    moto_api_backend.reset()
    with (server or AwsServer()).serve() as aws:
        yield aws
