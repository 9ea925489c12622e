"""Clients of AWS in memory, to be broken at any call, and clients of a gateway in front of them.

What the real AWS clients do is tested end to end; these are for thousands of histories in seconds,
with a crash at every point of them.
"""

import base64
import hashlib
import io
import json
import time
from contextlib import nullcontext, suppress
from datetime import UTC, datetime

from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.response import StreamingBody
from chalice.local import RouteMatcher
from chalice.test import Client, HTTPResponse
from PIL import Image

import app as gateway
from chalicelib.access_settings import Key, Protection
from chalicelib.dialects.training import TrainingApi
from chalicelib.images.service import ImageService
from chalicelib.settings import Model, Queue, Settings
from chalicelib.training.service import TrainingService
from chalicelib.training_settings import TrainableModel, TrainingSettings
from endpoint.emulator.apigateway.proxy_event import HttpRequest, event

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Dest": "document"}
FORMATS = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpeg"}
KEY = "easel-" + "k" * 43
OTHER_KEY = "easel-" + "o" * 43
SECRET = b"s" * 43
ORIGIN = "http://localhost"
TRAINING = TrainingSettings(
    bucket="bucket",
    deployment="main",
    role="arn:aws:iam::123456789012:role/training",
    image="763104351884.dkr.ecr.eu-west-1.amazonaws.com/trainer:1",
    code="training/code/1a2b/",
    models={
        name: TrainableModel(
            weights=f"models/{name}/r1/",
            instance_type="ml.g5.xlarge",
            usd_per_hour=1.5,
            spot_share=0.4,
            seconds_per_step=1.0,
            start_seconds=300,
            resolution=512,
        )
        for name in ("sd", "slow")
    },
    per_month=3,
)


# --- SageMaker Runtime ----------------------------------------------------------------------------


class Provided:
    """Provides a client that exists already."""

    def __init__(self, client):
        self._client = client

    def client(self):
        return self._client


