"""The lines of results, in the shape of OpenAI's batch output.

https://platform.openai.com/docs/guides/batch: `id`, `custom_id`, `response` with `status_code`,
`request_id` and `body`, and `error`. Both ids are made of the request, so that a result says for
which request it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .lines import Line

# The status of a line's own fault, and of trouble behind it.
REFUSED, FAILED = 400, 500


def succeeded(line: Line, data: Sequence[Mapping[str, Any]], created: int) -> dict[str, Any]:
    """Return the result of a line whose pictures are there.

    Args:
        line: of the file.
        data: for each picture, `b64_json` or `url`; its seed is added, if it has one.
        created: seconds since 1970.
    """
    first = line.pictures[0].request
    pictures = [
        one if picture.request.seed is None else {**one, "seed": picture.request.seed}
        for picture, one in zip(line.pictures, data, strict=True)
    ]
    body = {
        "created": created,
        "data": pictures,
        "model": first.model,
        "output_format": first.file_format,
    }
    return _result(line, 200, body)


def failed(line: Line, message: str, *, status: int = FAILED, code: str = "failed",
           field: str | None = None) -> dict[str, Any]:  # fmt: skip
    """Return the result of a line without pictures.

    Args:
        line: of the file.
        message: a sentence.
        status: as the gateway would respond; below 500 the line itself is at fault.
        code: of OpenAI's error.
        field: that is at fault, if it is known.
    """
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": field, "code": code}
    return _result(line, status, {"error": error})


def not_run(line: Line, code: str, message: str) -> dict[str, Any]:
    """Return the result of a line that was not run, such as `batch_cancelled`."""
    return {**_ids(line), "response": None, "error": {"code": code, "message": message}}


def request_id(line: Line) -> str:
    """Return the id that a line's results have."""
    return f"req_{line.digest}"


def is_success(result: Mapping[str, Any]) -> bool:
    """Whether a result has pictures."""
    return bool((result.get("response") or {}).get("status_code") == 200)


def message_of(result: Mapping[str, Any]) -> str:
    """Return why a line failed; empty for one that has not."""
    body = (result.get("response") or {}).get("body") or {}
    error = body.get("error") or result.get("error") or {}
    return str(error.get("message", ""))


def to_jsonl(results: Iterable[Mapping[str, Any]]) -> bytes:
    """Return results as JSON, one a line."""
    rows = (json.dumps(result, ensure_ascii=False) for result in results)
    return "".join(f"{row}\n" for row in rows).encode()


def read(content: bytes, lines: Iterable[Line]) -> dict[str, dict[str, Any]]:
    """Return the last result of each line, by its custom_id.

    What is not a result of these lines as they are now is left out, and so is a last line that a
    crash has cut.
    """
    wanted = {line.custom_id: request_id(line) for line in lines}
    results = {}
    for row in content.decode(errors="replace").splitlines():
        try:
            result = json.loads(row)
            identifier = result["custom_id"]
            request = (result["response"] or {})["request_id"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if wanted.get(identifier) == request:
            results[identifier] = result
    return results


def _result(line: Line, status: int, body: dict[str, Any]) -> dict[str, Any]:
    response = {"status_code": status, "request_id": request_id(line), "body": body}
    return {**_ids(line), "response": response, "error": None}


def _ids(line: Line) -> dict[str, Any]:
    return {"id": f"batch_{request_id(line)}", "custom_id": line.custom_id}
