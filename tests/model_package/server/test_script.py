"""Which functions of a script are called with what, as SageMaker's toolkit does."""

import json
import sys
import textwrap

import pytest

from model_package.server.errors import failed, is_out_of_memory, is_sticky
from model_package.server.script.engine import SerialEngine
from model_package.server.script.functions import Context, Script

STEPS = """
def model_fn(model_dir): return "model"
def input_fn(body, content_type): return [type(body).__name__, content_type]
def predict_fn(data, model): return [*data, model]
def output_fn(prediction, accept): return str([*prediction, accept])
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Load a script of this text."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def load(text):
        name = f"script_{abs(hash(text))}.py"
        (tmp_path / name).write_text(textwrap.dedent(text))
        loaded = Script(tmp_path, name, tmp_path)
        loaded.load()
        return loaded

    return load


def answer(script, body=b"{}", **headers):
    context = Context("model", {name.replace("_", "-"): value for name, value in headers.items()})
    data = script.read(body, context.get_request_header(0, "Content-Type"), context)
    return script.write(script.predict(data, context), context).decode()


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", "str"),
        ("text/csv", "str"),
        ("application/json; charset=utf-8", "bytearray"),
        ("image/png", "bytearray"),
    ],
)
def test_text_comes_as_text_and_everything_else_as_bytes(script, content_type, kind):
    result = answer(script(STEPS), content_type=content_type)
    assert result == str([kind, content_type, "model", "application/json"])


@pytest.mark.parametrize(
    ("accept", "passed"),
    [(None, "application/json"), ("*/*", "application/json"), ("image/png", "image/png")],
)
def test_accept_is_json_unless_it_names_a_type(script, accept, passed):
    headers = {"accept": accept} if accept else {}
    assert answer(script(STEPS), **headers).endswith(f"'{passed}']")


def test_functions_with_one_argument_more_get_the_context(script):
    loaded = script("""
        def model_fn(model_dir, context): return context.system_properties["model_dir"]
        def input_fn(body, content_type, context): return context.get_request_header(0, "X-A")
        def predict_fn(data, model, context): return data
        def output_fn(prediction, accept, context):
            context.set_response_status(418, "Teapot", 0)
            context.set_response_header(0, "x-b", "c")
            return {"got": prediction}
    """)
    assert json.loads(answer(loaded, x_a="b")) == {"got": "b"}


def test_a_whole_transformation_is_called_with_everything(script):
    loaded = script("""
        def model_fn(model_dir): return "model"
        def transform_fn(model, data, content_type, accept):
            return f"{model} {type(data).__name__} {content_type} {accept}".encode()
    """)
    assert isinstance(loaded.engine, SerialEngine)
    assert answer(loaded, content_type="text/csv") == "model str text/csv application/json"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must define model_fn"),
        ("def model_fn(d): return d", "must define model_fn"),
        (STEPS + "def transform_fn(*a): pass", "cannot be defined together"),
        (STEPS.replace("def model_fn(model_dir)", "def model_fn(a, b, c)"), "must take 1 or 2"),
    ],
)
def test_a_script_of_another_shape_is_refused_at_the_start(script, text, said):
    with pytest.raises(TypeError, match=said):
        script(text)


def test_one_after_another_learns_how_long_a_request_takes():
    now = [0.0]

    def predict(request, context):
        now[0] += request
        return "picture"

    class Watch:
        context = None

    engine = SerialEngine(predict, lambda: now[0])
    assert engine.seconds(10) == 0
    engine.add(10, Watch())
    assert engine.busy
    assert not engine.fits(1)
    assert [result for _, result in engine.step()] == ["picture"]
    assert engine.seconds(1) == 10
    engine.add(20, Watch())
    engine.step()
    assert engine.seconds(1) == pytest.approx(13)
    assert engine.step() == []


def test_a_lack_of_memory_is_a_507_by_any_of_its_texts():
    for error in (
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ):
        assert is_out_of_memory(error)
        assert failed(error).status == 507
    assert failed(RuntimeError("something else")).status == 500


def test_a_sticky_error_is_found_among_the_causes():
    error = ValueError("The run failed.")
    error.__cause__ = RuntimeError("CUDA error: misaligned address")
    assert is_sticky(error)
    assert not is_sticky(ValueError("The run failed."))
    assert not is_sticky("a picture")
