"""Fine-tuning over HTTP: data sets, jobs and adapters, with keys, sessions and links."""

import io
import json
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import app as gateway
from chalicelib.access_settings import Protection
from chalicelib.image_files import LARGEST_PICTURE
from chalicelib.training_jobs import places
from chalicelib.training_jobs.job import RULES
from tests.gateway.documented import response_as_documented
from tests.gateway.doubles import KEY, OTHER_KEY, TRAINING, GuardedClient, error_of, guarded, key
from tests.gateway.training.doubles import OWNER, PNG, adapter

PICTURE = {"type": "image/png", "size": 1_000}
KEYS = {"x_api_key": KEY}


class TrainingClient(GuardedClient):
    """A client of a gateway that trains, with the keys of two people."""

    def __init__(self, monkeypatch, **more):
        protection = guarded(keys=(key(), key("bob", OTHER_KEY)), **more)
        super().__init__(monkeypatch, protection, 24, training=TRAINING)

    def dataset(self, pictures=2):
        """Return the id of a data set that was uploaded as its forms say."""
        response = self.post("/datasets", {"files": [PICTURE] * pictures}, **KEYS)
        described = response_as_documented("/datasets", "post", response)
        for upload in described["uploads"]:
            self.bucket.objects[upload["fields"]["key"]] = PNG
        return described["dataset"]

    def start(self, **fields):
        """Return the description of a job that was started."""
        fields = {"name": "fox", "trigger": "a fxo", **fields}
        fields.setdefault("dataset", self.dataset())
        response = self.post("/train", fields, **KEYS)
        return response_as_documented("/train", "post", response)

    def write(self, job, name, body):
        self.bucket.objects[f"{places.checkpoints(job)}{name}"] = body

    def finish(self, job, body=None):
        key = f"{places.output(job)}easel-main-{job}/output/model/fox.safetensors"
        self.bucket.objects[key] = adapter() if body is None else body
        self.trainings.end(f"easel-main-{job}", BillableTimeInSeconds=600)

    def show(self, job):
        response = self.get(f"/train/{job}", **KEYS)
        return response_as_documented("/train/{identifier}", "get", response)


@pytest.fixture
def client(monkeypatch):
    return TrainingClient(monkeypatch)


# --- Data sets ------------------------------------------------------------------------------------


def test_a_data_set_has_a_form_for_each_file_with_a_name_of_the_servers(client):
    files = [
        PICTURE,
        {"type": "text/plain", "size": 20, "caption_of": 2},
        {"type": "image/jpeg", "size": 20_000_000},
        {"type": "image/webp", "size": 1},
    ]
    response = client.post("/datasets", {"files": files}, **KEYS)
    described = response_as_documented("/datasets", "post", response)

    assert response.status_code == 201
    names = ["0001.png", "0002.txt", "0002.jpg", "0003.webp"]
    assert [upload["name"] for upload in described["uploads"]] == names
    prefix = f"datasets/{OWNER}/{described['dataset']}/"
    assert [upload["fields"]["key"] for upload in described["uploads"]] == [
        prefix + name for name in names
    ]


def test_a_data_set_is_deleted_by_its_owner_unless_a_job_trains_on_it(client):
    dataset, other = client.dataset(), client.dataset()
    job = client.start(dataset=dataset)["id"]

    def delete(identifier, **headers):
        response = client.request("DELETE", f"/datasets/{identifier}", **(headers or KEYS))
        if response.status_code != 204:
            response_as_documented("/datasets/{identifier}", "delete", response)
        return response.status_code

    assert delete(dataset, x_api_key=OTHER_KEY) == 404
    assert delete(dataset) == 409
    assert delete(other) == 204
    assert delete(other) == 404
    client.trainings.end(f"easel-main-{job}", "Failed")
    assert delete(dataset) == 204
    assert not any(dataset in key and "jobs" not in key for key in client.bucket.objects)
    for unknown in ("a" * 12, "..%2fx", f"{dataset}/", "%00"):
        assert delete(unknown) in {403, 404}
    response = client.post(f"/train/{job}/resume", {}, **KEYS)
    assert error_of(response)["code"] == "wrong_state"


