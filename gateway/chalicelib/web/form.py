"""Forms with files, `multipart/form-data`, as browsers and OpenAI's libraries send them."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP

from chalicelib.errors import InvalidRequest
from chalicelib.web.request import Request

TYPE = "multipart/form-data"


@dataclass(frozen=True)
class FormFile:
    """A file of a form."""

    name: str
    content: bytes


def read_form_data(request: Request) -> tuple[dict[str, str], dict[str, FormFile]]:
    """Return the fields and the files of a form by their names; of a repeated one, the last.

    Raises:
        InvalidRequest: if the body is no such form.
    """
    media_type = request.headers.get("content-type", "")
    head = f"Content-Type: {media_type}\r\n\r\n".encode("latin-1", "replace")
    form = BytesParser(policy=HTTP).parsebytes(head + request.body)
    if not form.is_multipart() or form.defects:
        raise InvalidRequest(f"The body must be {TYPE}, complete and with its boundary.")
    fields: dict[str, str] = {}
    files: dict[str, FormFile] = {}
    for part in form.iter_parts():
        name = part.get_param("name", header="Content-Disposition")
        if not isinstance(name, str):
            raise InvalidRequest("A part of the form has no name.")
        file_name, content = part.get_filename(), _content(part)
        if file_name is None:
            fields[name] = content.decode(errors="replace")
        else:
            files[name] = FormFile(file_name, content)
    return fields, files


def _content(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""
