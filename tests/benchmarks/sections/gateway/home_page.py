"""The page: its size, its first paint, and requests per second.

    python -m tests.benchmarks.sections.gateway.home_page

Chromium and an HTTP client request pages from `chalice local`; the Lambda is the zip from `chalice
package` under AWS's Runtime Interface Client. The baseline is `/api/health`, the gateway's smallest
response: about a hundred bytes of JSON.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import urllib3
from playwright.sync_api import Browser

from chalicelib.web.pages import error_page, home_page, waiting_page
from endpoint.emulator.lambda_.lambda_runtime import LambdaFunction
from endpoint.emulator.process import clients
from endpoint.emulator.process.processes import Child, free_port
from tests.benchmarks.lib.gateway.stub_endpoint import stub_endpoint
from tests.benchmarks.lib.measuring import Samples, in_turns, milliseconds
from tests.benchmarks.lib.report import Aim, Figure, Row, Section, print_section
from tests.browsers.launch import chromium
from tests.packages import ROOT, package_gateway, proxy_event

REQUESTS, PAGE_LOADS = 300, 15
HEALTH = "/api/health as a document"
PATHS = {"page": "/", "health": "/health", "image": "/inference/a%20cat?seed=7"}
TEXT = """\
The page at `/api/` in one response. First contentful paint is Chromium's own figure, from the start
of the navigation with empty caches. Requests are sent one after another, on one connection to
`chalice local`, or to one instance of the Lambda. The image is a PNG of 1.5 MB that the endpoint
returns without delay; a repeated request for it sends the `ETag` of the first response.
"""
FIRST_PAINT = """() => new Promise(resolve => new PerformanceObserver(list => {
    const [first] = list.getEntriesByName("first-contentful-paint");
    if (first) resolve(first.startTime);
}).observe({ type: "paint", buffered: true }))"""


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    requests, page_loads = (5, 3) if quick else (REQUESTS, PAGE_LOADS)
    with stub_endpoint() as endpoint:
        variables = {
            "AWS_ENDPOINT_URL": endpoint,
            "EASEL_MODELS": '{"sd": {"endpoint": "easel-sd"}}',
        }
        with chalice_local(variables) as url:
            first_paints = measure_paint(url, page_loads)
            local = measure_requests(url, requests)
        lambdas = measure_lambda(variables, requests)
    rows = (
        *weights(),
        Row(
            "first contentful paint",
            "ms",
            Figure.of(first_paints["page"]),
            HEALTH,
            Figure.of(first_paints["health"]),
            Aim("value", at_most=500),
        ),
        *speeds("chalice local", local),
        *speeds("one Lambda", lambdas),
    )
    return Section("The page", TEXT, rows, packages=("chalice", "playwright", "awslambdaric"))


def weights() -> Iterator[Row]:
    """Return the size of each page; API Gateway sends it uncompressed."""
    pages = {
        "the page": home_page("/api"),
        "the waiting page": waiting_page("/api", "sdxl-0", "a red apple", 3),
        "the error page": error_page(503, "Busy.", 15, "/api"),
    }
    for name, page in pages.items():
        size, small = len(page.html) / 1_000, len(gzip.compress(page.html)) / 1_000
        aim = Aim("value", at_most=60) if name == "the page" else None
        note = f"{small:.1f} kB with gzip"
        yield Row(f"size of {name}", "kB", Figure(round(size, 1)), aim=aim, note=note)


def speeds(where: str, samples: Mapping[str, Samples]) -> Iterator[Row]:
    """Return the requests per second, sent one after another."""
    baseline = Figure(per_second(samples["health"]))
    for name, what in (
        ("page", "the page"),
        ("image", "an image"),
        ("image again", "the same image with its ETag"),
    ):
        value = Figure(per_second(samples[name]))
        yield Row(f"{where}: {what}", "requests/s", value, "/api/health", baseline)


def per_second(samples: Samples) -> float:
    """Return the requests per second at the median latency."""
    return round(1_000 / samples.median, 1)


# --- Through chalice local ------------------------------------------------------------------------


@contextmanager
def chalice_local(variables: Mapping[str, str]) -> Iterator[str]:
    """Serve the gateway with `chalice local`, and yield its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    module = "endpoint.emulator.apigateway.local_gateway"
    arguments = [str(ROOT / "gateway"), str(port)]
    aws = clients.environment(variables["AWS_ENDPOINT_URL"], "us-east-1")
    environment = {**os.environ, **aws, **variables}
    with Child(
        "the gateway", module, arguments, environment=environment, output=subprocess.DEVNULL
    ) as child:
        child.wait_until(partial(is_served, f"{url}/health"), 60)
        yield url


