from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint.catalogue import models
from endpoint.core.naming import LONGEST_NAME, Deployment, check_name, owner
from endpoint.core.problems import BadArgument

REGION = "ap-southeast-1"  # as long as regions' names get, with three others
names = st.from_regex(rf"[a-z][a-z0-9]{{0,{LONGEST_NAME - 1}}}", fullmatch=True)


def deployment(name="main"):
    return Deployment(name, "123456789012", REGION)


@given(names, names)
def test_a_resource_of_one_deployment_belongs_to_no_other(one, other):
    for resource in (deployment(one).endpoint("sd"), deployment(one).bucket, deployment(one).stack):
        assert owner(resource) == one
        assert deployment(other).owns(resource) == (one == other)


@given(names)
def test_every_name_fits_into_the_limits_of_aws(name):
    longest = deployment(name)
    model = "m" * models.LONGEST_NAME
    assert len(longest.bucket) <= 63
    assert len(longest.versioned(model, {"any": "resource"})) <= 63
    assert len(longest.function) <= 64
    assert len(longest.endpoint_role.rpartition("/")[2]) <= 64


@pytest.mark.parametrize("name", ["", "Main", "two-words", "1st", "a" * 21, "ä", "a.b", "a_b"])
def test_other_names_are_refused_with_an_example(name):
    with pytest.raises(BadArgument, match="for example main"):
        check_name(name)


def test_the_same_content_has_the_same_name_and_other_content_another():
    one = deployment().versioned("sd", {"a": 1, "b": 2})
    assert one == deployment().versioned("sd", {"b": 2, "a": 1})
    assert one != deployment().versioned("sd", {"a": 1, "b": 3})


def test_a_version_belongs_to_its_model_and_not_to_one_that_begins_alike():
    name = deployment().versioned("sd-turbo", {})
    assert deployment().is_version_of(name, "sd-turbo")
    assert not deployment().is_version_of(name, "sd")


@pytest.mark.parametrize("name", ["weasel-main-sd", "easel", "easel-", "easelmain", "other"])
def test_another_programs_resource_belongs_to_no_deployment(name):
    assert owner(name) is None
