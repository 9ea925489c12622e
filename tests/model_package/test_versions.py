"""The older end of what is promised to work: the libraries in SageMaker's images."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# diffusers 0.38 talks to the hub through httpx, which later ones no longer need.
DIFFUSERS = ["diffusers==0.38.0", "httpx==0.28.1", "httpcore==1.0.9", "sniffio==1.3.1"]
# The oldest that is promised, and the one that the newest serving image has beside diffusers 0.38.
TRANSFORMERS = {
    "4.51.3": ["transformers==4.51.3", "tokenizers==0.21.4", "huggingface_hub==0.36.0"],
    "5.5.3": ["transformers==5.5.3", "tokenizers==0.22.2", "huggingface_hub==1.10.0"],
}
CORE = [
    "test_easel_conditioning.py",
    "test_easel_ensemble.py",
    "test_easel_guidance.py",
    "test_easel_loras.py",
    "test_easel_painter.py",
    "test_easel_pipeline.py",
    "test_easel_steps.py",
    "test_easel_vae.py",
    "test_inference.py",
]
SHOW = "import diffusers, transformers; print(diffusers.__version__, transformers.__version__)"

PAINT = """
import sys
sys.path[:0] = [".", "model_package/code"]
from tests.model_package.toolkit import Toolkit
for folder in sys.argv[1:]:
    print(Toolkit(folder).post({"prompt": "a cat", "seed": 7}, accept="image/png").status)
"""

pytestmark = [pytest.mark.slow, pytest.mark.own_environment]


def install(name, requirements):
    """Return a folder that holds the requirements, installed when they are not there yet."""
    folder = ROOT / ".cache" / name
    if not (folder / "installed").is_file():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
        subprocess.run([*command, "--target", folder, *requirements], check=True, timeout=300)
        (folder / "installed").touch()
    return folder


def run(command, folders):
    path = os.pathsep.join(map(str, folders))
    environ = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module", params=TRANSFORMERS)
def old_libraries(request):
    """Return the folders of diffusers 0.38 and of one of the older transformers."""
    name = f"transformers-{request.param}"
    folders = [
        install("diffusers-0.38.0", DIFFUSERS),
        install(name, TRANSFORMERS[request.param]),
    ]
    assert run(["-c", SHOW], folders).stdout.split() == ["0.38.0", request.param]
    return folders


def test_the_core_works_with_older_libraries(old_libraries):
    assert version("diffusers") != "0.38.0"
    files = [f"tests/model_package/{name}" for name in CORE]
    finished = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", *files], old_libraries)
    assert finished.returncode == 0, finished.stdout[-8_000:]


def test_a_model_that_is_saved_here_works_there_with_its_safety_checker(old_libraries, stand_in):
    folders = [str(stand_in(safety_checker=verdict)) for verdict in ("passes", "blocks")]
    finished = run(["-c", PAINT, *folders], old_libraries)
    statuses = [line for line in finished.stdout.splitlines() if line.isdigit()]
    assert statuses == ["200", "422"], finished.stdout[-8_000:] + finished.stderr[-2_000:]
