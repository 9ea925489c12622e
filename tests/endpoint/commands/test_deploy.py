"""From nothing to a picture and back to nothing: real boto3, real chalice, moto as a server."""

from __future__ import annotations

import io
import json
import os
import re
import urllib.error
import urllib.request
from pathlib import PurePosixPath

import boto3
import pytest
from PIL import Image

from endpoint import create_endpoint
from endpoint.aws.bucket import Bucket
from endpoint.aws.models import Models
from endpoint.catalogue import images
from endpoint.catalogue.beliefs import beliefs
from endpoint.cli import options
from endpoint.commands import create_key, deploy, destroy, prove
from endpoint.core.console import Console
from endpoint.core.naming import Deployment
from endpoint.core.waiting import Waiting
from endpoint.emulator.container.model_server import ModelServer, container_environment
from endpoint.emulator.moto_ import service_quotas
from endpoint.emulator.moto_.sagemaker import transitions
from endpoint.emulator.process import clients
from endpoint.emulator.process.http_server import serving
from endpoint.emulator.sagemaker.lifecycle import Transitions
from endpoint.emulator.served_model import DEMO
from endpoint.proof import afterwards
from endpoint.provision import checks
from endpoint.provision.files import payload
from endpoint.provision.gateway import gateway_project
from endpoint.provision.model_metadata import read
from endpoint.provision.settings_check import MODEL_PACKAGE
from tests.conftest import ALL
from tests.emulated_aws import empty_aws
from tests.endpoint.doubles import BUCKET, PNG, Container, EmulatorClock, InstantClock
from tests.endpoint.emulator.container.imitations.doubles import CONTAINERS, Images
from tests.endpoint.world import ACCOUNT, REGION

DESCRIPTION = {
    "defaults": {"steps": 8, "guidance_scale": 1.5, "width": 1024, "height": 1024},
    "limits": {"steps": {"minimum": 1, "maximum": 50}},
    "loras": ["from-the-hub"],
    "largest_area": 1048576,
    "about": "Draws what a small zoo has.",
}
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/serving:1"


class Cloud:
    """An emulated AWS, and the scripts pointed at it by the environment alone."""

    def __init__(self, server, builds):
        self.server = server
        self.public = f"{server.url}/api"
        self._builds = builds

    def client(self, service):
        return boto3.client(service)

    def run(self, script, *argv, clock=None, **more):
        return int(script.main(["--yes", *argv], clock=clock or InstantClock(), **more))

    def deploy(self, *more, fetch=None):
        """Deploy two models, in all tests the same: chalice's package has their names in it."""
        fetch = fetch or self.fetch
        arguments = ("--image", IMAGE, "--weights", "fetch", "--also", "sdxl", *more)
        return self.run(deploy, *arguments, fetch=fetch)

    def fetch(self, url, key=None):
        """Request from the deployed gateway, by its public URL."""
        headers = {"x-api-key": key} if key else {}
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())

    def project(self):
        return gateway_project.PROJECTS / f"main-{ACCOUNT}-{REGION}"

    def find_builds(self):
        """Let chalice find what it has built before: its file names are hashes of the contents."""
        (self.project() / ".chalice").mkdir(parents=True)
        (self.project() / ".chalice" / "deployments").symlink_to(self._builds)


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    return tmp_path_factory.mktemp("builds")


@pytest.fixture
def cloud(tmp_path, monkeypatch, serving_code, builds):
    assert serving_code == payload.CODE
    with (
        serving(Container) as container,
        serving(Container, description=DESCRIPTION) as described,
        empty_aws() as server,
    ):
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in clients.environment(server.url, REGION).items():
            monkeypatch.setenv(name, value)
        # One with code that does not know the request for its description.
        for model, behind in (("sd", container), ("sdxl", described)):
            server.registry.register(f"easel-main-{model}", behind.url)
        monkeypatch.setattr(gateway_project, "PROJECTS", tmp_path / ".easel")
        monkeypatch.setattr(checks, "ask_the_hub", lambda _model: {"gated": False})
        cloud = Cloud(server, builds)
        push(cloud, "serving", "1")
        cloud.find_builds()
        yield cloud


def push(cloud, repository, tag):
    """Push an image without layers."""
    ecr = cloud.client("ecr")
    ecr.create_repository(repositoryName=repository)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"digest": "sha256:" + "0" * 64, "size": 1},
        "layers": [],
    }
    ecr.put_image(repositoryName=repository, imageManifest=json.dumps(manifest), imageTag=tag)


