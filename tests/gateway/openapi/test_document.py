"""The OpenAPI document, held to the routes, the contract and the tree of errors."""

import json
import re

import pytest
from openapi_spec_validator import validate
from prepare_openapi import PAGES, contents

import app as gateway
from chalicelib.errors import (
    BatchFault,
    DeletionFault,
    TrainingFault,
    UsageNeedsKey,
    every_error,
)
from chalicelib.generation import describe
from chalicelib.web.pages import docs_page, openapi_document

DOCUMENT = openapi_document("https://somewhere/api")
ROUTES = {
    (path, method.lower())
    for path, methods in gateway.app.routes.items()
    for method in methods
    if method != "OPTIONS"
}
DOCUMENTED = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
GENERATING = ["/inference/{text}", "/jobs/{identifier}/image", "/v1/images/generations"]


def responses(path, method="get"):
    return DOCUMENT["paths"][path][method]["responses"]


@pytest.mark.parametrize("name", contents())
def test_the_shipped_file_is_the_one_made_of_the_code(name):
    shipped = (PAGES / name).read_text(encoding="utf-8")

    assert shipped == contents()[name], "run: python gateway/prepare_openapi.py"


def test_it_is_a_valid_document():
    validate(DOCUMENT)


def test_every_route_is_in_it_and_nothing_else():
    assert DOCUMENTED == ROUTES


def test_it_is_served_with_the_address_of_the_request(client):
    response = client.get(
        "/openapi.json", Host="pictures.example", **{"X-Forwarded-Proto": "https"}
    )
    described = json.loads(response.body)

    assert described["servers"] == [{"url": "https://pictures.example"}]
    assert described["paths"].keys() == DOCUMENT["paths"].keys()


def test_the_contracts_fields_and_limits_are_its_own():
    request = DOCUMENT["components"]["schemas"]["Request"]

    assert request["properties"].keys() == describe()["properties"].keys()
    assert request["properties"]["steps"]["maximum"] == 100
    assert request["properties"]["seed"]["type"] == ["integer", "null"]


OTHERS = BatchFault | DeletionFault | TrainingFault | UsageNeedsKey
PAINTING = [error for error in every_error() if not issubclass(error, OTHERS)]


@pytest.mark.parametrize("error", PAINTING, ids=lambda each: each.__name__)
def test_every_error_of_a_generation_is_documented(error):
    for path in GENERATING:
        for method, each in DOCUMENT["paths"][path].items():
            if method == "delete":
                continue
            if "requestBody" in each or "identifier" in path or "text" in path:
                described = each["responses"][str(error.status)]["description"]
                assert f"`{error.code}`" in described


def test_the_web_uis_bad_fields_have_their_own_status():
    documented = responses("/sdapi/v1/txt2img", "post")

    assert "invalid_request" in documented["422"]["description"]
    assert "invalid_request" not in documented.get("400", {}).get("description", "")


def operations():
    return [each for methods in DOCUMENT["paths"].values() for each in methods.values()]


def test_operations_have_names_of_their_own_that_can_be_a_functions():
    names = [each["operationId"] for each in operations()]

    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", name)] == []


def test_groups_have_names_that_can_be_a_classes():
    groups = {group for each in operations() for group in each["tags"]}

    assert {group for group in groups if not group.isalnum()} == set()


@pytest.mark.parametrize("path", ["/inference", "/inference/default"])
def test_a_prompt_can_be_in_the_query(path):
    parameters = {each["name"]: each for each in DOCUMENT["paths"][path]["get"]["parameters"]}

    assert parameters["prompt"]["in"] == "query"
    assert not parameters["prompt"].get("required")


def test_a_parameter_has_one_type():
    """Of a choice of types, generators make a class, in which a caller has to wrap a number."""
    parameters = [parameter for each in operations() for parameter in each.get("parameters", ())]

    assert len(parameters) > 50
    for parameter in parameters:
        assert isinstance(parameter["schema"]["type"], str), parameter


def test_the_page_shows_every_route_and_shape(client):
    response = client.get("/docs", Host="pictures.example")
    page = response.body.decode()

    assert response.headers["Content-Type"].startswith("text/html")
    for path, method in DOCUMENTED:
        if method != "head":
            assert f"{method.upper()}</b> {path}</code>" in page
    for name in DOCUMENT["components"]["schemas"]:
        assert f'id="{name}"' in page
    assert "$" not in page


def test_the_page_shows_limits_and_defaults():
    page = docs_page("https://somewhere", "/api").html.decode()

    assert "integer, 1 to 100; else the model&#x27;s own default" in page


def test_every_link_inside_the_page_leads_somewhere():
    page = docs_page("https://somewhere", "/api").html.decode()
    targets = set(re.findall(r'href="docs#([^"]+)"', page))

    assert targets
    assert targets <= set(re.findall(r'id="([^"]+)"', page))


def test_an_address_cannot_write_into_the_page():
    page = docs_page('https://"><script>alert(1)</script>', "/<b>").html.decode()

    assert "<script>" not in page
    assert "/<b>" not in page


def every_schema(node, place=""):
    if isinstance(node, dict):
        yield place, node
    for name, part in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(part, dict | list):
            yield from every_schema(part, f"{place}/{name}")


def test_nothing_in_it_is_beyond_generators():
    for place, node in every_schema(DOCUMENT):
        assert node.get("const", "x") not in ({}, [], ""), place
        if isinstance(node.get("enum"), list):
            assert None not in node["enum"], place
        if place.rpartition("/content/")[2].startswith("application~") or "/responses/" in place:
            assert node.get("type") != "null" or "/anyOf/" in place, place
        # Free-form, in words that generators know.
        if node.get("type") == "object":
            assert node.keys() & {"properties", "additionalProperties"}, place


def test_the_bodies_have_no_choice_but_null():
    for name in ("Request", "ImagesRequest", "Txt2ImgRequest", "LinkRequest"):
        for field, node in DOCUMENT["components"]["schemas"][name]["properties"].items():
            kinds = [option["type"] for option in node.get("anyOf", [node])]
            kinds = kinds[0] if isinstance(kinds[0], list) else kinds
            assert len({*kinds} - {"null"}) == 1, field


def test_pictures_are_binary():
    contents = responses("/inference/{text}")["200"]["content"]

    # Generators take the first type that they know.
    assert list(contents)[:3] == ["image/png", "image/webp", "image/jpeg"]
    for media_type in list(contents)[:3]:
        assert contents[media_type]["schema"] == {"type": "string", "format": "binary"}


@pytest.mark.parametrize("name", ["Request", "ImagesRequest", "Txt2ImgRequest", "LinkRequest"])
def test_fields_that_can_be_left_out_have_no_default_that_generators_require(name):
    schema = DOCUMENT["components"]["schemas"][name]

    for place, node in every_schema(schema["properties"]):
        assert "default" not in node or "type" not in node, place
    assert set(schema.get("required", [])) <= {"prompt"}