def is_served(url: str) -> bool:
    """Return whether `url` responds with 200."""
    try:
        return urllib3.request("GET", url, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def measure_paint(url: str, rounds: int) -> dict[str, Samples]:
    """Open the page and the baseline in a browser with empty caches."""
    with chromium() as browser:
        variants = {
            name: partial(first_paint, browser, url + PATHS[name]) for name in ("page", "health")
        }
        in_turns(variants, 2)
        return in_turns(variants, rounds)


def first_paint(browser: Browser, url: str) -> float:
    """Return the milliseconds to the first contentful paint."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    moment = float(page.evaluate(FIRST_PAINT))
    context.close()
    return moment


def measure_requests(url: str, rounds: int) -> dict[str, Samples]:
    """Measure requests on one connection."""
    pool = urllib3.PoolManager(maxsize=1)

    def send(path: str, headers: Mapping[str, str], status: int) -> str:
        response = pool.request("GET", url + path, headers={"Accept": "*/*", **headers})
        if response.status != status:
            raise RuntimeError(f"{path}: {response.status}")
        return str(response.headers.get("ETag", ""))

    return repeated(send, rounds)


# --- Through the Lambda ---------------------------------------------------------------------------


def measure_lambda(variables: Mapping[str, str], rounds: int) -> dict[str, Samples]:
    """Measure requests to one instance."""
    with tempfile.TemporaryDirectory() as folder:
        package = package_gateway(Path(folder)) / "deployment.zip"
        with LambdaFunction(package, variables, output=subprocess.DEVNULL) as function:

            def send(path: str, headers: Mapping[str, str], status: int) -> str:
                response = function.invoke(event(path, headers)).payload
                if not isinstance(response, dict) or response["statusCode"] != status:
                    raise RuntimeError(f"{path}: {str(response)[:500]}")
                return str(response["headers"].get("ETag", ""))

            return repeated(send, rounds)


def event(path: str, headers: Mapping[str, str]) -> dict[str, object]:
    """Return the event that API Gateway sends for a request."""
    path, _, query = path.partition("?")
    if not query:
        made = proxy_event(path, path)
    else:
        made = proxy_event(path, "/inference/{text}", text=path.rpartition("/")[2])
        name, _, value = query.partition("=")
        made["multiValueQueryStringParameters"] = {name: [value]}
    made["headers"] = {"Accept": "*/*", **headers}
    made["multiValueHeaders"] = {
        name: [text] for name, text in {"Accept": "*/*", **headers}.items()
    }
    return made


def repeated(send: Callable[[str, Mapping[str, str], int], str], rounds: int) -> dict[str, Samples]:
    """Return the milliseconds of each kind of request."""
    cached = {"If-None-Match": send(PATHS["image"], {}, 200)}
    variants = {
        name: partial(milliseconds, partial(send, path, {}, 200)) for name, path in PATHS.items()
    }
    again = partial(milliseconds, partial(send, PATHS["image"], cached, 304))
    # A request after two megabytes of base64 pays for freeing them, so those are measured apart.
    heavy = {"image": variants.pop("image")}
    light = {**variants, "image again": again}
    in_turns({**light, **heavy}, 3)
    return {**in_turns(light, rounds), **in_turns(heavy, rounds)}


if __name__ == "__main__":
    sys.exit(print_section(section))
