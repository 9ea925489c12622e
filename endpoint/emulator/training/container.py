"""The folder and the process of a training job: /opt/ml, and the container's entry point.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from endpoint.emulator.process.clients import environment
from endpoint.emulator.process.processes import Child

HOME = "/opt/ml"
_FIRST_CHARACTERS = 1_024


class Container:
    """One attempt's container.

    Args:
        home: the folder in the place of /opt/ml; it is used in arguments and variables that name
            /opt/ml, because a mount would need root.
        request: CreateTrainingJob's.
        arn: the job's.
        region: of the job.
        url: the emulated AWS's.
        key: the id of the access key of the job's role.
    """

    def __init__(
        self, home: Path, request: Mapping[str, Any], arn: str, region: str, url: str, key: str
    ) -> None:
        self.home, self._request, self._arn = home, request, arn
        self._region, self._url, self._key = region, url, key
        self.log = home.with_name("log")

    def path(self, inside: str) -> Path:
        """Return where a path of the container is on this machine."""
        return Path(self._local(inside))

    def _local(self, text: str) -> str:
        return text.replace(HOME, str(self.home))

    def prepare(self) -> None:
        """Make the folders, and the files of input/config."""
        for folder in ("input/config", "input/data", "model", "output/data", "checkpoints"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        self.home.with_name("tmp").mkdir(exist_ok=True)
        channels = {
            channel["ChannelName"]: {
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
            }
            for channel in self._request.get("InputDataConfig", [])
        }
        # "local", as SageMaker's own local mode names it: a GPU instance's type would promise one.
        kind = "local"
        groups = [
            {
                "instance_group_name": "homogeneousCluster",
                "instance_type": kind,
                "hosts": ["algo-1"],
            }
        ]
        resources = {
            "current_host": "algo-1",
            "current_instance_type": kind,
            "current_group_name": "homogeneousCluster",
            "hosts": ["algo-1"],
            "instance_groups": groups,
            "network_interface_name": "eth0",
        }
        for name, value in {
            "hyperparameters": self._request.get("HyperParameters", {}),
            "inputdataconfig": channels,
            "resourceconfig": resources,
        }.items():
            (self.home / "input" / "config" / f"{name}.json").write_text(json.dumps(value), "utf-8")

    def start(self) -> Child:
        """Start the entry point; its output is appended to the log."""
        algorithm = self._request["AlgorithmSpecification"]
        command = [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", [])]
        command = [self._local(part) for part in command]
        if command[0] in {"python", "python3"}:
            command[0] = sys.executable
        run = {
            "command": command,
            "folder": str(self.home),
            "environment": self._environment(),
        }
        with self.log.open("ab") as output:
            return Child(
                f"the training job {self._request['TrainingJobName']}",
                "endpoint.emulator.training.entry_process",
                [json.dumps(run)],
                environment={"PATH": os.defpath},
                output=output,
            )

    def _environment(self) -> dict[str, str]:
        own = self._request.get("Environment", {})
        isolated = self._request.get("EnableNetworkIsolation")
        role = environment(self._url, self._region) | {"AWS_ACCESS_KEY_ID": self._key}
        return {
            # Nothing of this machine's: python3 is the Python that runs the emulator.
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home.with_name("tmp")),
            "TMPDIR": str(self.home.with_name("tmp")),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            # OpenMP's threads spin while they wait for one another, which a busy machine shows.
            "OMP_WAIT_POLICY": "PASSIVE",
            "TRAINING_JOB_NAME": self._request["TrainingJobName"],
            "TRAINING_JOB_ARN": self._arn,
            # "SageMaker AI ... removes the training container's AWS credentials":
            # https://docs.aws.amazon.com/sagemaker/latest/dg/mkt-algo-model-internet-free.html
            **({} if isolated else role),
            **{name: self._local(value) for name, value in own.items()},
            "EASEL_TRAINING_HOME": str(self.home),
        }

    def failure(self) -> str:
        """Return the text of output/failure, as far as SageMaker reads it."""
        path = self.home / "output" / "failure"
        if not path.is_file():
            return ""
        return path.read_text("utf-8", "replace")[:_FIRST_CHARACTERS].strip()


def end(child: Child) -> None:
    """Kill the entry point and what it left behind: with process 1, a container ends."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, signal.SIGKILL)
    child.kill()
