"""S3 and an asynchronous endpoint in memory, to be broken at any call.

What the real ones do is tested end to end; these are for thousands of histories in seconds, with a
crash at every point of them.
"""

import hashlib
import io

from botocore.exceptions import ClientError, ReadTimeoutError


class Crash(BaseException):
    """The Lambda ends here, whatever it was doing."""


class Breaks:
    """Crashes at the n-th call from now on, counted over all clients, or lets others in."""

    def __init__(self):
        self.left = None
        self.after = False
        self.calls = 0
        self.meanwhile = None

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
            call()
        raise Crash


class Bucket:
    """An S3 client on a dict, with conditional writes."""

    def __init__(self, breaks):
        self.objects = {}
        self._breaks = breaks

    def get_object(self, Bucket, Key):
        return self._breaks.around(lambda: self._get(Key))

    def head_object(self, Bucket, Key):
        return self._breaks.around(lambda: self._head(Key))

    def put_object(self, Bucket, Key, Body, IfNoneMatch=None, IfMatch=None):
        return self._breaks.around(lambda: self._put(Key, Body, IfNoneMatch, IfMatch))

    def delete_object(self, Bucket, Key):
        return self._breaks.around(lambda: self.objects.pop(Key, None))

    def _get(self, key):
        body = self._found(key, "NoSuchKey")
        return {"Body": io.BytesIO(body), "ContentLength": len(body), "ETag": tag(body)}

    def _head(self, key):
        return {"ContentLength": len(self._found(key, "404"))}

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

    def _found(self, key, code):
        if key not in self.objects:
            raise refusal(code)
        return self.objects[key]


class Runs:
    """A sagemaker-runtime client that queues, and knows what it queued."""

    def __init__(self, breaks):
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
        failure = f"s3://bucket/jobs/failures/{len(self.queued)}"
        self.queued.append({**asked, "failure": failure})
        if trouble == "answer lost":
            raise ReadTimeoutError(endpoint_url="u")
        return {"FailureLocation": failure}


def tag(body):
    return hashlib.sha256(body).hexdigest()


def refusal(code):
    return ClientError({"Error": {"Code": code}}, "Operation")
