import json
import shutil

import pytest
import torch
from torch import nn

from easel.defaults import Defaults
from easel.generator import ImageGenerator
from easel.load import load_generator
from easel.loading.pipeline import load_pipeline
from easel.loading.refiner import load_refiner
from easel.lora.formulas import Decomposed, LowRank, Whole
from easel.lora.weights import Addition, Bias, Computed, Weights
from easel.pipelines.ensemble import Ensemble
from easel.speed.compiler import Compiler
from easel.speed.eight_bits import EightBits, denoiser_layers
from easel.speed.speed import Speed, SpeedSettings
from generation import GenerationRequest
from tests.model_package.conftest import QUICK
from tests.model_package.doubles.lora_files import random_layers, write_kohya
from tests.model_package.doubles.pipelines import PlainPipeline

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}
REQUEST = GenerationRequest(prompt="a cat", seed=7, width=64, height=64, steps=2)
FP8 = torch.float8_e4m3fn


def generate(pipelines, speed=None):
    """Return an image by Easel, as signed numbers that can be subtracted."""
    base, *refiners = pipelines
    generator = ImageGenerator(
        base, Defaults(), refiner=refiners[0] if refiners else None, speed=speed
    )
    return generator.generate(REQUEST).pixels.astype(int)


def stored(pipelines, **changes):
    return Speed(pipelines, SpeedSettings(storage="fp8", compile="off", **changes))


