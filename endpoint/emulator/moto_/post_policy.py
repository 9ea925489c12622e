"""S3's uploads by HTML forms: moto 5.2.5 stores them whatever their policy says.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from moto.s3.models import s3_backends
from moto.s3.utils import cors_matches_origin
from werkzeug.wrappers import Request, Response

from endpoint.emulator.account import ACCOUNT
from endpoint.emulator.process.clients import FAKE_CREDENTIALS

_ALGORITHM = "AWS4-HMAC-SHA256"
# Fields that no condition has to name.
_FREE = {"policy", "x-amz-signature", "file"}
# The ids of access keys whose secret the emulator knows begin so. Others are not verified.
_OWN_KEYS = "easel-"


class Refused(Exception):
    """S3 refuses the form.

    Attributes:
        status: of the response.
        code: S3's error code.
        more: further elements of the error.
    """

    def __init__(self, status: int, code: str, message: str, **more: object) -> None:
        self.status, self.code, self.more = status, code, more
        super().__init__(message)

    def response(self) -> Response:
        """Return the error as S3 describes it."""
        elements = {"Code": self.code, "Message": str(self), **self.more, "RequestId": "0"}
        inner = "".join(f"<{key}>{escape(str(text))}</{key}>" for key, text in elements.items())
        xml = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'
        return Response(xml, self.status, mimetype="application/xml")


def is_form(request: Request) -> bool:
    """Whether a request uploads an object by a form."""
    return request.method == "POST" and request.mimetype == "multipart/form-data"


def check(request: Request) -> None:
    """Refuse a form whose policy does not allow it.

    Raises:
        Refused: as S3 words it.
    """
    fields = {name.lower(): value for name, value in request.form.items()}
    file = request.files.get("file")
    if file is None and "file" not in fields:
        raise Refused(
            400, "IncorrectNumberOfFilesInPostRequest", "POST requires exactly one file upload."
        )
    if "key" not in fields:
        raise Refused(
            400,
            "InvalidArgument",
            "Bucket POST must contain a field named 'key'.  If it is specified, please check the"
            " order of the fields.",
        )
    if "policy" not in fields:
        raise Refused(403, "AccessDenied", "Access Denied")
    _check_signature(fields)
    policy = _policy(fields["policy"])
    size = len(file.read()) if file is not None else len(fields["file"].encode())
    name = (file.filename if file is not None else "") or ""
    fields["key"] = fields["key"].replace("${filename}", name)
    _check_conditions(policy, fields | {"bucket": bucket_of(request)}, size)


def bucket_of(request: Request) -> str:
    """Return the bucket, which is in the path or in the name of the host."""
    first = request.path.strip("/").partition("/")[0]
    return first or request.host.partition(".")[0]


def _policy(text: str) -> dict[str, Any]:
    try:
        policy = json.loads(base64.b64decode(text, validate=True))
        expiration = datetime.fromisoformat(policy["expiration"])
        conditions = policy["conditions"]
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise Refused(400, "InvalidPolicyDocument", "Invalid Policy: Invalid JSON.") from None
    if not isinstance(conditions, list):
        raise Refused(400, "InvalidPolicyDocument", "Invalid Policy: Invalid Conditions.")
    if expiration.replace(tzinfo=expiration.tzinfo or UTC) < datetime.now(UTC):
        raise _not_allowed("Policy expired.")
    return dict(policy)


def _check_signature(fields: Mapping[str, str]) -> None:
    if fields.get("x-amz-algorithm") != _ALGORITHM:
        # Signature Version 2, in regions that were built after 2013.
        raise Refused(
            400,
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use"
            f" {_ALGORITHM}.",
        )
    identity, *scope = fields.get("x-amz-credential", "").split("/")
    if not identity.startswith(_OWN_KEYS):
        return
    key = b"AWS4" + FAKE_CREDENTIALS["aws_secret_access_key"].encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    signature = hmac.new(key, fields["policy"].encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(signature, fields.get("x-amz-signature", "")):
        raise Refused(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check"
            " your key and signing method.",
        )


def _check_conditions(policy: dict[str, Any], fields: Mapping[str, str], size: int) -> None:
    allowed = set(_FREE)
    for condition in policy["conditions"]:
        if isinstance(condition, dict):
            ((name, value),) = condition.items()
            condition = ["eq", f"${name}", value]
        match condition:
            case ["content-length-range", least, most]:
                _check_size(size, int(least), int(most))
                continue
            case ["eq", name, value]:
                holds = fields.get(_field(name), "") == value
            case ["starts-with", name, value]:
                holds = fields.get(_field(name), "").startswith(value)
            case _:
                raise Refused(400, "InvalidPolicyDocument", "Invalid Policy: Invalid Condition.")
        allowed.add(_field(name))
        if not holds:
            raise _not_allowed(f"Policy Condition failed: {json.dumps(condition)}")
    extra = {name for name in fields if not name.startswith("x-ignore-")} - allowed - {"bucket"}
    if extra:
        raise _not_allowed(f"Extra input fields: {', '.join(sorted(extra))}")


def _field(name: str) -> str:
    return str(name).removeprefix("$").lower()


def _check_size(size: int, least: int, most: int) -> None:
    if size > most:
        raise Refused(
            400,
            "EntityTooLarge",
            "Your proposed upload exceeds the maximum allowed size",
            ProposedSize=size,
            MaxSizeAllowed=most,
        )
    if size < least:
        raise Refused(
            400,
            "EntityTooSmall",
            "Your proposed upload is smaller than the minimum allowed size",
            ProposedSize=size,
            MinSizeAllowed=least,
        )


def _not_allowed(reason: str) -> Refused:
    return Refused(403, "AccessDenied", f"Invalid according to Policy: {reason}")


def cors_headers(request: Request) -> dict[str, str]:
    """Return what lets a page of another origin read the response, as the bucket's rules say."""
    origin = request.headers.get("Origin", "")
    bucket = s3_backends[ACCOUNT]["aws"].buckets.get(bucket_of(request))
    for rule in getattr(bucket, "cors", []):
        methods = rule.allowed_methods
        if "POST" in ([methods] if isinstance(methods, str) else methods) and cors_matches_origin(
            origin, rule.allowed_origins
        ):
            return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
    return {}
