"""Batches in front of clients of AWS in memory: what S3's events bring, and what a GPU writes."""

import base64
import io
import json
from collections import Counter
from fnmatch import fnmatchcase

from PIL import Image

from chalicelib.access_settings import Protection
from chalicelib.batch_runs.part_runs import LONGEST
from chalicelib.batch_runs.records import Batch, Status
from chalicelib.batch_runs.runs import BatchRuns
from chalicelib.batches import places
from chalicelib.images.service import ImageService
from chalicelib.settings import Model, Queue, Settings
from tests.gateway.doubles import Breaks, Bucket, Crash, Provided, Runs, key

BELOW = "s3://bucket/"
# As the rule in the template has them.
PATTERNS = (
    "jobs/*outputs/batches/*",
    "jobs/*failures/*",
    "batches/*/batch.json",
    "batches/*/results/*",
    "batches/*/go",
)


def line(number, prompt=None, **body):
    body = {"prompt": prompt or f"a cat {number}", **body}
    row = {"custom_id": f"r{number}", "method": "POST", "url": "/v1/images/generations"}
    return json.dumps({**row, "body": body})


def picture(request):
    """Return a picture that only this request has."""
    seed = json.loads(request["Body"])["seed"]
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1), tuple(seed.to_bytes(4, "big")[1:])).save(buffer, "png")
    return buffer.getvalue()


class EventedBucket(Bucket):
    """Remembers the objects whose writing is an event for batches."""

    def __init__(self, breaks):
        super().__init__(breaks)
        self.events = []

    def _put(self, key, *rest):
        done = super()._put(key, *rest)
        if any(fnmatchcase(key, pattern) for pattern in PATTERNS):
            self.events.append(key)
        return done


class World:
    """Batches of the key `ada`, one model with a queue, and a clock."""

    def __init__(
        self, protection=None, spend=None, usage=None, seconds=225.0, places="joined", **models
    ):
        self.now = 1_000_000_000.0
        self.breaks = Breaks()
        self.bucket = EventedBucket(self.breaks)
        self.runtime = Runs(self.breaks, places)
        queue = Queue("easel-slow", "bucket", "jobs/")
        offered = {"slow": Model("slow", None, queue, seconds=seconds, usd_per_hour=3.6)}
        self.settings = Settings(
            {**offered, **models}, 24, False,
            protection=protection or Protection(keys=(key("ada"),)),
            spend=spend, usage=usage, batches=("bucket", ""),
        )  # fmt: skip
        self.over = set()  # numbers of runs that have ended

    @property
    def runs(self):
        """The work of a Lambda that has just started."""
        service = ImageService(self.settings, self.runtime, Provided(self.bucket))
        return BatchRuns(service, ("bucket", ""), lambda: self.now)

    def create(self, *lines, name="ada"):
        runs = self.runs
        file = runs.files.create(
            places.owner_of(name), "in.jsonl", "\n".join(lines).encode(), "batch", self.now
        )
        batch = Batch(places.new_id(self.now), name, file.id, int(self.now))
        runs.batches.create(batch.at(Status.VALIDATING, self.now))
        return batch.id

    def batch(self, identifier):
        return self.runs.batches.read(identifier)

    def advance(self, identifier):
        self.runs.advance(identifier)

    def deliver(self, event):
        identifier, number = places.batch_of(event), places.number_of(event)
        if identifier is None:
            return  # a failure that is not named after its run
        if number is None:
            self.runs.advance(identifier)
        else:
            self.runs.look(identifier, number)

    def deliver_all(self):
        while self.bucket.events:
            self.deliver(self.bucket.events.pop(0))

    @property
    def alive(self):
        return [number for number in range(len(self.runtime.queued)) if number not in self.over]

    def run_of(self, number):
        """Return which run is that of a picture: those of a part are queued at the same time."""
        files = [run["Filename"] for run in self.runtime.queued]
        return next(place for place, file in enumerate(files) if file.startswith(f"{number:06}-"))

    def finish(self, number):
        run = self.runtime.queued[number]
        self.over.add(number)
        self.bucket._put(run["output"].removeprefix(BELOW), picture(run), None, None)

    def fail(self, number, reason="it broke"):
        run = self.runtime.queued[number]
        self.over.add(number)
        key = run["failure"].removeprefix(BELOW)
        self.bucket._put(key, reason.encode(), None, None)
        self.bucket.changed[key] = self.now

    def crash(self, work, call, *, after):
        self.breaks.arm(call, after=after)
        try:
            work()
        except Crash:
            pass
        finally:
            self.breaks.left = None

    def complete(self, identifier, most=200):
        """Let everything work from now on, and time pass wherever nothing else happens."""
        for _ in range(most):
            for number in self.alive:
                self.finish(number)
            self.advance(identifier)
            if self.batch(identifier).is_over:
                return
            if not self.alive:
                self.now += LONGEST + 1
        raise AssertionError("the batch is never over")

    def rows(self, identifier, name):
        body = self.bucket.objects.get(places.finished(identifier, name), b"")
        return [json.loads(row) for row in body.splitlines()]

    def answers(self, identifier):
        """Return how often each line is answered."""
        rows = self.rows(identifier, "output") + self.rows(identifier, "errors")
        return Counter(row["custom_id"] for row in rows)

    def check(self, identifier, count):
        """Check that every line has one answer, and every picture is its own."""
        batch = self.batch(identifier)
        assert self.answers(identifier) == Counter(f"r{number}" for number in range(count))
        assert len(self.rows(identifier, "output")) == batch.completed
        assert len(self.rows(identifier, "errors")) == batch.failed
        for row in self.rows(identifier, "output"):
            assert row["response"]["status_code"] == 200
            for data in row["response"]["body"]["data"]:
                expected = picture({"Body": json.dumps({"seed": data["seed"]})})
                assert base64.b64decode(data["b64_json"]) == expected
