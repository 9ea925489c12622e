"""What there is to know of each model, for the command, the page and docs/models.md."""

from __future__ import annotations

import json

import pytest

from chalicelib.facts import Facts
from endpoint.catalogue import facts, models

MODELS = models.read()


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_model_has_facts_that_the_gateway_can_read(model):
    shown = facts.for_page(model, model.instance_types)
    assert {"title", "licence", "duties", "memory_gb", "instance_types"} <= set(shown)
    assert Facts.from_dict(json.loads(json.dumps(shown))).to_dict() == shown


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_its_memory_is_smaller_with_fewer_bits(model):
    sizes = facts.gigabytes(model)
    assert next(iter(sizes)) == model.quantise
    assert sizes["fp8"] == sizes["int8"] < sizes["none"]


def test_a_type_without_a_price_has_no_facts():
    (unknown,) = facts.on_types(MODELS["sd"], ["ml.p99.xlarge"])
    assert (unknown.usd_per_hour, unknown.gpu, unknown.fit, unknown.benchmark) == (
        None,
        "",
        "",
        None,
    )


def test_durations_in_16_bits_are_not_those_of_a_quantised_model():
    quantised = models.resolve("sdxl", quantise="fp8")
    assert facts.for_page(MODELS["sdxl"], ["ml.g5.xlarge"])["usd_per_1000"] == 3.99
    assert "usd_per_1000" not in facts.for_page(quantised, ["ml.g5.xlarge"])
    assert facts.for_page(quantised, ["ml.g5.xlarge"])["memory_gb"] == 8.7
