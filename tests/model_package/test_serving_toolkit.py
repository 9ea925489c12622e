"""The packaged code folder, loaded by the real handler of SageMaker's Hugging Face toolkit."""

import json
import shutil

import pytest

from tests.model_package.installed import ROOT, SERVING_TOOLKIT, install, old_libraries, run

CODE = ROOT / "model_package" / "code"

# What multi-model-server does around the handler, for each line of `requests`.
SERVE = """
import json, os, sys
from mms.context import Context, RequestProcessor
from mms.metrics.metrics_store import MetricsStore
from sagemaker_huggingface_inference_toolkit.handler_service import HuggingFaceHandlerService

before = list(sys.path)
model_dir = os.path.join(os.environ["SAGEMAKER_BASE_DIR"], "model")
context = Context("model", model_dir, None, 1, None, "1.1.11")
service = HuggingFaceHandlerService()
service.initialize(context)
import inference, easel, easel.serving.request
for accept, body in json.loads(sys.argv[1]):
    headers = {"Content-Type": "application/json", "Accept": accept}
    context.request_processor = [RequestProcessor(headers)]
    context.metrics = MetricsStore({0: "id"}, "model")
    (response,) = service.handle([{"body": bytearray(json.dumps(body).encode())}], context)
    print(json.dumps({
        "status": context.get_response_status(0)[0],
        "content_type": context.get_response_content_type(0),
        "begins": repr(response[:8]),
        "text": response if isinstance(response, str) else None,
    }))
print(json.dumps({
    "added": [entry for entry in sys.path if entry not in before],
    "first": sys.path[0],
    "files": [module.__file__ for module in (inference, easel, easel.serving.request)],
}))
"""

pytestmark = [pytest.mark.slow, pytest.mark.own_environment]


@pytest.fixture(scope="module")
def container(stand_in, tmp_path_factory):
    """Return a folder like /opt/ml, with a model and its code, and nothing else of the project."""
    base = tmp_path_factory.mktemp("opt-ml")
    shutil.copytree(stand_in(), base / "model")
    shutil.copytree(CODE, base / "model" / "code", ignore=shutil.ignore_patterns("__pycache__"))
    return base


@pytest.fixture(scope="module")
def served(container):
    libraries = [install("serving-toolkit", SERVING_TOOLKIT), *old_libraries("4.51.3")]
    prompt = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64}
    requests = [("image/png", prompt), ("application/json", {"describe": True}), ("image/png", {})]
    finished = run(
        ["-W", "ignore", "-c", SERVE, json.dumps(requests)],
        libraries,
        SAGEMAKER_BASE_DIR=str(container),
    )
    lines = [line for line in finished.stdout.splitlines() if line.startswith("{")]
    results = [json.loads(line) for line in lines]
    assert finished.returncode == 0, finished.stdout[-4_000:] + finished.stderr[-4_000:]
    return [result for result in results if "event" not in result]


def test_the_toolkit_puts_the_code_folder_first_and_finds_the_package_in_it(served, container):
    code = container / "model" / "code"
    where = served[-1]
    assert (where["added"], where["first"]) == ([str(code)], str(code))
    assert where["files"] == [
        str(code / "inference.py"),
        str(code / "easel" / "__init__.py"),
        str(code / "easel" / "serving" / "request.py"),
    ]


def test_a_request_is_answered_with_the_pictures_bytes(served):
    picture = served[0]
    assert (picture["status"], picture["content_type"]) == (200, "image/png")
    assert picture["begins"] == repr(b"\x89PNG\r\n\x1a\n")


def test_what_the_model_can_do_is_answered_as_json(served):
    description = json.loads(served[1]["text"])
    assert {"fields", "defaults", "loras", "speed"} <= set(description)


def test_an_error_has_its_own_status_and_body(served):
    refusal = served[2]
    assert refusal["status"] == 400
    assert json.loads(refusal["text"])["error"]["field"] == "prompt"
