"""Training jobs over the wire: their states, processes and files."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from endpoint.emulator.aws_server import AwsServer
from endpoint.emulator.process.clients import Clients
from tests.endpoint.emulator.doubles import BUCKET, REGION, is_alive, wait_until
from tests.endpoint.emulator.training.doubles import channel, job_request, spot

WAITS = """
(home / "checkpoints" / "pid").write_text(str(os.getpid()))
time.sleep(600)
"""


def states(described):
    return [transition["Status"] for transition in described["SecondaryStatusTransitions"]]


def test_a_job_runs_its_entry_point_and_uploads_what_it_wrote(jobs, s3):
    place = f"{BUCKET}/{os.urandom(4).hex()}"
    s3.put_object(Bucket=BUCKET, Key=place.partition("/")[2] + "/pictures/a/1.png", Body=b"one")
    script = """
        pictures = home / "input" / "data" / "pictures"
        (home / "model" / "adapter.txt").write_text((pictures / "a" / "1.png").read_text())
        (home / "output" / "data" / "more.txt").write_text("more")
        files = (home / "input" / "config").iterdir()
        config = {path.name: json.loads(path.read_text()) for path in files}
        seen = {"arguments": sys.argv[1:], "environment": dict(os.environ), "config": config}
        (home / "model" / "seen.json").write_text(json.dumps(seen))
        print("step=1 loss=0.5")
        """
    request = job_request(s3, script, Environment={"PYTHONPATH": "/opt/ml/input/data/code"})
    request["InputDataConfig"].append(channel("pictures", f"s3://{place}/pictures"))
    request["AlgorithmSpecification"]["ContainerArguments"] = ["--to", "/opt/ml/model", "a b"]
    name = request["TrainingJobName"]
    jobs.sagemaker.create_training_job(**request)
    described = jobs.wait(name)
    assert described["TrainingJobStatus"] == "Completed", described
    assert states(described) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    artifacts = described["ModelArtifacts"]["S3ModelArtifacts"]
    assert artifacts == f"s3://{BUCKET}/{name}/output/{name}/output/model/"
    assert jobs.read(f"{name}/output/{name}/output/model/adapter.txt") == "one"
    assert jobs.read(f"{name}/output/{name}/output/data/more.txt") == "more"
    seen = json.loads(jobs.read(f"{name}/output/{name}/output/model/seen.json"))
    home = seen["environment"]["EASEL_TRAINING_HOME"]
    assert seen["arguments"] == ["--to", f"{home}/model", "a b"]
    assert seen["environment"]["PYTHONPATH"] == f"{home}/input/data/code"
    assert seen["config"]["hyperparameters.json"] == {}
    assert set(seen["config"]["inputdataconfig.json"]) == {"code", "pictures"}
    # Nothing of this machine's, and no credentials.
    assert not [key for key in seen["environment"] if key.startswith("AWS_")]
    assert "PYTEST_CURRENT_TEST" not in seen["environment"]
    assert not Path(home).exists()
    # The request is shown as it was, with what it left out.
    assert described["Environment"] == {"PYTHONPATH": "/opt/ml/input/data/code"}
    assert described["OutputDataConfig"] == request["OutputDataConfig"]
    assert described["EnableManagedSpotTraining"] is False
    assert "Tags" not in described


def test_a_container_without_isolation_has_the_roles_credentials(jobs):
    script = """
        (home / "model" / "seen.json").write_text(json.dumps(dict(os.environ)))
        """
    name = jobs.start(script, EnableNetworkIsolation=False)
    jobs.wait(name)
    seen = json.loads(jobs.read(f"{name}/output/{name}/output/model/seen.json"))
    assert seen["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    assert seen["AWS_ACCESS_KEY_ID"] == "easel-training"


def test_a_packed_result_is_one_file(jobs, s3):
    script = '(home / "model" / "adapter.txt").write_text("one")'
    name = jobs.start(script, OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/packed"})
    artifacts = jobs.wait(name)["ModelArtifacts"]["S3ModelArtifacts"]
    assert artifacts == f"s3://{BUCKET}/packed/{name}/output/model.tar.gz"
    packed = s3.get_object(Bucket=BUCKET, Key=f"packed/{name}/output/model.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert archive.getnames() == ["adapter.txt"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            'home.joinpath("output", "failure").write_text("No pictures.")\nsys.exit(1)',
            "AlgorithmError: No pictures., exit code: 1",
        ),
        ("sys.exit(3)", "AlgorithmError: Exit Code: 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "AlgorithmError: Exit Code: 137"),
        (
            'home.joinpath("output", "failure").write_text("x" * 5000)\nsys.exit(1)',
            ("AlgorithmError: " + "x" * 1024 + ", exit code: 1")[:1024],
        ),
    ],
)
def test_a_failure_is_told_with_its_text(jobs, script, reason):
    name = jobs.start(f'(home / "model" / "half.txt").write_text("half")\n{script}')
    described = jobs.wait(name)
    assert described["FailureReason"] == reason
    assert described["TrainingJobStatus"] == described["SecondaryStatus"] == "Failed"
    assert states(described)[-2:] == ["Uploading", "Failed"]
    assert "ModelArtifacts" not in described
    assert jobs.keys(f"{name}/output/") == []


def test_a_command_that_does_not_exist_fails_the_job(jobs, s3):
    request = job_request(s3, "")
    request["AlgorithmSpecification"]["ContainerEntrypoint"] = ["no-such-command"]
    jobs.sagemaker.create_training_job(**request)
    described = jobs.wait(request["TrainingJobName"])
    assert described["FailureReason"] == "AlgorithmError: Exit Code: 127"


def test_checkpoints_are_mirrored_with_deletions_while_the_job_runs(jobs, s3):
    script = """
        folder = home / "checkpoints"
        assert (folder / "earlier.txt").read_text() == "earlier"
        (folder / "samples").mkdir()
        (folder / "samples" / "0.png").write_text("picture")
        for number in range(400):
            (folder / "progress.jsonl").write_text("x" * number)
            if (home / "checkpoints" / "samples" / "0.png").exists() and number == 20:
                (folder / "earlier.txt").unlink()
            time.sleep(0.03)
        """
    request = job_request(s3, script)
    name = request["TrainingJobName"]
    s3.put_object(Bucket=BUCKET, Key=f"{name}/checkpoints/earlier.txt", Body=b"earlier")
    jobs.sagemaker.create_training_job(**request)
    jobs.wait_for(f"{name}/checkpoints/samples/0.png")
    wait_until(lambda: f"{name}/checkpoints/earlier.txt" not in jobs.keys(f"{name}/checkpoints/"))
    # What others put there stays, and does not come in.
    s3.put_object(Bucket=BUCKET, Key=f"{name}/checkpoints/foreign.txt", Body=b"foreign")
    length = len(jobs.read(f"{name}/checkpoints/progress.jsonl"))
    wait_until(lambda: len(jobs.read(f"{name}/checkpoints/progress.jsonl")) > length)
    assert jobs.describe(name)["SecondaryStatus"] == "Training"
    jobs.stop(name)
    jobs.wait(name)
    assert f"{name}/checkpoints/foreign.txt" in jobs.keys(f"{name}/checkpoints/")


def test_a_stopped_job_gets_sigterm_and_its_results_are_kept(jobs):
    script = """
        def stop(number, _):
            (home / "model" / "half.txt").write_text("half")
            (home / "checkpoints" / "last.txt").write_text("last")
            sys.exit(143)
        signal.signal(signal.SIGTERM, stop)
        (home / "checkpoints" / "ready.txt").write_text("ready")
        time.sleep(600)
        """
    name = jobs.start(script)
    jobs.wait_for(f"{name}/checkpoints/ready.txt")
    jobs.stop(name)
    with pytest.raises(ClientError, match="because the training job is in status Stopp"):
        jobs.stop(name)
    described = jobs.wait(name)
    assert described["TrainingJobStatus"] == described["SecondaryStatus"] == "Stopped"
    assert states(described)[-2:] == ["Stopping", "Stopped"]
    assert jobs.read(f"{name}/checkpoints/last.txt") == "last"
    assert jobs.keys(f"{name}/output/") == [f"{name}/output/{name}/output/model/half.txt"]
    with pytest.raises(ClientError, match="in status Stopped"):
        jobs.stop(name)


DEAF = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(home / "checkpoints" / "pid").write_text(str(os.getpid()))
time.sleep(600)
"""


