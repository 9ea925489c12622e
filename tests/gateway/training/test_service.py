"""Training jobs, from the request to the published adapter, with a crash at every call."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from botocore.exceptions import ReadTimeoutError

from chalicelib.errors import (
    GatewayError,
    InvalidRequest,
    NameTaken,
    PromptRefused,
    TrainingBusy,
    TrainingForbidden,
    TrainingQuotaUsed,
    TrainingRunning,
    TrainingUnknown,
    WrongState,
)
from chalicelib.training.claims import STALE_SECONDS
from chalicelib.training.events import check
from chalicelib.training_jobs import places
from tests.gateway.doubles import Crash, refusal
from tests.gateway.training.doubles import OWNER, PNG, STRANGER, Bench, adapter

LORA = "loras/sd/fox.safetensors"


@pytest.fixture
def bench():
    return Bench()


def state(bench, record, owner=OWNER):
    return bench.service.find(owner, record.id).state


# --- The way of a job -----------------------------------------------------------------------------


def test_a_job_is_started_with_what_was_asked_as_data_alone(bench):
    record = bench.start(steps=500, rank=8, trigger="a fxo; $(touch /tmp/x)")
    (request,) = bench.sagemaker.jobs.values()
    job = json.loads(bench.bucket.objects[places.job_file(record.id)])

    assert (job["steps"], job["rank"], job["trigger"]) == (500, 8, "a fxo; $(touch /tmp/x)")
    assert "touch" not in json.dumps(request)
    assert "fxo" not in json.dumps(request)
    assert request["EnableNetworkIsolation"] is True
    assert request["TrainingJobName"] == f"easel-main-{record.id}"
    channels = {
        one["ChannelName"]: one["DataSource"]["S3DataSource"]["S3Uri"]
        for one in request["InputDataConfig"]
    }
    assert channels == {
        "code": "s3://bucket/training/code/1a2b/",
        "job": f"s3://bucket/training/jobs/{record.id}/job/",
        "pictures": f"s3://bucket/datasets/{OWNER}/{record.dataset}/",
        "model": "s3://bucket/models/sd/r1/",
    }
    assert state(bench, record).name == "starting"


def test_a_completed_job_is_published_by_the_next_look_and_lets_the_next_one_start(bench):
    record = bench.start()
    bench.finish(record, BillableTimeInSeconds=600)
    first = bench.service.find(OWNER, record.id)

    assert first.state.name == "published"
    assert bench.bucket.objects[LORA] == adapter()
    assert first.record.spent == pytest.approx(0.25)
    assert bench.service.find(OWNER, record.id).record == first.record
    assert bench.start(name="owl").id != record.id


def test_a_failed_job_gives_its_name_back_and_says_why(bench):
    record = bench.start()
    bench.sagemaker.end(
        record.sagemaker_job, "Failed", FailureReason="AlgorithmError: 0001.png is cut short"
    )

    assert state(bench, record).error == "0001.png is cut short."
    assert bench.below("training/names/") == []
    assert bench.start().id != record.id


@pytest.mark.parametrize("body", [b"", b"no adapter", adapter(float("nan")), adapter() + b"x"])
def test_a_file_that_is_no_adapter_is_never_published(bench, body):
    record = bench.start()
    bench.finish(record, body)

    assert state(bench, record).name == "failed"
    assert state(bench, record).error.startswith("The adapter")
    assert bench.below("loras/") == []


def test_a_job_that_leaves_nothing_has_failed(bench):
    record = bench.start()
    bench.sagemaker.end(record.sagemaker_job)

    assert state(bench, record).error == "The job left no adapter."


def test_a_published_adapter_never_replaces_a_file_that_came_in_between(bench):
    record = bench.start()
    bench.bucket.objects[LORA] = b"the operator's"
    bench.finish(record)

    assert state(bench, record).name == "failed"
    assert bench.bucket.objects[LORA] == b"the operator's"


# --- What is refused before it costs anything -----------------------------------------------------


REFUSED = {
    "model": ({"model": "sdxl"}, InvalidRequest),
    "name": ({"name": "../fox"}, InvalidRequest),
    "no name": ({"name": None}, InvalidRequest),
    "built in": ({"name": "ink"}, NameTaken),
    "steps": ({"steps": 0}, InvalidRequest),
    "an hour": ({"steps": 20_000}, InvalidRequest),
    "batches": ({"steps": 1_000, "batch_size": 64}, InvalidRequest),
    "unknown": ({"setps": 5}, InvalidRequest),
    "price": ({"usd_per_hour": 0.0}, InvalidRequest),
    "captions": ({"captions": {"0009": "a fox"}}, InvalidRequest),
    "long caption": ({"captions": {"0001": "x" * 1_001}}, InvalidRequest),
    "long with trigger": ({"captions": {"0001": "x" * 1_000}}, InvalidRequest),
    "no caption": ({"trigger": ""}, InvalidRequest),
    "a set without pictures": ({"sets": [{"folder": "dogs"}]}, InvalidRequest),
    "no Prodigy": ({"optimizer": "prodigy"}, InvalidRequest),
    "class pictures": ({"preserve": "pictures"}, InvalidRequest),
    "kohya": ({"kohya": "a = "}, InvalidRequest),
    "long kohya": ({"kohya": "#" * 200_001}, InvalidRequest),
    "kohya's steps": ({"kohya": "max_train_steps = 20000"}, InvalidRequest),
    "kohya's batches": ({"kohya": "max_train_steps=2000\ntrain_batch_size=16"}, InvalidRequest),
    "kohya's epochs": ({"kohya": "max_train_epochs = 9000"}, InvalidRequest),
    "trigger": ({"trigger": "nude"}, PromptRefused),
    "sample": ({"sample_prompts": ["a fox", "nude"]}, PromptRefused),
    "class": ({"class_prompt": "nude", "preserve": "output"}, PromptRefused),
    "caption": ({"captions": {"0001": "nude"}}, PromptRefused),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_refused_with_nothing_started_or_left(case):
    fields, error = REFUSED[case]
    bench = Bench(filter_mode="refuse")
    dataset = bench.dataset()
    before = dict(bench.bucket.objects)

    with pytest.raises(error):
        bench.start(dataset=dataset, **fields)

    assert bench.sagemaker.jobs == {}
    assert bench.bucket.objects == before


def test_captions_in_files_are_filtered_as_well(bench):
    bench = Bench(filter_mode="refuse")

    with pytest.raises(PromptRefused):
        bench.start(dataset=bench.dataset(_0001="nude"))


def test_a_text_of_a_set_is_filtered_as_well(bench):
    bench = Bench(filter_mode="refuse")
    dataset = bench.dataset(pictures=1)
    bench.bucket.objects[f"{places.dataset(OWNER, dataset)}dogs/1.png"] = PNG
    for name in ("trigger", "instance_prompt"):
        with pytest.raises(PromptRefused):
            bench.start(dataset=dataset, sets=[{"folder": "dogs", name: "nude"}])


def test_a_data_set_of_another_owner_is_as_unknown_as_none(bench):
    theirs = bench.dataset(STRANGER)
    messages = set()
    for dataset in (theirs, places.new_id()):
        with pytest.raises(TrainingUnknown) as raised:
            bench.start(dataset=dataset)
        messages.add(raised.value.message)

    assert len(messages) == 1


def test_a_job_of_another_owner_is_as_unknown_as_none(bench):
    record = bench.start()
    asked = [
        bench.service.find,
        bench.service.cancel,
        lambda owner, job: bench.service.resume(owner, job, on_demand=False),
    ]
    for ask in asked:
        messages = set()
        for job in (record.id, places.new_id(), "../../x"):
            with pytest.raises(TrainingUnknown) as raised:
                ask(STRANGER, job)
            messages.add(raised.value.message)
        assert len(messages) == 1
    assert bench.service.all_of(STRANGER) == []


def test_one_job_of_an_owner_runs_at_a_time(bench):
    record = bench.start()
    with pytest.raises(TrainingRunning) as raised:
        bench.start(name="owl")

    assert raised.value.job == record.id
    assert len(bench.sagemaker.jobs) == 1
    assert bench.start(STRANGER, name="owl").owner == STRANGER


def test_two_owners_cannot_have_one_name(bench):
    bench.start()
    with pytest.raises(NameTaken):
        bench.start(STRANGER)

    assert bench.below(f"training/owners/{STRANGER}") == []


def test_a_name_that_the_operators_script_has_claimed_is_taken_however_long_it_uploads(bench):
    claim = {"owner": places.OPERATOR, "id": places.new_id()}
    bench.bucket.objects[places.name_claim("sd", "fox")] = json.dumps(claim).encode()
    bench.now += 10 * STALE_SECONDS
    with pytest.raises(NameTaken):
        bench.start()

    record = bench.start(name="owl")
    script = replace(record, owner=places.OPERATOR, id=claim["id"], name="fox")
    script = replace(script, sagemaker_job=f"easel-main-{script.id}")
    bench.bucket.objects[places.record(script.id)] = script.to_json()
    with pytest.raises(NameTaken):
        bench.start(STRANGER)
    bench.sagemaker.create_training_job(TrainingJobName=script.sagemaker_job)
    bench.finish(script)
    found = bench.service.observe(script.id, script.sagemaker_job)
    assert found is not None
    assert found.state.name == "published"


def test_a_month_has_a_number_of_jobs_which_starts_again_with_the_next(bench):
    for number in range(3):
        record = bench.start(name=f"fox{number}")
        bench.sagemaker.end(record.sagemaker_job, "Failed")
        bench.service.find(OWNER, record.id)
    with pytest.raises(TrainingQuotaUsed) as raised:
        bench.start(name="fox3")

    bench.now += raised.value.retry_after
    assert bench.start(name="fox3").name == "fox3"
    assert [one.record.name for one in bench.service.all_of(OWNER)] == [
        "fox3", "fox2", "fox1", "fox0"
    ]  # fmt: skip


def test_captions_of_a_request_reach_the_trainer_as_metadata(bench):
    record = bench.start(trigger="", captions={"0001": "a fox", "0002.png": "a fox in snow"})
    content = bench.bucket.objects[f"datasets/{OWNER}/{record.dataset}/metadata.jsonl"]

    assert [json.loads(line) for line in content.splitlines()] == [
        {"file_name": "0001.png", "text": "a fox"},
        {"file_name": "0002.png", "text": "a fox in snow"},
    ]


def test_a_file_of_kohyas_is_translated_and_the_requests_own_fields_win(bench):
    text = 'max_train_epochs = 4\nnetwork_dim = 32\nlearning_rate = 3e-4\nsdxl = true\nname = "x"'
    record = bench.start(kohya=text, rank=8, name="fox")
    job = json.loads(bench.bucket.objects[places.job_file(record.id)])

    assert (job["rank"], job["rate"], job["steps"], job["name"]) == (8, 3e-4, 8, "fox")
    assert not any(key.endswith(".toml") for key in bench.below(""))


# --- Trouble at SageMaker -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ResourceLimitExceeded", TrainingBusy),
        ("ThrottlingException", TrainingBusy),
        ("AccessDeniedException", TrainingForbidden),
        ("ValidationException", TrainingForbidden),
    ],
)
def test_a_refusal_leaves_nothing_that_counts_or_blocks(bench, code, error):
    bench.sagemaker.trouble = refusal(code, "arn:aws:iam::123456789012:role/x")
    with pytest.raises(error) as raised:
        bench.start()

    assert "arn" not in raised.value.message
    assert bench.below("training/names/") == []
    assert bench.below(f"training/owners/{OWNER}/running") == []
    assert bench.service.all_of(OWNER) == []
    assert bench.start().name == "fox"


def test_a_start_without_an_answer_is_resolved_by_sagemaker(bench):
    bench.sagemaker.trouble = ReadTimeoutError(endpoint_url="u")
    with pytest.raises(TrainingBusy):
        bench.start()
    with pytest.raises(TrainingRunning):
        bench.start()

    bench.now += STALE_SECONDS + 1
    assert bench.start().name == "fox"
    assert len(bench.sagemaker.jobs) == 1


# --- Stopping and resuming ------------------------------------------------------------------------


def test_a_cancelled_job_stops_is_resumed_and_is_published(bench):
    record = bench.start()
    assert bench.service.cancel(OWNER, record.id).state.name == "stopping"
    assert state(bench, record).name == "stopping"
    assert bench.service.cancel(OWNER, record.id).state.name == "stopping"
    bench.sagemaker.end(record.sagemaker_job, "Stopped", BillableTimeInSeconds=60)
    assert state(bench, record).name == "stopped"

    resumed = bench.service.resume(OWNER, record.id, on_demand=True).record
    request = bench.sagemaker.jobs[f"easel-main-{record.id}-2"]
    assert request["CheckpointConfig"]["S3Uri"].endswith(f"/{record.id}/checkpoints/")
    assert request["EnableManagedSpotTraining"] is False
    assert state(bench, record).name == "starting"

    bench.finish(resumed, BillableTimeInSeconds=60)
    assert state(bench, record).name == "published"
    assert bench.service.find(OWNER, record.id).record.spent == pytest.approx(0.05)
    assert len(bench.service.all_of(OWNER)) == 1


def test_what_is_over_cannot_be_cancelled_and_what_runs_cannot_be_resumed(bench):
    record = bench.start()
    with pytest.raises(WrongState):
        bench.service.resume(OWNER, record.id, on_demand=False)
    bench.finish(record)
    for ask in (bench.service.cancel, lambda *job: bench.service.resume(*job, on_demand=False)):
        with pytest.raises(WrongState):
            ask(OWNER, record.id)


def test_a_job_with_other_pictures_is_not_resumed(bench):
    record = bench.start()
    bench.sagemaker.end(record.sagemaker_job, "Failed")
    for body in (b"another", None):
        key = places.dataset_file(OWNER, record.dataset, "0001.png")
        bench.bucket.objects[key] = body
        if body is None:
            bench.bucket.objects = {
                key: value for key, value in bench.bucket.objects.items() if "datasets" not in key
            }
        with pytest.raises(WrongState):
            bench.service.resume(OWNER, record.id, on_demand=False)
    assert len(bench.sagemaker.jobs) == 1


def test_a_resumed_job_needs_its_name_to_be_free_still(bench):
    record = bench.start()
    bench.sagemaker.end(record.sagemaker_job, "Failed")
    state(bench, record)
    bench.start(STRANGER)
    with pytest.raises(NameTaken):
        bench.service.resume(OWNER, record.id, on_demand=False)

    assert bench.below(f"training/owners/{OWNER}/running") == []


# --- Deleting -------------------------------------------------------------------------------------


def test_only_the_owner_of_a_name_deletes_its_adapter(bench):
    record = bench.start()
    with pytest.raises(WrongState):
        bench.service.delete_adapter(OWNER, "sd", "fox")
    bench.finish(record)
    state(bench, record)
    bench.bucket.objects["loras/sd/ours.safetensors"] = b"the operator's"
    for owner, name in [(STRANGER, "fox"), (OWNER, "ours"), (OWNER, "none"), (OWNER, "../fox")]:
        with pytest.raises(TrainingUnknown):
            bench.service.delete_adapter(owner, "sd", name)

    bench.service.delete_adapter(OWNER, "sd", "fox")
    assert bench.below("loras/") == ["loras/sd/ours.safetensors"]
    assert bench.service.is_offered(record) is False
    with pytest.raises(TrainingUnknown):
        bench.service.delete_adapter(OWNER, "sd", "fox")
    assert bench.start(STRANGER).name == "fox"


# --- Pipelines ------------------------------------------------------------------------------------


EXECUTION = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/easel-main-training/execution/x"


def mark(bench, pictures=1, **fields):
    """Upload a data set of the operator's, and return its id and a function that checks it."""
    dataset = bench.dataset(places.OPERATOR, pictures)
    marker = f"{places.dataset(places.OPERATOR, dataset)}start.json"
    fields = {"name": "fox", "trigger": "a fxo", **fields}
    bench.bucket.objects[marker] = json.dumps(fields).encode()
    return dataset, lambda: check(bench.service, marker, 3_600, EXECUTION)["start"]


