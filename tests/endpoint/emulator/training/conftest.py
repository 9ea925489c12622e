from __future__ import annotations

import pytest

from endpoint.emulator.training.record import ENDED
from tests.endpoint.emulator.doubles import BUCKET, REGION, wait_until
from tests.endpoint.emulator.training.doubles import job_request


@pytest.fixture
def jobs(clients, switches, training_role):
    """Training jobs; their rules and the clock's speed are those of before at the end."""
    switches.set_training(mirror_seconds=0.05)
    yield Jobs(clients)
    switches.set_training(
        start_seconds=0, download_seconds=0, upload_seconds=0, fails_with=None, missing=[]
    )


class Jobs:
    def __init__(self, clients):
        self.sagemaker, self.s3, self.logs = (
            clients.get(service, REGION) for service in ("sagemaker", "s3", "logs")
        )

    def start(self, script, **changes):
        request = job_request(self.s3, script, **changes)
        self.sagemaker.create_training_job(**request)
        return request["TrainingJobName"]

    def describe(self, name):
        return self.sagemaker.describe_training_job(TrainingJobName=name)

    def wait(self, name, secondary=None):
        """Wait until a job is in a secondary status, or has ended."""

        def there():
            described = self.describe(name)
            if secondary is None:
                return described["TrainingJobStatus"] in ENDED
            return described["SecondaryStatus"] == secondary

        wait_until(there)
        return self.describe(name)

    def wait_for(self, key):
        """Wait for an object with content: a file is mirrored from the moment that it exists."""
        wait_until(lambda: key in self.keys(key) and self.read(key))

    def stop(self, name):
        self.sagemaker.stop_training_job(TrainingJobName=name)

    def keys(self, prefix):
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for item in listed.get("Contents", [])]

    def read(self, key):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()

    def log(self, name):
        """Return the lines of a job's log in CloudWatch; there is no group before the first."""
        group = "/aws/sagemaker/TrainingJobs"
        try:
            streams = self.logs.describe_log_streams(
                logGroupName=group, logStreamNamePrefix=f"{name}/algo-1-"
            )["logStreams"]
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [
            event["message"]
            for stream in streams
            for event in self.logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"]
            )["events"]
        ]