def test_a_key_has_a_number_of_data_sets(client):
    for _ in range(100):
        client.dataset(1)
    response = client.post("/datasets", {"files": [PICTURE]}, **KEYS)

    assert (response.status_code, error_of(response)["code"]) == (429, "training_quota_used")
    others = client.post("/datasets", {"files": [PICTURE]}, x_api_key=OTHER_KEY)
    assert others.status_code == 201


CAPTION = {"type": "text/plain", "size": 5, "caption_of": 0}
WRONG_FILES = {
    "no list": {},
    "none": [],
    "no picture": [{**CAPTION}],
    "no object": ["image/png"],
    "gif": [{"type": "image/gif", "size": 5}],
    "svg": [{"type": "image/svg+xml", "size": 5}],
    "html": [{"type": "text/html", "size": 5}],
    "no type": [{"size": 5}],
    "a type that is a list": [{"type": ["image/png"], "size": 5}],
    "no size": [{"type": "image/png"}],
    "empty": [{"type": "image/png", "size": 0}],
    "text": [{"type": "image/png", "size": "5"}],
    "true": [{"type": "image/png", "size": True}],
    "too large": [{"type": "image/png", "size": 20_000_001}],
    "long caption": [PICTURE, {**CAPTION, "size": 16_001}],
    "a name": [{**PICTURE, "name": "../x.png"}],
    "caption of nothing": [PICTURE, {"type": "text/plain", "size": 5}],
    "caption of a caption": [PICTURE, {**CAPTION, "caption_of": 1}],
    "caption of another set": [PICTURE, {**CAPTION, "caption_of": 2}],
    "two captions": [PICTURE, CAPTION, CAPTION],
    "201": [PICTURE] * 201,
    "401": [PICTURE] * 401,
    "2 GB": [{"type": "image/png", "size": 20_000_000}] * 101,
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_wrong_files_are_refused_by_name(client, case):
    response = client.post("/datasets", {"files": WRONG_FILES[case]}, **KEYS)

    assert response.status_code == 400
    assert error_of(response)["field"].startswith("files")
    response_as_documented("/datasets", "post", response)


# --- A job ----------------------------------------------------------------------------------------


def test_a_price_costs_nothing_and_leaves_nothing(client):
    dataset = client.dataset()
    before = dict(client.bucket.objects)
    body = {"dataset": dataset, "name": "fox", "trigger": "a fxo", "dry_run": True}
    response = client.post("/train", body, **KEYS)
    price = json.loads(response.body)

    assert response.status_code == 200
    assert (price["model"], price["steps"], price["pictures"]) == ("sd", 400, 2)
    assert 0 < price["cost"]["low"] < price["cost"]["expected"] < price["cost"]["most"]
    assert price["seconds"]["expected"] == 700
    assert "id" not in price
    assert client.bucket.objects == before
    assert client.trainings.jobs == {}


def test_a_dry_run_in_the_query_starts_nothing_either(client):
    dataset = client.dataset()
    before = dict(client.bucket.objects)
    body = {"dataset": dataset, "name": "fox", "trigger": "a fxo"}
    own = client.post("/train?dry_run=1", body, **KEYS)
    path = f"s3://bucket/datasets/{OWNER}/{dataset}/"
    query = f"collection_s3_path={quote(path)}&prompt=a%20dog&output_dir_name=fox"
    theirs = client.post(f"/train?dry_run=1&{query}", {}, **KEYS)

    assert [each.status_code for each in (own, theirs)] == [200, 200]
    assert all("cost" in json.loads(each.body) for each in (own, theirs))
    assert client.bucket.objects == before
    assert client.trainings.jobs == {}


def test_a_price_needs_no_data_set_but_the_number_of_its_pictures(client):
    body = {"pictures": 5, "name": "fox", "trigger": "a fxo", "captions": {"0005": "a fox"}}
    price = json.loads(client.post("/train", {**body, "dry_run": True}, **KEYS).body)
    assert (price["steps"], price["pictures"]) == (500, 5)
    assert client.bucket.objects == {}

    wrong = [
        ("captions", {**body, "dry_run": True, "captions": {"0006": "a fox"}}),
        ("pictures", {**body, "dry_run": True, "pictures": 201}),
        ("pictures", {**body, "dry_run": True, "dataset": "abcdefghijkl"}),
        ("pictures", body),
    ]
    for field, asked in wrong:
        response = client.post("/train", asked, **KEYS)
        assert (response.status_code, error_of(response)["field"]) == (400, field), asked
    assert client.trainings.jobs == {}


def test_the_page_is_for_callers_that_can_train_and_may_upload_to_the_bucket(client):
    page = client.get("/teach", **KEYS)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "connect-src 'self' https://bucket.example;" in page.headers["Content-Security-Policy"]
    again = client.get("/teach", **KEYS, **{"If-None-Match": page.headers["ETag"]})
    assert again.status_code == 304

    without = client.get("/teach", Accept="text/html")
    assert (without.status_code, b'id="sign-in"' in without.body) == (401, True)
    assert client.get(f"/teach?link={client.link(pictures=5)}").status_code == 403


def test_a_job_is_watched_from_its_start_to_a_picture_with_it(client):
    started = client.start(sample_prompts=["a fox"])
    job = started["id"]
    assert started["state"] == "queued"
    assert started["url"] == f"/train/{job}"

    client.trainings.jobs[f"easel-main-{job}"]["SecondaryStatus"] = "Training"
    steps = range(1, 601)
    lines = [json.dumps({"step": n, "loss": 1 / n, "seconds": 2.0, "cost": n}) for n in steps]
    lines.append(json.dumps({"step": 600, "validation": 0.5}))
    client.write(job, "progress.jsonl", "\n".join([*lines, '{"step": 6']).encode())
    for step in (0, 200):
        client.write(job, f"samples/step-{step:05}.png", PNG)
    shown = client.show(job)
    assert (shown["state"], shown["step"], shown["seconds_left"]) == ("training", 600, 0)
    assert len(shown["loss"]) == 500
    assert shown["validation"] == [[600, 0.5]]
    assert shown["samples"] == [f"/train/{job}/samples/{step}" for step in (0, 200)]
    assert shown["result"] is None

    client.finish(job)
    shown = client.show(job)
    assert shown["state"] == "published"
    assert shown["cost"]["so_far"] == pytest.approx(0.25)
    assert shown["result"]["lora"] == "fox"
    assert shown["result"]["url"] == "/inference/a%20fxo?model=sd&lora=fox"
    assert client.bucket.objects["loras/sd/fox.safetensors"] == adapter()
    assert client.get(shown["result"]["url"], **KEYS).status_code == 200


def test_a_filter_that_only_warns_names_the_category(monkeypatch):
    client = TrainingClient(monkeypatch, filter_mode="warn")
    body = {"dataset": client.dataset(), "name": "fox", "trigger": "nude", "dry_run": True}
    response = client.post("/train", body, **KEYS)

    assert response.status_code == 200
    assert response.headers["X-Prompt-Warning"]


def test_the_second_job_of_a_key_gets_the_url_of_the_first(client):
    job = client.start()["id"]
    body = {"dataset": client.dataset(), "name": "owl", "trigger": "x"}
    response = client.post("/train", body, **KEYS)

    assert response.status_code == 409
    assert error_of(response)["code"] == "training_running"
    assert response.headers["Location"] == f"/train/{job}"


def test_the_list_has_the_callers_jobs_alone(client):
    job = client.start()["id"]
    mine = response_as_documented("/train", "get", client.get("/train", **KEYS))["jobs"]
    theirs = json.loads(client.get("/train", x_api_key=OTHER_KEY).body)["jobs"]

    assert [one["id"] for one in mine] == [job]
    assert theirs == []


def test_the_curve_and_the_samples_are_pictures_for_a_signed_in_browser(client):
    job = client.start()["id"]
    sheet = io.BytesIO()
    Image.new("RGB", (16, 8), "teal").save(sheet, "png")
    client.write(job, "samples/step-00000.png", sheet.getvalue())
    browser = {"Cookie": client.sign_in(), "Sec-Fetch-Site": "same-origin", "Accept": "image/*"}

    curve = client.get(f"/train/{job}/loss.svg", **browser)
    assert curve.headers["Content-Type"].startswith("image/svg+xml")
    assert "sandbox" in curve.headers["Content-Security-Policy"]
    again = client.get(
        f"/train/{job}/loss.svg", **browser, **{"If-None-Match": curve.headers["ETag"]}
    )
    assert (again.status_code, again.body) == (304, b"")

    sample = client.get(f"/train/{job}/samples/0", **browser)
    assert sample.headers["Content-Type"] == "image/png"
    assert sample.headers["Cache-Control"] == "private, max-age=86400"
    assert sample.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert Image.open(io.BytesIO(sample.body)).size == (16, 8)
    again = client.get(
        f"/train/{job}/samples/0", **browser, **{"If-None-Match": sample.headers["ETag"]}
    )
    assert again.status_code == 304
    other_site = {**browser, "Sec-Fetch-Site": "cross-site"}
    assert client.get(f"/train/{job}/samples/0", **other_site).status_code == 401


def test_a_sheet_that_does_not_fit_a_response_is_in_s3(client):
    job = client.start()["id"]
    client.write(job, "samples/step-00200.png", b"\x89PNG" + b"\0" * LARGEST_PICTURE)
    response = client.get(f"/train/{job}/samples/200", **KEYS)

    assert response.status_code == 303
    assert response.headers["Location"].startswith(f"https://bucket.example/training/jobs/{job}/")


@pytest.mark.parametrize("step", ["1", "-1", "x", "1.5", "٣", "9" * 30, "..%2F..%2Frecord"])
def test_a_sample_that_is_not_there_is_unknown(client, step):
    job = client.start()["id"]
    response = client.get(f"/train/{job}/samples/{step}", **KEYS)

    assert response.status_code == 404


def test_a_job_is_cancelled_and_resumed(client):
    job = client.start()["id"]
    response = client.post(f"/train/{job}/cancel", {}, **KEYS)
    stopped = response_as_documented("/train/{identifier}/cancel", "post", response)
    assert stopped["state"] == "stopping"
    client.trainings.end(f"easel-main-{job}", "Stopped", BillableTimeInSeconds=360)
    assert client.show(job)["cost"]["so_far"] == pytest.approx(0.15)
    again = client.post(f"/train/{job}/cancel", {}, **KEYS)
    assert (again.status_code, error_of(again)["code"]) == (409, "wrong_state")

    response = client.request("POST", f"/train/{job}/resume", b"", **KEYS)
    resumed = response_as_documented("/train/{identifier}/resume", "post", response)
    assert response.status_code == 202
    assert (resumed["state"], resumed["attempt"]) == ("queued", 2)
    assert f"easel-main-{job}-2" in client.trainings.jobs


@pytest.mark.parametrize("body", [{"on_demand": "yes"}, {"steps": 5}])
def test_a_wrong_field_of_a_resumption_is_named(client, body):
    job = client.start()["id"]
    response = client.post(f"/train/{job}/resume", body, **KEYS)

    assert error_of(response)["field"] == next(iter(body))


def test_an_adapter_is_deleted_by_its_owner_alone(client):
    job = client.start()["id"]
    client.finish(job)
    client.show(job)

    assert client.request("DELETE", "/loras/sd/fox", x_api_key=OTHER_KEY).status_code == 404
    assert client.request("DELETE", "/loras/sd/fox", **KEYS).status_code == 204
    assert client.request("DELETE", "/loras/sd/fox", **KEYS).status_code == 404
    assert client.show(job)["result"] is None


def test_another_key_cannot_tell_a_job_from_none(client):
    job = client.start()["id"]
    client.write(job, "samples/step-00000.png", PNG)
    for method, path in [
        ("GET", "/train/{}"),
        ("GET", "/train/{}/loss.svg"),
        ("GET", "/train/{}/samples/0"),
        ("POST", "/train/{}/cancel"),
        ("POST", "/train/{}/resume"),
    ]:
        answers = set()
        for one in (job, places.new_id()):
            response = client.request(method, path.format(one), x_api_key=OTHER_KEY)
            error = {**error_of(response), "request_id": ""}
            answers.add((response.status_code, json.dumps(error)))
        assert len(answers) == 1
        assert answers.pop()[0] == 404


# --- Who can train --------------------------------------------------------------------------------


def test_links_and_open_gateways_do_not_train(monkeypatch, client):
    link = client.link(pictures=5)
    by_link = client.get(f"/train?link={link}")
    assert (by_link.status_code, error_of(by_link)["code"]) == (403, "training_needs_key")

    client = GuardedClient(monkeypatch, Protection(), training=TRAINING)
    response = client.post("/datasets", {"files": [PICTURE]})
    assert (response.status_code, error_of(response)["code"]) == (403, "training_needs_key")
    assert json.loads(client.get("/options").body)["training"] is None


def test_a_laptop_trains_without_a_key_but_not_for_other_sites(monkeypatch):
    training = replace(TRAINING, open=True)
    client = GuardedClient(monkeypatch, Protection(), 24, training=training)
    response = client.post("/datasets", {"files": [PICTURE]})
    described = json.loads(response.body)

    assert described["uploads"][0]["fields"]["key"].startswith("datasets/local/")
    assert json.loads(client.get("/options").body)["training"]["models"] == ["sd", "slow"]
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert client.post("/datasets", {"files": [PICTURE]}, **evil).status_code == 401


def test_a_gateway_without_training_says_how_to_enable_it(monkeypatch):
    client = GuardedClient(monkeypatch, guarded())
    for response in (client.get("/train", **KEYS), client.post("/datasets", {}, **KEYS)):
        assert (response.status_code, error_of(response)["code"]) == (404, "training_unavailable")
        assert "deploy --training" in error_of(response)["message"]
    assert json.loads(client.get("/options").body)["training"] is None


def test_options_has_the_limits_of_training(client):
    described = json.loads(client.get("/options").body)["training"]

    assert described["models"] == ["sd", "slow"]
    assert list(described["fields"]["properties"]) == list(RULES)
    assert described["pictures"]["most"] == 200


# --- The SDXL guide's names -----------------------------------------------------------------------


def guide(client, **more):
    path = f"s3://bucket/datasets/{OWNER}/{client.dataset()}/"
    return {"collection_s3_path": path, "prompt": "a sks dog", "output_dir_name": "fox", **more}


def test_the_guides_client_starts_a_job_and_asks_for_its_state(client):
    asked = guide(client, prompt="a sks dog'; $(touch /tmp/x) \"")
    assert json.loads(client.get("/train-status", **KEYS).body) == {"status": "Not Started"}
    response = client.post("/train", {"action": "train", "data": asked}, **KEYS)
    job = response.headers["Location"].rpartition("/")[2]

    assert json.loads(response.body) == {
        "detail": "Training process started",
        "output_s3_path": "s3://bucket/loras/sd/fox.safetensors",
    }
    assert (
        json.loads(client.bucket.objects[places.job_file(job)])["instance_prompt"]
        == (asked["prompt"])
    )
    assert "touch" not in json.dumps(client.trainings.jobs)
    response = client.post("/train", {"action": "train-status"}, **KEYS)
    assert json.loads(response.body) == {"status": "Running"}
    client.finish(job)
    assert json.loads(client.get("/train-status", **KEYS).body) == {"status": "Completed"}


def test_the_guides_parameters_are_read_from_the_query_as_well(client):
    asked = guide(client)
    query = "&".join(f"{name}={text.replace(' ', '%20')}" for name, text in asked.items())
    response = client.request("POST", f"/train?{query}", b"", **KEYS)

    assert response.status_code == 200
    assert len(client.trainings.jobs) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("collection_s3_path", "s3://other/datasets/x/"),
        ("collection_s3_path", f"s3://bucket/datasets/{places.owner_of('bob')}/{'a' * 12}/"),
        ("collection_s3_path", f"s3://bucket/datasets/{OWNER}/../x/"),
        ("collection_s3_path", None),
        ("output_dir_name", "../../fox"),
        ("output_dir_name", "$(touch x)"),
        ("prompt", "x" * 1_001),
        ("prompt", ""),
        ("more", "x"),
    ],
)
def test_what_is_wrong_is_named_as_the_guide_names_it(client, field, value):
    response = client.post(
        "/train", {"action": "train", "data": guide(client, **{field: value})}, **KEYS
    )

    assert response.status_code == 400
    assert error_of(response)["field"] == field
    assert client.trainings.jobs == {}


