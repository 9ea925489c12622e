"""`train`: what it looks at, asks, uploads, starts, watches and publishes."""

from __future__ import annotations

import json
import re

import pytest

from endpoint.commands import destroy, doctor, status, train
from endpoint.core.naming import Deployment
from endpoint.core.training_jobs import places
from endpoint.provision import rights
from endpoint.provision.gateway import gateway_project
from endpoint.provision.training import trainer
from tests.endpoint.core.training_jobs.adapter_files import tensors, written
from tests.endpoint.doubles import BUCKET, TRAINING_IMAGE, create, draw_picture, stored
from tests.endpoint.world import ACCOUNT, REGION, aws_error, aws_response, contents
from tests.model_folders import SDXL, write_pipeline
from tests.policies import iam

START = ("--image", TRAINING_IMAGE, "--yes")


class Jobs:
    """SageMaker's training jobs, in the states that a test sets."""

    def __init__(self, world):
        self.world, self.jobs = world, {}
        for name in ("create", "describe", "stop"):
            setattr(world, f"_before_{name}_training_job", getattr(self, f"_{name}"))
        world._before_list_training_jobs = self._list

    @property
    def only(self):
        ((name, job),) = self.jobs.items()
        return name, job

    def become(self, status, secondary=None, **more):
        job = list(self.jobs.values())[-1]
        job |= {"TrainingJobStatus": status, "SecondaryStatus": secondary or status, **more}

    def _create(self, params):
        name = params["TrainingJobName"]
        state = {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Starting"}
        self.jobs[name] = {**params, **state, "CreationTime": self.world.now()}
        return aws_response(
            {"TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/x"}
        )

    def _describe(self, params):
        if params["TrainingJobName"] not in self.jobs:
            return self._missing()
        return aws_response(self.jobs[params["TrainingJobName"]])

    def _stop(self, params):
        self.jobs[params["TrainingJobName"]] |= {
            "TrainingJobStatus": "Stopped", "SecondaryStatus": "Stopped",
        }  # fmt: skip
        return aws_response({})

    def _list(self, params):
        found = [
            {"TrainingJobName": name, "TrainingJobStatus": job["TrainingJobStatus"]}
            for name, job in self.jobs.items()
            if job["TrainingJobStatus"] == params["StatusEquals"]
        ]
        return aws_response({"TrainingJobSummaries": found})

    @staticmethod
    def _missing():
        from endpoint.emulator.sagemaker.faults import Fault

        text = "Requested resource not found."
        return aws_error(Fault("refused", code="ValidationException", message=text, status=400))


@pytest.fixture
def jobs(world, tmp_path, monkeypatch):
    """A deployment, as far as training needs one, and no training job yet."""
    monkeypatch.setattr(gateway_project, "PROJECTS", tmp_path / ".easel")
    monkeypatch.setattr(train, "PROJECTS", tmp_path / ".easel")
    # Of two files: each upload takes moto some time.
    for place in ("training/__main__.py", "code/generation.py"):
        (tmp_path / "package" / place).parent.mkdir(parents=True)
        (tmp_path / "package" / place).write_text(place)
    monkeypatch.setattr(trainer, "_PACKAGE", tmp_path / "package")
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": BUCKET}}
    world.client("cloudformation").create_stack(
        StackName="easel-main",
        TemplateBody=json.dumps({"Resources": {"Bucket": bucket}}),
        Tags=[{"Key": "easel", "Value": "main"}],
    )
    return Jobs(world)


@pytest.fixture
def model(tmp_path):
    return str(write_pipeline(tmp_path / "tiny"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        draw_picture(folder / f"my photo {number}.png", number)
        (folder / f"my photo {number}.txt").write_text(f"a house {number} in the rain")
    return folder


def start(world, folder, model, *more, name="water"):
    return world.run(train.main, str(folder), "--model", model, "--name", name, *START, *more)


def read(world, key):
    return world.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()


def put(world, key, body):
    world.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)


def job_id(world):
    (key,) = [key for key in stored(world, "training/jobs/") if key.endswith("record.json")]
    return key.split("/")[2]


def progress(world, steps):
    lines = [
        json.dumps({"step": n, "loss": 1 / n, "rate": 1e-4, "seconds": 0.5, "cost": n / 1000})
        for n in range(1, steps + 1)
    ]
    put(world, places.progress(job_id(world)), "\n".join(lines).encode())


def finish(world, jobs, body=None):
    """End the job as the trainer does, with its adapter."""
    name, _ = jobs.only
    key = f"{places.output(job_id(world))}{name}/output/model/water.safetensors"
    put(world, key, written(tensors()) if body is None else body)
    jobs.become("Completed", BillableTimeInSeconds=600)


def on_sleep(world, act):
    """Do something when the script waits for the first time."""
    sleep = world.sleep

    def once(seconds):
        world.sleep = sleep
        act()
        sleep(seconds)

    world.sleep = once


# --- Starting --------------------------------------------------------------------------------


def test_a_job_is_started_with_the_pictures_under_names_of_its_own(
    world, jobs, photos, model, capsys
):
    assert start(world, photos, model, "--trigger", "wtrclr style", "--steps", "300") == 0

    said = capsys.readouterr()
    assert "6 pictures (PNG), from 512 x 512 to 512 x 512." in said.err
    assert "300 steps on one ml.g5.xlarge (spot)" in said.err
    assert "USD" in said.err
    assert "--watch water" in said.out
    name, request = jobs.only
    identifier = job_id(world)
    assert name == f"easel-main-{identifier}"
    channels = {
        one["ChannelName"]: one["DataSource"]["S3DataSource"]["S3Uri"].removeprefix(
            f"s3://{BUCKET}/"
        )
        for one in request["InputDataConfig"]
    }
    pictures = [key.removeprefix(channels["pictures"]) for key in stored(world, "datasets/")]
    assert pictures == [f"{n:04}.{end}" for n in range(1, 7) for end in ("png", "txt")]
    caption = read(world, f"{channels['pictures']}0002.txt").decode()
    assert caption == "wtrclr style, a house 1 in the rain"
    written_job = json.loads(read(world, places.job_file(identifier)))
    assert (written_job["name"], written_job["steps"]) == ("water", 300)
    assert 0 < written_job["usd_per_hour"] < 1.408
    assert f"{channels['code']}training/__main__.py" in stored(world, channels["code"])
    assert f"{channels['code']}generation.py" in stored(world, channels["code"])
    assert f"{channels['model']}unet/config.json" in stored(world, channels["model"])
    assert request["RoleArn"].endswith(f"role/easel-main-training-{REGION}")
    assert request["EnableManagedSpotTraining"] is True
    assert request["StoppingCondition"]["MaxRuntimeInSeconds"] <= 3_600
    claim = json.loads(read(world, "training/names/tiny/water.json"))
    assert claim["id"] == identifier


def test_text_from_people_is_in_the_job_file_and_captions_only(world, jobs, photos, model):
    text = "$(touch x) 'zq' -- ../"
    prompts = ("--sample-prompt", text, "--sample-prompt", "b")
    assert start(world, photos, model, "--trigger", text, *prompts) == 0

    _, request = jobs.only
    del request["CreationTime"]
    assert "zq" not in json.dumps(request)
    assert not [key for key in stored(world) if "zq" in key or "photo" in key]
    assert json.loads(read(world, places.job_file(job_id(world))))["sample_prompts"] == [text, "b"]


def test_on_demand_pays_the_full_price_and_does_not_wait(world, jobs, photos, model):
    assert start(world, photos, model, "--on-demand", "--instance-type", "ml.g6.xlarge") == 0

    _, request = jobs.only
    assert request["ResourceConfig"]["InstanceType"] == "ml.g6.xlarge"
    assert "MaxWaitTimeInSeconds" not in request["StoppingCondition"]
    assert json.loads(read(world, places.job_file(job_id(world))))["usd_per_hour"] == 1.127


def test_pictures_of_the_class_are_a_channel_of_their_own(world, jobs, photos, model, tmp_path):
    draw_picture_folder = tmp_path / "dogs"
    draw_picture_folder.mkdir()
    draw_picture(draw_picture_folder / "d.png", 3)
    more = ("--class-pictures", str(draw_picture_folder), "--class-prompt", "a dog")
    assert start(world, photos, model, *more) == 0

    _, request = jobs.only
    channels = {one["ChannelName"] for one in request["InputDataConfig"]}
    assert "class" in channels
    assert json.loads(read(world, places.job_file(job_id(world))))["preserve"] == "pictures"


def test_repeats_of_folders_stay(world, jobs, photos, model):
    folder = photos / "10_a cottage"
    folder.mkdir()
    draw_picture(folder / "c.png", 9)
    assert start(world, photos, model) == 0

    keys = [key for key in stored(world, "datasets/") if "10_pictures" in key]
    assert len(keys) == 2
    assert read(world, next(key for key in keys if key.endswith(".txt"))) == b"a cottage"


def test_a_dry_run_uploads_nothing_and_prints_the_request(world, jobs, photos, model, capsys):
    before = stored(world)
    del world._before_create_training_job  # which would answer first
    assert start(world, photos, model, "--dry-run") == 0

    said = capsys.readouterr()
    assert "would call sagemaker.CreateTrainingJob" in said.err
    assert "USD" in said.err
    assert stored(world) == before
    assert jobs.jobs == {}
    assert "easel-main-training" not in "".join(contents(world))


def test_without_a_yes_nothing_is_started(world, jobs, photos, model, capsys):
    arguments = (str(photos), "--model", model, "--name", "water", "--image", TRAINING_IMAGE)
    assert world.run(train.main, *arguments) == 1

    assert "Pass --yes to confirm" in capsys.readouterr().err
    assert jobs.jobs == {}
    assert not stored(world, "training/jobs/")


def test_without_a_deployment_nothing_is_looked_up(world, photos, model, capsys):
    assert start(world, photos, model) == 1

    assert "There is no deployment main" in capsys.readouterr().err


def test_kohyas_file_is_translated_with_a_report(world, jobs, photos, model, tmp_path, capsys):
    file = tmp_path / "config.toml"
    file.write_text(
        'network_dim = 8\nmax_train_epochs = 50\nunit = 3\noutput_name = "theirs"\n', "utf-8"
    )
    assert start(world, photos, model, "--kohya", str(file), "--rank", "4") == 0

    written_job = json.loads(read(world, places.job_file(job_id(world))))
    assert (written_job["rank"], written_job["steps"], written_job["name"]) == (4, 300, "water")
    said = capsys.readouterr().err
    assert "kohya: unit: ignored: is not known" in said
    assert "kohya: network_dim: understood: rank = 8" in said


def test_sets_of_kohyas_file_are_uploaded_under_names_of_our_own(
    world, jobs, photos, model, tmp_path
):
    for name in ("dogs/Rex", "cats/Tom", "animals/Any"):
        (photos / name).parent.mkdir()
        draw_picture(photos / f"{name}.png", len(name))
    subset = '[[datasets.subsets]]\nimage_dir = "/data/{}"\nnum_repeats = {}\nclass_tokens = "{}"\n'
    file = tmp_path / "config.toml"
    file.write_text(
        "[[datasets]]\n" + subset.format("dogs", 3, "rex") + subset.format("cats", 1, "tom")
        + subset.format("animals", 2, "an animal") + "is_reg = true\n", "utf-8",
    )  # fmt: skip
    assert start(world, photos, model, "--kohya", str(file), "--steps", "20") == 0

    job = json.loads(read(world, places.job_file(job_id(world))))
    assert [(one["folder"], one["repeats"]) for one in job["sets"]] == [("set-1", 3), ("set-2", 1)]
    files = stored(world, "datasets/")
    captions = {key.split("/", 3)[3]: read(world, key) for key in files if key.endswith(".txt")}
    assert {key: text for key, text in captions.items() if "set" in key or b"animal" in text} == {
        "set-1/0002.txt": b"rex",
        "set-2/0001.txt": b"tom",
        "2_pictures/0001.txt": b"an animal",
    }
    (_, request) = jobs.only
    assert "class" in {one["ChannelName"] for one in request["InputDataConfig"]}


def test_prodigy_is_uploaded_with_the_trainer_where_it_is_installed(tmp_path, monkeypatch):
    before = trainer.code_prefix()
    package = tmp_path / trainer._PRODIGY
    package.mkdir()
    (package / "__init__.py").write_text("Prodigy = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert trainer.has_prodigy()
    assert f"{trainer._PRODIGY}/__init__.py" in {file.place for file in trainer.code_files()}
    assert trainer.code_prefix() != before


def test_a_refused_start_gives_the_name_back(world, jobs, photos, model, capsys):
    world.fail("CreateTrainingJob", "ResourceLimitExceeded", "The limit is 0", times=1)
    assert start(world, photos, model) == 1

    assert "The limit is 0" in capsys.readouterr().err
    assert not stored(world, "training/names/")
    assert start(world, photos, model) == 0


# --- What is refused -------------------------------------------------------------------------


def test_pictures_that_cannot_be_used_are_all_named(world, jobs, photos, model, capsys):
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")
    (photos / "page.jpg").write_bytes(b"<html>")
    assert start(world, photos, model, "--prompt", "a house") == 2

    said = capsys.readouterr().err
    assert "broken.png cannot be decoded" in said
    assert "page.jpg cannot be decoded" in said
    assert jobs.jobs == {}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "has no caption"),
        (("--prompt", "x", "--rank", "999"), "--rank: must be a whole number from 1 to 256"),
        (("--prompt", "x" * 1_001), "--prompt: must be at most 1,000 characters"),
        (("--prompt", "x", "--preserve", "output"), "--class-prompt: is required"),
        (("--prompt", "x", "--preserve", "pictures"), "--preserve: pictures needs pictures"),
        (("--prompt", "x", "--steps", "20000"), "--steps: 20,000 of them would take"),
        (("--prompt", "x", "--resolution", "100"), "--resolution: must be a multiple of 8"),
        (("--prompt", "x", "--sample-prompt", ""), "--sample-prompt: each of its texts"),
        (("--prompt", "x", "--instance-type", "ml.p9.big"), "price and the speed of ml.p9.big"),
        (("--prompt", "x", "--name", "a b"), "--name: must be a name"),
        (("--prompt", "x", "--stop", "y"), "Pass a folder of pictures, or one of"),
        (("--prompt", "x", "--kohya", "nowhere.toml"), "--nowhere.toml: cannot be read as TOML"),
    ],
)
def test_a_wrong_option_is_named_before_any_cost(world, jobs, photos, model, capsys, more, words):
    for file in photos.glob("*.txt"):
        file.unlink()
    assert start(world, photos, model, *more) == 2

    assert words in capsys.readouterr().err
    assert jobs.jobs == {}
    assert not stored(world, "datasets/")


