import torch
from PIL import Image

from model_package.demo.sample_sheet import COLUMNS, generators, lay_out, to_image


def flat(level):
    return Image.new("RGB", (128, 128), (level, level, level))


def test_the_seeds_of_a_prompt_stand_under_one_another():
    prompts, seeds = COLUMNS + 2, 2
    sheet = lay_out([flat(index) for index in range(prompts * seeds)], prompts)
    assert sheet.size == (COLUMNS * 128, 4 * 128)
    assert sheet.getpixel((128 + 64, 64)) == (1, 1, 1)
    assert sheet.getpixel((128 + 64, 128 + 64)) == (prompts + 1,) * 3
    assert sheet.getpixel((64, 2 * 128 + 64)) == (COLUMNS,) * 3


def test_numbers_become_a_picture():
    picture = to_image(torch.tensor([-1.0, 0.0, 5.0]).view(3, 1, 1).expand(3, 4, 4))
    assert picture.size == (4, 4)
    assert picture.getpixel((0, 0)) == (0, 128, 255)


def test_every_picture_has_a_source_of_noise_of_its_own():
    first, second = (torch.randn(3, generator=source) for source in generators(2, seed=1))
    assert first.equal(second)