class RuntimeClient:
    """A sagemaker-runtime client that returns, or raises, what it was given."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.asked = []

    def invoke_endpoint(self, **arguments):
        self.asked.append(arguments)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class GeneratingClient(RuntimeClient):
    """A runtime client that generates a small picture in whatever format is accepted."""

    def invoke_endpoint(self, **arguments):
        super().invoke_endpoint(**arguments)
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), "teal").save(buffer, FORMATS[arguments["Accept"]])
        return endpoint_response(buffer.getvalue())


def endpoint_response(body, announced=None):
    length = len(body) if announced is None else announced
    stream = StreamingBody(io.BytesIO(body), length)
    return {"Body": stream, "ResponseMetadata": {"HTTPHeaders": {"content-length": str(length)}}}


def refusal(code, message="", **more):
    return ClientError({"Error": {"Code": code, "Message": message}, **more}, "InvokeEndpoint")


def model_error(status, body):
    """Return the error of an invocation whose container answered with this status and body."""
    text = body if isinstance(body, str) else json.dumps(body)
    return refusal("ModelError", OriginalStatusCode=status, OriginalMessage=text)


# --- Failures at any call -------------------------------------------------------------------------


class FailingClient:
    """A client of any service that answers every call with the same error."""

    def __init__(self, error):
        self._error = error

    def __getattr__(self, name):
        def call(**arguments):
            raise self._error

        return call


class Crash(BaseException):
    """The Lambda ends here, whatever it was doing."""


class Breaks:
    """Crashes at the n-th call from now on, counted over all clients, or lets others in."""

    def __init__(self):
        self.left = None
        self.after = False
        self.calls = 0
        self.meanwhile = None
        self.error = None

    def arm(self, left, *, after):
        self.left, self.after = left, after

    def interrupt(self, left, meanwhile):
        """Let something else happen just before the n-th call."""
        self.left, self.meanwhile = left, meanwhile

    def around(self, call):
        self.calls += 1
        if self.left is None:
            return call()
        self.left -= 1
        if self.left >= 0:
            return call()
        self.left = None
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
            return call()
        if self.after:
            with suppress(ClientError):
                call()
        raise self.error or Crash


class Bucket:
    """An S3 client on a dict, with conditional writes."""

    smallest_part = 5 * 2**20  # of an upload, but for the last

    def __init__(self, breaks):
        self.objects = {}
        self.uploads = {}
        self.changed = {}  # when an object was written, in seconds since 1970; else now
        self._breaks = breaks

    def get_object(self, Bucket, Key, Range=None):
        return self._breaks.around(lambda: self._get(Key, Range))

    def head_object(self, Bucket, Key):
        return self._breaks.around(lambda: self._head(Key))

    def put_object(self, Bucket, Key, Body, IfNoneMatch=None, IfMatch=None):
        return self._breaks.around(lambda: self._put(Key, Body, IfNoneMatch, IfMatch))

    def delete_object(self, Bucket, Key, IfMatch=None):
        return self._breaks.around(lambda: self._delete(Key, IfMatch))

    def generate_presigned_post(self, Bucket, Key, Fields, Conditions, ExpiresIn):
        return {"url": "https://bucket.example/", "fields": {**Fields, "key": Key}}

    def generate_presigned_url(self, method, Params, ExpiresIn):
        return f"https://bucket.example/{Params['Key']}?X-Amz-Expires={ExpiresIn}"

    def list_objects_v2(self, Bucket, Prefix, MaxKeys, ContinuationToken="", Delimiter=None):
        if Delimiter:
            return self._breaks.around(lambda: self._folders(Prefix, MaxKeys))
        return self._breaks.around(lambda: self._list(Prefix, MaxKeys, ContinuationToken))

    def create_multipart_upload(self, Bucket, Key, ContentType):
        return self._breaks.around(lambda: self._begin(Key))

    def list_parts(self, Bucket, Key, UploadId, PartNumberMarker):
        return self._breaks.around(lambda: self._parts(UploadId, PartNumberMarker))

    def upload_part(self, Bucket, Key, UploadId, PartNumber, Body):
        return self._breaks.around(lambda: self._add(UploadId, PartNumber, Body))

    def upload_part_copy(self, Bucket, Key, UploadId, PartNumber, CopySource):
        def copy():
            body = self._existing(CopySource["Key"], "NoSuchKey")
            return {"CopyPartResult": self._add(UploadId, PartNumber, body)}

        return self._breaks.around(copy)

    def complete_multipart_upload(self, Bucket, Key, UploadId, MultipartUpload):
        return self._breaks.around(lambda: self._complete(Key, UploadId, MultipartUpload["Parts"]))

    def _begin(self, key):
        name = f"upload-{len(self.uploads)}"
        self.uploads[name] = {}
        return {"UploadId": name}

    def _existing_upload(self, name):
        if name not in self.uploads:
            raise refusal("NoSuchUpload")
        return self.uploads[name]

    def _parts(self, name, after):
        """Return a page of two parts at most."""
        numbers = [number for number in sorted(self._existing_upload(name)) if number > after]
        rows = [{"PartNumber": one, "ETag": tag(self.uploads[name][one])} for one in numbers[:2]]
        return {"Parts": rows, "IsTruncated": len(numbers) > 2}

    def _add(self, name, number, body):
        self._existing_upload(name)[number] = body
        return {"ETag": tag(body)}

    def _complete(self, key, name, parts):
        bodies = [self._existing_upload(name)[part["PartNumber"]] for part in parts]
        if any(len(body) < self.smallest_part for body in bodies[:-1]):
            raise refusal("EntityTooSmall")
        self.objects[key] = b"".join(bodies)
        del self.uploads[name]

    def _folders(self, prefix, most):
        names = (key.removeprefix(prefix) for key in self.objects if key.startswith(prefix))
        folders = {name.partition("/")[0] for name in names if "/" in name}
        return {"CommonPrefixes": [{"Prefix": f"{prefix}{name}/"} for name in folders][:most]}

    def _list(self, prefix, most, after):
        """Return a page of two objects at most, in the order of their keys."""
        most = min(most, 2)
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        contents = [
            {
                "Key": key,
                "Size": len(self.objects[key]),
                "ETag": tag(self.objects[key]),
                "LastModified": self._written(key),
            }
            for key in keys[:most]
        ]
        page = {"Contents": contents, "IsTruncated": len(keys) > most}
        return {**page, "NextContinuationToken": keys[most - 1]} if len(keys) > most else page

    def _delete(self, key, if_match):
        if if_match and key in self.objects and tag(self.objects[key]) != if_match:
            raise refusal("PreconditionFailed")
        self.objects.pop(key, None)

    def _get(self, key, part):
        body = self._existing(key, "NoSuchKey")
        if part:
            start, end = part.removeprefix("bytes=").split("-")
            body = body[int(start) : int(end) + 1]
        return {
            "Body": io.BytesIO(body),
            "ContentLength": len(body),
            "ETag": tag(body),
            "LastModified": self._written(key),
        }

    def _written(self, key):
        return datetime.fromtimestamp(self.changed.get(key, time.time()), UTC)

    def _head(self, key):
        return {"ContentLength": len(self._existing(key, "404"))}

    def _put(self, key, body, if_none_match, if_match):
        present = self.objects.get(key)
        if if_none_match and present is not None:
            raise refusal("PreconditionFailed")
        if if_match and present is None:
            raise refusal("NoSuchKey")
        if if_match and tag(present) != if_match:
            raise refusal("PreconditionFailed")
        self.objects[key] = body
        return {"ETag": tag(body)}

    def _existing(self, key, code):
        if key not in self.objects:
            raise refusal(code)
        return self.objects[key]


# Where SageMaker could write the picture and the failure of a run: of its path, what it was asked
# for, the name that the run was given, and a number of its own. Its documentation does not say.
PLACES = {
    "joined": ("outputs/{folder}/{file}", "failures/{id}"),
    "two slashes": ("outputs//{folder}/{file}", "failures//{id}-error.out"),
    "a name of its own": ("outputs/{id}.out", "failures/{id}-error.out"),
    "one failure for all runs": ("outputs/{folder}/{id}/{file}.out", "failures/{name}.out"),
    "elsewhere": ("elsewhere/{id}", "elsewhere/{id}-error"),
}


class Runs:
    """A sagemaker-runtime client that queues, and records what it queued."""

    def __init__(self, breaks, places="joined"):
        self.output, self.failure = PLACES[places]
        self.below = "s3://bucket/jobs/"
        self.queued = []
        self.trouble = None
        self._breaks = breaks

    def client(self):
        return self

    def invoke_endpoint_async(self, **asked):
        return self._breaks.around(lambda: self._queue(asked))

    def _queue(self, asked):
        trouble, self.trouble = self.trouble, None
        if trouble == "refused":
            raise refusal("ThrottlingException")
        fields = {
            "folder": asked["S3OutputPathExtension"],
            "file": asked["Filename"],
            "id": len(self.queued),
            "name": asked.get("InferenceId") or asked["S3OutputPathExtension"],
        }
        output = self.below + self.output.format(**fields)
        failure = self.below + self.failure.format(**fields)
        self.queued.append({**asked, "output": output, "failure": failure})
        if trouble == "answer lost":
            raise ReadTimeoutError(endpoint_url="u")
        return {"OutputLocation": output, "FailureLocation": failure}


class TrainingJobs:
    """A sagemaker client with training jobs that do nothing until `end` is called."""

    def __init__(self, breaks):
        self.jobs = {}
        self.stopped = []
        self.trouble = None
        # Of the only pipeline's only execution; a step has FailureReason or a training job.
        self.execution, self.steps = "Executing", []
        self._breaks = breaks

    def describe_pipeline_execution(self, PipelineExecutionArn):
        return self._breaks.around(lambda: {"PipelineExecutionStatus": self.execution})

    def list_pipeline_execution_steps(self, PipelineExecutionArn):
        return self._breaks.around(lambda: {"PipelineExecutionSteps": self.steps})

    def create_training_job(self, **asked):
        return self._breaks.around(lambda: self._create(asked))

    def describe_training_job(self, TrainingJobName):
        return self._breaks.around(lambda: self._existing(TrainingJobName))

    def stop_training_job(self, TrainingJobName):
        return self._breaks.around(lambda: self._stop(TrainingJobName))

    def end(self, name, status="Completed", **more):
        """Have a job end; it wrote what it wrote."""
        self.jobs[name] |= {"TrainingJobStatus": status, "SecondaryStatus": status, **more}

    def _create(self, asked):
        name = asked["TrainingJobName"]
        if self.trouble is not None:
            trouble, self.trouble = self.trouble, None
            raise trouble
        if name in self.jobs:
            raise refusal("ResourceInUse")
        self.jobs[name] = {
            **asked, "TrainingJobStatus": "InProgress", "SecondaryStatus": "Starting"
        }  # fmt: skip
        return {"TrainingJobArn": f"arn:{name}"}

    def _existing(self, name):
        if name not in self.jobs:
            raise refusal("ValidationException", "Requested resource not found.")
        return dict(self.jobs[name])

    def _stop(self, name):
        job = self._existing(name)
        if job["TrainingJobStatus"] != "InProgress":
            raise refusal("ValidationException", "The job is not running.")
        self.stopped.append(name)
        self.jobs[name]["TrainingJobStatus"] = "Stopping"
        return {}


def tag(body):
    return hashlib.sha256(body).hexdigest()


# --- Gateways -------------------------------------------------------------------------------------


def _http_client():
    """Return chalice's client, which otherwise replaces `os.environ` for the time of a request.

    Of requests in several threads, the last would leave another's copy there.
    """
    http = Client(gateway.app).http
    http._patched_env_vars = lambda _: nullcontext()
    return http


class GatewayClient:
    """A client of an open gateway, which records what reached its real-time endpoints."""

    def __init__(self, monkeypatch, log_prompts=False):
        self.endpoint = GeneratingClient(None)
        self._log_prompts = log_prompts
        self.offer({"sd": Model("sd", "easel-sd"), "sdxl": Model("sdxl", "easel-sdxl")})
        self._http = _http_client()
        monkeypatch.setattr(gateway, "settings", lambda: self.settings)
        monkeypatch.setattr(gateway, "images", lambda: self.service)

    def offer(self, models, s3=None):
        self.settings = Settings(models, 24, self._log_prompts)
        self.service = ImageService(self.settings, Provided(self.endpoint), s3 and Provided(s3))

    def get(self, path, method="GET", **headers):
        return self._http.request(method, path, headers=headers)

    def post(self, path, body):
        """Post bytes as they are, and anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return self._http.request("POST", path, headers=headers, body=content)

    @property
    def asked(self):
        return [json.loads(arguments["Body"]) for arguments in self.endpoint.asked]