def test_more_than_an_hour_needs_a_word(world, jobs, photos, model):
    assert start(world, photos, model, "--steps", "20000", "--long") == 0

    _, request = jobs.only
    assert request["StoppingCondition"]["MaxRuntimeInSeconds"] > 3_600


@pytest.mark.parametrize("chosen", ["sdxl-turbo", "flux2-klein"])
def test_a_model_that_cannot_be_trained_is_refused(world, jobs, photos, capsys, chosen):
    assert start(world, photos, chosen) == 2

    assert f"{chosen} cannot be trained" in capsys.readouterr().err


def test_nothing_to_do_is_an_error(world, capsys):
    assert world.run(train.main) == 2

    assert "There is nothing to train" in capsys.readouterr().err


def test_a_taken_name_is_refused(world, jobs, photos, model, capsys):
    put(world, places.adapter("tiny", "water"), b"x")
    assert start(world, photos, model) == 2
    assert "tiny has an adapter called water already" in capsys.readouterr().err

    assert start(world, photos, model, name="oil") == 0
    assert start(world, photos, model, name="oil") == 2
    assert "is taken by the training job" in capsys.readouterr().err


def test_the_name_of_a_failed_job_is_free(world, jobs, photos, model):
    assert start(world, photos, model) == 0
    jobs.become("Failed", FailureReason="AlgorithmError: A sentence., exit code: 1")

    assert start(world, photos, model) == 0


