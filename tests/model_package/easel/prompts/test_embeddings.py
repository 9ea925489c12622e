"""Our embeddings against those that diffusers' own pipelines make."""

import pytest
import torch

from easel.loading.pipeline import load_pipeline
from easel.prompts.embeddings import PromptEncoder
from easel.prompts.prompt_weights import Fragment
from easel.prompts.text_encoder import TextEncoder
from easel.startup.quiet import without_warnings
from generation import InvalidField
from tests.model_package.doubles.pipelines import BarePipeline, PlainPipeline

PROMPTS = ["a cat", "", "A  Cat, 猫 & <|endoftext|> dogs", "x" * 75]
LONG = "a red cat sits on the mat, " * 8


def load(folder):
    return load_pipeline(
        folder, dtype=torch.float32, device=torch.device("cpu"), allow_pickle=False
    )


@pytest.fixture(scope="module", params=["sd", "sdxl", "refiner"])
def pipeline(request, stand_in):
    kind = request.param
    return load(stand_in(kind="ensemble") / kind if kind == "refiner" else stand_in(kind=kind))


def own(pipeline, prompt, negative=None):
    """Return what diffusers itself makes of two prompts, under the names of its arguments."""
    with torch.no_grad(), without_warnings():
        actual = pipeline.encode_prompt(
            prompt,
            device="cpu",
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=negative,
        )
    names = ["prompt_embeds", "negative_prompt_embeds"]
    names += ["pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
    return dict(zip(names, actual, strict=False))


def ours(pipeline, prompt, negative=None, *, guided=True, state=""):
    return PromptEncoder.of(pipeline).embed(prompt, negative, guided=guided, state=state)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("negative", [None, "a dog"])
def test_a_prompt_without_weights_is_bit_equal_to_the_pipelines_own(pipeline, prompt, negative):
    expected = own(pipeline, prompt, negative)
    actual = ours(pipeline, prompt, negative)
    assert set(actual) == set(expected)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_without_guidance_no_negative_prompt_is_encoded(pipeline):
    assert not any(name.startswith("neg") for name in ours(pipeline, "a", "b", guided=False))


@pytest.mark.parametrize("prompt", ["a (cat:1.3)", "a [cat]", "a cat++", "a (cat:0)"])
def test_a_weight_changes_the_embedding_and_not_its_shape(pipeline, prompt):
    plain, weighted = ours(pipeline, "a cat"), ours(pipeline, prompt)
    assert plain["prompt_embeds"].shape == weighted["prompt_embeds"].shape
    assert not torch.equal(plain["prompt_embeds"], weighted["prompt_embeds"])
    assert torch.isfinite(weighted["prompt_embeds"]).all()


def test_many_pieces_of_weight_nought_do_not_overflow(pipeline):
    actual = ours(pipeline, "(a:0) b " * 20)["prompt_embeds"]
    assert torch.isfinite(actual).all()


def test_a_long_prompt_is_encoded_to_its_end(pipeline):
    short, long = ours(pipeline, "a cat"), ours(pipeline, LONG + "end")
    other = ours(pipeline, LONG + "ant")["prompt_embeds"]
    length = short["prompt_embeds"].shape[1]
    assert long["prompt_embeds"].shape[1] % length == 0
    assert long["prompt_embeds"].shape[1] > 2 * length
    assert torch.equal(long["prompt_embeds"][:, :length], other[:, :length])
    assert not torch.equal(long["prompt_embeds"], other)


def test_the_shorter_of_two_prompts_is_filled_up(pipeline):
    for prompt, negative in ((LONG, "a dog"), ("a cat", LONG), (LONG, None)):
        actual = ours(pipeline, prompt, negative)
        assert actual["prompt_embeds"].shape == actual["negative_prompt_embeds"].shape


def test_the_same_prompts_are_encoded_once_until_the_state_changes(pipeline):
    runs = []
    hook = pipeline.text_encoder_2 if hasattr(pipeline, "text_encoder_2") else pipeline.text_encoder
    handle = hook.register_forward_hook(lambda *_: runs.append(1))
    prompt_encoder = PromptEncoder.of(pipeline)
    for state in ("", "", "watercolour:1", ""):
        prompt_encoder.embed("a cat", "a dog", guided=True, state=state)
    handle.remove()
    assert len(runs) == 4  # two prompts, two states


def test_a_prompt_that_stays_is_not_encoded_again_when_the_other_changes(pipeline):
    runs = []
    hook = pipeline.text_encoder_2 if hasattr(pipeline, "text_encoder_2") else pipeline.text_encoder
    prompt_encoder = PromptEncoder.of(pipeline)
    prompt_encoder.embed("a cat", "grass", guided=True, state="")
    handle = hook.register_forward_hook(lambda *_: runs.append(1))
    actual = prompt_encoder.embed("a dog", "grass", guided=True, state="")
    handle.remove()
    assert len(runs) == 1
    fresh = PromptEncoder.of(pipeline).embed("a dog", "grass", guided=True, state="")
    assert {name: tensor.tolist() for name, tensor in actual.items()} == {
        name: tensor.tolist() for name, tensor in fresh.items()
    }


def test_only_the_latest_prompts_are_kept(pipeline):
    prompt_encoder = PromptEncoder.of(pipeline, kept_bytes=100_000)
    for number in range(30):
        prompt_encoder.embed(f"cat {number}", None, guided=False, state="")
    kept = [text for text, _ in prompt_encoder._kept]
    assert 0 < len(kept) < 15
    assert kept == [f"cat {number}" for number in range(30 - len(kept), 30)]


def test_without_room_no_prompt_is_kept(pipeline):
    prompt_encoder = PromptEncoder.of(pipeline, kept_bytes=0)
    assert prompt_encoder.embed("a cat", "a dog", guided=True, state="")["prompt_embeds"].numel()
    assert not prompt_encoder._kept


def test_a_hostile_prompt_costs_a_bounded_number_of_runs(stand_in):
    pipeline = load(stand_in())
    runs = []
    pipeline.text_encoder.register_forward_hook(lambda *_: runs.append(1))
    ours(pipeline, "[a] b " * 160, guided=False)
    chunks = 1_000 // 75 + 1
    assert len(runs) <= chunks + 8 + 1


@pytest.mark.parametrize("pipeline", [PlainPipeline(), BarePipeline()])
def test_other_pipelines_get_the_prompt_itself(pipeline):
    assert PromptEncoder.of(pipeline) is None


def test_a_pipeline_whose_unet_expects_other_embeddings_does_not_change(stand_in):
    pipeline = load(stand_in())
    pipeline.text_encoder.config.hidden_size = 7
    assert PromptEncoder.of(pipeline) is None


def test_the_encoders_own_length_is_used(stand_in):
    pipeline = load(stand_in())
    pipeline.tokenizer.model_max_length = 32
    prompt = "a cat on a mat, a red one"
    expected, actual = own(pipeline, "a cat"), ours(pipeline, "a cat")
    assert actual["prompt_embeds"].shape[1] == 32
    assert torch.equal(actual["prompt_embeds"], expected["prompt_embeds"])
    assert ours(pipeline, prompt * 2)["prompt_embeds"].shape[1] == 64


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("ab. cd, ef gh ij kl", "."),
        ("ab cd, ef gh ij kl", ","),
        ("ab cd ef gh ij kl", "f</w>"),
        ("abcdefghijklmnopqrst", "j"),
    ],
)
def test_a_long_text_is_cut_at_a_sentence_a_phrase_or_a_word(stand_in, text, ends):
    pipeline = load(stand_in())
    pipeline.tokenizer.model_max_length = 12 if ends != "f</w>" else 9
    encoder = TextEncoder(pipeline.tokenizer, pipeline.text_encoder, penultimate=False)
    first = encoder._split(encoder._tokenize([Fragment(text)]))[0]
    ids = [token.id for token in first]
    last = ids[ids.index(pipeline.tokenizer.eos_token_id) - 1]
    assert pipeline.tokenizer.convert_ids_to_tokens(last).startswith(ends)


