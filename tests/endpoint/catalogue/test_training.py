from __future__ import annotations

import pytest

from endpoint.catalogue import images, models, prices, training


@pytest.mark.parametrize("family", training.families().values(), ids=lambda one: one.model)
def test_a_family_has_types_with_prices_and_seconds(family):
    assert training.of_model(family.model) == family
    assert models.read()[family.model].defaults["width"] == family.resolution
    for name in family.instance_types:
        assert prices.instance_types()[name].usd_per_hour > 0
        assert 0.01 < training.seconds_per_step(family, name) < 5


def test_a_step_follows_from_the_published_seconds_of_a_picture():
    sdxl = training.of_model("sdxl")

    # 9.4 s for 30 steps of two passes; 3.1 passes, and twice that.
    assert training.seconds_per_step(sdxl, "ml.g5.xlarge") == pytest.approx(9.4 / 60 * 3.1 * 2)
    # The L4 has a published duration of its own, the L40S none.
    assert training.seconds_per_step(sdxl, "ml.g6.xlarge") == pytest.approx(11.9 / 60 * 3.1 * 2)
    assert training.seconds_per_step(sdxl, "ml.g6e.xlarge") == pytest.approx(
        training.seconds_per_step(sdxl, "ml.g5.xlarge") / 2.4
    )


def test_an_unknown_type_and_a_distilled_model_are_not_guessed():
    assert training.seconds_per_step(training.of_model("sd"), "ml.p9.big") is None
    assert training.of_model("sdxl-turbo") is None


def test_the_training_image_is_no_serving_image():
    (image,) = images.read("training").values()

    assert image.name == images.TRAINING
    assert image.name not in images.read()
    assert images.by_name("aws", "training") is image
    assert image.torch in image.tag
    assert image.trouble