def test_a_quota_of_zero_says_how_to_raise_it(world, jobs, photos, model, capsys, monkeypatch):
    quotas = dict.fromkeys(
        (f"{kind} for spot training job usage" for kind in ("ml.g5.xlarge", "ml.g6.xlarge",
                                                           "ml.g4dn.xlarge")), 0.0)  # fmt: skip
    answer = [{"QuotaName": name, "Value": value, "QuotaCode": "L-1"}
              for name, value in quotas.items()]  # fmt: skip
    world._before_list_service_quotas = lambda _: aws_response({"Quotas": answer})
    assert start(world, photos, model) == 1

    said = capsys.readouterr().err
    assert "for spot training job usage (the quota is 0)" in said
    assert "request-service-quota-increase" in said
    assert "--on-demand" in said


# --- Watching --------------------------------------------------------------------------------


def test_a_watched_job_ends_on_the_endpoints_shelf(world, jobs, photos, model, capsys):
    def go_on():
        progress(world, 40)
        put(world, places.sample(job_id(world), 0), b"a sheet")
        jobs.become("InProgress", "Training")
        on_sleep(world, lambda: finish(world, jobs))

    on_sleep(world, go_on)
    assert start(world, photos, model, "--steps", "40", "--watch") == 0

    said = capsys.readouterr()
    assert "training, step 40 of 40, loss" in said.err
    assert "│" in said.err  # the curve
    assert re.search(r"samples of step 0: \S+step-00000.png \(s3://", said.err)
    assert "water is trained and published" in said.out
    assert read(world, places.adapter("tiny", "water")) == written(tensors())
    record = json.loads(read(world, places.record(job_id(world))))
    assert record["published"]