class GuardedClient:
    """A client of a gateway with keys, a bucket, a real-time model and a queued one.

    It records what reached a model. With a price, the gateway records what is used.
    """

    def __init__(
        self,
        monkeypatch,
        protection,
        deadline_seconds=1.5,
        http=None,
        training=None,
        pictures=None,
        usd_per_hour=None,
        batches=None,
    ):
        queue = Queue("easel-slow", "bucket", "jobs/")
        price = {"seconds": 2, "usd_per_hour": usd_per_hour}
        models = {
            "sd": Model("sd", "easel-sd", pictures=pictures, **price),
            "slow": Model("slow", None, queue, **price),
        }
        usage = None if usd_per_hour is None else ("bucket", "usage/")
        # The deadline ends the wait for a queued picture, which never comes.
        self.settings = Settings(
            models,
            deadline_seconds,
            False,
            protection=protection,
            training=training,
            usage=usage,
            batches=batches,
        )
        self.runtime, self.bucket = _GeneratingAndQueueing(), Bucket(Breaks())
        self.service = ImageService(self.settings, Provided(self.runtime), Provided(self.bucket))
        self.trainings = TrainingJobs(Breaks())
        if training is not None:
            trainer = TrainingService(
                self.settings, training, Provided(self.bucket), Provided(self.trainings)
            )
            api = TrainingApi(self.settings, trainer)
            monkeypatch.setattr(gateway, "training", lambda: api)
        self._monkeypatch = monkeypatch
        self._http = http or _http_client()

    def request(self, method, path, body=b"", **headers):
        self._monkeypatch.setattr(gateway, "settings", lambda: self.settings)
        self._monkeypatch.setattr(gateway, "images", lambda: self.service)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._http.request(method, path, headers=headers, body=body)

    def get(self, path, **headers):
        return self.request("GET", path, **headers)

    def post(self, path, value, **headers):
        return self.request("POST", path, json.dumps(value).encode(), **headers)

    def link(self, **fields):
        """Return the token of a new link."""
        response = self.post("/links", fields, x_api_key=KEY)
        assert response.status_code == 201, response.body
        return json.loads(response.body)["url"].partition("?link=")[2]

    def sign_in(self, text=KEY):
        """Return the cookie header of a browser that is signed in."""
        response = self.post("/session", {"key": text})
        assert response.status_code == 204, response.body
        return cookies_of(response)

    @property
    def generated(self):
        return len(self.runtime.asked)

    @property
    def queued(self):
        return len(self.runtime.runs.queued)