def train(bench, dataset, name, **more):
    """Do what the pipeline's training step does."""
    place = f"s3://bucket/{places.output(dataset)}"
    bench.sagemaker.create_training_job(
        TrainingJobName=name, OutputDataConfig={"S3OutputPath": place}
    )
    bench.sagemaker.end(name, "Failed", **more) if more else None
    return bench.service.observe(dataset, name)


def test_a_pipeline_that_ends_before_its_training_gives_everything_back(bench):
    dataset, start = mark(bench)
    assert start() == "yes"
    assert bench.service.find(places.OPERATOR, dataset).state.name == "queued"
    bench.sagemaker.execution = "Failed"
    bench.sagemaker.steps = [{"FailureReason": "ClientError: the quota is 0"}, {}]

    state = bench.service.find(places.OPERATOR, dataset).state
    assert state.error == ("It was never started; nothing was paid. ClientError: the quota is 0.")
    assert mark(bench)[1]() == "yes"


@pytest.mark.parametrize("reason", ["CapacityError: none is free", "InternalServerError: x"])
def test_a_pipelines_job_is_over_with_the_last_attempt(bench, reason):
    dataset, start = mark(bench)
    start()
    for name in ("pipelines-1", "pipelines-2"):
        train(bench, dataset, name, FailureReason=reason)
        assert bench.service.find(places.OPERATOR, dataset).state.name == "queued"
    # An event that arrives late.
    assert bench.service.observe(dataset, "pipelines-1") is not None
    job = train(bench, dataset, "pipelines-3")
    assert job.state.name == "starting"
    assert bench.service.observe(dataset, "pipelines-1") is None
    bench.sagemaker.end("pipelines-3", "Failed", FailureReason=reason)
    bench.sagemaker.execution = "Failed"

    assert bench.service.find(places.OPERATOR, dataset).state.name == "failed"
    assert bench.below(f"training/owners/{places.OPERATOR}/running") == []


