"""A gateway that trains: its setting, and what that names in the emulated account."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from endpoint.emulator.account import TRUST
from endpoint.emulator.process.clients import Clients
from tests.end_to_end.account import REGION

BUCKET = "easel-training"
# Learns nothing, in a moment; the real trainer has its tests in tests/model_package/training.
TRAINER = Path(__file__).parent / "trainer"
_ANYONE_UPLOADS = {
    "CORSRules": [{"AllowedMethods": ["POST"], "AllowedOrigins": ["*"], "AllowedHeaders": ["*"]}]
}


def training_setting(
    clients: Clients, models: Mapping[str, Mapping[str, Any]], trainer: Path = TRAINER
) -> str:
    """Make the role and the bucket of training jobs, and return EASEL_TRAINING.

    Args:
        clients: of the emulated account.
        models: that can be trained; their entries replace the usual ones.
        trainer: the folder of the code channel.
    """
    s3 = clients.get("s3", REGION)
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration=_ANYONE_UPLOADS)
    for path in sorted(trainer.rglob("*.py")):
        key = f"training/code/1a2b/{path.relative_to(trainer).as_posix()}"
        s3.upload_file(str(path), BUCKET, key)
    s3.put_object(Bucket=BUCKET, Key="models/sd/r1/model_index.json", Body=b"{}")
    role = clients.get("iam", REGION).create_role(
        RoleName="training", AssumeRolePolicyDocument=json.dumps(TRUST)
    )
    usual = {
        "weights": "models/sd/r1/",
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
            "role": role["Role"]["Arn"],
            "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/trainer:1",
            "code": "training/code/1a2b/",
            "models": {name: {**usual, **entry} for name, entry in models.items()},
            "open": True,
            "per_month": 1_000,
        }
    )
