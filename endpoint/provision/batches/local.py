"""A batch through the URL of a gateway: that of `./setup.sh run`, or a deployed one.

It uses OpenAI's route, which waits for a picture in one response or in a chain of redirects, and
says in JSON what is wrong.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from endpoint.core.batches.lines import URL
from endpoint.core.http import Answer, Ask, ask
from endpoint.core.problems import BadArgument, ScriptError
from endpoint.provision.batches.direct import Busy, Failed
from endpoint.provision.batches.run import Task

KEY = "EASEL_API_KEY"  # the variable with the gateway's key
_REDIRECTS = 200  # of a job that waits for an instance, 24 s each
_LATER = {429, 502, 503, 504}
# What says that there was no room, and nothing about the picture.
_NO_ROOM = {429}
_MOST_PAUSE = 60.0
# A 402 for a longer time is of a budget or a cap that is used up until the next month.
_MOST_RESERVED = 60.0


class Gateway:
    """A gateway that can be reached.

    Args:
        url: its address, with or without `/api` at its end.
        send: sends one request.

    Raises:
        BadArgument: if nothing answers there.
    """

    def __init__(self, url: str, send: Ask = ask) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise BadArgument(f"--local {url}: is no URL, such as http://127.0.0.1:8000/api.")
        path = parts.path.rstrip("/") or "/api"
        self.url = f"{parts.scheme}://{parts.netloc}{path}"
        self._send = send

    def models(self) -> list[str]:
        """Return the names of its models; the first is the default.

        Raises:
            BadArgument: if no gateway answers.
            ScriptError: if it requires a key.
        """
        try:
            answer = self._ask("GET", f"{self.url}/v1/models")
            _check_key(answer)
            names = [str(model["id"]) for model in answer.json()["data"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadArgument(
                f"No gateway answers at {self.url}.",
                "`./setup.sh run` starts one on this machine, and prints its URL.",
            ) from error
        if not names:
            raise BadArgument(f"The gateway at {self.url} has no model.")
        return names

    def paint(self, task: Task) -> bytes:
        """Return a picture.

        Raises:
            Failed: if the gateway refuses the request.
            Busy: if a later attempt can succeed.
            ScriptError: if it requires a key, or a budget or the monthly cap is used up.
        """
        request = task.picture.request
        fields = {name: value for name, value in request.to_dict().items() if value != ""}
        fields["output_format"] = fields.pop("format")
        fields["response_format"] = "b64_json"
        try:
            answer = self._follow(self._ask("POST", f"{self.url}{URL}", json.dumps(fields)))
        except OSError as error:
            raise Busy(f"{self.url} does not answer: {error}", counts=False) from error
        _check_key(answer)
        _check_money(answer)
        if answer.status in _LATER:
            pause = min(_seconds(answer.headers.get("retry-after", "")), _MOST_PAUSE)
            raise Busy(_message(answer), pause, counts=answer.status not in _NO_ROOM)
        if answer.status != 200:
            raise Failed(_message(answer), answer.status)
        return self._picture(answer)

    def _picture(self, answer: Answer) -> bytes:
        try:
            data = answer.json()["data"][0]
            if "b64_json" in data:
                return base64.b64decode(data["b64_json"], validate=True)
            # One that does not fit a response.
            return self._ask("GET", urljoin(self.url, data["url"])).body
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise Failed("The gateway's response has no picture.", 502) from error

    def _follow(self, answer: Answer) -> Answer:
        for _ in range(_REDIRECTS):
            if answer.status != 303:
                break
            answer = self._ask("GET", urljoin(self.url, answer.headers["location"]))
        return answer

    def _ask(self, method: str, url: str, body: str | None = None) -> Answer:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        key = os.environ.get(KEY)
        if key and urlsplit(url).netloc == urlsplit(self.url).netloc:
            headers["Authorization"] = f"Bearer {key}"
        return self._send(method, url, headers, None if body is None else body.encode())


def _check_key(answer: Answer) -> None:
    if answer.status in {401, 403}:
        raise ScriptError(
            f"The gateway refuses: {_message(answer)}",
            f"Put a key into the environment variable {KEY}; `python -m endpoint create-key` makes"
            " one.",
        )


def _check_money(answer: Answer) -> None:
    """Raise the error of a 402: money is missing for all lines alike."""
    if answer.status != 402:
        return
    seconds = _seconds(answer.headers.get("retry-after", ""), math.inf)
    if seconds <= _MOST_RESERVED:
        # What is left of the budget is reserved for pictures in progress.
        raise Busy(_message(answer), seconds, counts=False)
    raise ScriptError(
        f"The gateway refuses: {_message(answer)}",
        "The same command continues when there is money again; no line has failed for this.",
    )


def _message(answer: Answer) -> str:
    try:
        body: Mapping[str, Any] = answer.json()
        return str(body["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return f"The gateway responded with {answer.status}."


def _seconds(text: str, default: float = 5.0) -> float:
    return float(text) if text.isascii() and text.isdigit() else default
