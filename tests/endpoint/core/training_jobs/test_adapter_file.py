import io
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint.core.training_jobs.adapter_file import LARGEST, AdapterUnusable, check
from tests.endpoint.core.training_jobs.adapter_files import LAYER, framed, tensors, written


def alpha(shape, begin, end):
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    return framed({f"{LAYER}.alpha": entry}, bytes(int(end)))


def checked(data):
    return check(io.BytesIO(data), len(data))


@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_an_adapter_is_described(dtype):
    found = checked(written(tensors(dtype)))

    assert (found.layers, found.rank) == (1, 4)
    assert found.metadata == {"ss_network_dim": "4"}


def test_a_stream_may_come_in_pieces():
    data = written(tensors())

    class Slow(io.BytesIO):
        def read(self, amount=-1, /):
            return super().read(min(amount, 3))

    assert check(Slow(data), len(data)).layers == 1


@pytest.mark.parametrize("value", [b"\x00\x7c", b"\x00\xfc", b"\x01\x7e", b"\xff\xff"])
def test_numbers_that_are_not_finite_are_refused(value):
    kind, shape, data = tensors()[f"{LAYER}.lora_up.weight"]
    spoiled = tensors(**{f"{LAYER}.lora_up.weight": (kind, shape, data[:-2] + value)})

    with pytest.raises(AdapterUnusable, match="not finite"):
        checked(written(spoiled))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_infinite_alpha_is_refused(value):
    with pytest.raises(AdapterUnusable, match="not finite"):
        checked(written(tensors(**{f"{LAYER}.alpha": ("F32", [], struct.pack("<f", value))})))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({f"{LAYER}.lora_up.weight": ("F16", [8, 3], bytes(48))}, "not complete"),
        ({f"{LAYER}.lora_up.weight": ("F16", [8, 4], bytes(60))}, "damaged"),
        ({f"{LAYER}.alpha": ("F32", [1], bytes(4))}, "no alpha"),
        ({f"{LAYER}.hada_w1_a": ("F16", [1], bytes(2))}, "damaged"),
        ({"lora_unet_x/../y.alpha": ("F32", [], bytes(4))}, "damaged"),
        ({f"{LAYER}.lora_up.weight": ("I64", [8, 4], bytes(256))}, "damaged"),
        ({f"{LAYER}.lora_down.weight": ("F16", [0, 8], b"")}, "not complete"),
        ({f"{LAYER}2.alpha": ("F32", [], bytes(4))}, "not complete"),
    ],
)
def test_unfit_tensors_are_refused(change, text):
    with pytest.raises(AdapterUnusable, match=text):
        checked(written(tensors(**change)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        framed({}),
        framed([]),
        framed({"__metadata__": {"a": 1}}),
        (2**62).to_bytes(8, "little") + b"{}",
        (50_000).to_bytes(8, "little") + b"[" * 50_000,
        written(tensors()) + b"x",
        written(tensors())[:-1],
        alpha([], 4, 8),
        alpha([True], 0, 4),
        alpha([-1, -1], 0, 4),
        alpha([], 0.0, 4),
        framed({f"{LAYER}.alpha": 3}),
    ],
)  # fmt: skip
def test_what_is_no_adapter_is_refused(data):
    with pytest.raises(AdapterUnusable):
        checked(data)


def test_a_file_that_is_too_large_is_not_read():
    with pytest.raises(AdapterUnusable, match="at most 200,000,000"):
        check(io.BytesIO(), LARGEST + 1)


@given(st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_a_damaged_file_is_refused_or_still_an_adapter(place, bytes_):
    data = written(tensors())
    place = min(place, len(data) - len(bytes_))
    spoiled = data[:place] + bytes_ + data[place + len(bytes_) :]

    with suppress(AdapterUnusable):
        assert checked(spoiled).layers == 1
