import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from model_package.stand_in import make_stand_in
from tests.model_package.doubles.toolkit import Toolkit

SCRIPT = Path(__file__).parents[2] / "model_package" / "stand_in.py"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_arguments_make_the_same_model(stand_in, tmp_path):
    assert contents(make_stand_in(tmp_path)) == contents(stand_in())


def test_the_script_makes_a_model_that_generates_256_by_256(tmp_path, monkeypatch):
    monkeypatch.delenv("EASEL_DEFAULTS")
    command = [sys.executable, str(SCRIPT), str(tmp_path / "made")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    response = Toolkit(tmp_path / "made").post({"prompt": "a", "seed": 1}, accept="image/png")
    with Image.open(io.BytesIO(response.body)) as image:
        assert image.size == (256, 256)


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_it_is_small(stand_in, kind):
    assert sum(len(content) for content in contents(stand_in(kind=kind)).values()) < 12_000_000
