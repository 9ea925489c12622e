"""Which quantisations a model and a GPU have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from endpoint.catalogue import models, prices, quantisation
from tests.model_folders import write_file, write_pipeline

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


@pytest.mark.parametrize("name", quantisation.NAMES[1:])
def test_a_model_in_bf16_needs_a_gpu_that_has_it(name):
    model = replace(MODELS["flux2-klein"], quantise=name)
    assert "lacks bf16" in quantisation.refusal(model, TYPES["ml.g4dn.xlarge"])
    assert quantisation.refusal(model, TYPES["ml.g6.2xlarge"]) is None
    sd = replace(MODELS["sd"], quantise="fp8")
    assert quantisation.refusal(sd, TYPES["ml.g4dn.xlarge"]) is None


def test_a_folder_with_a_quantised_denoiser_has_that_and_no_other(tmp_path):
    folder = write_pipeline(tmp_path / "mine")
    plain = models.resolve(str(folder))
    assert (plain.quantise, quantisation.of_model(plain)) == ("none", ("none", "fp8", "int8"))
    write_file(folder / "quantised" / "transformer-Q8_0.gguf")
    model = models.resolve(str(folder))
    assert (model.quantise, quantisation.of_model(model)) == ("gguf", ("gguf",))
    assert quantisation.refusal(model) is None
    assert "it has gguf" in quantisation.refusal(models.resolve(str(folder), quantise="fp8"))
    (transformer,) = [part for part in model.components if part.name == "transformer"]
    size = (folder / "quantised" / "transformer-Q8_0.gguf").stat().st_size
    assert transformer.size("bf16", "gguf") == pytest.approx(size, abs=2)


@pytest.mark.parametrize(
    ("name", "package"), [("fp8", None), ("gguf", "gguf"), ("nunchaku_lite", "kernels")]
)
def test_a_quantisation_of_a_file_needs_a_package(name, package):
    assert quantisation.package(name) == package


def test_the_first_one_that_fits_is_found():
    name, size = quantisation.smaller(MODELS["z-image-turbo"], TYPES["ml.g6.2xlarge"])
    assert (name, round(size / 1e9)) == ("fp8", 13)
    # There the weights in 16 bits do not fit into the main memory.
    assert quantisation.smaller(MODELS["z-image-turbo"], TYPES["ml.g4dn.xlarge"]) is None
