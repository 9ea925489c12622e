"""A shared cache in front of the gateway that keeps whatever it may, as `endpoint/cdn.yaml` says.

What CloudFront does with these settings is taken from its documentation:
https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/Expiration.html
"""

from __future__ import annotations

import re

from chalice.test import HTTPResponse

from endpoint.provision.gateway.cdn import TEMPLATE
from tests.policies.role_policies import read_template

HOST = "d111111abcdef8.cloudfront.net"
# https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/HTTPStatusCodes.html
_KEPT_ERRORS = {400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504}
_OURS = ("x-easel-cdn", "x-easel-viewer", "x-easel-host")


class Cdn:
    """CloudFront with the template's settings.

    Args:
        origin: requests from the gateway: method, path, body and headers.
        secret: what its distribution adds to each request.

    Attributes:
        passed: the paths that the origin was asked for.
        kept: the responses, by their cache keys.
    """

    def __init__(self, origin, secret):
        resources = read_template(TEMPLATE)["Resources"]
        policy = resources["CachePolicy"]["Properties"]["CachePolicyConfig"]
        keys = policy["ParametersInCacheKeyAndForwardedToOrigin"]
        distribution = resources["Distribution"]["Properties"]["DistributionConfig"]
        assert keys["QueryStringsConfig"] == {"QueryStringBehavior": "all"}
        self._key_headers = [name.lower() for name in keys["HeadersConfig"]["Headers"]]
        self._ttl = [policy[name] for name in ("MinTTL", "DefaultTTL", "MaxTTL")]
        self._error_ttl = {
            each["ErrorCode"]: each["ErrorCachingMinTTL"]
            for each in distribution["CustomErrorResponses"]
        }
        self._cached = distribution["DefaultCacheBehavior"]["CachedMethods"]
        self._origin, self._secret = origin, secret
        self.passed, self.kept = [], {}

    def request(self, method, path, viewer="203.0.113.1", body=b"", **headers):
        headers = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        key = (path, *(headers.get(name) for name in self._key_headers))
        if method in self._cached and key in self.kept:
            return self._again(self.kept[key], headers)
        self.passed.append(path)
        ours = dict(zip(_OURS, (self._secret, viewer, HOST), strict=True))
        response = self._origin(method, path, body, **{**headers, **ours})
        if method == "GET" and self._seconds(response) > 0:
            self.kept[key] = response
        return response

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def _again(self, response, headers):
        tag = response.headers.get("ETag")
        if tag is not None and tag in headers.get("if-none-match", ""):
            return HTTPResponse(body=b"", headers=response.headers, status_code=304)
        return response

    def _seconds(self, response):
        """Return how long CloudFront keeps a response."""
        least, default, most = self._ttl
        if response.status_code >= 400:
            # Ten seconds without a setting; others are never kept.
            kept = response.status_code in _KEPT_ERRORS
            return self._error_ttl.get(response.status_code, 10) if kept else 0
        caching = response.headers.get("Cache-Control", "")
        if re.search(r"private|no-store|no-cache", caching):
            return least
        if ages := re.findall(r"(?:s-maxage|max-age)=(\d+)", caching):
            return min(max(int(ages[0]), least), most)
        return max(default, least)
