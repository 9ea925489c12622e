"""What `chalice package` makes of the gateway."""

import gzip
import json
import marshal
import sys
import zipfile
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest
from cfnlint.api import lint_all
from click import ClickException
from prepare_bytecode import add_bytecode

from chalicelib.web.pages import openapi_document
from endpoint.emulator.lambda_.lambda_runtime import RUNTIME
from tests.packages import ROOT, package_gateway


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return package_gateway(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def template(package):
    return json.loads((package / "sam.json").read_text())


def test_the_template_is_clean(package):
    findings = lint_all((package / "sam.json").read_text())

    assert [str(each) for each in findings if each.rule.severity != "informational"] == []


def test_the_function_is_set_up_to_answer_before_api_gateway_gives_up(template):
    function = template["Resources"]["APIHandler"]["Properties"]
    variables = function["Environment"]["Variables"]

    assert float(variables["EASEL_DEADLINE_SECONDS"]) + 2 < function["Timeout"] <= 29
    assert template["Resources"]["RestAPI"]["Properties"]["EndpointConfiguration"] == "REGIONAL"
    assert template["Resources"]["RestAPI"]["Properties"]["StageName"] == "api"


def test_every_route_of_the_document_is_one_of_api_gateways_and_every_body_can_be_binary(template):
    document = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]

    assert document["x-amazon-apigateway-binary-media-types"] == ["*/*"]
    described = openapi_document("")["paths"]
    assert sorted(document["paths"]) == sorted(described)
    for path, methods in document["paths"].items():
        assert set(methods) - {"options"} == set(described[path])


def test_the_role_has_the_required_permissions_and_no_others(template):
    policy = template["Resources"]["ApiHandlerRole"]["Properties"]["Policies"][0]["PolicyDocument"]

    actions = [action for statement in policy["Statement"] for action in statement["Action"]]
    assert sorted(set(actions)) == [
        "iam:PassRole",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "s3:DeleteObject",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
        "sagemaker:AddTags",
        "sagemaker:CreateEndpoint",
        "sagemaker:DescribeEndpoint",
        "sagemaker:InvokeEndpoint",
        "sagemaker:InvokeEndpointAsync",
        "scheduler:GetSchedule",
        "scheduler:UpdateSchedule",
    ]
    for statement in policy["Statement"]:
        assert all("easel-" in resource for resource in statement["Resource"])


def test_the_zip_holds_what_is_needed_and_fits_lambda(package):
    with zipfile.ZipFile(package / "deployment.zip") as archive:
        names = set(archive.namelist())
        unpacked = sum(each.file_size for each in archive.infolist())

    assert {"app.py", "chalicelib/sentences.json", "chalicelib/pages/home.html"} <= names
    assert Path(package / "deployment.zip").stat().st_size < 50_000_000
    assert unpacked < 250_000_000
    packages = {name.split("/")[0] for name in names}
    assert {"boto3", "botocore", "essential_generators", "aws_lambda_powertools"} <= packages
    assert not packages & {"torch", "sagemaker", "numpy", "PIL", "moto"}


def test_the_boto3_inside_is_new_enough_for_asynchronous_pictures(package):
    """Inline bodies and file names came to InvokeEndpointAsync with botocore 1.43.30."""
    path = "botocore/data/sagemaker-runtime/2017-05-13/service-2.json"
    with zipfile.ZipFile(package / "deployment.zip") as archive:
        paths = [name for name in archive.namelist() if name.startswith(path)]
        assert paths
        content = archive.read(paths[0])
    if paths[0].endswith(".gz"):
        content = gzip.decompress(content)
    members = json.loads(content)["shapes"]["InvokeEndpointAsyncInput"]["members"]

    assert {"Body", "Filename", "S3OutputPathExtension"} <= set(members)