# --- Hostile bodies -------------------------------------------------------------------------------

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
NAMES = [
    *RULES,
    *("dataset", "pictures", "model", "kohya", "on_demand", "dry_run", "captions"),
    *("action", "data"),
]


@given(body=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), ANY_JSON), at=st.data())
def test_any_body_is_a_price_or_a_named_error(body, at):
    with pytest.MonkeyPatch.context() as monkeypatch:
        client = TrainingClient(monkeypatch)
        valid = {"dataset": client.dataset(1), "name": "fox", "trigger": "a fxo"}
        body = {**valid, **body, "dry_run": True} if at.draw(st.booleans()) else body
        response = client.post("/train", body, **KEYS)

    assert response.status_code in {200, 400, 404}, (body, response.body)
    assert client.trainings.jobs == {}


@given(files=ANY_JSON | st.lists(st.fixed_dictionaries({}, optional={
    "type": st.sampled_from(["image/png", "text/plain"]) | ANY_JSON,
    "size": st.integers() | ANY_JSON,
    "caption_of": st.integers(-2, 4) | ANY_JSON,
})))  # fmt: skip
def test_any_list_of_files_is_forms_or_a_named_error(files):
    with pytest.MonkeyPatch.context() as monkeypatch:
        response = TrainingClient(monkeypatch).post("/datasets", {"files": files}, **KEYS)

    if response.status_code == 201:
        uploads = json.loads(response.body)["uploads"]
        assert len({upload["fields"]["key"] for upload in uploads}) == len(uploads) == len(files)
    else:
        assert (response.status_code, error_of(response)["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("body", [b"", b"[]", b"nul", b"[" * 100_000, b"{}" + b" " * 1_000_001])
def test_a_body_that_is_no_small_json_object_is_refused(client, body):
    for path in ("/train", "/datasets"):
        response = client.request("POST", path, body, **KEYS)

        assert (response.status_code, error_of(response)["code"]) == (400, "invalid_request")


# --- Events ---------------------------------------------------------------------------------------


def changed(name, **detail):
    detail = {"TrainingJobName": name, **detail}
    kind = "SageMaker Training Job State Change"
    return {"source": "aws.sagemaker", "detail-type": kind, "detail": detail}


def test_the_end_of_a_job_publishes_it_though_nobody_looks(client):
    job = client.start()["id"]
    assert gateway.app(changed(f"easel-main-{job}"), None) == {"state": "starting"}
    client.finish(job)

    assert gateway.app(changed(f"easel-main-{job}"), None) == {"state": "published"}
    assert "loras/sd/fox.safetensors" in client.bucket.objects
    assert gateway.app(changed(f"easel-main-{job}"), None) == {"state": "published"}
    for name in ("easel-other-" + job, f"easel-main-{'a' * 12}", f"easel-main-{job}-2", "x"):
        assert gateway.app(changed(name), None) == {"state": ""}


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"easel": "check"},
        {"easel": "check", "marker": 5},
        {"easel": "publish", "id": "x"},
        {"easel": "publish", "id": "../x", "sagemaker_job": "a b"},
        {"source": "aws.sagemaker", "detail-type": "SageMaker Training Job State Change"},
        changed(None),
    ],
)
def test_an_event_of_another_shape_is_an_error(client, event):
    with pytest.raises(ValueError, match="."):
        gateway.app(event, None)


