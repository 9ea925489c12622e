"""What both sides of the endpoint must agree on."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
EDITED = "model_package/code/generation.py"
COPIED = "gateway/chalicelib/generation.py"


def test_the_gateway_and_the_model_package_share_one_contract():
    same = (ROOT / EDITED).read_bytes() == (ROOT / COPIED).read_bytes()

    assert same, f"the contract's two copies differ; run: cp {EDITED} {COPIED}"
