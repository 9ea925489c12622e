from pathlib import Path

import pytest

from easel.defaults import Defaults
from easel.errors import SettingInvalid
from easel.settings import Settings


def test_an_empty_environment_has_settings_that_work():
    settings = Settings.from_environ({})
    assert (settings.model_id, settings.dtype, settings.defaults) == (None, "auto", Defaults())
    assert (settings.metadata, settings.log_prompts, settings.allow_pickle) == (True, False, False)


def test_every_variable_is_read():
    settings = Settings.from_environ(
        {
            "EASEL_MODEL_ID": "stabilityai/sd-turbo",
            "EASEL_MODEL_REVISION": "main",
            "EASEL_REFINER_ID": "somebody/refiner",
            "EASEL_REFINER_REVISION": "v1",
            "EASEL_LORAS": "/opt/ml/loras",
            "EASEL_LORAS_FROM": "s3://bucket/loras/sd/",
            "EASEL_VAE_TILING": "on",
            "EASEL_DTYPE": "fp32",
            "EASEL_QUANTISE": "gguf",
            "EASEL_QUANTISED_ID": "somebody/quantised",
            "EASEL_QUANTISED_REVISION": "v2",
            "EASEL_QUANTISED_FILE": "model-Q8_0.gguf",
            "EASEL_MERGED_LORA_ID": "somebody/few-steps",
            "EASEL_MERGED_LORA_REVISION": "v3",
            "EASEL_MERGED_LORA_FILE": "few_steps.safetensors",
            "EASEL_DEFAULTS": '{"steps": 1, "guidance_scale": 0, "width": 512, "height": null}',
            "EASEL_METADATA": "off",
            "EASEL_LOG_PROMPTS": "ON",
            "EASEL_ALLOW_PICKLE": "on",
        }
    )
    assert settings == Settings(
        model_id="stabilityai/sd-turbo",
        revision="main",
        refiner_id="somebody/refiner",
        refiner_revision="v1",
        loras=Path("/opt/ml/loras"),
        loras_from="s3://bucket/loras/sd/",
        vae_tiling=True,
        dtype="fp32",
        quantise="gguf",
        quantised_id="somebody/quantised",
        quantised_revision="v2",
        quantised_file="model-Q8_0.gguf",
        merged_lora_id="somebody/few-steps",
        merged_lora_revision="v3",
        merged_lora_file="few_steps.safetensors",
        defaults=Defaults(steps=1, guidance_scale=0.0, width=512),
        metadata=False,
        log_prompts=True,
        allow_pickle=True,
    )
    assert settings.model_name == "sd-turbo"


def test_a_variable_that_is_empty_counts_as_not_set():
    assert Settings.from_environ({"EASEL_DTYPE": "", "EASEL_DEFAULTS": " "}) == Settings()


def test_the_toolkits_own_variable_is_left_to_it():
    assert Settings.from_environ({"HF_MODEL_ID": "gpt2"}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("EASEL_DTYPE", "float16", "must be one of auto, fp16, bf16, fp32"),
        ("EASEL_METADATA", "yes", "must be on or off"),
        ("EASEL_LORAS_FROM", "s3://bucket/no-slash", "must be s3://bucket/prefix/ or a folder"),
        ("EASEL_LORAS_FROM", "https://example.com/", "must be s3://bucket/prefix/ or a folder"),
        ("EASEL_DEFAULTS", "{steps: 4}", "must be a JSON object"),
        ("EASEL_DEFAULTS", "[4]", "must be a JSON object"),
        ("EASEL_DEFAULTS", "[" * 100_000, "must be a JSON object"),
        ("EASEL_DEFAULTS", '{"steps": 0}', "has steps: must be a whole number from 1 to 100"),
        ("EASEL_DEFAULTS", '{"width": 100}', "has width: must be a multiple of 8"),
        ("EASEL_DEFAULTS", '{"sampler": "Euler"}', "has sampler: is not a default"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named_with_its_setter_and_an_example(name, text, reason):
    with pytest.raises(SettingInvalid) as caught:
        Settings.from_environ({name: text})
    message = str(caught.value)
    assert message.startswith(f"{name} {reason}")
    assert "it is normally set by " in message
    assert f"for example {name}=" in message
