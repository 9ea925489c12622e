"""A training job of a few lines of Python, and what it needs in the account."""

from __future__ import annotations

import json
import textwrap
import uuid

from tests.endpoint.emulator.doubles import BUCKET

ROLE = "arn:aws:iam::123456789012:role/easel-training"
# What the scripts below share: /opt/ml, and waiting to be stopped.
_PRELUDE = """
import json, os, pathlib, signal, sys, time
home = pathlib.Path(os.environ["EASEL_TRAINING_HOME"])
"""


def create_role(clients, region):
    iam = clients.get("iam", region)
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": ["sagemaker.amazonaws.com", "events.amazonaws.com"]},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    iam.create_role(RoleName="easel-training", AssumeRolePolicyDocument=json.dumps(trust))


def job_request(s3, script, *, bucket=BUCKET, **changes):
    """Return a CreateTrainingJob request that runs a script from its channel `code`."""
    name = f"job-{uuid.uuid4().hex[:8]}"
    place = f"s3://{bucket}/{name}"
    source = _PRELUDE + textwrap.dedent(script)
    s3.put_object(Bucket=bucket, Key=f"{name}/code/job.py", Body=source.encode())
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": "763104351884.dkr.ecr.us-east-1.amazonaws.com/training:1",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/job.py"],
        },
        "RoleArn": ROLE,
        "InputDataConfig": [channel("code", f"{place}/code/")],
        "OutputDataConfig": {"S3OutputPath": f"{place}/output", "CompressionType": "NONE"},
        "ResourceConfig": {
            "InstanceType": "ml.g5.xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 30,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 3_600},
        "CheckpointConfig": {"S3Uri": f"{place}/checkpoints"},
        "EnableNetworkIsolation": True,
        **changes,
    }


def spot(**changes):
    """Return the fields of a spot job."""
    limits = {"MaxRuntimeInSeconds": 3_600, "MaxWaitTimeInSeconds": 7_200}
    return {"EnableManagedSpotTraining": True, "StoppingCondition": limits, **changes}


def channel(name, uri):
    source = {"S3DataType": "S3Prefix", "S3Uri": uri}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}
