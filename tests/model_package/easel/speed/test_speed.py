import json

import pytest
import torch

from easel.defaults import Defaults
from easel.errors import ModelUnusable, SettingInvalid
from easel.generator import ImageGenerator
from easel.loading.pipeline import load_pipeline
from easel.pipelines.schedulers import SAMPLERS
from easel.speed.compiler import Compiler
from easel.speed.speed import Speed, SpeedSettings
from generation import GenerationRequest, InvalidField
from tests.model_package.doubles.pipelines import PlainPipeline

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}
REQUEST = GenerationRequest(prompt="a cat", seed=7, width=64, height=64, steps=2)


def settings(**environ):
    return SpeedSettings.from_environ({f"EASEL_{name}": text for name, text in environ.items()})


def test_by_itself_nothing_is_in_force_that_changes_a_picture(stand_in):
    report = Speed([load_pipeline(stand_in(), **HOW)]).report
    assert report.pop("compile").startswith("off: no cache came with the model")
    assert report == {
        "sampler": "own",
        "channels_last": "off",
        "storage": "full",
        "steps_on_host": "on",
        "guidance_cutoff": "1",
    }


def test_every_variable_is_read():
    actual = settings(
        COMPILE="full",
        COMPILE_CACHE="/opt/ml/compiled",
        CUDA_GRAPHS="on",
        CHANNELS_LAST="on",
        GUIDANCE_CUTOFF="0.4",
        SAMPLER="lcm",
        STEPS_ON_HOST="off",
        KEPT_PROMPTS="2",
        WARM_UP="768x512,512x768",
        READ_AHEAD="off",
        STORAGE="fp8",
    )
    assert (actual.compile, str(actual.compile_cache), actual.cuda_graphs) == (
        "full",
        "/opt/ml/compiled",
        True,
    )
    assert (actual.channels_last, actual.guidance_cutoff, actual.sampler) == ("on", 0.4, "lcm")
    assert (actual.steps_on_host, actual.read_ahead, actual.kept_prompts) == (False, False, 2**21)
    assert actual.storage == "fp8"
    assert actual.warm_up == ((768, 512), (512, 768))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("COMPILE", "always"),
        ("SAMPLER", "plms"),
        ("STORAGE", "int8"),
        ("GUIDANCE_CUTOFF", "0"),
        ("GUIDANCE_CUTOFF", "nan"),
        ("GUIDANCE_CUTOFF", "1.5"),
        ("KEPT_PROMPTS", "-1"),
        ("KEPT_PROMPTS", "many"),
        ("WARM_UP", "512"),
        ("WARM_UP", "512x512;512x768"),
        ("WARM_UP", "513x512"),
        ("WARM_UP", "512x99999"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(name, text):
    with pytest.raises(SettingInvalid, match=f"^EASEL_{name} "):
        settings(**{name: text})


@pytest.mark.parametrize("layout", ["on", "off", "auto"])
def test_the_memory_layout_changes_no_more_than_rounding(stand_in, layout):
    plain = ImageGenerator(load_pipeline(stand_in(), **HOW), Defaults()).generate(REQUEST).pixels
    pipeline = load_pipeline(stand_in(), **HOW)
    speed = Speed([pipeline], settings(CHANNELS_LAST=layout))
    assert speed.report["channels_last"] == ("on" if layout == "on" else "off")
    weight = pipeline.unet.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == (layout == "on")
    actual = ImageGenerator(pipeline, Defaults(), speed=speed).generate(REQUEST).pixels
    assert abs(actual.astype(int) - plain).max() <= 1


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_each_sampler_generates_and_is_named_in_the_picture(stand_in, name):
    pipeline = load_pipeline(stand_in(), **HOW)
    speed = Speed([pipeline], settings(SAMPLER=name))
    assert speed.report["sampler"] == name
    assert speed.report["steps_on_host"] == "on"
    provenance = ImageGenerator(pipeline, Defaults(), speed=speed).generate(REQUEST).provenance
    assert not provenance.sampler.endswith("Scheduler")
    assert pipeline.scheduler.config.beta_end == 0.012  # the model's own noise levels


def test_a_sampler_for_another_kind_of_model_is_refused():
    with pytest.raises(
        ModelUnusable, match="EASEL_SAMPLER is lcm, which PlainPipeline does not support"
    ):
        Speed([PlainPipeline()], settings(SAMPLER="lcm"))


def test_each_size_is_warmed_up():
    pipeline = PlainPipeline()
    speed = Speed([pipeline], settings(WARM_UP="64x72,80x64"))
    ImageGenerator(pipeline, Defaults(), speed=speed).warm_up()
    assert [(call["width"], call["height"]) for call in pipeline.calls] == [
        (128, 128),
        (64, 72),
        (80, 64),
    ]


def test_a_model_to_compile_is_warmed_up_with_the_default_size_on_a_cpu_too(stand_in):
    compiled_for = []

    def note(module, **options):
        def compiled(sample, *args, **options):
            compiled_for.append(tuple(sample.shape[-2:]))
            return module.forward(sample, *args, **options)

        module._compiled_call_impl = compiled

    pipeline = load_pipeline(stand_in(), **HOW)
    compiler = Compiler([pipeline], compile_module=note)
    speed = Speed([pipeline], settings(COMPILE="full"), compiler)
    ImageGenerator(pipeline, Defaults(width=128, height=128), speed=speed).warm_up()
    side = 128 // pipeline.vae_scale_factor
    assert (side, side) in compiled_for


def test_a_size_that_the_model_cannot_generate_fails_at_the_start():
    class Coarse(PlainPipeline):
        vae_scale_factor = 16

    speed = Speed([Coarse()], settings(WARM_UP="72x64"))
    with pytest.raises(InvalidField, match="width"):
        ImageGenerator(Coarse(), Defaults(), speed=speed).warm_up()


def broken(module, **options):
    def compiled(*args, **options):
        raise RuntimeError("Cannot find a working triton installation")

    module._compiled_call_impl = compiled


def test_what_fails_to_compile_runs_uncompiled_and_the_log_says_so(stand_in, capsys):
    plain = ImageGenerator(load_pipeline(stand_in(), **HOW), Defaults()).generate(REQUEST).pixels
    pipeline = load_pipeline(stand_in(), **HOW)
    compiler = Compiler([pipeline], compile_module=broken)
    speed = Speed([pipeline], settings(COMPILE="full"), compiler)
    assert speed.report["compile"] == "full"
    generator = ImageGenerator(pipeline, Defaults(width=64, height=64), speed=speed)
    capsys.readouterr()
    generator.warm_up()
    logged = json.loads(capsys.readouterr().out)
    assert logged["event"] == "speed_given_up"
    assert "Cannot find a working triton installation" in logged["error"]
    assert generator.describe()["speed"]["compile"].startswith("off: RuntimeError: Cannot find")
    assert (generator.generate(REQUEST).pixels == plain).all()