def test_a_pipelines_job_that_was_resumed_is_the_pipelines_no_more(bench):
    dataset, start = mark(bench)
    start()
    train(bench, dataset, "pipelines-1", FailureReason="AlgorithmError: no")
    bench.sagemaker.execution = "Failed"
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/pipelines-1"
    bench.sagemaker.steps = [{"Metadata": {"TrainingJob": {"Arn": arn}}}]
    resumed = bench.service.resume(places.OPERATOR, dataset, on_demand=False).record
    bench.sagemaker.end(resumed.sagemaker_job, "Failed", FailureReason="CapacityError: none")

    found = bench.service.find(places.OPERATOR, dataset)
    assert (found.state.name, found.record.sagemaker_job) == ("failed", resumed.sagemaker_job)


def test_a_job_whose_event_was_lost_is_found_in_its_execution(bench):
    dataset, start = mark(bench)
    start()
    bench.sagemaker.create_training_job(TrainingJobName="pipelines-1")
    bench.sagemaker.end("pipelines-1", "Stopped")
    bench.sagemaker.execution = "Stopped"
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/pipelines-1"
    bench.sagemaker.steps = [{"Metadata": {"TrainingJob": {"Arn": arn}}}]

    assert bench.service.find(places.OPERATOR, dataset).state.name == "stopped"


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_check_that_is_cut_short_blocks_nothing_for_ever(how):
    for call in range(60):
        bench = Bench()
        dataset, start = mark(bench)
        bench.breaks.arm(call, after=how == "after")
        try:
            start()
        except (Crash, GatewayError):
            pass
        else:
            break
        bench.breaks.left = None
        bench.sagemaker.execution = "Failed"
        bench.now += STALE_SECONDS + 1
        again = start()
        assert again == "yes" or bench.service.jobs.read(dataset) is not None, call
        if again == "yes":
            bench.service.jobs.never_started(dataset)
        assert mark(bench)[1]() == "yes", call
    else:
        pytest.fail("the work never ends")
    assert call > 3