def remaining(cloud):
    """Return the names of the account's resources, from moto itself."""
    names = [item["FunctionName"] for item in cloud.client("lambda").list_functions()["Functions"]]
    names += [item["id"] for item in cloud.client("apigateway").get_rest_apis()["items"]]
    names += [item["Name"] for item in cloud.client("s3").list_buckets()["Buckets"]]
    names += [item["RoleName"] for item in cloud.client("iam").list_roles()["Roles"]]
    sagemaker = cloud.client("sagemaker")
    names += [item["EndpointName"] for item in sagemaker.list_endpoints()["Endpoints"]]
    names += [item["ModelName"] for item in sagemaker.list_models()["Models"]]
    stacks = cloud.client("cloudformation").list_stacks()["StackSummaries"]
    return names + [item["StackName"] for item in stacks if "DELETE" not in item["StackStatus"]]


def resources(cloud, api):
    pages = cloud.client("apigateway").get_paginator("get_resources").paginate(restApiId=api)
    return [resource for page in pages for resource in page["items"]]


@pytest.mark.slow
def test_a_deployment_ends_in_a_picture_and_its_destruction_in_an_empty_account(cloud, capsys):
    assert cloud.deploy() == 0
    output = capsys.readouterr().out
    assert f"Easel is at {cloud.public}/" in output

    function = cloud.client("lambda").get_function(FunctionName="easel-main")["Configuration"]
    assert function["Role"].endswith(f"role/easel-main-gateway-{REGION}")
    assert (function["Timeout"], function["MemorySize"]) == (29, 1024)
    variables = function["Environment"]["Variables"]
    models = json.loads(variables["EASEL_MODELS"])
    assert list(models) == ["sd", "sdxl"]
    assert models["sd"]["endpoint"] == "easel-main-sd"
    assert models["sd"]["pictures"] == f"s3://{BUCKET}/pictures/sd/"
    assert "pictures" not in models["sdxl"]
    # That of ml.g5.xlarge, the dearest of the model's types.
    assert models["sd"]["usd_per_hour"] == 1.408
    assert variables["EASEL_USAGE"] == f"s3://{BUCKET}/usage/"
    # Half of moto's 1,000 would be more than the reservation.
    assert variables["EASEL_MOST_WAITING"] == str(options.CONCURRENCY // 2)
    kept = [file for file in cloud.project().rglob("*") if file.is_file()]
    assert not [file for file in kept if variables["EASEL_SECRET"].encode() in file.read_bytes()]
    queue = {"endpoint": "easel-main-sdxl", "jobs": f"s3://{BUCKET}/jobs/sdxl/"}
    assert models["sdxl"]["asynchronous"] == queue
    assert models["sd"]["defaults"]["steps"] == 25
    # Files of a model from the hub are not in the bucket: its container says what it is.
    metadata = {name: value for name, value in DESCRIPTION.items() if name != "about"}
    assert metadata.items() <= models["sdxl"].items()
    (offered,) = [
        model
        for model in json.loads(cloud.fetch(f"{cloud.public}/options"))["models"]
        if model["name"] == "sdxl"
    ]
    assert offered["about"] == DESCRIPTION["about"]
    assert offered["limits"]["steps"]["maximum"] == 50
    (api,) = cloud.client("apigateway").get_rest_apis()["items"]
    assert api["tags"] == {"easel": "main"}
    stage = cloud.client("apigateway").get_stage(restApiId=api["id"], stageName="api")
    limits = {
        place: (each["throttlingRateLimit"], each["throttlingBurstLimit"])
        for place, each in stage["methodSettings"].items()
    }
    assert limits.pop("*/*") == (50, 100)
    assert limits["~1inference~1{text}/GET"] == (2, 10)
    assert sum(rate for rate, _ in limits.values()) == pytest.approx(4)
    assert sum(burst for _, burst in limits.values()) == 20
    paths = {each["path"] for each in resources(cloud, api["id"])}
    assert {place.rpartition("/")[0].replace("~1", "/") for place in limits} <= paths
    throttled = cloud.client("apigateway").get_gateway_response(
        restApiId=api["id"], responseType="THROTTLED"
    )
    assert throttled["responseParameters"]["gatewayresponse.header.Retry-After"] == "'2'"
    for kind in ("MISSING_AUTHENTICATION_TOKEN", "INVALID_SIGNATURE"):
        response = cloud.client("apigateway").get_gateway_response(
            restApiId=api["id"], responseType=kind
        )
        assert response["statusCode"] == "404"
        assert "base URL" in response["responseTemplates"]["application/json"]
    # What the stage serves was deployed after that.
    deployments = cloud.client("apigateway").get_deployments(restApiId=api["id"])["items"]
    assert (len(deployments), stage["deploymentId"] in {each["id"] for each in deployments}) == (
        2,
        True,
    )
    assert cloud.fetch(f"{cloud.public}/inference/a%20cat") == PNG
    slow = f"{cloud.public}/inference/a%20cat?model=sdxl"
    assert cloud.fetch(slow) == PNG

    # The method with the smallest share is throttled, and no other.
    default = f"{cloud.public}/inference/default"
    with pytest.raises(urllib.error.HTTPError, match="429"):
        list(map(cloud.fetch, [default] * 20))
    assert cloud.fetch(f"{cloud.public}/inference/a%20dog") == PNG

    # Again, from a clone without a record of the first deployment.
    gateway_project.GatewayProject(_deployment()).remove()
    cloud.find_builds()

    def through_the_cdn(url, key=None):
        return cloud.fetch(re.sub(r"https://d\w+\.cloudfront\.net/api", cloud.public, url), key)

    assert cloud.deploy("--cdn", fetch=through_the_cdn) == 0
    assert re.search(r"Easel is at https://d\w+\.cloudfront\.net/api/", capsys.readouterr().out)
    (stack,) = cloud.client("cloudformation").describe_stacks(StackName="easel-main-cdn")["Stacks"]
    given = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    assert given["ApiDomain"] == f"{api['id']}.execute-api.{REGION}.amazonaws.com"
    assert given["Secret"] in ("****", _variables(cloud)["EASEL_CDN_SECRET"])
    assert [item["id"] for item in cloud.client("apigateway").get_rest_apis()["items"]] == [
        api["id"]
    ]

    assert cloud.run(destroy) == 0
    assert remaining(cloud) == []
    assert not cloud.project().exists()
    assert cloud.run(destroy) == 0


@pytest.mark.slow
def test_a_deployment_with_keys_is_tested_with_one_and_keeps_them(cloud, tmp_path, capsys):
    file = tmp_path / "keys.json"
    assert create_key.main(["ada", "--file", str(file)]) == 0
    key = capsys.readouterr().out.strip()
    assert cloud.deploy("--keys", str(file)) == 0

    picture = f"{cloud.public}/inference/a%20cat"
    assert cloud.fetch(picture, key) == PNG
    with pytest.raises(urllib.error.HTTPError, match="401"):
        cloud.fetch(picture)
    variables = _variables(cloud)
    assert cloud.deploy("--prompt-filter", "off") == 0
    again = _variables(cloud)
    assert again["EASEL_SECRET"] == variables["EASEL_SECRET"]
    assert json.loads(again["EASEL_API_KEYS"])[0] == json.loads(variables["EASEL_API_KEYS"])[0]
    assert again["EASEL_PROMPT_FILTER"] == "off"
    output = capsys.readouterr()
    for secret in (key, again["EASEL_SECRET"]):
        assert secret not in output.out + output.err


@pytest.mark.slow
def test_the_serving_code_says_what_is_in_no_file_of_the_bucket(cloud):
    own = json.loads((DEMO / "easel.json").read_text("utf-8"))
    variables = {"EASEL_SAMPLER": "lcm", "EASEL_DEFAULTS": '{"steps": 2, "width": 64}'}
    container = ModelServer(MODEL_PACKAGE, DEMO, container_environment(variables))
    bucket = Bucket(cloud.client("s3"), BUCKET)
    models = Models(cloud.client("sagemaker"), Waiting(InstantClock(), Console(InstantClock())))
    with container.serve() as served:
        for model in ("sd", "sdxl"):  # real-time and asynchronous
            cloud.server.registry.register(f"easel-main-{model}", served.url)
            argv = ("--image", IMAGE, "--model", model, "--weights", "fetch")
            assert cloud.run(create_endpoint, *argv) == 0
            (name,) = [name for name in bucket.sizes("descriptions/") if f"/{model}/" in name]
            sagemaker_model = PurePosixPath(name).stem
            metadata, described, *_ = read(models, bucket, model, sagemaker_model)
            assert (metadata["defaults"]["steps"], metadata["defaults"]["width"]) == (2, 64)
            assert metadata["limits"]["steps"]["maximum"] == 50
            assert metadata["largest_area"] == own["largest_area"]
            assert metadata["loras"] == ["outline", "pixel"]
            assert described == {name: own[name] for name in ("about", "examples", "vocabulary")}


def _variables(cloud):
    function = cloud.client("lambda").get_function(FunctionName="easel-main")
    variables: dict[str, str] = function["Configuration"]["Environment"]["Variables"]
    return variables


def _deployment():
    return Deployment("main", ACCOUNT, REGION)


@pytest.mark.slow
def test_a_public_url_that_does_not_work_fails_the_deployment_and_destroy_cleans_up(cloud, capsys):
    def broken(_url):
        raise OSError("HTTP Error 502: Bad Gateway")

    assert cloud.deploy(fetch=broken) == 1
    output = capsys.readouterr().err
    assert "The public URL does not work: HTTP Error 502" in output
    assert "/aws/lambda/easel-main" in output
    assert "endpoint easel-main-sd" in output
    assert cloud.run(destroy) == 0
    assert remaining(cloud) == []


def test_a_failed_check_stops_a_deployment_before_anything_is_created(cloud, capsys, monkeypatch):
    monkeypatch.setattr(checks, "ask_the_hub", lambda _model: {"gated": True})
    assert cloud.deploy() == 1
    assert "gated" in capsys.readouterr().err
    assert remaining(cloud) == []


def test_a_dry_run_deploys_nothing(cloud, capsys):
    # The catalogue's image is in an account of AWS, where nobody puts one.
    known = images.read()[images.DEFAULT]
    uri = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/{known.repository}:{known.tag}"
    assert cloud.deploy("--dry-run", "--image", uri) == 0
    assert "would run chalice deploy" in capsys.readouterr().err
    assert remaining(cloud) == []


@pytest.mark.slow
def test_a_proof_of_the_emulated_aws_finds_what_the_emulator_believes(cloud, tmp_path, monkeypatch):
    clock = EmulatorClock(cloud.server.clock)
    # Shorter than API Gateway's 29 seconds, which are real ones.
    cloud.server.gateway.seconds = 5
    monkeypatch.setattr(afterwards, "SECONDS", 6)
    monkeypatch.setattr(service_quotas, "QUOTAS", dict.fromkeys(service_quotas.LISTED, 2.0))
    # The emulator's time passes faster than its work is done, so the limit is far away.
    argv = ["--name", "main", "--most", "50", "--image", IMAGE, "--output", str(tmp_path / "proof")]
    with transitions(Transitions(clock.monotonic, 240, 240, 60)):
        code = cloud.run(prove, *argv, clock=clock)

    proof = json.loads((tmp_path / "proof" / "proof.json").read_text())
    observed = {each["id"]: (each["verdict"], each["observed"]) for each in proof["beliefs"]}
    assert remaining(cloud) == []
    assert {step["name"]: step["error"] for step in proof["steps"] if step["error"]} == {}
    checked = {each.id for each in beliefs() if each.check}
    assert {name: observed[name] for name in checked if observed[name][0] != "held"} == {}
    assert (proof["left"], code) == ([], 0)


# --- Other backends ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not ALL, reason="two deployments; part of --all")
def test_the_url_speaks_to_vllm_omni_and_to_somebodys_jumpstart_model(cloud, capsys):
    images = Images()
    cloud.server.imitations.images_from = images
    push(cloud, "vllm", "omni-sagemaker-cuda-v1.5")
    image = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/vllm:omni-sagemaker-cuda-v1.5"
    own = ("--model", "flux2-klein", "--backend", "vllm-omni", "--weights", "fetch", "--open")
    assert cloud.run(deploy, "--image", image, *own, fetch=cloud.fetch) == 0
    # The warm-up, and the smoke test through the URL: both with the model's own steps.
    assert [request.steps for request in images.requests] == [4, 4]

    jumpstart = create_endpoint_of_others(cloud, CONTAINERS["jumpstart"])
    argv = ("--endpoint", jumpstart, "--backend", "jumpstart", "--open")
    assert cloud.run(deploy, *argv, fetch=cloud.fetch) == 0
    picture = cloud.fetch(f"{cloud.public}/inference/a%20fox?model={jumpstart}&steps=7&seed=3")
    assert Image.open(io.BytesIO(picture)).format == "JPEG"
    assert (images.last.prompt, images.last.steps, images.last.seed) == ("a fox", 7, 3)
    with pytest.raises(urllib.error.HTTPError) as caught:
        cloud.fetch(f"{cloud.public}/inference/a%20fox?model={jumpstart}&lora=pixel")
    assert caught.value.code == 400
    assert "JumpStart" in caught.value.read().decode()

    assert cloud.run(destroy) == 0
    left = cloud.client("sagemaker").list_endpoints()["Endpoints"]
    assert [item["EndpointName"] for item in left] == [jumpstart]
    assert f"so it stays: the endpoint {jumpstart}" in capsys.readouterr().out


def create_endpoint_of_others(cloud, container):
    """Create an endpoint as JumpStart's own notebooks do; return its name."""
    sagemaker, name = cloud.client("sagemaker"), "jumpstart-sd-of-others"
    role = f"arn:aws:iam::{ACCOUNT}:role/theirs"
    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=role)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InstanceType": "ml.g5.2xlarge",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    return name
