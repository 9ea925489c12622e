"""`python -m endpoint batch`: a file of prompts becomes a folder of pictures, whatever happens."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from endpoint.commands import batch
from endpoint.core.usage_records import Kind, UsageRecord
from endpoint.emulator.lambda_.inline import InlineFunction
from endpoint.emulator.moto_.training import training
from endpoint.emulator.process.clock import Clock
from endpoint.emulator.training.service import Training
from endpoint.provision.serving import pins
from tests.conftest import ALL
from tests.endpoint.doubles import BUCKET, create
from tests.endpoint.world import ACCOUNT, PNG, REGION, Crash, role_policy
from tests.model_folders import write_file, write_pipeline
from tests.policies import iam


@pytest.fixture
def queue(world):
    """An account with an asynchronous endpoint."""
    assert create(world, model="sdxl") == 0
    world.forget_calls()
    return world


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a red apple\n\n--prompt a cat --steps 7 --n_iter 2\na blue boat\n")
    return path


def run(world, file, *options):
    return world.run(
        batch.main, str(file), "--out", str(file.parent / "pictures"), "--yes", *options
    )


def answers(file):
    """Return the lines of results.jsonl by their ids; none may be there twice."""
    rows = (file.parent / "pictures" / "results.jsonl").read_text().splitlines()
    parsed = [json.loads(row) for row in rows]
    counted = Counter(row["custom_id"] for row in parsed)
    assert set(counted.values()) <= {1}
    return {row["custom_id"]: row for row in parsed}


def pictures(file):
    return sorted(path.name for path in (file.parent / "pictures").glob("[!.]*.png"))


def invoked(world):
    """Return how often each request was sent to the endpoint, by its seed and prompt."""
    bodies = [
        json.loads(arguments["Body"])
        for model, arguments in world.requests
        if model.name in {"InvokeEndpointAsync", "InvokeEndpoint"}
    ]
    return Counter((body["prompt"], body["seed"]) for body in bodies)


def failures(world):
    """Return the keys of the failures that SageMaker has written."""
    keys = [item["Key"] for item in world.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]]
    return [key for key in keys if key.endswith("-error.out")]


PICTURES = ["0001.png", "0003-1.png", "0003-2.png", "0004.png"]


# --- The whole of it ------------------------------------------------------------------------------


def test_a_file_becomes_pictures_results_and_a_contact_sheet(queue, prompts, capsys):
    assert run(queue, prompts, "--json") == 0

    assert pictures(prompts) == [*PICTURES, "contact-sheet.png"]
    assert (prompts.parent / "pictures" / "0001.png").read_bytes() == PNG
    result = answers(prompts)["0003"]["response"]["body"]
    assert [one["url"] for one in result["data"]] == ["0003-1.png", "0003-2.png"]
    assert result["data"][1]["seed"] == result["data"][0]["seed"] + 1
    report = json.loads(capsys.readouterr().out)
    assert (report["lines"], report["pictures"], report["painted"], report["failed"]) == (
        3,
        4,
        4,
        0,
    )
    assert set(invoked(queue).values()) == {1}


def test_a_real_time_endpoint_paints_as_well(world, prompts):
    assert create(world) == 0

    assert run(world, prompts) == 0

    assert pictures(prompts) == [*PICTURES, "contact-sheet.png"]
    assert run(world, prompts, "--most-instances", "2") == 2


def test_count_time_price_and_end_are_shown_before_the_question(queue, prompts, capsys):
    assert queue.run(batch.main, str(prompts), "--out", str(prompts.parent / "out")) == 1

    output = capsys.readouterr().err
    assert "3 lines, 4 pictures" in output
    assert "USD per hour" in output
    assert "until 2026-11-21" in output
    assert "Paint 4 pictures? Not a terminal." in output
    assert not invoked(queue)


def test_a_dry_run_paints_nothing_and_makes_no_folder(queue, prompts, capsys):
    assert run(queue, prompts, "--dry-run") == 0

    assert "until 2026-11-21" in capsys.readouterr().err
    assert not (prompts.parent / "pictures").exists()
    assert not invoked(queue)


def test_a_wrong_file_is_refused_with_line_numbers_before_anything_else(queue, prompts, capsys):
    prompts.write_text("a cat\n--steps 5\n--prompt a --steps 500\n")

    assert run(queue, prompts) == 2

    output = capsys.readouterr().err
    assert "line 2: --prompt: is missing" in output
    assert "line 3: --steps: must be a whole number from 1 to 100" in output
    assert not (prompts.parent / "pictures").exists()


def test_a_line_for_another_of_the_models_is_refused(queue, prompts, capsys):
    assert create(queue) == 0
    prompts.write_text("a cat\n--prompt a dog --sd_model sd\n")

    assert run(queue, prompts) == 2
    assert "Choose a model with --model" in capsys.readouterr().err
    assert run(queue, prompts, "--model", "sdxl") == 2
    assert "line 2 names the model sd" in capsys.readouterr().err


def test_without_a_file_or_an_endpoint_nothing_begins(world, prompts, capsys):
    assert run(world, prompts) == 2
    assert run(world, prompts, "--model", "sd") == 1
    assert "There is no endpoint easel-main-sd" in capsys.readouterr().err
    assert create(world) == 0
    prompts.unlink()
    assert run(world, prompts) == 1
    assert "cannot be read: No such file" in capsys.readouterr().err


# --- Failures -------------------------------------------------------------------------------------


def test_a_line_that_the_model_refuses_fails_alone(queue, prompts, capsys):
    queue.refuse("a cat", 422, "steps: this model has 4")

    assert run(queue, prompts) == 1

    assert pictures(prompts) == ["0001.png", "0004.png", "contact-sheet.png"]
    failed = answers(prompts)["0003"]["response"]
    assert failed["status_code"] == 422
    assert "this model has 4" in failed["body"]["error"]["message"]
    output = capsys.readouterr().out
    assert "line 3 (0003) failed" in output
    # The line has two pictures; the other lines have one each.
    assert "2 of 4 pictures are in" in output
    assert set(invoked(queue).values()) == {1}


def test_a_real_time_endpoints_refusal_fails_the_line(world, prompts):
    assert create(world) == 0
    rejected = {"OriginalStatusCode": 422, "OriginalMessage": "steps: this model has 4"}
    world.fail("InvokeEndpoint", "ModelError", extra=rejected)

    assert run(world, prompts) == 1
    assert [row["response"]["status_code"] for row in answers(prompts).values()] == [400] * 3


def test_a_real_time_endpoint_that_never_answers_ends_the_batch(world, prompts, capsys):
    assert create(world) == 0
    world.fail("InvokeEndpoint", "ModelNotReadyException", "not ready")

    assert run(world, prompts) == 1
    assert "no picture for 20 minutes: not ready" in capsys.readouterr().err
    assert answers(prompts) == {}


def test_a_line_that_fails_by_accident_is_tried_again_and_then_fails_alone(queue, prompts):
    queue.refuse("a cat", 500, "CUDA out of memory")

    assert run(queue, prompts) == 1

    assert answers(prompts)["0003"]["response"]["status_code"] == 500
    assert sorted(invoked(queue).values()) == [1, 1, 2, 2]
    # They would be those of the next runs, should SageMaker not give each a name of its own.
    assert not failures(queue)


@pytest.mark.parametrize(
    ("status", "message"), [(400, "InternalServerException"), (429, "busy"), (507, "memory")]
)
def test_only_a_refusal_is_final_at_the_first_attempt(queue, prompts, status, message):
    queue.refuse("a cat", status, message)

    assert run(queue, prompts) == 1

    assert answers(prompts)["0003"]["response"]["status_code"] == 500
    assert sorted(invoked(queue).values()) == [1, 1, 2, 2]


def test_what_failed_is_tried_again_by_the_same_command_and_nothing_else(queue, prompts):
    queue.refuse("a cat", 422)
    assert run(queue, prompts) == 1
    queue.forget_calls()
    queue._container.refuses.clear()

    assert run(queue, prompts) == 0

    assert {prompt for prompt, _ in invoked(queue)} == {"a cat"}
    assert set(answers(prompts)) == {"0001", "0003", "0004"}


def test_what_is_no_picture_fails_alone(queue, prompts):
    queue.refuse("a cat", 200, "not a picture")

    assert run(queue, prompts) == 1
    assert "not a whole picture" in json.dumps(answers(prompts)["0003"])
    assert len(answers(prompts)) == 3


def test_throttling_only_delays(queue, prompts):
    queue.fail("InvokeEndpointAsync", "ThrottlingException", times=3)

    assert run(queue, prompts) == 0
    assert pictures(prompts) == [*PICTURES, "contact-sheet.png"]


def test_an_endpoint_that_refuses_ends_the_batch_with_the_reason(queue, prompts, capsys):
    queue.fail("InvokeEndpointAsync", "AccessDeniedException", "not allowed", status=403)

    assert run(queue, prompts) == 1
    assert "not allowed" in capsys.readouterr().err
    queue.faults.switch("InvokeEndpointAsync", [])
    assert run(queue, prompts) == 0


# --- Continuing -----------------------------------------------------------------------------------


def test_a_finished_batch_paints_nothing_again(queue, prompts, capsys):
    assert run(queue, prompts) == 0
    queue.forget_calls()

    assert run(queue, prompts) == 0

    assert not invoked(queue)
    assert "4 of them are in" in capsys.readouterr().err


def test_what_has_come_to_s3_is_fetched_although_the_folder_is_gone(queue, prompts):
    assert run(queue, prompts) == 0
    for path in (prompts.parent / "pictures").iterdir():
        path.unlink()
    queue.forget_calls()

    assert run(queue, prompts) == 0

    assert not invoked(queue)
    assert pictures(prompts) == [*PICTURES, "contact-sheet.png"]


def test_a_changed_line_is_painted_and_the_others_are_kept(queue, prompts, capsys):
    assert run(queue, prompts) == 0
    prompts.write_text(prompts.read_text().replace("apple", "pear") + "a fish\n")
    queue.forget_calls()

    assert run(queue, prompts) == 0

    assert {prompt for prompt, _ in invoked(queue)} == {"a red pear", "a fish"}
    assert "of other requests and will be replaced: 0001.png" in capsys.readouterr().err


def test_a_picture_that_was_damaged_or_deleted_comes_again(queue, prompts):
    assert run(queue, prompts) == 0
    folder = prompts.parent / "pictures"
    (folder / "0001.png").write_bytes(PNG[:40])
    (folder / "0004.png").unlink()

    assert run(queue, prompts) == 0

    assert (folder / "0001.png").read_bytes() == (folder / "0004.png").read_bytes() == PNG


def test_a_new_version_of_the_model_paints_what_is_not_in_the_folder(queue, prompts):
    assert run(queue, prompts) == 0
    assert create(queue, "--log-prompts", model="sdxl") == 0
    (prompts.parent / "pictures" / "0004.png").unlink()
    queue.forget_calls()

    assert run(queue, prompts) == 0
    assert {prompt for prompt, _ in invoked(queue)} == {"a blue boat"}


def test_ctrl_c_says_what_is_queued_and_the_same_command_collects_it(queue, prompts, capsys):
    queue.never_answers = True
    sleep = queue.sleep

    def interrupt(_seconds):
        raise KeyboardInterrupt

    queue.sleep = interrupt
    assert run(queue, prompts) == 130
    assert "4 requests are in the queue of easel-main-sdxl" in capsys.readouterr().err

    queue.sleep, queue.never_answers = sleep, False
    queue._runtime.queue.poll()
    assert run(queue, prompts) == 0
    assert set(invoked(queue).values()) == {1}


def test_a_request_that_the_queue_has_lost_is_queued_again(queue, prompts):
    queue.never_answers = True
    sleep, slept = queue.sleep, []

    def lose(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            queue._runtime.queue._waiting.clear()
            queue.never_answers = False
            sleep(8 * 3_600)
        sleep(seconds)

    queue.sleep = lose

    assert run(queue, prompts) == 0
    assert set(invoked(queue).values()) == {2}


def test_an_endpoint_that_is_deleted_meanwhile_ends_the_batch(queue, prompts, capsys):
    queue.never_answers = True
    sleep = queue.sleep

    def delete(seconds):
        queue.client("sagemaker").delete_endpoint(EndpointName="easel-main-sdxl")
        queue.sleep = sleep
        sleep(seconds + 120)

    queue.sleep = delete

    assert run(queue, prompts) == 1
    assert "was deleted; 4 pictures are left" in capsys.readouterr().err


def test_two_processes_never_paint_into_one_folder(queue, prompts, capsys):
    sleep = queue.sleep
    codes = []

    def again(seconds):
        queue.never_answers = False
        codes.append(run(queue, prompts))
        queue._runtime.queue.poll()
        sleep(seconds)

    queue.never_answers, queue.sleep = True, again

    assert run(queue, prompts) == 0
    assert set(codes) == {2}
    assert "Another process is painting into" in capsys.readouterr().err


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_call_loses_nothing_and_answers_every_line_once(
    queue, prompts, when, monkeypatch
):
    """At every second call: a crash after one is almost the same as before the next.

    With `--all` at each.
    """
    # One thread: which call is the next does not depend on the machine.
    monkeypatch.setattr("endpoint.provision.batches.window._THREADS", 1)
    queue.refuse("a blue boat", 500)
    calls = 0
    for number in range(0, 100, 1 if ALL else 2):
        for path in (prompts.parent / "pictures").glob("*"):
            path.unlink()
        prompts.write_text(f"a red apple\na bird {number}\na blue boat\n")
        queue.forget_calls()
        queue.crash_at(number, when)
        try:
            run(queue, prompts)
        except Crash:
            queue.revive()
        else:
            queue.revive()
            calls = number
            break
        assert run(queue, prompts) == 1
        results = answers(prompts)
        assert set(results) == {"0001", "0002", "0003"}
        assert results["0003"]["response"]["status_code"] == 500
        # Only what was under way can have been painted twice.
        assert invoked(queue)[("a red apple", _seed(results["0001"]))] <= 2
    assert calls > 10


def _seed(result):
    return result["response"]["body"]["data"][0]["seed"]


# --- Scaling out ----------------------------------------------------------------------------------


def test_the_endpoints_limit_is_raised_while_it_paints_and_then_restored(queue, prompts):
    assert run(queue, prompts, "--most-instances", "4") == 0

    limits = [
        arguments["MaxCapacity"]
        for model, arguments in queue.requests
        if model.name == "RegisterScalableTarget"
    ]
    assert limits == [4, 1]


def test_a_limit_that_a_crash_has_left_is_restored_by_the_next_run(queue, prompts):
    queue.crash_after("RegisterScalableTarget")
    with pytest.raises(Crash):
        run(queue, prompts, "--most-instances", "4")
    queue.revive()
    assert limit(queue) == 4

    assert run(queue, prompts) == 0

    assert limit(queue) == 1


def limit(world):
    (target,) = world.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker"
    )["ScalableTargets"]
    return target["MaxCapacity"]


# --- What it costs --------------------------------------------------------------------------------


def recorded(world):
    """Return what was recorded for `usage`."""
    listed = world.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="usage/records/")
    keys = [item["Key"].removeprefix("usage/") for item in listed.get("Contents", [])]
    return [UsageRecord.from_key(key) for key in keys]


@pytest.mark.parametrize(("model", "kind"), [("sd", Kind.REALTIME), ("sdxl", Kind.ASYNCHRONOUS)])
def test_each_picture_is_recorded_once(world, prompts, model, kind):
    assert create(world, model=model) == 0

    assert run(world, prompts) == 0
    assert run(world, prompts) == 0

    assert [(one.model, one.kind) for one in recorded(world)] == [(model, kind)] * 4


def test_a_picture_that_a_second_folder_fetches_is_recorded_once(queue, prompts, tmp_path):
    assert run(queue, prompts) == 0
    assert run(queue, prompts, "--out", str(tmp_path / "other")) == 0

    assert sorted(path.name for path in (tmp_path / "other").glob("0*.png")) == PICTURES
    assert sum(invoked(queue).values()) == 4
    assert len(recorded(queue)) == 4


@pytest.mark.parametrize("options", [(), ("--spot",)])
def test_at_the_monthly_cap_nothing_begins(queue, prompts, options, capsys):
    assert create(queue, "--monthly-cap", "20", model="sdxl") == 0
    spend(queue, 20.5)

    assert run(queue, prompts, *options) == 1

    assert "The monthly cap of 20 USD is reached" in capsys.readouterr().err
    assert not pictures(prompts)
    assert not jobs(queue)


@pytest.fixture
def started(queue):
    """The jobs that were started; none of them runs until a test ends it."""
    began = []
    service = Training(
        lambda: "",
        "",
        SimpleNamespace(get=lambda name, _region: queue.client(name)),
        Clock(),
        queue.now(),
        start=lambda work: began.append(work.__self__.record),
    )
    with training(service):
        yield began


def spend(world, usd):
    """Let the guard have counted so much."""
    body = json.dumps({"usd": usd}).encode()
    world.client("s3").put_object(Bucket=BUCKET, Key="spend/2026-11.json", Body=body)


def jobs(world):
    return world.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]


def interrupted(world, file, *options):
    """Run a batch, and press Ctrl-C when it waits for the first time."""
    sleep = world.sleep

    def interrupt(_seconds):
        world.sleep = sleep
        raise KeyboardInterrupt

    world.sleep = interrupt
    return run(world, file, *options)


def paint_as_the_job(world):
    """Put the pictures of the latest spot job where SageMaker mirrors them."""
    s3 = world.client("s3")
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="batches/")["Contents"]
    (key,) = [item["Key"] for item in listed if item["Key"].endswith("/lines/lines.jsonl")]
    lines = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().splitlines()
    place = key.replace("/lines/lines.jsonl", "/checkpoints/")
    measured = ""
    for file in [json.loads(line)["file"] for line in lines]:
        measured += json.dumps({"file": file, "seconds": 1.5}) + "\n"
        s3.put_object(Bucket=BUCKET, Key=f"{place}{file}", Body=PNG)
    s3.put_object(Bucket=BUCKET, Key=f"{place}painted.jsonl", Body=measured.encode())


@pytest.mark.parametrize("is_deleted", [False, True])
def test_at_the_monthly_cap_what_has_come_is_collected(queue, prompts, is_deleted):
    assert create(queue, "--monthly-cap", "20", model="sdxl") == 0
    assert run(queue, prompts) == 0
    for path in (prompts.parent / "pictures").iterdir():
        path.unlink()
    spend(queue, 20.5)
    if is_deleted:
        queue.client("sagemaker").delete_endpoint(EndpointName="easel-main-sdxl")

    assert run(queue, prompts) == 0

    assert pictures(prompts) == [*PICTURES, "contact-sheet.png"]


def test_at_the_monthly_cap_a_spot_job_is_collected_once_and_stopped(
    queue, started, prompts, tmp_path
):
    assert create(queue, "--monthly-cap", "20", model="sdxl") == 0
    assert interrupted(queue, prompts, "--spot") == 130
    paint_as_the_job(queue)
    spend(queue, 20.5)

    assert run(queue, prompts, "--spot") == 0
    assert pictures(prompts) == [*PICTURES, "contact-sheet.png"]
    # A second folder has the pictures, and they have not cost anything again.
    assert run(queue, prompts, "--spot", "--out", str(tmp_path / "other")) == 0
    assert [one.gpu_milliseconds for one in recorded(queue)] == [1_500] * 4
    for path in (prompts.parent / "pictures").iterdir():
        path.unlink()
    started[0].enter("Stopped", status="Stopped")
    assert run(queue, prompts, "--spot", "--stop") == 0
    assert pictures(prompts) == PICTURES


# Of another account, which cannot be looked into.
KERNELS = f"999999999999.dkr.ecr.{REGION}.amazonaws.com/with-kernels:1"


def test_a_spot_job_trusts_the_kernels_that_its_endpoint_trusts(
    queue, started, prompts, monkeypatch
):
    monkeypatch.setattr(pins, "newest_commit", lambda _: "1" * 40)
    options = ("--quantise", "nunchaku_lite", "--weights", "fetch", "--image", KERNELS)
    assert create(queue, *options, model="flux2-klein") == 0
    assert interrupted(queue, prompts, "--model", "flux2-klein", "--spot") == 130
    (job,) = jobs(queue)
    client = queue.client("sagemaker")
    described = client.describe_training_job(TrainingJobName=job["TrainingJobName"])
    assert described["Environment"]["DIFFUSERS_TRUST_REMOTE_KERNELS"] == "true"
    assert not described["EnableNetworkIsolation"]


def test_a_spot_job_without_a_network_is_refused_where_kernels_come_from_the_hub(
    world, prompts, tmp_path, capsys
):
    folder = write_pipeline(tmp_path / "small")
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        write_file(folder / "quantised" / name)
    assert create(world, "--weights", "s3", "--image", KERNELS, model=str(folder)) == 0
    assert run(world, prompts, "--spot") == 1
    said = capsys.readouterr().err
    assert "small is stored with nunchaku_lite, which loads its kernels from the hub" in said
    assert "Leave out --spot" in said
    assert not jobs(world)


def test_the_guard_counts_a_running_spot_job_and_stops_it_at_the_cap(queue, started, prompts):
    assert create(queue, "--monthly-cap", "20", model="sdxl") == 0
    guard = InlineFunction(ACCOUNT, REGION, "easel-main-guard")

    def count():
        guard.invoke({}, queue.session.client, lambda: queue.now().timestamp())
        stored = queue.client("s3").get_object(Bucket=BUCKET, Key="spend/2026-11.json")
        return json.loads(stored["Body"].read())

    assert interrupted(queue, prompts, "--spot") == 130
    (job,) = started
    # Its endpoint costs nothing here.
    queue.client("sagemaker").delete_endpoint(EndpointName="easel-main-sdxl")
    queue.sleep(600)
    begun = len(queue.requests)
    assert count()["jobs"] == {job.name: {"usd": 0, "runs": True}}
    job.enter("Downloading")
    queue.seconds += 13 * 3_600
    counted = count()
    # A g5.xlarge costs 1.408 USD an hour on demand.
    assert counted["jobs"][job.name]["usd"] == pytest.approx(13 * 1.408, rel=0.02)
    assert (counted["state"], job.status) == ("warned", "InProgress")
    queue.seconds += 2 * 3_600
    assert count()["state"] == "reached"
    assert job.status == "Stopping"
    made = [each for call in queue.requests[begun:] for each in iam.requests_of(*call)]
    policy = role_policy(queue.client("iam"), f"easel-main-guard-{REGION}", "guard")
    assert iam.refused(policy, made) == []


def test_a_batch_renews_the_lease_of_a_real_time_endpoint(world, prompts):
    assert create(world) == 0
    world.forget_calls()
    world.sleep(3_600)

    assert run(world, prompts) == 0

    (renewed,) = [
        arguments["ScheduleExpression"]
        for model, arguments in world.requests
        if model.name == "UpdateSchedule"
    ]
    end = world.now().timestamp() + 7_200
    stated = datetime.strptime(renewed, "at(%Y-%m-%dT%H:%M:%S)").replace(tzinfo=UTC).timestamp()
    assert abs(stated - end) < 120