def test_a_job_that_ignores_sigterm_is_killed_after_120_seconds(jobs, switches):
    name = jobs.start(DEAF)
    jobs.wait_for(f"{name}/checkpoints/pid")
    pid = int(jobs.read(f"{name}/checkpoints/pid"))
    jobs.stop(name)
    switches.set_clock(skip=100)
    assert jobs.describe(name)["TrainingJobStatus"] == "Stopping"
    assert is_alive(pid)
    wait_until(lambda: skipped(switches) and not is_alive(pid))
    assert jobs.wait(name)["SecondaryStatus"] == "Stopped"


def skipped(switches):
    switches.set_clock(skip=30)
    return True


@pytest.mark.parametrize(("more", "share"), [({}, 1), (spot(), 0.3)])
def test_a_job_ends_at_its_maximum_runtime(jobs, switches, more, share):
    name = jobs.start(WAITS, **more)
    jobs.wait_for(f"{name}/checkpoints/pid")
    switches.set_clock(skip=3_600)
    described = jobs.wait(name)
    assert described["TrainingJobStatus"] == "Stopped"
    assert described["SecondaryStatus"] == "MaxRuntimeExceeded"
    assert described["TrainingTimeInSeconds"] >= 3_600
    assert described["BillableTimeInSeconds"] == round(described["TrainingTimeInSeconds"] * share)


