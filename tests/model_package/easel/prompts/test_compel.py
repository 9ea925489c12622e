"""Weighted prompts against Compel, on the syntax that means the same in both."""

import pytest
import torch
from compel import Compel, ReturnedEmbeddingsType

from easel.loading.pipeline import load_pipeline
from easel.prompts.embeddings import PromptEncoder
from easel.prompts.prompt_weights import parse
from easel.prompts.text_encoder import TextEncoder
from easel.startup.quiet import without_warnings

PROMPTS = [
    "a cat",
    "a cat++ on a mat",
    "a (red cat)1.4 on a mat",
    "a (red cat)0.6 on a mat",
    "a bright-- cat on a (green mat)0.3",
    "a (red cat++ on a mat)1.2",
    "a cat on a mat. " * 4 + "the (dog)1.5 sleeps- there, " * 3,
    "wordswithoutanyendatall" * 8 + " cat++",
]


@pytest.fixture(scope="module")
def pipeline(stand_in):
    return load_pipeline(
        stand_in(kind="sdxl"), dtype=torch.float32, device=torch.device("cpu"), allow_pickle=False
    )


def compel(tokenizer, encoder, kind):
    return Compel(
        tokenizer=tokenizer,
        text_encoder=encoder,
        returned_embeddings_type=kind,
        truncate_long_prompts=False,
    )


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("penultimate", [False, True])
def test_weights_mean_what_they_mean_in_compel(pipeline, prompt, penultimate):
    kinds = ReturnedEmbeddingsType
    kind = (
        kinds.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
        if penultimate
        else kinds.LAST_HIDDEN_STATES_NORMALIZED
    )
    for tokenizer, encoder in (
        (pipeline.tokenizer, pipeline.text_encoder),
        (pipeline.tokenizer_2, pipeline.text_encoder_2),
    ):
        if not penultimate and encoder is pipeline.text_encoder_2:
            continue  # SDXL's second encoder is only used with its last layer but one
        with torch.no_grad(), without_warnings():
            expected = compel(tokenizer, encoder, kind).build_conditioning_tensor(prompt)
            actual = TextEncoder(tokenizer, encoder, penultimate=penultimate).encode(parse(prompt))
        torch.testing.assert_close(actual.hidden, expected, rtol=1e-5, atol=1e-5)


def test_a_short_negative_prompt_is_filled_up_as_in_compel(pipeline):
    prompt, negative = PROMPTS[-2], "a dog"
    kind = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
    parts = []
    with torch.no_grad(), without_warnings():
        for tokenizer, encoder in (
            (pipeline.tokenizer, pipeline.text_encoder),
            (pipeline.tokenizer_2, pipeline.text_encoder_2),
        ):
            parts.append(compel(tokenizer, encoder, kind)([prompt, negative]))
    expected = torch.cat(parts, dim=-1)
    actual = PromptEncoder.of(pipeline).embed(prompt, negative, guided=True, state="")
    both = torch.cat([actual["prompt_embeds"], actual["negative_prompt_embeds"]])
    torch.testing.assert_close(both, expected, rtol=1e-5, atol=1e-5)
