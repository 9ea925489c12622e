import math

import pytest

from model_package.server.settings import Settings, Unusable
from tests.model_package.server.served import SCRIPT


@pytest.fixture
def read(tmp_path):
    """Read settings of a machine whose /opt/ml is an empty folder."""

    def read(*arguments, **variables):
        environ = {"SAGEMAKER_BASE_DIR": str(tmp_path), **variables}
        return Settings.read(arguments, environ)

    return read


def with_script(folder):
    folder.mkdir(parents=True)
    (folder / "inference.py").touch()
    return folder


def test_sagemaker_gets_all_addresses_and_its_port(read):
    settings = read("serve")
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
    assert settings.request_seconds == 55
    assert read("serve", SAGEMAKER_BIND_TO_PORT="9000").port == 9000


def test_a_person_gets_this_machine_only(read):
    settings = read(SAGEMAKER_BIND_TO_PORT="9000")
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.request_seconds == math.inf


def test_an_empty_machine_serves_the_bundled_model_and_code(read):
    settings = read()
    assert settings.model_dir.parts[-2:] == ("demo", "weights")
    assert settings.code.parts[-2:] == ("model_package", "code")
    assert settings.name == "weights"


def test_a_model_of_sagemaker_comes_with_its_code(read, tmp_path):
    code = with_script(tmp_path / "model" / "code")
    settings = read("serve", SAGEMAKER_SUBMIT_DIRECTORY=str(SCRIPT))
    assert (settings.model_dir, settings.code) == (tmp_path / "model", code)


def test_code_of_sagemaker_is_before_the_bundled(read, tmp_path):
    submitted = with_script(tmp_path / "submitted")
    assert read("serve", SAGEMAKER_SUBMIT_DIRECTORY=str(submitted)).code == submitted
    assert read("serve", "--code", str(SCRIPT)).code == SCRIPT


@pytest.mark.parametrize("arguments", [["--model", "org/name"], []])
def test_a_model_of_the_hub_has_no_folder(read, arguments):
    variables = {} if arguments else {"EASEL_MODEL_ID": "org/name"}
    settings = read(*arguments, **variables)
    assert settings.hub_id == settings.name == "org/name"
    assert not settings.model_dir.exists()


def test_a_model_of_the_command_line_comes_before_that_of_the_machine(read, tmp_path):
    with_script(tmp_path / "model")
    settings = read("--model", "org/name")
    assert not settings.model_dir.exists()
    settings = read("--model", str(tmp_path / "model"), EASEL_MODEL_ID="org/name")
    assert (settings.model_dir, settings.name) == (tmp_path / "model", "model")


@pytest.mark.parametrize("model", ["nowhere", "./a/b", "/no/where", "a/b/c", "~/x"])
def test_what_is_no_model_is_refused(read, model):
    with pytest.raises(Unusable, match="not a folder"):
        read("--model", model)


@pytest.mark.parametrize(
    "name", ["EASEL_STALL_SECONDS", "EASEL_STOP_SECONDS", "MMS_MAX_REQUEST_SIZE"]
)
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "x", "1e999"])
def test_numbers_are_checked(read, name, value):
    with pytest.raises(Unusable, match=name):
        read(**{name: value})


@pytest.mark.parametrize("port", ["-1", "65536", "80.5"])
def test_ports_are_checked(read, port):
    with pytest.raises(Unusable, match="no port"):
        read("serve", SAGEMAKER_BIND_TO_PORT=port) if port != "-1" else read("--port", "-1")


@pytest.mark.parametrize(
    ("variables", "emf"),
    [
        ({}, False),
        ({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}, True),
        ({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x", "EASEL_EMF": "off"}, False),
        ({"EASEL_EMF": "ON"}, True),
    ],
)
def test_metrics_go_to_the_log_on_sagemaker_or_when_wanted(read, variables, emf):
    assert read("serve", **variables).emf is emf
