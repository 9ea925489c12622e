"""Responses."""

import pytest

from chalicelib.generation import GenerationRequest
from chalicelib.web.response import content_disposition, file_names


@pytest.mark.parametrize(
    ("prompt", "plain", "full"),
    [
        ("a red apple", "a-red-apple-7.png", "a-red-apple-7.png"),
        ('../../"etc"; rm -rf /\\', "etc-rm-rf-7.png", "etc-rm-rf-7.png"),
        ("猫", "easel-7.png", "猫-7.png"),
        ("café au lait", "caf-au-lait-7.png", "café-au-lait-7.png"),
        ("?!", "easel-7.png", "easel-7.png"),
        ("x" * 500, "x" * 60 + "-7.png", "x" * 60 + "-7.png"),
    ],
)
def test_a_file_is_named_after_its_prompt_and_seed(prompt, plain, full):
    assert file_names(GenerationRequest(prompt=prompt, seed=7)) == (plain, full)


def test_the_disposition_header_is_plain_ascii():
    header = content_disposition(GenerationRequest(prompt="猫 on a mat", seed=7))

    assert header.isascii()
    assert header.startswith("inline; filename=\"on-a-mat-7.png\"; filename*=UTF-8''%E7%8C%AB-on")
