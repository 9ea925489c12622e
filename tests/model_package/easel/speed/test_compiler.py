import copy
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from easel.loading.pipeline import load_pipeline
from easel.lora.adapters import Loras
from easel.pipelines.ensemble import Ensemble
from easel.speed.compiler import Compiler, Unavailable
from tests.model_package.doubles.lora_files import random_layers, write_kohya
from tests.model_package.doubles.pipelines import BarePipeline

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}


class Backend:
    """A compiler that returns the graph itself; counts the graphs."""

    def __init__(self, error=None):
        self.graphs = 0
        self.error = error

    def __call__(self, graph, example_inputs):
        if self.error:
            raise self.error
        self.graphs += 1
        return graph.forward

    def compile_module(self, module, **options):
        module.compile(backend=self, **options)


@pytest.fixture(scope="module")
def parts():
    """Return a UNet and a VAE with few layers, each of which torch traces slowly."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=32,
            block_out_channels=(32,),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",),
            mid_block_type=None,
            up_block_types=("CrossAttnUpBlock2D",),
            attention_head_dim=4,
            cross_attention_dim=32,
        )
        vae = AutoencoderKL(block_out_channels=(32,), latent_channels=4)
    return {"unet": unet, "vae": vae}


@pytest.fixture
def pipeline(stand_in, parts):
    pipeline = load_pipeline(stand_in(), **HOW)
    for name, part in parts.items():
        setattr(pipeline, name, copy.deepcopy(part).eval())
    return pipeline


def generate(pipeline, **changes):
    request = {"prompt": "a cat", "width": 64, "height": 64, "num_inference_steps": 2}
    return (
        Ensemble(pipeline)
        .run({**request, "guidance_scale": 5.0, **changes}, seed=7, state="")
        .images
    )


@pytest.mark.parametrize("how", ["regional", "full"])
def test_a_compiled_model_generates_the_same_picture(pipeline, how):
    plain, backend = generate(pipeline), Backend()
    compiler = Compiler([pipeline], compile_module=backend.compile_module)
    assert compiler.start(how) == how
    torch.testing.assert_close(generate(pipeline), plain, atol=2e-4, rtol=0)
    assert backend.graphs > 0


@pytest.mark.parametrize(
    "change", [{"width": 128}, {"guidance_scale": 1.0}, {"prompt": "a cat on a mat, " * 20}]
)
def test_what_was_not_warmed_up_runs_without_compiling(pipeline, change):
    plain, backend = generate(pipeline, **change), Backend()
    compiler = Compiler([pipeline], compile_module=backend.compile_module)
    compiler.start("regional")
    generate(pipeline)
    compiled = backend.graphs
    with compiler.without_compiling():
        torch.testing.assert_close(generate(pipeline, **change), plain, atol=2e-4, rtol=0)
        generate(pipeline)
    assert backend.graphs == compiled
    generate(pipeline, **change)
    assert backend.graphs > compiled  # or the counter counts nothing


def test_adapters_reach_a_compiled_model_without_compiling_again(pipeline, tmp_path):
    write_kohya(tmp_path / "a.safetensors", random_layers(pipeline, rank=2, parts=("unet",)))
    loras = Loras([("a", tmp_path / "a.safetensors")], [pipeline])
    with loras.applied("a:1"):
        expected = generate(pipeline)
    with loras.applied(""):
        plain, backend = generate(pipeline), Backend()
    Compiler([pipeline], compile_module=backend.compile_module).start("regional")
    with loras.applied(""):
        torch.testing.assert_close(generate(pipeline), plain, atol=2e-4, rtol=0)
    graphs = backend.graphs
    with loras.applied("a:1"):
        torch.testing.assert_close(generate(pipeline), expected, atol=2e-4, rtol=0)
    assert backend.graphs == graphs
    assert not torch.allclose(plain, expected, atol=2e-3)


def test_stopping_leaves_the_model_as_it_was(pipeline):
    plain, backend = generate(pipeline), Backend(error=RuntimeError("no C compiler"))
    compiler = Compiler([pipeline], compile_module=backend.compile_module)
    compiler.start("full")
    with pytest.raises(Exception, match="no C compiler"):
        generate(pipeline)
    compiler.stop()
    assert not compiler.active
    assert torch.equal(generate(pipeline), plain)


def test_without_a_cache_for_this_machine_nothing_is_compiled_by_itself(pipeline, tmp_path):
    (tmp_path / "torch2.0.1-another-machine.tar.gz").touch()
    compiler = Compiler([pipeline], [tmp_path])
    with pytest.raises(Unavailable, match="no cache came with the model for torch"):
        compiler.start("auto")
    assert not compiler.active


def test_switched_off_and_nothing_to_compile_say_so(pipeline):
    with pytest.raises(Unavailable, match="as set"):
        Compiler([pipeline]).start("off")
    with pytest.raises(Unavailable, match="no part"):
        Compiler([BarePipeline()]).start("full")


# Of torch's own, while it imports its compiler.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
def test_what_a_cuda_graph_returns_outlives_its_next_replay(monkeypatch):
    """A replay writes into the memory of the one before, and multistep schedulers keep that."""
    memory = torch.zeros(1)

    def replay_in_place(module, **options):
        module._compiled_call_impl = memory.copy_

    pipeline = SimpleNamespace(unet=torch.nn.Identity())
    compiler = Compiler([pipeline], compile_module=replay_in_place)
    with monkeypatch.context() as pretended:
        pretended.setattr(torch.cuda, "is_available", lambda: True)
        pretended.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
        pretended.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
        report = compiler.start("full", cuda_graphs=True)
    first, second = (pipeline.unet(torch.full((1,), value)) for value in (1.0, 2.0))

    assert report == "full, CUDA graphs"
    assert (first.item(), second.item()) == (1.0, 2.0)