def test_an_event_of_another_job_is_nothing(client):
    outputs = ["", 5, None, {}, {"S3OutputPath": 5}, {"S3OutputPath": "s3://bucket/../x"}]
    for output in outputs:
        assert gateway.app(changed("../x", OutputDataConfig=output), None) == {"state": ""}


def test_a_client_cannot_send_an_event(client):
    response = client.post("/jobs", {"easel": "check", "marker": "x"}, **KEYS)

    assert (response.status_code, error_of(response)["code"]) == (400, "invalid_request")


class Pipeline:
    """A pipeline that was started by a data set's marker, up to its publish step."""

    def __init__(self, client, **fields):
        self.client = client
        self.dataset = client.dataset()
        self.marker = f"datasets/{OWNER}/{self.dataset}/start.json"
        client.bucket.objects[self.marker] = json.dumps(
            {"name": "fox", "trigger": "a fxo", **fields}
        ).encode()

    def check(self, **more):
        return gateway.app({"easel": "check", "marker": self.marker, **more}, None)

    def train(self, output=None):
        """Do what the Train step does: SageMaker makes up the name."""
        place = output or f"s3://bucket/{places.output(self.dataset)}"
        self.client.trainings.create_training_job(
            TrainingJobName="pipelines-1-Train-2", OutputDataConfig={"S3OutputPath": place}
        )
        key = f"{places.output(self.dataset)}pipelines-1-Train-2/output/model/fox.safetensors"
        self.client.bucket.objects[key] = adapter()

    def publish(self):
        event = {"id": self.dataset, "sagemaker_job": "pipelines-1-Train-2"}
        return gateway.app({"easel": "publish", **event}, None)


