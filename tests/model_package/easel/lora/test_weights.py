import torch

from easel.lora.adapters import Loras
from easel.lora.weights import Addition, Weights
from tests.model_package.doubles.lora_files import (
    random_layers,
    write_kohya,
)


def test_restoring_is_exact_in_16_bits_after_many_changes():
    layer = torch.nn.Linear(32, 32).to(torch.bfloat16)
    before, weights = layer.weight.detach().clone(), Weights()
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        addition = Addition(*(torch.randn(32, 32, generator=generator) for _ in range(2)), 0.7)
        weights.change({layer: [addition]})
        assert not torch.equal(layer.weight, before)
    weights.restore()
    assert torch.equal(layer.weight, before)


def test_the_weights_stay_where_they_are_so_that_nothing_is_compiled_again(pipelines, tmp_path):
    base = pipelines["sdxl"][0]
    write_kohya(tmp_path / "a", random_layers(base))
    loras = Loras([("a", tmp_path / "a")], [base])
    places = [(id(parameter), parameter.data_ptr()) for parameter in base.unet.parameters()]
    modules = [type(module) for module in base.unet.modules()]
    with loras.applied("a"):
        assert [
            (id(parameter), parameter.data_ptr()) for parameter in base.unet.parameters()
        ] == places
        assert [type(module) for module in base.unet.modules()] == modules
    loras.restore()


def test_a_compiled_layer_changes_without_being_compiled_again(pipelines, tmp_path):
    base, compiled_graphs = pipelines["sdxl"][0], []

    def backend(graph, _):
        compiled_graphs.append(graph)
        return graph.forward

    write_kohya(tmp_path / "a", random_layers(base))
    loras = Loras([("a", tmp_path / "a")], [base])
    layer = torch.compile(base.unet.mid_block.attentions[0].transformer_blocks[0], backend=backend)
    inputs = {
        "hidden_states": torch.ones(1, 4, 64),
        "encoder_hidden_states": torch.ones(1, 3, 64),
    }
    seen, counts = [], []
    for lora in ("", "a", "a:0.5", ""):
        with loras.applied(lora), torch.no_grad():
            seen.append(layer(**inputs))
        counts.append(len(compiled_graphs))
    assert counts[0] > 0
    assert set(counts) == {counts[0]}
    assert torch.equal(seen[0], seen[3])
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])
