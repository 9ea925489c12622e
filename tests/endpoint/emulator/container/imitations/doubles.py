"""What makes the images of imitated containers in tests."""

from __future__ import annotations

import json

from PIL import Image

JSON = "application/json"
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


class Images:
    """Makes an image of one colour, in the size that was asked for, and remembers the requests."""

    def __init__(self, size=(64, 48), error=None):
        self.requests = []
        self._size, self._error = size, error

    def __call__(self, request):
        self.requests.append(request)
        if self._error:
            raise self._error
        width, height = self._size
        size = (request.width or width, request.height or height)
        return Image.new("RGB", size, ((request.seed or 0) % 256, request.steps % 256, 7))

    @property
    def last(self):
        return self.requests[-1]


def post(container, body, *, accept="image/png", attributes="", content_type=JSON):
    """Send a request to a container; the body is JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": content_type, "Accept": accept}
    return container.answer({**headers, ATTRIBUTES: attributes} if attributes else headers, content)