def test_json_has_the_names_of_the_gateway(world, jobs, photos, model, capsys):
    on_sleep(world, lambda: (progress(world, 10), finish(world, jobs)))
    assert start(world, photos, model, "--steps", "40", "--watch", "--json") == 0

    data = json.loads(capsys.readouterr().out)
    assert data["state"] == "published"
    assert (data["step"], data["steps"]) == (10, 40)
    assert data["loss"][0] == [1, 1.0]
    assert data["cost"]["so_far"] == pytest.approx(600 / 3_600 * 1.408 * 0.4, abs=1e-4)
    assert data["result"].endswith("loras/tiny/water.safetensors")


def test_ctrl_c_leaves_the_job_running(world, jobs, photos, model, capsys):
    def interrupt():
        raise KeyboardInterrupt

    on_sleep(world, interrupt)
    assert start(world, photos, model, "--watch") == 0

    assert "--watch water` joins it again" in capsys.readouterr().out
    _, job = jobs.only
    assert job["TrainingJobStatus"] == "InProgress"
    finish(world, jobs)
    assert world.run(train.main, "--watch", "water") == 0


def test_a_failure_is_one_sentence_and_frees_the_name(world, jobs, photos, model, capsys):
    assert start(world, photos, model) == 0
    reason = "AlgorithmError: The GPU's memory is full; lower batch_size., exit code: 1"
    jobs.become("Failed", FailureReason=reason)
    assert world.run(train.main, "--watch", job_id(world)) == 1

    said = capsys.readouterr().err
    assert "The training job water failed: The GPU's memory is full; lower batch_size." in said
    assert "--resume water" in said
    assert not stored(world, "training/names/")