class ApiGateway:
    """HTTP to the gateway as it arrives from AWS, below a stage or a custom domain's base path.

    Args:
        base: the path in front of all routes, without a slash at its end.
    """

    def __init__(self, base):
        self._base = base
        self._routes = RouteMatcher(list(gateway.app.routes))

    def request(self, method, path, headers, body):
        public, _, query = path.partition("?")
        below = public.removeprefix(self._base) or "/"
        # API Gateway routes nothing that is not below its stage or base path.
        assert public == self._base + below.rstrip("/") or public == self._base + below
        match = self._routes.match_route(below)
        headers = {"Host": "art.example", **headers}
        sent = HttpRequest(method, public, query, list(headers.items()), body, "192.0.2.1")
        result = gateway.app(
            event(
                sent,
                stage="api",
                resource=match.route,
                below_stage=below,
                parameters=match.captured,
                binary_types=["*/*"],
            ),
            None,
        )
        result["headers"].update(result["multiValueHeaders"])
        content = base64.b64decode(result["body"])
        return HTTPResponse(
            body=content, headers=result["headers"], status_code=result["statusCode"]
        )


class _GeneratingAndQueueing(GeneratingClient):
    def __init__(self):
        super().__init__(None)
        self.runs = Runs(Breaks())
        self.invoke_endpoint_async = self.runs.invoke_endpoint_async


def key(name="ada", text=KEY, **more):
    return Key(name, hashlib.sha256(text.encode()).digest(), **more)


def guarded(**more):
    """Return a Protection with one key and a place for the quotas of links."""
    fields = {"keys": (key(),), "secrets": (SECRET,), "accounts": ("bucket", "links/")}
    return Protection(**{**fields, **more})


def cookies_of(response):
    values = response.headers.get("Set-Cookie", [])
    values = [values] if isinstance(values, str) else values
    return "; ".join(value.partition(";")[0] for value in values)


def error_of(response):
    return json.loads(response.body)["error"]
