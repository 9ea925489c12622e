from __future__ import annotations

import base64

import pytest

from endpoint.emulator.apigateway.proxy_event import (
    HttpRequest,
    HttpResponse,
    Malformed,
    event,
    matches_binary,
    response,
)

PNG = b"\x89PNG\r\n\xff"
TEXT = base64.b64encode(PNG)


def picture():
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "image/png"},
        "body": TEXT.decode(),
        "isBase64Encoded": True,
    }


ALL, LISTED = ["*/*"], ["image/png"]


@pytest.mark.parametrize(
    ("binary_types", "accept", "body"),
    [
        (ALL, "image/png", PNG),
        (ALL, "*/*", PNG),
        (ALL, "application/json", PNG),
        (ALL, "text/html,application/xhtml+xml,image/png,*/*;q=0.8", PNG),
        (ALL, None, PNG),
        (LISTED, "image/png", PNG),
        (LISTED, "image/png;q=0.9, */*", PNG),
        (LISTED, "IMAGE/PNG", PNG),
        # The first type decides: a browser, <img>, and curl get base64 text.
        (LISTED, "text/html,image/png", TEXT),
        (LISTED, "image/avif,image/webp,image/png,*/*;q=0.8", TEXT),
        (LISTED, "*/*", TEXT),
        (LISTED, None, TEXT),
        ([], "image/png", TEXT),
    ],
)
def test_base64_is_decoded_only_if_the_first_accepted_type_is_binary(binary_types, accept, body):
    assert response(picture(), accept, binary_types).body == body


@pytest.mark.parametrize("accept", ["*/*", "image/png", None])
@pytest.mark.parametrize("binary_types", [ALL, LISTED, []])
def test_a_plain_body_passes_whatever_is_accepted(binary_types, accept):
    result = {"statusCode": 200, "headers": {}, "body": "caf\u00e9", "isBase64Encoded": False}
    assert response(result, accept, binary_types).body == "café".encode()


def test_a_response_without_a_type_is_json():
    assert response({"statusCode": 204}, None, ALL) == HttpResponse(
        204, [("Content-Type", "application/json")], b""
    )


def test_multi_value_headers_are_sent_one_by_one_and_take_precedence():
    result = {
        "statusCode": 200,
        "headers": {"Set-Cookie": "lost", "X-Seed": 7, "X-Done": True},
        "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]},
    }
    headers = response(result, None, ALL).headers
    assert [value for name, value in headers if name == "Set-Cookie"] == ["a=1", "b=2"]
    assert ("X-Seed", "7") in headers
    assert ("X-Done", "true") in headers


@pytest.mark.parametrize("name", ["Server", "date", "WWW-Authenticate", "Content-Length"])
def test_some_headers_are_renamed(name):
    headers = dict(response({"statusCode": 200, "headers": {name: "x"}}, None, ALL).headers)
    assert headers[f"x-amzn-Remapped-{name}"] == "x"
    assert name not in headers


@pytest.mark.parametrize(
    "result",
    [
        None,
        "text",
        [],
        {"message": "no proxy response"},
        {"statusCode": "many"},
        {"statusCode": 200, "body": {"a": 1}},
        {"statusCode": 200, "headers": ["a"]},
        {"statusCode": 200, "headers": {"a": ["b"]}},
        {"statusCode": 200, "headers": {"a": "b\nc"}},
        {"statusCode": 200, "body": "not base64!", "isBase64Encoded": True},
    ],
)
def test_an_invalid_proxy_response_is_malformed(result):
    with pytest.raises(Malformed):
        response(result, "*/*", ALL)


def make(query="", body=b"", **headers):
    request = HttpRequest(
        method="POST",
        path="/api/inference/a%20cat",
        query=query,
        headers=[(name.replace("_", "-"), value) for name, value in headers.items()],
        body=body,
        client="127.0.0.1",
    )
    return event(
        request,
        stage="api",
        resource="/inference/{text}",
        below_stage="/inference/a%20cat",
        parameters={"text": "a%20cat"},
        binary_types=LISTED,
    )


def test_the_event_has_the_members_that_a_handler_reads():
    made = make(Host="example.org", User_Agent="curl/8")
    assert made["resource"] == "/inference/{text}"
    assert made["pathParameters"] == {"text": "a%20cat"}
    assert made["headers"]["X-Forwarded-For"] == "127.0.0.1"
    assert made["multiValueHeaders"]["Host"] == ["example.org"]
    context = made["requestContext"]
    assert context["path"] == "/api/inference/a%20cat"
    assert context["resourcePath"] == "/inference/{text}"
    assert context["httpMethod"] == "POST"
    assert context["stage"] == "api"
    assert context["identity"]["sourceIp"] == "127.0.0.1"
    assert context["identity"]["userAgent"] == "curl/8"
    assert len(context["requestId"]) == 36


def test_empty_members_are_null():
    made = make()
    empty = ("queryStringParameters", "multiValueQueryStringParameters", "stageVariables", "body")
    assert [made[name] for name in empty] == [None] * 4
    assert made["isBase64Encoded"] is False


def test_query_parameters_are_decoded_and_may_repeat():
    made = make("seed=1&seed=2&prompt=a+cat%26dog&flag")
    assert made["queryStringParameters"] == {"seed": "2", "prompt": "a cat&dog", "flag": ""}
    assert made["multiValueQueryStringParameters"]["seed"] == ["1", "2"]


def test_only_binary_request_bodies_are_base64():
    binary, text = make(body=PNG, Content_Type="image/png"), make(body=b"{}")
    assert (binary["body"], binary["isBase64Encoded"]) == (TEXT.decode(), True)
    assert (text["body"], text["isBase64Encoded"]) == ("{}", False)


def test_a_wildcard_matches_everything_and_is_not_a_pattern():
    assert matches_binary("text/html", ALL)
    assert not matches_binary("image/webp", LISTED)
    assert not matches_binary(None, LISTED)
