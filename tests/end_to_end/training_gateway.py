"""A gateway that trains: its setting, and the stack of training in the emulated account."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from endpoint.emulator.account import TRUST
from endpoint.emulator.process.clients import Clients
from endpoint.provision.training.stack import TEMPLATE
from tests.end_to_end.account import BUCKET, REGION
from tests.policies.role_policies import DEPLOYMENT, REPOSITORY

# Learns nothing, in a moment; the real trainer has its tests in tests/model_package/training.
TRAINER = Path(__file__).parent / "trainer"
CODE, WEIGHTS = "training/code/1a2b/", "training/weights/sd/0123456789abcdef/"
FUNCTION = "easel-main"
_ANYONE_UPLOADS = {
    "CORSRules": [{"AllowedMethods": ["POST"], "AllowedOrigins": ["*"], "AllowedHeaders": ["*"]}]
}


def create_training_stack(clients: Clients) -> None:
    """Create `training.yaml`'s stack, what it needs of the deployment, the trainer and weights."""
    s3 = clients.get("s3", REGION)
    s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration=_ANYONE_UPLOADS)
    s3.put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    for path in sorted(TRAINER.rglob("*.py")):
        s3.upload_file(str(path), BUCKET, CODE + path.relative_to(TRAINER).as_posix())
    s3.put_object(Bucket=BUCKET, Key=f"{WEIGHTS}model_index.json", Body=b"{}")
    iam, gateway = clients.get("iam", REGION), f"easel-main-gateway-{REGION}"
    role = iam.create_role(RoleName=gateway, AssumeRolePolicyDocument=json.dumps(TRUST))
    clients.get("lambda", REGION).create_function(
        FunctionName=FUNCTION,
        Runtime="python3.11",
        Role=role["Role"]["Arn"],
        Handler="app.app",
        Code={"ZipFile": _code()},
    )
    parameters = {
        "DeploymentName": "main",
        "ImageRepositoryArns": REPOSITORY,
        "InstanceTypes": "ml.g5.xlarge",
        "WithGateway": "yes",
    }
    clients.get("cloudformation", REGION).create_stack(
        StackName="easel-main-training",
        TemplateBody=TEMPLATE.read_text("utf-8"),
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()
        ],
    )


def _code() -> bytes:
    """Return a function's code that nobody runs: a test takes its place."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", "def app(event, context): return event")
    return packed.getvalue()


def training_setting(models: Mapping[str, Mapping[str, Any]], **more: Any) -> str:
    """Return EASEL_TRAINING.

    Args:
        models: that can be trained; their entries replace the usual ones.
        more: fields of the setting that replace the usual ones.
    """
    usual = {
        "weights": WEIGHTS,
        "instance_type": "ml.g5.xlarge",
        "usd_per_hour": 1.5,
        "spot_share": 0.4,
        "seconds_per_step": 0.8,
        "start_seconds": 300,
        "resolution": 512,
    }
    return json.dumps(
        {
            "bucket": BUCKET,
            "deployment": "main",
            "role": DEPLOYMENT.training_role,
            "image": "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-pytorch-inference:1",
            "code": CODE,
            "models": {name: {**usual, **entry} for name, entry in models.items()},
            "per_month": 1_000,
            **more,
        }
    )
