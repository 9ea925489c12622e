"""Reading a request."""

import re
from dataclasses import replace
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import app as gateway
from chalicelib.errors import InvalidRequest
from chalicelib.generation import RULES
from chalicelib.web.request import Request, split_path

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"
CHROMIUM_IMAGE = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


def request(query=None, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    route, path = "/inference/{text}", "/inference/a%20cat"
    return Request("GET", route, path, names, query or {}, "id", root="/api")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"accept": CHROMIUM}, True),
        ({"accept": CHROMIUM, "sec_fetch_dest": "document"}, True),
        ({"accept": CHROMIUM, "sec_fetch_dest": "iframe"}, True),
        ({"accept": CHROMIUM_IMAGE, "sec_fetch_dest": "image"}, False),
        ({"accept": CHROMIUM, "sec_fetch_dest": "image"}, False),
        ({"accept": JAVA, "user_agent": "Java/17.0.9"}, False),
        ({"accept": JAVA, "user_agent": "Apache-HttpClient/5.3 (Java/17)"}, False),
        ({"accept": CHROMIUM, "user_agent": "libwww-perl/6.72"}, False),
        ({"accept": CHROMIUM, "user_agent": "Mozilla/5.0 (X11) Firefox/140.0"}, True),
        ({"accept": "text/html, */*", "user_agent": "Lynx/2.9.0 libwww-FM/2.14"}, True),
        ({"accept": "*/*"}, False),
        ({"accept": "*/*", "sec_fetch_dest": "empty"}, False),
        ({}, False),
    ],
)
def test_a_navigation_is_distinguished_from_a_program(headers, expected):
    assert request(**headers).is_navigation is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"sec_purpose": "prefetch"}, True),
        ({"sec_purpose": "prefetch;prerender"}, True),
        ({"purpose": "prefetch"}, True),
        ({"x_purpose": "preview"}, True),
        ({"x_moz": "prefetch"}, True),
        ({"accept": CHROMIUM}, False),
    ],
)
def test_a_prefetch_is_recognised(headers, expected):
    assert request(**headers).is_prefetch is expected


@given(
    st.sampled_from(["", "/api", "/art", "/v1", "/jobs", "/inference", "/a/b", "/docs/v1/jobs"]),
    st.sampled_from(sorted(gateway.app.routes)),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.booleans(),
    st.sampled_from(["", "/"]),
)
def test_the_root_is_what_is_in_front_of_the_route(root, route, text, decoded, slash):
    parameters = dict.fromkeys(re.findall(r"{(\w+)}", route), quote(text, safe=","))
    path = re.sub(r"{\w+}", lambda _: quote(text, safe=","), route)
    public = f"{root}{path.rstrip('/')}{slash}"

    split = split_path(unquote(public) if decoded else public, route, parameters)
    assert split == (root, path)


def test_the_root_is_known_where_a_server_cuts_the_parameter():
    # `chalice local` takes what is behind a semicolon for a parameter of the path.
    assert split_path("/art/inference/a;b", "/inference/{text}", {"text": "a"})[0] == "/art"


def test_a_picture_url_keeps_the_parameters_and_names_the_seed():
    asked = request({"steps": ["3"], "seed": ["1"]})

    assert asked.picture_url("Who? A/B, 100% + more", 7) == (
        "/api/inference/Who%3F%20A%2FB,%20100%25%20%2B%20more?steps=3&seed=7"
    )


def test_a_repeated_parameter_is_refused_by_name():
    with pytest.raises(InvalidRequest, match="^seed: is given twice") as refused:
        request(query={"seed": ["1", "2"]}).parameters()

    assert refused.value.field == "seed"


@pytest.mark.parametrize(
    "name",
    ["fbclid", "gclid", "igsh", "mc_cid", "utm_source", "UTM_Campaign", "_", "si", "ref_src"],
)
def test_what_other_sites_add_to_a_link_is_ignored(name):
    asked = request(query={"steps": ["3"], name: ["x", "y"]})

    assert asked.parameters() == {"steps": "3"}
    assert name not in asked.picture_url("a cat", 7)


@pytest.mark.parametrize("name", ["sed", "stpes", "utm", "fbclid2", "__", "prompt", "hop"])
def test_what_is_not_known_to_be_added_is_kept(name):
    assert request(query={name: ["x"]}).parameters() == {name: "x"}


def test_no_field_of_the_contract_is_ignored():
    query = {name: ["x"] for name in RULES}

    assert set(request(query=query).parameters()) == set(RULES)


def test_only_links_have_parameters_added():
    posted = replace(request(query={"fbclid": ["x"]}), method="POST")

    assert posted.parameters() == {"fbclid": "x"}
