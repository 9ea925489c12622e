"""What a visitor gets whose picture is not ready: by the client, a redirect, a page or a receipt.

An image client follows a chain of `303 See Other`, each of which waits as long as a visit may; a
person's browser shows a page that waits by itself; an API client that asked for it is told where to
look (RFC 7240, `Prefer: respond-async`).
"""

from __future__ import annotations

import re

from chalicelib.errors import StillPainting
from chalicelib.images.jobs import Job, State
from chalicelib.web.pages import waiting_page
from chalicelib.web.request import Visit
from chalicelib.web.response import Answer, json_answer, page_answer, see_other

# A person looks at a page that moves rather than at an empty tab.
_PERSONS_PATIENCE = 4.0
_POLL_SECONDS = 2
# How many redirects clients follow, less one or two for the way to here. Measured in unmodified
# clients: Chromium's navigation 19, its <img>, openai-python and node's fetch 20, aiohttp 9,
# requests 30, curl -L 50.
_HOPS = 18
_HOPS_BY_AGENT = {"aiohttp": 8, "python-requests": 28, "curl": 48}


def patience(visit: Visit, remaining: float) -> float:
    """Return for how many seconds this visit may wait for its picture, of those that remain."""
    wish = _wish(visit)
    if wish is not None:
        return min(wish, remaining)
    return min(_PERSONS_PATIENCE, remaining) if visit.is_navigation else remaining


def not_ready(visit: Visit, job: Job) -> Answer:
    """Answer a visit whose job is still waiting.

    Raises:
        StillPainting: to a client that has followed as many redirects as it will.
    """
    if _wish(visit) is not None:
        return receipt(visit, job)
    if visit.is_navigation:
        return page_answer(waiting_page(visit.root, job.id, job.request.prompt, job.waited), 202)
    if hops_left(visit) <= 0:
        raise StillPainting(f"The picture is not ready yet. It will be at {image_url(visit, job)}")
    return see_other(f"{image_url(visit, job)}?hop={hop_of(visit) + 1}")


def receipt(visit: Visit, job: Job) -> Answer:
    """Return the job in JSON: 202 with `Retry-After` while it waits."""
    answer = json_answer(describe(visit, job), 202 if job.state is State.WAITING else 200)
    headers = {**answer.headers, "Location": f"{visit.root}/jobs/{job.id}"}
    if job.state is State.WAITING:
        headers["Retry-After"] = str(_POLL_SECONDS)
    return Answer(answer.status, answer.body, headers)


def describe(visit: Visit, job: Job) -> dict[str, object]:
    """Return what a program may know of a job."""
    described: dict[str, object] = {
        "id": job.id,
        "state": job.state.value,
        "waited_seconds": round(job.waited, 1),
        "request": job.request.to_dict(),
        "url": f"{visit.root}/jobs/{job.id}",
        "image": image_url(visit, job),
    }
    if job.error is not None:
        described["error"] = {"code": job.error.code, "message": job.error.message}
    return described


def image_url(visit: Visit, job: Job) -> str:
    """Return the public path of a job's picture."""
    return f"{visit.root}/jobs/{job.id}/image"


def _wish(visit: Visit) -> float | None:
    """Return for how long the client itself wants to wait, if it says so."""
    preferences = visit.headers.get("prefer", "").lower()
    wait = re.search(r"\bwait\s*=\s*\"?(\d{1,4})\b", preferences)
    if wait:
        return float(wait[1])
    return 0.0 if re.search(r"\brespond-async\b", preferences) else None


def hop_of(visit: Visit) -> int:
    """Return how many redirects of ours have led here."""
    text = visit.parameters().get("hop", "0")
    return int(text) if re.fullmatch(r"[0-9]{1,3}", text) else 0


def hops_left(visit: Visit) -> int:
    """Return how many more redirects this client will follow."""
    return _budget(visit) - hop_of(visit)


def _budget(visit: Visit) -> int:
    agent = visit.headers.get("user-agent", "").lower()
    for name, hops in _HOPS_BY_AGENT.items():
        if name in agent:
            return hops
    return _HOPS
