from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from endpoint.aws.registry import Image
from endpoint.catalogue import facts, models
from endpoint.core.naming import Deployment
from endpoint.core.problems import ScriptError
from endpoint.provision.gateway import gateway_project
from endpoint.provision.gateway.gateway_project import (
    GatewayProject,
    GatewaySettings,
    OfferedModel,
    url_of,
)
from tests.packages import ROOT

DEPLOYMENT = Deployment("main", "123456789012", "us-east-1")
JOBS = "s3://easel-main-123456789012-us-east-1/jobs/sdxl/"
SD = OfferedModel("sd", "easel-main-sd", "0123abcd")
METADATA = {"defaults": {"steps": 30, "guidance_scale": 5.0, "width": 1024, "height": 1024}}
SDXL = OfferedModel("sdxl", "easel-main-sdxl", "4567cdef", JOBS, METADATA)
SETTINGS = GatewaySettings((SD, SDXL))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(gateway_project, "PROJECTS", tmp_path / ".easel")
    project = GatewayProject(DEPLOYMENT)
    project.write(SETTINGS, DEPLOYMENT.gateway_role)
    return project


def configuration(project):
    written: dict = json.loads((project.folder / ".chalice" / "config.json").read_text())
    return written


def test_the_gateway_can_read_the_settings_that_are_written_for_it():
    from chalicelib.settings import Settings

    read = Settings.from_environment(SETTINGS.environment())
    assert read.default_model == "sd"
    assert (read.models["sd"].endpoint, read.models["sd"].revision) == ("easel-main-sd", "0123abcd")
    queue = read.models["sdxl"].queue
    assert queue
    assert f"s3://{queue.bucket}/{queue.prefix}" == JOBS
    assert (queue.endpoint, read.models["sdxl"].endpoint) == ("easel-main-sdxl", None)
    assert read.models["sdxl"].defaults == METADATA["defaults"]
    assert not read.log_prompts


def many_models(count):
    names = [f"a-model-of-a-long-name-{number:04d}" for number in range(count)]
    offered = (
        OfferedModel(name, f"easel-a-deployments-name-{name}", "0123abcd", JOBS, METADATA)
        for name in names
    )
    return GatewaySettings(tuple(offered))


def test_ten_models_of_long_names_fit_lambdas_environment():
    assert len(many_models(10).environment()["EASEL_MODELS"]) < 4_096


def test_settings_beyond_lambdas_limit_are_refused_before_anything_is_deployed():
    with pytest.raises(ScriptError, match="Lambda allows 4,096"):
        many_models(40).environment()


def test_the_stage_has_the_deployments_name_role_and_tag(project):
    written = configuration(project)
    assert list(written["stages"]) == ["main"]
    stage = written["stages"]["main"]
    assert stage["iam_role_arn"] == DEPLOYMENT.gateway_role
    assert stage["manage_iam_role"] is False
    assert stage["tags"] == {"easel": "main"}
    assert stage["api_gateway_endpoint_type"] == "REGIONAL"
    assert written["lambda_timeout"] == 29


def test_the_repositorys_own_configuration_stays_as_it_is(project):
    source = (gateway_project.SOURCE / ".chalice" / "config.json").read_text()
    assert "main" not in json.loads(source)["stages"]


def test_a_file_removed_from_the_gateway_is_removed_from_the_project(project):
    stale = project.folder / "chalicelib" / "stale.py"
    stale.write_text("")
    built = project.folder / ".chalice" / "deployments" / "built.zip"
    built.parent.mkdir()
    built.write_text("")
    project.write(SETTINGS, DEPLOYMENT.gateway_role)
    assert not stale.exists()
    assert built.exists()


def test_secrets_are_their_owners_alone_also_in_an_older_project(project):
    def modes():
        config = project.folder / ".chalice" / "config.json"
        return [
            stat.S_IMODE(path.stat().st_mode)
            for path in (project.folder.parent, project.folder, config)
        ]

    assert modes() == [0o700, 0o700, 0o600]
    (project.folder / ".chalice" / "config.json").chmod(0o644)
    project.folder.chmod(0o755)
    project.folder.parent.chmod(0o755)
    project.write(SETTINGS, DEPLOYMENT.gateway_role)
    assert modes() == [0o700, 0o700, 0o600]