def test_a_marker_starts_one_job_and_its_pipeline_publishes_it(client):
    pipeline = Pipeline(client)
    found = pipeline.check(longest=3_600)
    assert found["start"] == "yes"
    assert found["pictures"] == f"datasets/{OWNER}/{pipeline.dataset}/"
    assert found["max_runtime"] == 1_400
    assert client.show(found["id"])["state"] == "queued"
    again = pipeline.check()
    assert again["start"] == "no"
    assert {name: type(value) for name, value in again.items()} == {
        name: type(value) for name, value in found.items()
    }

    pipeline.train()
    output = f"s3://bucket/{found['output']}"
    event = changed("pipelines-1-Train-2", OutputDataConfig={"S3OutputPath": output})
    assert gateway.app(event, None) == {"state": "starting"}
    assert client.show(found["id"])["state"] == "starting"
    with pytest.raises(ValueError, match="Not published"):
        pipeline.publish()
    client.trainings.end("pipelines-1-Train-2")
    assert pipeline.publish() == {"lora": "fox"}
    assert client.show(found["id"])["state"] == "published"


def test_a_pipelines_job_is_published_by_its_last_step_though_no_event_has_arrived(client):
    pipeline = Pipeline(client)
    found = pipeline.check()
    claim = f"training/owners/{OWNER}/running.json"
    since = json.loads(client.bucket.objects[claim])
    # As long as it may run and wait for a spot instance.
    since["since"] -= found["max_wait"]
    client.bucket.objects[claim] = json.dumps(since).encode()
    assert client.show(found["id"])["state"] == "queued"
    pipeline.train()
    client.trainings.end("pipelines-1-Train-2")

    assert pipeline.publish() == {"lora": "fox"}