# --- Requests that meet ---------------------------------------------------------------------------


@pytest.mark.parametrize("call", range(28))
def test_of_two_requests_that_meet_one_starts(call):
    bench = Bench()
    dataset = bench.dataset(pictures=1)
    over = bench.start(name="over")
    bench.sagemaker.end(over.sagemaker_job, "Failed")

    def start(name):
        with suppress(TrainingRunning):
            bench.start(dataset=dataset, name=name)

    bench.breaks.interrupt(call, lambda: start("owl"))
    start("fox")

    running = [
        name
        for name, job in bench.sagemaker.jobs.items()
        if job["TrainingJobStatus"] == "InProgress"
    ]
    assert len(running) == 1
    assert len(bench.below(f"training/owners/{OWNER}/running")) == 1


# --- A crash at every call ------------------------------------------------------------------------


def settle(bench):
    """End whatever runs, as SageMaker would, and let claims become stale."""
    for name, job in bench.sagemaker.jobs.items():
        if job["TrainingJobStatus"] in {"InProgress", "Stopping"}:
            bench.sagemaker.end(name, "Stopped")
    bench.now += STALE_SECONDS + 1


def cancelled(bench):
    record = bench.start()
    return lambda: bench.service.cancel(OWNER, record.id)


def resumed(bench):
    record = bench.start()
    bench.sagemaker.end(record.sagemaker_job, "Failed")
    state(bench, record)
    return lambda: bench.service.resume(OWNER, record.id, on_demand=False)