def test_concurrency_is_reserved_only_if_wanted(project):
    assert "reserved_concurrency" not in configuration(project)["stages"]["main"]
    limited = GatewaySettings((SD,), concurrency=10)
    project.write(limited, DEPLOYMENT.gateway_role)
    assert configuration(project)["stages"]["main"]["reserved_concurrency"] == 10


@pytest.mark.parametrize(
    ("reserved", "account", "waiting"),
    [(30, 1_000, 15), (None, 10, 5), (None, 1, 1), (1, 1_000, 1), (None, 10_000, 1_000)],
)
def test_half_of_the_functions_can_wait(reserved, account, waiting):
    from chalicelib.settings import Settings

    limited = GatewaySettings((SD,), concurrency=reserved, account_concurrency=account)
    assert Settings.from_environment(limited.environment()).most_waiting == waiting


def test_the_urls_stage_is_api():
    assert url_of("abc", "eu-west-1") == "https://abc.execute-api.eu-west-1.amazonaws.com/api/"


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("cn-north-1", "amazonaws.com.cn"),
        ("us-gov-west-1", "amazonaws.com"),
        ("eusc-de-east-1", "amazonaws.eu"),
    ],
)
def test_the_public_url_is_in_the_domain_of_the_partition(region, domain):
    assert url_of("abc", region) == f"https://abc.execute-api.{region}.{domain}/api/"
    image = Image.parse(f"123456789012.dkr.ecr.{region}.{domain}/mine:1")
    assert (image.region, image.repository) == (region, "mine")


def test_no_code_names_the_partition():
    for folder in ("endpoint", "gateway"):
        for file in (ROOT / folder).rglob("*"):
            # The emulator stands for one partition.
            if file.suffix in {".py", ".json", ".yaml"} and "emulator" not in file.parts:
                assert "arn:aws:" not in file.read_text("utf-8"), file


@pytest.mark.slow
def test_chalice_packages_the_project_into_a_template_that_cfn_lint_accepts(project, tmp_path):
    out = tmp_path / "package"
    # The template does not depend on them, and installing them takes most of the time.
    (project.folder / "requirements.txt").write_text("")
    run = "from chalice.cli import main; main()"
    command = [sys.executable, "-c", run, "--project-dir", str(project.folder)]
    environment = {**os.environ, "AWS_DEFAULT_REGION": "us-east-1"}
    subprocess.run([*command, "package", "--stage", "main", str(out)], check=True, env=environment)
    lint = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run(
        [str(lint), str(out / "sam.json")], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0)
    template = json.loads((out / "sam.json").read_text())
    function = template["Resources"]["APIHandler"]["Properties"]
    assert function["Role"] == DEPLOYMENT.gateway_role


def test_descriptions_are_a_file_of_the_package_where_the_gateway_reads_it(project):
    from chalicelib import settings

    words = {"things": [f"a thing of some length, number {number}" for number in range(300)]}
    zoo = {"about": "A small zoo.", "vocabulary": words}
    offered = OfferedModel("sd", "easel-main-sd", "0123abcd", description=zoo)
    project.write(GatewaySettings((offered, SDXL)), DEPLOYMENT.gateway_role)

    file = project.folder / settings.DESCRIPTIONS.relative_to(gateway_project.SOURCE)
    read = settings.Settings.from_environment(
        {**SETTINGS.environment(), "EASEL_DESCRIPTIONS": file.read_text("utf-8")}
    )
    assert read.models["sd"].describe()["vocabulary"] == words
    assert "vocabulary" not in read.models["sdxl"].describe()
    assert not settings.DESCRIPTIONS.exists()


def test_what_the_catalogue_says_of_a_model_is_in_the_same_file(project):
    from chalicelib import settings

    shown = facts.for_page(models.read()["flux2-klein"], ["ml.g6.2xlarge"])
    offered = OfferedModel("sd", "easel-main-sd", "0123abcd", facts=shown)
    project.write(GatewaySettings((offered, SDXL)), DEPLOYMENT.gateway_role)

    file = project.folder / gateway_project.DESCRIPTIONS
    read = settings.Settings.from_environment(
        {**SETTINGS.environment(), "EASEL_DESCRIPTIONS": file.read_text("utf-8")}
    )
    assert read.models["sd"].describe()["facts"] == shown
    assert "facts" not in read.models["sdxl"].describe()
