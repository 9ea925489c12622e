"""An HTTP server in place of a SageMaker endpoint, so that the gateway alone is measured."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from endpoint.emulator.process.http_server import QuietHandler, serving


@contextmanager
def stub_endpoint(written: list[str] | None = None) -> Iterator[str]:
    """Serve the same PNG of about 1.5 MB for every InvokeEndpoint, and yield the URL.

    Args:
        written: gets the path of every PutObject; without it, S3 is not there.
    """
    png = noise_png(850, 600)

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            self.body()
            self.answer(200, [("Content-Type", "image/png")], png)

        def do_PUT(self) -> None:
            self.body()
            if written is None:
                self.answer(501, [], b"")
            else:
                written.append(self.path)
                self.answer(200, [("ETag", '"1"')], b"")

    with serving(Handler) as server:
        yield server.url


def noise_png(width: int, height: int) -> bytes:
    """Return a PNG that does not compress: 3 bytes per pixel."""
    noise = random.Random(0)
    rows = b"".join(b"\0" + noise.randbytes(width * 3) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
