"""The older end of what is promised to work: the libraries in SageMaker's images."""

from importlib.metadata import version

import pytest

from tests.model_package import installed

CORE = [
    "test_inference.py",
    *(
        f"easel/{path}"
        for path in [
            "batching/test_engine.py",
            "loading/test_pipeline.py",
            "loading/test_vae.py",
            "lora/test_adapters.py",
            "lora/test_file.py",
            "lora/test_requests.py",
            "lora/test_weights.py",
            "pipelines/test_ensemble.py",
            "pipelines/test_guidance.py",
            "prompts/test_embeddings.py",
            "serving/test_request.py",
            "serving/test_response.py",
            "speed/test_host_timesteps.py",
            "test_generator.py",
        ]
    ),
]
SHOW = "import diffusers, transformers; print(diffusers.__version__, transformers.__version__)"

GENERATE = """
import sys
sys.path[:0] = [".", "model_package/code"]
from tests.model_package.doubles.toolkit import Toolkit
for folder in sys.argv[1:]:
    print(Toolkit(folder).post({"prompt": "a cat", "seed": 7}, accept="image/png").status)
"""

pytestmark = [pytest.mark.slow, pytest.mark.own_environment]


@pytest.fixture(scope="module", params=installed.TRANSFORMERS)
def old_libraries(request):
    folders = installed.old_libraries(request.param)
    assert installed.run(["-c", SHOW], folders).stdout.split() == ["0.38.0", request.param]
    return folders


def test_the_core_works_with_older_libraries(old_libraries):
    assert version("diffusers") != "0.38.0"
    files = [f"tests/model_package/{name}" for name in CORE]
    finished = installed.run(
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", *files], old_libraries
    )
    assert finished.returncode == 0, finished.stdout[-8_000:]


def test_a_model_that_is_saved_here_works_there_with_its_safety_checker(old_libraries, stand_in):
    folders = [str(stand_in(safety_checker=verdict)) for verdict in ("passes", "blocks")]
    finished = installed.run(["-c", GENERATE, *folders], old_libraries)
    statuses = [line for line in finished.stdout.splitlines() if line.isdigit()]
    assert statuses == ["200", "422"], finished.stdout[-8_000:] + finished.stderr[-2_000:]
