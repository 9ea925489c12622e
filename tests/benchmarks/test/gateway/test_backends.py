from tests.benchmarks.lib.measuring import Samples
from tests.benchmarks.sections.gateway.backends import OTHERS, report, section


def test_a_millisecond_is_the_limit():
    measured = {f"baseline of {name}": Samples((3.0, 3.0)) for name in OTHERS}
    measured |= {name: Samples((3.9, 3.9)) for name in OTHERS}
    measured["vllm-omni"] = Samples((4.1, 4.1))

    missed = [row.what for row in report(measured).rows if not row.met]

    assert missed == ["a picture of vllm-omni"]


def test_every_backend_is_measured():
    rows = section(quick=True).rows

    assert [row.what for row in rows] == [f"a picture of {name}" for name in OTHERS]