@pytest.mark.parametrize("body", [b"", b"PK\x03\x04", written(tensors())[:-2]])
def test_an_adapter_that_cannot_be_used_is_not_published(world, jobs, photos, model, capsys, body):
    assert start(world, photos, model) == 0
    finish(world, jobs, body)
    assert world.run(train.main, "--watch", "water") == 1

    assert "The adapter" in capsys.readouterr().err
    assert not stored(world, "loras/tiny/water")


def test_an_adapter_that_the_gateway_published_is_found(world, jobs, photos, model):
    assert start(world, photos, model) == 0
    finish(world, jobs)
    put(world, places.adapter("tiny", "water"), written(tensors()))

    assert world.run(train.main, "--watch", "water") == 0


def test_a_job_without_an_adapter_says_where_to_look(world, jobs, photos, model, capsys):
    assert start(world, photos, model) == 0
    jobs.become("Completed")
    assert world.run(train.main, "--watch", "water") == 1

    assert "has left no adapter" in capsys.readouterr().err


# --- Stopping, resuming, listing --------------------------------------------------------------


def test_a_stopped_job_is_resumed_from_its_checkpoints(world, jobs, photos, model, capsys):
    assert start(world, photos, model) == 0
    name, first = jobs.only
    progress(world, 7)
    assert world.run(train.main, "--stop", "water", "--yes") == 0
    assert "No instance runs for it" in capsys.readouterr().out
    assert not stored(world, "training/names/")
    assert world.run(train.main, "--resume", "water", "--on-demand", "--yes") == 0

    assert list(jobs.jobs) == [name, f"{name}-2"]
    again = jobs.jobs[f"{name}-2"]
    assert again["InputDataConfig"] == first["InputDataConfig"]
    assert again["CheckpointConfig"] == first["CheckpointConfig"]
    assert again["EnableManagedSpotTraining"] is False
    record = json.loads(read(world, places.record(job_id(world))))
    assert (record["attempt"], record["sagemaker_job"]) == (2, f"{name}-2")
    assert record["usd_per_hour"] == pytest.approx(1.408)
    assert stored(world, "training/names/")


