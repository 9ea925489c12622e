"""The packaged gateway and its baselines, unpacked as Lambda does."""

from __future__ import annotations

import base64
import shutil
import zipfile
from pathlib import Path

from tests.packages import package_gateway, proxy_event

EVENT = proxy_event("/inference/a%20cat", "/inference/{text}", text="a%20cat")

PACKAGES = ("chalice", "boto3", "aws-lambda-powertools", "awslambdaric")

BARE_CHALICE = """
import boto3
from chalice import Chalice, Response

app = Chalice(app_name="bare")
app.api.binary_types = ["*/*"]
client = boto3.client("sagemaker-runtime")

@app.route("/inference/{text}")
def image(text):
    response = client.invoke_endpoint(
        EndpointName="easel-sd", ContentType="application/json", Accept="image/png", Body=b"{}")
    return Response(response["Body"].read(), headers={"Content-Type": "image/png"})
"""
BARE_HANDLER = """
import base64
import boto3

client = boto3.client("sagemaker-runtime")

def app(event, context):
    response = client.invoke_endpoint(
        EndpointName="easel-sd", ContentType="application/json", Accept="image/png", Body=b"{}")
    body = base64.b64encode(response["Body"].read()).decode()
    return {"statusCode": 200, "headers": {"Content-Type": "image/png"},
            "isBase64Encoded": True, "body": body}
"""


def variables(url: str) -> dict[str, str]:
    """Return the Lambda's environment variables, with AWS at `url`."""
    return {"AWS_ENDPOINT_URL": url, "EASEL_MODELS": '{"sd": {"endpoint": "easel-sd"}}'}


def unpack_gateway(checkout: Path, folder: Path) -> Path:
    """Package a checkout's gateway, and return the folder of the unpacked zip."""
    package = package_gateway(folder / "package", checkout) / "deployment.zip"
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder / "gateway")
    return folder / "gateway"


def unpack(package: Path, folder: Path) -> dict[str, Path]:
    """Unpack the gateway, and create both baselines with the same dependencies.

    A zip of Chalice's has no bytecode, so the baselines have none either.
    """
    folders = {name: folder / name for name in ("easel", "bare chalice", "bare handler")}
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folders["easel"])
    for name, code in (("bare chalice", BARE_CHALICE), ("bare handler", BARE_HANDLER)):
        shutil.copytree(folders["easel"], folders[name])
        shutil.rmtree(folders[name] / "chalicelib")
        (folders[name] / "app.py").write_text(code)
        for bytecode in sorted(folders[name].rglob("__pycache__")):
            shutil.rmtree(bytecode)
    return folders


def check(payload: object) -> None:
    """Require a PNG, so that an error is never timed.

    Raises:
        RuntimeError: for any other payload.
    """
    if not isinstance(payload, dict) or payload.get("statusCode") != 200:
        raise RuntimeError(f"no image: {str(payload)[:500]}")
    if not base64.b64decode(payload["body"]).startswith(b"\x89PNG"):
        raise RuntimeError("no PNG")
