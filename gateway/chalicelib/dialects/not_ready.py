"""The response to a client whose picture is not ready: a redirect, a page or a JSON receipt.

An image client follows a chain of `303 See Other`, each of which waits as long as a request can; a
browser navigation gets a page that waits by itself; an API client that asks for it is given the
job's URL (RFC 7240, `Prefer: respond-async`).
"""

from __future__ import annotations

from chalicelib.images.jobs import Job, State
from chalicelib.web.pages import waiting_page
from chalicelib.web.request import Request
from chalicelib.web.response import Response, json_response, next_hop, page_response

_POLL_SECONDS = 2


def not_ready(request: Request, job: Job) -> Response:
    """Return the response to a request whose job is still waiting.

    Raises:
        StillPainting: for a client that has followed as many redirects as it will.
    """
    # A client that sends `Prefer` knows jobs, and wants neither a page nor a redirect.
    if request.requested_wait is not None:
        return receipt(request.root, job)
    if request.is_navigation:
        page = waiting_page(request.root, job.id, job.request.prompt, job.waited)
        return page_response(page, 202)
    url = image_url(request.root, job.id)
    return next_hop(request, url, f"The picture is not ready yet. It will be at {url}")


def receipt(root: str, job: Job) -> Response:
    """Return the job in JSON: 202 with `Retry-After` while it waits.

    Args:
        root: the public path of the home page.
        job: any.
    """
    described, headers = _described(root, job), {"Location": f"{root}/jobs/{job.id}"}
    if job.state is not State.WAITING:
        return json_response(described, 200, headers)
    return json_response(described, 202, {**headers, "Retry-After": str(_POLL_SECONDS)})


def _described(root: str, job: Job) -> dict[str, object]:
    described: dict[str, object] = {
        "id": job.id,
        "state": job.state.value,
        "waited_seconds": round(job.waited, 1),
        "request": job.request.to_dict(),
        "url": f"{root}/jobs/{job.id}",
        "image": image_url(root, job.id),
    }
    if job.error is not None:
        described["error"] = {"code": job.error.code, "message": job.error.message}
    return described


def image_url(root: str, identifier: str) -> str:
    """Return the public path of a job's picture."""
    return f"{root}/jobs/{identifier}/image"