@pytest.mark.parametrize("option", ["--stop", "--resume", "--watch"])
def test_an_unknown_job_is_refused(world, jobs, capsys, option):
    assert world.run(train.main, option, "nothing", "--yes") == 2

    assert "There is no training job 'nothing'" in capsys.readouterr().err


def test_a_running_job_is_not_resumed_and_an_ended_one_not_stopped(
    world, jobs, photos, model, capsys
):
    assert start(world, photos, model) == 0
    assert world.run(train.main, "--resume", "water", "--yes") == 2
    assert "is starting; only one that failed" in capsys.readouterr().err
    finish(world, jobs)
    assert world.run(train.main, "--stop", "water", "--yes") == 2
    assert "is completed already" in capsys.readouterr().err


def test_a_job_that_its_pipeline_has_not_started_is_neither_stopped_nor_resumed(
    world, jobs, photos, model, capsys
):
    assert start(world, photos, model) == 0
    key = places.record(job_id(world))
    record = json.loads(read(world, key)) | {"sagemaker_job": "", "execution": "arn"}
    put(world, key, json.dumps(record).encode())
    assert world.run(train.main, "--stop", "water", "--yes") == 2
    assert "The pipeline has not started the job" in capsys.readouterr().err
    put(world, key, json.dumps(record | {"error": "The quota is 0."}).encode())
    assert world.run(train.main, "--resume", "water", "--yes") == 1
    assert "SageMaker has no job of" in capsys.readouterr().err