def test_a_name_in_an_event_is_not_believed(client):
    pipeline = Pipeline(client)
    found = pipeline.check()
    pipeline.train(output=f"s3://bucket/{places.output('a' * 12)}")
    event = changed(
        "pipelines-1-Train-2", OutputDataConfig={"S3OutputPath": f"s3://bucket/{found['output']}"}
    )

    assert gateway.app(event, None) == {"state": ""}
    with pytest.raises(ValueError, match="Not published"):
        pipeline.publish()


@pytest.mark.parametrize(
    "fields", [{"steps": 0}, {"on_demand": True}, {"dry_run": True}, {"steps": 20_000}, {"x": 1}]
)
def test_a_marker_that_asks_for_something_wrong_ends_the_pipeline(client, fields):
    pipeline = Pipeline(client, **fields)
    with pytest.raises(Exception, match=f"{next(iter(fields))}|on_demand"):
        pipeline.check()

    assert not any("running" in key for key in client.bucket.objects)


@pytest.mark.parametrize(
    "marker",
    ["datasets/x/y/start.json", "../start.json", f"datasets/{OWNER}/{'a' * 12}/start.json"],
)
def test_a_marker_of_no_data_set_is_unknown(client, marker):
    with pytest.raises(Exception, match="no data set|12 lower-case letters"):
        gateway.app({"easel": "check", "marker": marker}, None)