def ended(status):
    def prepared(bench):
        record = bench.start()
        bench.finish(record)
        bench.sagemaker.end(record.sagemaker_job, status)
        return lambda: bench.service.find(OWNER, record.id)

    return prepared


def deleted(bench):
    record = bench.start()
    bench.finish(record)
    state(bench, record)
    return lambda: bench.service.delete_adapter(OWNER, "sd", "fox")


def forgotten(bench):
    dataset = bench.dataset(pictures=1)
    return lambda: bench.service.delete_dataset(OWNER, dataset)


WORK = {
    # A single picture is looked at in the same thread, so that calls have an order.
    "start": lambda bench: (
        lambda: bench.start(dataset=bench.dataset(pictures=1), captions={"0001": "a fox"})
    ),
    "cancel": cancelled,
    "resume": resumed,
    "published": ended("Completed"),
    "failed": ended("Failed"),
    "stopped": ended("Stopped"),
    "delete": deleted,
    "delete a data set": forgotten,
}


@pytest.mark.parametrize("how", ["before", "after", "refused"])
@pytest.mark.parametrize("work", WORK)
def test_a_crash_at_any_call_blocks_nothing_for_ever(work, how):
    """After it, the same owner can start a job of the same name, or the adapter is published."""
    for call in range(60):
        bench = Bench()
        do = WORK[work](bench)
        bench.breaks.arm(call, after=how == "after")
        if how == "refused":
            bench.breaks.error = refusal("SlowDown")
        try:
            do()
        except (Crash, GatewayError):
            pass
        else:
            break  # all calls of this work were broken, one after the other
        bench.breaks.left = None
        settle(bench)
        for training in bench.service.all_of(OWNER):
            assert training.record.ended is not None, (call, training)
        if LORA in bench.bucket.objects:
            bench.service.delete_adapter(OWNER, "sd", "fox")
        record = bench.start()
        assert state(bench, record).name == "starting", call
        bench.finish(record)
        assert state(bench, record).name == "published", call
        assert bench.below(f"training/owners/{OWNER}/running") == []
    else:
        pytest.fail("the work never ends")
    assert call > 3
