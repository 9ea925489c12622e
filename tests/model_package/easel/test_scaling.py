"""A picture above a model's largest area: painted smaller, scaled up to exactly what was asked."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from easel.defaults import Defaults
from easel.errors import ModelUnusable
from easel.generator import ImageGenerator
from easel.load import load_generator
from generation import GenerationRequest
from tests.model_package.doubles.pipelines import PlainPipeline
from tests.model_package.doubles.toolkit import Toolkit

LARGEST = json.dumps({"steps": 2, "width": 128, "height": 128, "largest_area": 128 * 128})


@pytest.fixture(scope="module")
def small(stand_in):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EASEL_DEFAULTS", LARGEST)
        return Toolkit(stand_in())


def image_of(toolkit, **fields):
    body = {"prompt": "a cat", "seed": 7, **fields}
    kind = fields.get("format", "png")
    return Image.open(io.BytesIO(toolkit.post(body, accept=f"image/{kind}").body))


@pytest.mark.parametrize("size", [(1024, 512), (512, 768), (512, 512), (136, 136), (1000, 616)])
def test_a_larger_picture_has_exactly_the_size_that_was_asked(small, size):
    width, height = size
    assert image_of(small, width=width, height=height).size == size


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_it_is_the_smaller_picture_scaled_and_its_file_says_so(small, kind):
    large = image_of(small, width=1024, height=512, format=kind)
    painted = image_of(small, width=176, height=88)

    expected = np.asarray(painted.resize((1024, 512), Image.Resampling.LANCZOS)).astype(int)
    difference = np.abs(np.asarray(large.convert("RGB")) - expected)
    assert difference.max() == 0 if kind == "png" else difference.mean() < 10
    assert "Size: 1024x512, Painted size: 176x88" in parameters_of(large)


def parameters_of(image):
    if "parameters" in image.info:
        return image.info["parameters"]
    comment = image.getexif().get_ifd(0x8769)[0x9286]
    return comment.removeprefix(b"UNICODE\0").decode("utf-16-be")


def test_the_request_in_the_file_makes_the_same_picture_again(small):
    large = image_of(small, width=512, height=256)
    request = json.loads(large.info["easel"])

    assert (request["width"], request["height"]) == (512, 256)
    assert (np.asarray(image_of(small, **request)) == np.asarray(large)).all()


@pytest.mark.parametrize("size", [{}, {"width": 128, "height": 128}, {"width": 256, "height": 64}])
def test_other_sizes_are_painted_as_they_are(small, quick_toolkit, size):
    own = image_of(small, **size)
    other = image_of(quick_toolkit, **{"width": 128, "height": 128, **size})

    assert (np.asarray(own) == np.asarray(other)).all()
    assert "Painted" not in parameters_of(own)


def test_the_setting_of_the_container_comes_before_the_models_own(stand_in, tmp_path):
    """So it can be switched off: nothing is larger than the contract's largest picture."""
    (tmp_path / "easel.json").write_text('{"largest_area": 16384}')
    folder = stand_in()
    for path in folder.iterdir():
        if path.name != "easel.json":
            (tmp_path / path.name).symlink_to(path)
    stated = load_generator(tmp_path, {"EASEL_DEFAULTS": '{"steps": 2}'})
    off = load_generator(tmp_path, {"EASEL_DEFAULTS": '{"steps": 2, "largest_area": 2359296}'})
    request = GenerationRequest(prompt="a cat", seed=7, width=256, height=128)

    assert [each.describe()["largest_area"] for each in (stated, off)] == [16384, 2359296]
    assert stated.generate(request).provenance.painted == "176x88"
    assert off.generate(request).provenance.painted is None


def test_an_area_too_small_for_the_pipelines_sides_is_refused():
    class Coarse(PlainPipeline):
        patch_size = 4  # sides are multiples of 32

    with pytest.raises(ModelUnusable, match="largest_area: must be 262144 or more"):
        ImageGenerator(Coarse(), Defaults(largest_area=128 * 128))
    assert ImageGenerator(Coarse(), Defaults(largest_area=512 * 512))


@pytest.mark.parametrize("area", [0, 16_383, 2_359_297, 16_384.5, True, "16384"])
def test_an_area_outside_its_limits_is_refused(area):
    with pytest.raises(ValueError, match="largest_area: must be a whole number from 16,384 to"):
        Defaults.from_dict({"largest_area": area})
