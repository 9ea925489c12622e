import pytest
import torch

from easel.errors import SettingInvalid
from easel.loading.dtype import choose_device, choose_dtype
from tests.model_package.doubles.toolkit import Toolkit

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_gpu_computes_in_16_bits():
    assert choose_dtype("auto", CUDA) == torch.float16
    assert choose_dtype("bf16", CUDA) == torch.bfloat16
    assert choose_dtype("fp32", CUDA) == torch.float32


def test_a_cpu_never_computes_in_16_bit_floats():
    assert choose_dtype("auto", CPU) in {torch.bfloat16, torch.float32}
    with pytest.raises(SettingInvalid, match="EASEL_DTYPE=fp32"):
        choose_dtype("fp16", CPU)


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_every_part_of_the_model_is_of_the_chosen_type(stand_in, monkeypatch, name, dtype):
    monkeypatch.setenv("EASEL_DTYPE", name)
    toolkit = Toolkit(stand_in(safety_checker="passes"))
    parts = toolkit.model.generator()._pipeline.components.values()
    modules = [part for part in parts if isinstance(part, torch.nn.Module)]
    assert len(modules) == 4
    assert {part.dtype for part in modules} == {dtype}
    assert toolkit.post({"prompt": "a", "seed": 1}, accept="image/png").status == 200


@pytest.mark.skipif(choose_device() != CPU, reason="there is a GPU")
def test_16_bit_floats_on_a_cpu_are_refused_by_name(stand_in, monkeypatch, capsys):
    monkeypatch.setenv("EASEL_DTYPE", "fp16")
    assert Toolkit(stand_in()).post({"prompt": "a"}).status == 500
    assert "EASEL_DTYPE is fp16" in capsys.readouterr().out
