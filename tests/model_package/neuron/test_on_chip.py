"""Runs the tests of the folder `on_chip` with the real optimum-neuron, in its own environment."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
PYTHON = ROOT / ".cache" / "neuron" / "bin" / "python"

pytestmark = [pytest.mark.slow, pytest.mark.own_environment]


@pytest.fixture
def python():
    if not PYTHON.exists():
        pytest.skip("no .cache/neuron: `./setup.sh test --all` makes it where .venv is Python 3.11")
    return PYTHON


# One process for both files, because it imports for ten seconds.
def test_the_real_optimum_neuron_compiles_and_paints(python):
    files = [HERE / "on_chip" / name for name in ("jobs.py", "pictures.py")]
    command = [python, "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider",
               "-o", "filterwarnings=", "-n", "0", *files]  # fmt: skip
    path = os.pathsep.join(str(folder) for folder in (HERE / "runtime", ROOT / "model_package"))
    finished = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stdout[-12_000:] + finished.stderr[-2_000:]
    assert " passed" in finished.stdout
    assert "skipped" not in finished.stdout