def size(module):
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
@pytest.mark.parametrize("layout", ["off", "on"])
def test_the_unet_takes_a_quarter_of_32_bits_and_generates_nearly_the_same(stand_in, kind, layout):
    pipeline = load_pipeline(stand_in(kind=kind), **HOW)
    plain, before = generate([pipeline]), size(pipeline.unet)
    speed = stored([pipeline], channels_last=layout)
    assert speed.report["storage"] == "fp8"
    assert size(pipeline.unet) < 0.27 * before
    assert pipeline.unet.dtype == torch.float32
    weight = pipeline.unet.mid_block.resnets[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == (layout == "on")
    actual = generate([pipeline], speed)
    assert 0 < abs(actual - plain).max() <= 20
    assert weight.dtype == FP8


def test_both_unets_of_base_and_refiner_are_stored_so(stand_in):
    folder = stand_in(kind="ensemble")
    base = load_pipeline(folder / "base", **HOW)
    pipelines = [base, load_refiner(folder / "refiner", base, **HOW)]
    plain = generate(pipelines)
    speed = stored(pipelines)
    convolutions = [pipeline.unet.mid_block.resnets[0].conv1 for pipeline in pipelines]
    assert [layer.weight.dtype for layer in convolutions] == [FP8] * 2
    assert 0 < abs(generate(pipelines, speed) - plain).max() <= 20


def test_a_compiled_model_stays_in_as_many_pieces(stand_in):
    def graphs(pipeline):
        made = []

        def backend(graph, _):
            made.append(graph)
            return graph.forward

        compiler = Compiler(
            [pipeline], compile_module=lambda module, **_: module.compile(backend=backend)
        )
        compiler.start("regional")
        request = {"prompt": "a", "width": 64, "height": 64, "num_inference_steps": 2}
        picture = Ensemble(pipeline).run(request, seed=7, state="").images
        compiler.stop()
        return len(made), picture

    pipeline = load_pipeline(stand_in(), **HOW)
    pieces, _ = graphs(pipeline)
    EightBits(denoiser_layers([pipeline])).start()
    request = {"prompt": "a", "width": 64, "height": 64, "num_inference_steps": 2}
    plain = Ensemble(pipeline).run(request, seed=7, state="").images
    again, picture = graphs(pipeline)
    assert again == pieces > 0
    torch.testing.assert_close(picture, plain, atol=2e-4, rtol=0)


def test_a_small_addition_is_not_lost_in_the_rounding_and_comes_off_without_a_trace():
    torch.manual_seed(0)
    layer = nn.Linear(64, 64)
    addition = Addition(torch.randn(1, 64) * 0.03, torch.randn(64, 1) * 0.03, 1.0)
    expected = (layer.weight + addition.up @ addition.down).detach().to(FP8).float()
    weights = Weights()
    weights.keep([layer])
    EightBits([layer]).start()
    before = layer.weight.detach().clone()
    weights.change({layer: [addition]})
    assert torch.equal(layer.weight.float(), expected)
    assert not torch.equal(layer.weight.float(), before.float())
    weights.restore()
    assert torch.equal(layer.weight.float(), before.float())


def test_any_method_is_added_to_the_weight_before_it_was_rounded():
    torch.manual_seed(0)
    layer = nn.Linear(64, 64)
    change = LowRank(torch.randn(1, 64) * 0.03, torch.randn(64, 1) * 0.03)
    formula = Decomposed(change, torch.ones(64), by_input=False)
    whole = (layer.weight + change.up @ change.down).detach()
    expected = (whole / whole.norm(dim=1, keepdim=True)).to(FP8).float()
    weights = Weights()
    weights.keep([layer, Bias(layer)])
    EightBits([layer]).start()
    before, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    terms = {layer: [Computed(formula, 1.0)], Bias(layer): [Computed(Whole(torch.ones(64, 1)), 2)]}
    weights.change(terms)
    assert torch.equal(layer.weight.float(), expected)
    assert torch.equal(layer.bias, bias + 2)
    weights.restore()
    assert torch.equal(layer.weight.float(), before.float())
    assert torch.equal(layer.bias, bias)


def test_a_served_model_wears_adapters_over_8_bits(stand_in, tmp_path, capsys):
    folder = shutil.copytree(stand_in(), tmp_path / "model")
    (folder / "loras").mkdir()
    layers = random_layers(load_pipeline(folder, **HOW), rank=2)
    write_kohya(folder / "loras" / "a.safetensors", layers)
    environ = {"EASEL_DEFAULTS": QUICK, "EASEL_DTYPE": "fp32", "EASEL_COMPILE": "off"}
    full = load_generator(folder, environ)
    small = load_generator(folder, {**environ, "EASEL_STORAGE": "fp8"})
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["speed"]["storage"] == "fp8"
    applied = GenerationRequest(prompt="a cat", seed=7, lora="a:1")
    bare = GenerationRequest(prompt="a cat", seed=7)
    first = small.generate(bare).pixels
    actual, expected = (model.generate(applied).pixels.astype(int) for model in (small, full))
    assert abs(actual - expected).mean() < 0.5 * abs(actual - first).mean()
    assert (small.generate(bare).pixels == first).all()


def test_a_model_without_a_unet_does_not_change():
    speed = stored([PlainPipeline()])
    assert speed.report["storage"] == "off: the model has no UNet"


def test_a_pytorch_without_8_bits_does_not_change_the_model(stand_in, monkeypatch):
    monkeypatch.delattr(torch, "float8_e4m3fn")
    pipeline = load_pipeline(stand_in(), **HOW)
    report = stored([pipeline]).report["storage"]
    assert report.startswith("off: AttributeError: module 'torch' has no attribute")
    assert {parameter.dtype for parameter in pipeline.unet.parameters()} == {torch.float32}


def test_a_unet_that_two_pipelines_share_is_stored_once_and_given_back(stand_in):
    pipeline = load_pipeline(stand_in(), **HOW)
    storage = EightBits(denoiser_layers([pipeline, pipeline]))
    storage.start()
    assert storage.active
    storage.stop()
    assert {parameter.dtype for parameter in pipeline.unet.parameters()} == {torch.float32}
    assert not storage.active


def test_a_model_that_fails_with_an_optimisation_runs_without_it(stand_in, capsys):
    pipeline = load_pipeline(stand_in(), **HOW)

    def refuse_8_bits(layer, _):
        if layer.weight.dtype == FP8:
            raise RuntimeError("no kernel for Float8_e4m3fn")

    pipeline.unet.mid_block.resnets[0].conv1.register_forward_pre_hook(refuse_8_bits)
    speed = stored([pipeline])
    generator = ImageGenerator(pipeline, Defaults(width=64, height=64), speed=speed)
    capsys.readouterr()
    generator.warm_up()
    assert json.loads(capsys.readouterr().out)["event"] == "speed_given_up"
    report = generator.describe()["speed"]["storage"]
    assert report == "off: RuntimeError: no kernel for Float8_e4m3fn"
    kinds = {type(module) for module in pipeline.unet.modules() if hasattr(module, "weight")}
    assert nn.Linear in kinds
    assert {parameter.dtype for parameter in pipeline.unet.parameters()} == {torch.float32}
