import json
from pathlib import Path

import pytest

from endpoint.catalogue import images, inferentia, models, prices

DATA = json.loads(Path(inferentia.__file__).with_name("inferentia.json").read_text())


@pytest.mark.parametrize("family", inferentia.families().values(), ids=inferentia.families())
def test_a_family_can_be_compiled_and_served_somewhere(family):
    assert family.compile_types()
    assert family.serving_types()
    low, expected, most = family.compile_minutes
    assert 0 < low < expected < most
    assert all(inferentia.of_model(name) == family for name in family.models)
    assert set(family.models) <= set(models.read())


def test_sdxl_does_not_load_on_the_small_instance():
    family = inferentia.of_model("sdxl")
    assert family.serving_types() == ("ml.inf2.8xlarge",)
    assert not family.serves_on("ml.inf2.xlarge")
    assert "https://" in DATA["families"][family.pipeline]["host_source"]
    # A type of unknown size is not refused here.
    assert family.serves_on("ml.inf2.24xlarge")


def test_the_image_is_the_catalogues():
    assert images.by_name(DATA["image"]).neuron
    assert DATA["image"] == images.INFERENTIA


def test_no_gpu_type_is_taken_for_inferentia():
    kinds = prices.instance_types().values()
    assert {kind.name for kind in kinds if kind.is_inferentia} == {
        "ml.inf2.xlarge",
        "ml.inf2.8xlarge",
    }
    assert all(kind.gpu.startswith("NVIDIA") != kind.is_inferentia for kind in kinds)


def test_a_model_of_another_architecture_cannot_be_compiled():
    assert inferentia.of_model("flux2-klein") is None
