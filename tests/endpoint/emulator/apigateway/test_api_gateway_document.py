from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from endpoint.emulator.apigateway.api_gateway_document import Document


@pytest.fixture(scope="module")
def document(package):
    return Document.read(package)


def test_the_document_reads_the_output_of_chalice_package(document, package):
    assert document.stage == "api"
    assert document.regional
    assert document.binary_types == ["*/*"]
    function = document.function
    assert function.package == package / "deployment.zip"
    assert (function.handler, function.timeout, function.memory_size) == ("app.app", 20, 512)
    assert function.environment == {"FROM_TEMPLATE": "yes"}
    assert function.reserved_concurrency == 2


def test_without_a_package_there_is_no_document(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"sam\.json"):
        Document.read(tmp_path)


@pytest.mark.parametrize(
    ("path", "resource", "text"),
    [
        ("/png/a%20cat", "/png/{text}", "a%20cat"),
        ("/png/a+cat", "/png/{text}", "a+cat"),
        ("/png/a%2Fb", "/png/{text}", "a%2Fb"),
        ("/png/caf%C3%A9/", "/png/{text}", "caf%C3%A9"),
        ("/png/a;b", "/png/{text}", "a;b"),
        ("/png/default", "/png/default", None),
        ("/health", "/health", None),
        ("/health/", "/health", None),
    ],
)
def test_a_path_matches_its_resource_undecoded(document, path, resource, text):
    match = document.match(path)
    assert match is not None
    assert match.path == resource
    assert match.parameters == ({} if text is None else {"text": text})


@pytest.mark.parametrize(
    "path", ["/", "/png", "/png/", "/png//", "/png/a/b", "/nothing", "//health"]
)
def test_other_paths_match_nothing(document, path):
    assert document.match(path) is None


def test_a_greedy_parameter_matches_the_rest():
    integration: dict[str, Any] = {"x-amazon-apigateway-integration": {"type": "aws_proxy"}}
    body = {"paths": {"/{rest+}": {"x-amazon-apigateway-any-method": integration}}}
    properties = {
        "CodeUri": "x.zip",
        "Runtime": "python3.12",
        "Handler": "app.app",
        "Timeout": 3,
        "MemorySize": 128,
    }
    template = {
        "Resources": {
            "RestAPI": {
                "Type": "AWS::Serverless::Api",
                "Properties": {"DefinitionBody": body, "StageName": "api"},
            },
            "APIHandler": {"Type": "AWS::Serverless::Function", "Properties": properties},
        }
    }
    document = Document(template, Path())
    match = document.match("/a/b")
    assert match is not None
    assert match.parameters == {"rest": "a/b"}
    assert document.route(match, "PATCH") is not None
    assert not document.regional