def test_the_picture_is_the_one_that_the_pipeline_generates_itself(stand_in):
    pipeline = load(stand_in(kind="sdxl"))
    size = {"width": 64, "height": 64, "num_inference_steps": 2, "output_type": "np"}
    with without_warnings():
        theirs, mine = (
            pipeline(**size, **texts, generator=torch.Generator().manual_seed(7)).images
            for texts in ({"prompt": "a cat"}, ours(pipeline, "a cat"))
        )
    assert (theirs == mine).all()


@pytest.fixture
def compiled(stand_in, monkeypatch):
    """A pipeline whose encoders take one chunk and no mask, as their configurations say."""
    pipeline = load(stand_in())
    monkeypatch.setattr(pipeline.text_encoder.config, "neuron", {}, raising=False)
    return pipeline


@pytest.mark.parametrize("prompt", ["a cat", "x" * 75, "a (red:1.3) cat"])
def test_a_compiled_encoder_encodes_what_fits_as_any_other(compiled, stand_in, prompt):
    expected = ours(load(stand_in()), prompt)
    actual = ours(compiled, prompt)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("prompts", "field", "words"),
    [
        (("x" * 76, None), "prompt", "must be at most 75 tokens long, about 56 words"),
        (("a (red:0.9) cat", None), "prompt", "must have no weight below 1"),
        (("a cat", "x" * 76), "negative_prompt", "must be at most 75 tokens long"),
    ],
)
def test_what_a_compiled_encoder_cannot_encode_is_refused_by_name(compiled, prompts, field, words):
    with pytest.raises(InvalidField, match=words) as refusal:
        ours(compiled, *prompts)
    assert refusal.value.field == field
