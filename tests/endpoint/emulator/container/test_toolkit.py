"""What an inference script can notice of the serving toolkit."""

from __future__ import annotations

import json
import textwrap

import pytest

from tests.endpoint.emulator.container.doubles import ECHO, STEPS, serving


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", "str"),
        ("text/csv", "str"),
        ("application/json; charset=utf-8", "bytearray"),
        ("APPLICATION/JSON", "bytearray"),
        ("text/plain", "bytearray"),
        ("image/png", "bytearray"),
    ],
)
def test_only_exact_json_and_csv_arrive_as_text(echo, content_type, kind):
    answer = echo.post(b"{}", Content_Type=content_type).json()
    assert answer["input"] == [kind, content_type, 2]


@pytest.mark.parametrize(
    ("accept", "seen"),
    [
        ("image/png", "image/png"),
        ("image/*", "image/*"),
        ("image/png,application/json;q=0.9", "image/png,application/json;q=0.9"),
        ("*/*", "application/json"),
    ],
)
def test_accept_is_the_responses_type_word_for_word(echo, accept, seen):
    answer = echo.post(Accept=accept)
    assert json.loads(answer.data)["accept"] == seen
    assert answer.headers["Content-Type"] == seen


def test_without_accept_the_response_is_json(echo):
    answer = echo.post()
    assert answer.json()["accept"] == "application/json"
    assert answer.headers["Content-Type"] == "application/json"


def test_the_script_sees_the_model_folder_and_the_headers(echo):
    answer = echo.post(X_Amzn_SageMaker_Custom_Attributes="a=1").json()
    assert answer["model"] == "/opt/ml/model"
    assert answer["headers"]["X-Amzn-SageMaker-Custom-Attributes"] == "a=1"


def test_json_that_is_not_utf_8_is_a_400(echo):
    answer = echo.post(b"\xff")
    assert answer.status == 400
    assert "utf-8" in answer.json()["message"]


def test_functions_with_an_extra_argument_receive_the_context(script):
    folder = script(
        """
        import json

        def model_fn(model_dir, context):
            return context.system_properties

        def input_fn(body, content_type, context):
            return context.get_request_header(0, "X-Mine")

        def predict_fn(data, model, context):
            context.set_response_header(0, "x-answer", "yes")
            return [data, model]

        def output_fn(prediction, accept, context):
            return json.dumps([*prediction, context.model_name]).encode()
        """
    )
    with serving(folder) as served:
        answer = served.post(X_Mine="1")
    header, properties, name = answer.json()
    assert (header, name) == ("1", "model")
    assert answer.headers["x-answer"] == "yes"
    assert properties == {
        "model_dir": "/opt/ml/model",
        "gpu_id": None,
        "batch_size": 1,
        "server_name": "MMS",
        "server_version": "1.1.11",
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('raise ValueError("no such scheduler")', "no such scheduler"),
        ("raise MemoryError('CUDA out of memory')", "CUDA out of memory"),
        ("return data['missing']", "'missing'"),
    ],
)
def test_every_exception_is_a_400_of_the_servers_shape(script, line, message):
    with serving(script(STEPS % line)) as served:
        answer = served.post()
    assert answer.status == 400
    assert answer.json() == {"code": 400, "type": "InternalServerException", "message": message}
    assert answer.headers["Content-Type"] == "application/json"


def test_an_errors_json_is_written_as_the_java_server_writes_it(script):
    with serving(script(STEPS % "raise ValueError(\"<a href='x'> & caf\u00e9\")")) as served:
        answer = served.post()
    assert answer.data.decode("utf-8") == (
        '{\n  "code": 400,\n  "type": "InternalServerException",\n  "message": '
        '"\\u003ca href\\u003d\\u0027x\\u0027\\u003e \\u0026 caf\u00e9"\n}\n'
    )


def test_a_script_can_set_its_own_status(script):
    line = "context.set_response_status(422, 'Unprocessable', 0); return {'field': 'steps'}"
    with serving(script(STEPS % line)) as served:
        answer = served.post(Accept="image/png")
        assert (answer.status, json.loads(answer.data)) == (422, {"field": "steps"})
        # The type is Accept's even so.
        assert answer.headers["Content-Type"] == "image/png"


def test_a_capitalised_content_type_takes_precedence_over_accept(script):
    line = "context.set_response_header(0, 'Content-Type', 'application/json'); return {}"
    with serving(script(STEPS % line)) as served:
        answer = served.post(Accept="image/png")
    assert answer.headers.getlist("Content-Type") == ["application/json"]


def test_a_status_applies_to_one_request_only(script):
    line = "data and context.set_response_status(code=422, phrase='', idx=0); return data"
    with serving(script(STEPS % line)) as served:
        assert [served.post(b"[1]").status, served.post(b"[]").status] == [422, 200]


def test_bytes_are_returned_unchanged(script):
    with serving(script(STEPS % r"return b'\x89PNG\r\n\xff'")) as served:
        assert served.post(Accept="image/png").data == b"\x89PNG\r\n\xff"


def test_a_wrong_number_of_arguments_is_refused(script):
    folder = script(ECHO.replace("def predict_fn(data, model, context):", "def predict_fn(data):"))
    with serving(folder) as served:
        answer = served.post()
    assert answer.status == 400
    assert answer.json()["message"] == (
        "predict_fn definition takes 2 or 3 arguments but 1 were given."
    )


def test_transform_fn_excludes_the_other_functions(script):
    alone = """
        def model_fn(model_dir):
            return "model"

        def transform_fn(model, body, content_type, accept):
            return f"{model} {body} {content_type} {accept}"
    """
    with serving(script(alone)) as served:
        answer = served.post(Accept="text/plain")
        assert answer.data == b"model {} application/json text/plain"
    with serving(script(ECHO + "\n    def transform_fn(m, b, c, a):\n        return b")) as served:
        assert "Cannot use transform_fn" in served.post().json()["message"]


def test_an_empty_sagemaker_program_hides_the_script(script):
    with serving(script(ECHO), SAGEMAKER_PROGRAM="") as served:
        answer = served.post()
    assert answer.status == 400
    assert "HF_TASK" in answer.json()["message"]


def test_another_program_can_be_named(script):
    folder = script("raise RuntimeError('the wrong one')")
    (folder / "other.py").write_text(textwrap.dedent(ECHO), "utf-8")
    with serving(folder, SAGEMAKER_PROGRAM="other.py") as served:
        assert served.post().status == 200


def test_the_script_has_the_containers_variables_and_nothing_of_this_repository(
    script,
):
    line = "return [os.environ['EASEL_TEST'], os.getcwd() in sys.path, '' in sys.path]"
    with serving(script(STEPS % line), EASEL_TEST="here") as served:
        assert served.post().json() == ["here", False, False]