def test_a_spot_job_without_capacity_waits_until_its_maximum(jobs, switches):
    switches.set_training(missing=["ml.g5.xlarge"])
    name = jobs.start(WAITS, **spot())
    assert jobs.describe(name)["SecondaryStatus"] == "Starting"
    switches.set_clock(skip=7_200)
    described = jobs.wait(name)
    assert described["SecondaryStatus"] == "MaxWaitTimeExceeded"
    assert described["BillableTimeInSeconds"] == 0
    assert "TrainingStartTime" not in described
    failed = jobs.wait(jobs.start(WAITS))
    assert failed["FailureReason"].startswith("CapacityError: Unable to provision requested ML")


def test_an_interrupted_spot_job_goes_on_from_its_mirrored_checkpoints(jobs, switches):
    script = """
        folder = home / "checkpoints"
        if (folder / "step.txt").exists():
            (home / "model" / "adapter.txt").write_text((folder / "step.txt").read_text())
            sys.exit(0)
        (folder / "step.txt").write_text("7")
        (folder / "pid").write_text(str(os.getpid()))
        time.sleep(600)
        """
    name = jobs.start(script, **spot())
    jobs.wait_for(f"{name}/checkpoints/pid")
    pid = int(jobs.read(f"{name}/checkpoints/pid"))
    switches.set_clock(skip=100)
    switches.interrupt_training(name)
    described = jobs.wait(name)
    assert not is_alive(pid)
    once = ["Starting", "Downloading", "Training"]
    assert states(described) == [*once, "Interrupted", *once, "Uploading", "Completed"]
    assert jobs.read(f"{name}/output/{name}/output/model/adapter.txt") == "7"
    with pytest.raises(ValueError, match="no training job"):
        switches.interrupt_training(name)


def test_only_a_spot_job_that_trains_can_be_interrupted(jobs, switches):
    name = jobs.start(WAITS)
    jobs.wait(name, "Training")
    with pytest.raises(ValueError, match="no spot job"):
        switches.interrupt_training(name)
    jobs.stop(name)
    switches.set_training(start_seconds=600)
    waiting = jobs.start(WAITS, **spot())
    jobs.wait(waiting, "Starting")
    with pytest.raises(ValueError, match="Starting, not Training"):
        switches.interrupt_training(waiting)
    jobs.stop(waiting)
    assert jobs.wait(waiting)["SecondaryStatus"] == "Stopped"


def test_states_take_the_time_that_a_test_sets(jobs, switches):
    switches.set_training(start_seconds=300, download_seconds=60, upload_seconds=10)
    name = jobs.start("")
    assert jobs.wait(name, "Starting")["TrainingJobStatus"] == "InProgress"
    switches.set_clock(skip=300)
    jobs.wait(name, "Downloading")
    switches.set_clock(skip=60)
    jobs.wait(name, "Uploading")
    switches.set_clock(skip=10)
    described = jobs.wait(name)
    start, download = described["SecondaryStatusTransitions"][:2]
    assert (start["EndTime"] - start["StartTime"]).total_seconds() >= 300
    assert (download["EndTime"] - download["StartTime"]).total_seconds() >= 60
    assert described["TrainingStartTime"] == download["StartTime"]
    assert described["BillableTimeInSeconds"] == described["TrainingTimeInSeconds"] >= 70


def test_a_fault_fails_a_job_that_ended_well(jobs, switches):
    switches.set_training(fails_with="InternalServerError: We encountered an internal error.")
    described = jobs.wait(jobs.start(""))
    assert described["FailureReason"].startswith("InternalServerError")
    with pytest.raises(ValueError, match="unexpected keyword"):
        switches.set_training(no_such=1)


def test_the_log_is_in_cloudwatch_line_by_line(jobs):
    name = jobs.start('print("step=1 loss=0.5", flush=True)\ntime.sleep(600)')
    jobs.wait(name, "Training")
    wait_until(lambda: jobs.log(name) == ["step=1 loss=0.5"])
    jobs.stop(name)
    jobs.wait(name)
    assert jobs.log(name) == ["step=1 loss=0.5"]


def test_what_an_entry_point_left_behind_ends_with_it(jobs):
    script = """
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (home / "model" / "pid").write_text(str(child.pid))
        """
    name = jobs.start(script)
    jobs.wait(name)
    pid = int(jobs.read(f"{name}/output/{name}/output/model/pid"))
    wait_until(lambda: not is_alive(pid))


def test_no_job_outlives_its_emulator(training_role):
    with AwsServer().serve() as aws:
        clients = Clients(lambda: aws.url)
        clients.get("s3", REGION).create_bucket(Bucket="short-lived")
        request = job_request(clients.get("s3", REGION), WAITS, bucket="short-lived")
        clients.get("sagemaker", REGION).create_training_job(**request)
        pid = int(wait_for_text(clients, f"{request['TrainingJobName']}/checkpoints/pid"))
        assert is_alive(pid)
    wait_until(lambda: not is_alive(pid))


def wait_for_text(clients, key):
    s3 = clients.get("s3", REGION)
    wait_until(lambda: "Contents" in s3.list_objects_v2(Bucket="short-lived", Prefix=key))
    return s3.get_object(Bucket="short-lived", Key=key)["Body"].read()