def test_every_module_in_the_zip_has_bytecode_for_the_functions_python(package, template):
    with zipfile.ZipFile(package / "deployment.zip") as archive:
        names = set(archive.namelist())
        modules = {Path(name) for name in names if name.endswith(".py")}
        tag = sys.implementation.cache_tag
        bytecode = {m: f"{m.parent / '__pycache__' / m.stem}.{tag}.pyc" for m in modules}
        heads = {archive.read(name)[:16] for name in names & set(bytecode.values())}
        # Our own, made a moment ago.
        code = marshal.loads(archive.read(bytecode[Path("app.py")])[16:])  # noqa: S302

    assert template["Resources"]["APIHandler"]["Properties"]["Runtime"] == RUNTIME
    assert set(bytecode.values()) <= names
    # PEP 552: the magic number, and the flags for a hash that is not checked.
    assert {head[:8] for head in heads} == {MAGIC_NUMBER + (1).to_bytes(4, "little")}
    assert code.co_filename == "/var/task/app.py"


def test_a_zip_for_another_python_is_refused_and_left_alone(tmp_path):
    package = tmp_path / "deployment.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("app.py", "VALUE = 1\n")
    before = package.read_bytes()

    with pytest.raises(ClickException, match=r"would run python3.99; package it with that"):
        add_bytecode(package, "python3.99")

    assert package.read_bytes() == before


def test_bytecode_is_added_once(tmp_path):
    package = tmp_path / "deployment.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("app.py", "VALUE = 1\n")

    add_bytecode(package, RUNTIME)
    once = package.read_bytes()
    add_bytecode(package, RUNTIME)

    assert package.read_bytes() == once
    assert list(tmp_path.iterdir()) == [package]


APP = """
import sys
from chalice import Chalice

sys.path.append({gateway!r})
import prepare_bytecode

prepare_bytecode.compile_packages()
app = Chalice("small")
app.route("/")(lambda: "small")
"""


@pytest.fixture
def project(tmp_path):
    """Return the folder of a small chalice project, which is packaged as the gateway is."""
    folder = tmp_path / "gateway"
    (folder / ".chalice").mkdir(parents=True)
    (folder / ".chalice" / "config.json").write_text('{"version": "2.0", "app_name": "small"}')
    (folder / "app.py").write_text(APP.format(gateway=str(ROOT / "gateway")))
    (folder / "requirements.txt").touch()
    (folder / "chalicelib" / "__pycache__").mkdir(parents=True)
    (folder / "chalicelib" / "__init__.py").write_text("VALUE = 1\n")
    return folder


def test_bytecode_of_this_machine_and_half_a_zip_are_not_shipped(project, tmp_path):
    tag = sys.implementation.cache_tag
    name = f"chalicelib/__pycache__/__init__.{tag}.pyc"
    (project / name).write_bytes(b"of this machine")
    whole = package_gateway(tmp_path / "first", tmp_path) / "deployment.zip"
    (kept,) = (project / ".chalice" / "deployments").iterdir()
    kept.write_bytes(whole.read_bytes()[:2_000])

    again = package_gateway(tmp_path / "second", tmp_path) / "deployment.zip"

    assert again.read_bytes() == whole.read_bytes()
    with zipfile.ZipFile(again) as archive:
        assert archive.namelist().count(name) == 1
        assert archive.read(name)[:4] == MAGIC_NUMBER


def test_an_earlier_zip_of_the_same_sources_is_used_again_whatever_python_wrote(project, tmp_path):
    package_gateway(tmp_path / "first", tmp_path)
    builds = project / ".chalice" / "deployments"
    (kept,) = builds.iterdir()
    (project / "chalicelib" / "__pycache__" / "other.cpython-311.pyc").write_bytes(b"another")

    package_gateway(tmp_path / "second", tmp_path)

    assert list(builds.iterdir()) == [kept]


def test_packaging_twice_gives_the_same_zip(package, tmp_path):
    again = package_gateway(tmp_path)

    assert (again / "deployment.zip").read_bytes() == (package / "deployment.zip").read_bytes()