def test_all_jobs_are_listed(world, jobs, photos, model, capsys):
    assert world.run(train.main, "--list") == 0
    assert "There are no training jobs." in capsys.readouterr().out
    assert start(world, photos, model) == 0
    capsys.readouterr()

    assert world.run(train.main, "--list") == 0
    assert re.match(r"water \(tiny, \w{12}\): starting, step 0 of 600", capsys.readouterr().out)
    assert world.run(train.main, "--list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["jobs"][0]["name"] == "water"


# --- The deployment --------------------------------------------------------------------------


def test_a_running_job_is_in_the_status_and_destroy_stops_it(world, jobs, photos, model, capsys):
    world._before_list_tags = lambda params: (
        aws_response({"Tags": [{"Key": "easel", "Value": "main"}]})
        if "training-job" in params["ResourceArn"]
        else None
    )
    assert create(world) == 0
    assert start(world, photos, model) == 0
    capsys.readouterr()
    assert world.run(status.main) == 0
    assert re.search(
        r"training job easel-main-\w{12}, .*1.408 USD per hour", capsys.readouterr().out
    )

    assert world.run(destroy.main, "--yes") == 0
    assert jobs.only[1]["TrainingJobStatus"] == "Stopped"
    assert contents(world) == []


def test_trained_adapters_are_named_before_destroy_deletes_them(world, jobs, photos, model, capsys):
    assert start(world, photos, model) == 0
    finish(world, jobs)
    assert world.run(train.main, "--watch", "water") == 0
    capsys.readouterr()

    assert world.run(destroy.main, "--yes") == 0
    assert f"s3://{BUCKET}/loras/tiny/water.safetensors" in capsys.readouterr().err
    assert contents(world) == []


def test_the_policy_for_training_allows_every_call(world, jobs, photos, model):
    deployment = Deployment("main", ACCOUNT, REGION)
    world.requests.clear()
    assert start(world, photos, model) == 0
    assert world.run(train.main, "--stop", "water", "--yes") == 0
    assert world.run(train.main, "--resume", "water", "--yes") == 0
    finish_last = list(jobs.jobs)[-1]
    put(world, f"{places.output(job_id(world))}{finish_last}/output/model/water.safetensors",
        written(tensors()))  # fmt: skip
    jobs.become("Completed")
    assert world.run(train.main, "--watch", "water") == 0
    requests = [request for call in world.requests for request in iam.requests_of(*call)]
    policies = [rights.policy(deployment), rights.policy(deployment, "training")]
    both = {"Statement": [one for policy in policies for one in policy["Statement"]]}

    assert iam.refused(both, requests) == []
    without = {"Statement": policies[0]["Statement"]}
    assert {request.action for request in iam.refused(without, requests)} >= {
        "sagemaker:CreateTrainingJob",
        "sagemaker:StopTrainingJob",
        "cloudformation:CreateStack",
    }


def test_the_doctor_looks_at_the_quotas_of_training(world, jobs, monkeypatch, capsys):
    from endpoint.provision import checks

    monkeypatch.setattr(checks, "ask_the_hub", lambda _model: {"gated": False})
    serving = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/huggingface-pytorch-inference:some-tag"
    world.run(doctor.main, "--image", serving, "--training", "--json")

    found = json.loads(capsys.readouterr().out)["checks"]
    training = [one for one in found if one["subject"] == "training"]
    assert any("spot training job usage" in one["finding"] for one in training)
    assert any("s per step on ml.g5.xlarge" in one["finding"] for one in training)


def test_the_resolution_of_a_folder_is_its_files(tmp_path):
    from endpoint.catalogue import models

    folder = write_pipeline(tmp_path / "big", "StableDiffusionXLPipeline", SDXL)
    (folder / "unet" / "config.json").write_text('{"sample_size": 96}')
    (folder / "vae" / "config.json").write_text('{"block_out_channels": [1, 2, 3, 4]}')

    assert trainer.family_of(models.resolve(str(folder))).resolution == 768
