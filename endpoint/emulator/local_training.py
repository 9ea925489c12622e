"""What fine-tuning needs in the emulated account, so that a gateway on this machine can train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from endpoint.aws.bucket import Bucket
from endpoint.catalogue.models import Model
from endpoint.core.model_folder.files import COMPILED, LORAS, REFINER
from endpoint.core.problems import ScriptError
from endpoint.core.training_jobs import places
from endpoint.emulator.account import ACCOUNT, TRUST
from endpoint.emulator.process.clients import Clients
from endpoint.emulator.served_model import DEMO, ServedModel
from endpoint.provision.training import trainer

# The gateway's function, which EventBridge invokes when a job ends.
FUNCTION = "easel-local"
# A job on this machine reads a copy of the weights, and the emulated S3 has another one.
_LARGEST_WEIGHTS = 2 * 2**30
# On two cores, for one picture; the first step is after the imports and the encoding.
_SECONDS_PER_STEP, _START_SECONDS = 0.1, 15
# Of the bundled model: what teaches it a thing in about two minutes (docs/training.md).
_DEMO_DEFAULTS = {"steps": 200, "batch_size": 4, "rank": 8, "rate": 0.001, "conv": True}


def offer_training(clients: Clients, region: str, bucket: str, model: ServedModel) -> str | None:
    """Store the trainer and the model's weights; return the gateway's setting as JSON.

    Returns:
        None for a model that cannot be trained, or whose weights are larger than 2 GB.
    """
    files = _weights(model.folder)
    resolution = _resolution(model)
    if resolution is None or not 0 < sum(file.stat().st_size for file in files) <= _LARGEST_WEIGHTS:
        return None
    s3 = clients.get("s3", region)
    # The page sends pictures there from the gateway's origin, as the stack's bucket allows.
    rule = {"AllowedMethods": ["POST"], "AllowedOrigins": ["*"], "AllowedHeaders": ["*"]}
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    store = Bucket(s3, bucket)
    prefix = places.weights(model.name, f"{0:016}")
    for file in files:
        store.put(prefix + file.relative_to(model.folder).as_posix(), file.read_bytes())
    _tell_the_end(clients.get("events", region), region)
    role = clients.get("iam", region).create_role(
        RoleName="easel-local-training", AssumeRolePolicyDocument=json.dumps(TRUST)
    )
    entry: dict[str, Any] = {
        "weights": prefix,
        "instance_type": "ml.m5.large",  # any that SageMaker has: it is this machine
        "usd_per_hour": 0,
        "spot_share": 1,
        "seconds_per_step": _SECONDS_PER_STEP,
        "start_seconds": _START_SECONDS,
        "resolution": resolution,
        **({"defaults": _DEMO_DEFAULTS} if model.folder == DEMO else {}),
    }
    return json.dumps(
        {
            "bucket": bucket,
            "deployment": "local",
            "role": role["Role"]["Arn"],
            "image": "local",
            "code": trainer.ensure_code(store),
            # Nothing of this costs money, and nobody else reaches it.
            "open": True,
            "per_month": 1_000,
            "prodigy": trainer.has_prodigy(),
            "models": {model.name: entry},
        }
    )


def _tell_the_end(events: Any, region: str) -> None:
    """Create the rule of `training.yaml` that has the gateway publish what a job has trained."""
    pattern = {
        "source": ["aws.sagemaker"],
        "detail-type": ["SageMaker Training Job State Change"],
        "detail": {"TrainingJobName": [{"prefix": "easel-local-"}]},
    }
    name = "easel-local-training-end"
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    arn = f"arn:aws:lambda:{region}:{ACCOUNT}:function:{FUNCTION}"
    events.put_targets(Rule=name, Targets=[{"Id": "gateway", "Arn": arn}])


def _weights(folder: Path) -> list[Path]:
    """Return the files of the base: a refiner and adapters are not trained."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not path.relative_to(folder).as_posix().startswith((REFINER, LORAS, COMPILED))
    )


def _resolution(model: ServedModel) -> int | None:
    try:
        found = Model(model.name, model.name, None, {}, folder=model.folder)
        return trainer.family_of(found).resolution
    except ScriptError:
        return None
