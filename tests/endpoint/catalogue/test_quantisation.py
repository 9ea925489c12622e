"""Which quantisations a model and a GPU have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from endpoint.catalogue import models, prices, quantisation

TYPES = prices.instance_types()
MODELS = models.read()


def test_every_denoiser_can_have_8_bits_and_files_are_the_catalogues():
    assert quantisation.of_model(MODELS["sd"]) == ("none", "fp8", "int8")
    assert quantisation.of_model(MODELS["flux2-klein"]) == quantisation.NAMES


def test_a_quantisation_without_a_file_is_refused_with_those_that_there_are():
    model = models.resolve("sd", quantise="gguf")
    assert "it has none, fp8, int8" in quantisation.refusal(model)


@pytest.mark.parametrize("name", quantisation.NAMES[1:])
def test_inferentia_has_none(name):
    model = replace(MODELS["flux2-klein"], quantise=name)
    assert "compiled" in quantisation.refusal(model, TYPES["ml.inf2.xlarge"])


@pytest.mark.parametrize(
    ("compute", "refused"), [(7.0, True), (7.5, False), (8.9, False), (9.0, True)]
)
def test_4_bits_need_turing_or_newer_and_not_hopper(compute, refused):
    model = replace(MODELS["flux2-klein"], quantise="nunchaku_lite")
    instance = replace(TYPES["ml.g6.2xlarge"], compute=compute)
    assert bool(quantisation.refusal(model, instance)) == refused


def test_the_first_one_that_fits_is_found():
    name, size = quantisation.smaller(MODELS["z-image-turbo"], TYPES["ml.g6.2xlarge"])
    assert (name, round(size / 1e9)) == ("fp8", 13)
    assert quantisation.smaller(MODELS["z-image-turbo"], TYPES["ml.g4dn.xlarge"])[0] == "fp8"
