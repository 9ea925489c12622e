import json

import pytest

REQUEST = {"prompt": "a cat", "seed": 7}
HOSTILE_BODIES = [
    (b"", None),
    (b"{", None),
    (b"\xff\xfe", None),
    (b"[]", None),
    (b'"a cat"', None),
    (b"null", None),
    (b"[" * 100_000, None),
    (b"{}", "prompt"),
    (b'{"prompt": null}', "prompt"),
    (b'{"prompt": ""}', "prompt"),
    (b'{"prompt": ["a"]}', "prompt"),
    (b'{"prompt": "\\ud800"}', "prompt"),
    (b'{"prompt": "a\\u0000b"}', "prompt"),
    (b'{"prompt": "a", "seed": -1}', "seed"),
    (b'{"prompt": "a", "seed": 1e999}', "seed"),
    (b'{"prompt": "a", "steps": true}', "steps"),
    (b'{"prompt": "a", "steps": 1000000}', "steps"),
    (b'{"prompt": "a", "guidance_scale": NaN}', "guidance_scale"),
    (b'{"prompt": "a", "width": 65}', "width"),
    (b'{"prompt": "a", "height": 8192}', "height"),
    (b'{"prompt": "a", "format": "gif"}', "format"),
    (b'{"prompt": "a", "model": "../../etc/passwd"}', "model"),
    (b'{"prompt": "a", "__class__": "x"}', "__class__"),
    (b'{"inputs": "a cat"}', "inputs"),
]


@pytest.mark.parametrize(("body", "field"), HOSTILE_BODIES)
def test_a_bad_body_is_refused_by_the_fields_name(quick_toolkit, body, field):
    # As bytes: text that is no UTF-8 fails in the toolkit itself when the type is exactly JSON.
    response = quick_toolkit.post(
        body, content_type="application/json; charset=utf-8", accept="image/png"
    )
    assert response.status == 400
    assert response.error["code"] == "invalid_request"
    assert response.error.get("field") == field
    assert response.error["message"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"]
)
def test_json_may_be_announced_in_any_of_its_spellings(quick_toolkit, content_type):
    assert quick_toolkit.post(REQUEST, content_type=content_type).status == 200


@pytest.mark.parametrize("content_type", ["text/plain", "text/csv", "", "image/png"])
def test_another_content_type_is_refused(quick_toolkit, content_type):
    response = quick_toolkit.post(REQUEST, content_type=content_type)
    assert (response.status, response.error["field"]) == (400, "Content-Type")


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_a_byte_order_mark_changes_nothing(quick_toolkit, content_type):
    body = json.dumps(REQUEST).encode("utf-8-sig")
    assert quick_toolkit.post(body, content_type=content_type).status == 200


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_only_utf_8_is_read_whatever_the_content_type_says(quick_toolkit, encoding):
    body = json.dumps({**REQUEST, "prompt": "café"}, ensure_ascii=False).encode(encoding)
    response = quick_toolkit.post(body, content_type=f"application/json; charset={encoding}")
    assert response.error["message"] == "The body must be JSON in UTF-8."
