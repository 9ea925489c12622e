"""The page: its weight, its first paint, and how many visits of it one gateway serves.

    python -m tests.benchmarks.home_page

Chromium and a client that asks again and again meet `chalice local`; the Lambda is what `chalice
package` makes, under AWS's Runtime Interface Client. The baseline is `/api/health`, the least that
the gateway answers: about a hundred bytes of JSON.
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
from endpoint.emulator.lambda_runtime import LambdaFunction
from endpoint.emulator.processes import Child, free_port
from tests.benchmarks.gateway import stub_endpoint
from tests.benchmarks.measuring import Samples, in_turns, milliseconds
from tests.benchmarks.report import Aim, Figure, Row, Section, run_alone
from tests.browser import chromium
from tests.packages import ROOT, package_gateway, proxy_event

VISITS, PAINTS = 300, 15
HEALTH = "/api/health as a document"
PATHS = {"page": "/", "health": "/health", "picture": "/inference/a%20cat?seed=7"}
TEXT = """\
The page at `/api/` in one response. First contentful paint is Chromium's own figure, from the start
of the navigation, with nothing in its caches. Visits come one after another on one connection: what
one `chalice local` serves, and what one instance of the Lambda does. The picture is a PNG of 1.5 MB
that the endpoint has at once; the same one again is a visit with the `ETag` of the first.
"""
FIRST_PAINT = """() => new Promise(resolve => new PerformanceObserver(list => {
    const [first] = list.getEntriesByName("first-contentful-paint");
    if (first) resolve(first.startTime);
}).observe({ type: "paint", buffered: true }))"""


def section(quick: bool = False) -> Section:
    """Measure all of it."""
    visits, paints = (5, 3) if quick else (VISITS, PAINTS)
    with stub_endpoint() as endpoint:
        variables = {
            "AWS_ENDPOINT_URL": endpoint,
            "EASEL_MODELS": '{"sd": {"endpoint": "easel-sd"}}',
        }
        with chalice_local(variables) as url:
            painted = measure_paint(url, paints)
            local = measure_visits(url, visits)
        lambdas = measure_lambda(variables, visits)
    rows = (
        *weights(),
        Row(
            "first contentful paint",
            "ms",
            Figure.of(painted["page"]),
            HEALTH,
            Figure.of(painted["health"]),
            Aim("value", at_most=500),
        ),
        *speeds("chalice local", local),
        *speeds("one Lambda", lambdas),
    )
    return Section("The page", TEXT, rows, packages=("chalice", "playwright", "awslambdaric"))


def weights() -> Iterator[Row]:
    """Tell what each page weighs; `chalice` and API Gateway send it as it is."""
    pages = {
        "the page": home_page("/api"),
        "the page that waits": waiting_page("/api", "sdxl-0", "a red apple", 3),
        "the page of a problem": error_page(503, "Busy.", 15, "/api"),
    }
    for name, page in pages.items():
        size, small = len(page.html) / 1_000, len(gzip.compress(page.html)) / 1_000
        aim = Aim("value", at_most=60) if name == "the page" else None
        note = f"{small:.1f} kB with gzip"
        yield Row(f"weight of {name}", "kB", Figure(round(size, 1)), aim=aim, note=note)


def speeds(where: str, samples: Mapping[str, Samples]) -> Iterator[Row]:
    """Tell how many visits there can be in a second, one after another."""
    baseline = Figure(per_second(samples["health"]))
    for name, what in (
        ("page", "the page"),
        ("picture", "a picture"),
        ("picture again", "the same picture again"),
    ):
        value = Figure(per_second(samples[name]))
        yield Row(f"{where}: {what}", "visits/s", value, "/api/health", baseline)


def per_second(samples: Samples) -> float:
    """Return the visits in a second that a median of milliseconds allows."""
    return round(1_000 / samples.median, 1)


# --- Through chalice local ------------------------------------------------------------------------


@contextmanager
def chalice_local(variables: Mapping[str, str]) -> Iterator[str]:
    """Serve the gateway as on a laptop."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    module, arguments = "endpoint.emulator.local_gateway", [str(ROOT / "gateway"), str(port)]
    environment = {**os.environ, "AWS_DEFAULT_REGION": "us-east-1", **KEYS, **variables}
    with Child(
        "the gateway", module, arguments, environment=environment, output=subprocess.DEVNULL
    ) as child:
        child.wait_until(partial(is_served, f"{url}/health"), 60)
        yield url


KEYS = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}


def is_served(url: str) -> bool:
    """Whether somebody answers at `url`."""
    try:
        return urllib3.request("GET", url, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def measure_paint(url: str, rounds: int) -> dict[str, Samples]:
    """Open the page and the baseline in a browser that has never seen either."""
    with chromium() as browser:
        variants = {
            name: partial(first_paint, browser, url + PATHS[name]) for name in ("page", "health")
        }
        in_turns(variants, 2)
        return in_turns(variants, rounds)


def first_paint(browser: Browser, url: str) -> float:
    """Return the milliseconds until something of a page is to be seen."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    moment = float(page.evaluate(FIRST_PAINT))
    context.close()
    return moment


def measure_visits(url: str, rounds: int) -> dict[str, Samples]:
    """Ask again and again, on one connection."""
    pool = urllib3.PoolManager(maxsize=1)

    def visit(path: str, headers: Mapping[str, str], status: int) -> str:
        answer = pool.request("GET", url + path, headers={"Accept": "*/*", **headers})
        if answer.status != status:
            raise RuntimeError(f"{path}: {answer.status}")
        return str(answer.headers.get("ETag", ""))

    return repeated(visit, rounds)


# --- Through the Lambda ---------------------------------------------------------------------------


def measure_lambda(variables: Mapping[str, str], rounds: int) -> dict[str, Samples]:
    """Invoke one instance again and again."""
    with tempfile.TemporaryDirectory() as folder:
        package = package_gateway(Path(folder)) / "deployment.zip"
        with LambdaFunction(package, variables, output=subprocess.DEVNULL) as function:

            def visit(path: str, headers: Mapping[str, str], status: int) -> str:
                answer = function.invoke(event(path, headers)).payload
                if not isinstance(answer, dict) or answer["statusCode"] != status:
                    raise RuntimeError(f"{path}: {str(answer)[:500]}")
                return str(answer["headers"].get("ETag", ""))

            return repeated(visit, rounds)


def event(path: str, headers: Mapping[str, str]) -> dict[str, object]:
    """Return what API Gateway would send."""
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


def repeated(
    visit: Callable[[str, Mapping[str, str], int], str], rounds: int
) -> dict[str, Samples]:
    """Make every kind of visit again and again; return their milliseconds."""
    known = {"If-None-Match": visit(PATHS["picture"], {}, 200)}
    variants = {
        name: partial(milliseconds, partial(visit, path, {}, 200)) for name, path in PATHS.items()
    }
    again = partial(milliseconds, partial(visit, PATHS["picture"], known, 304))
    # What follows two megabytes of base64 pays for tidying up after them, so those come by
    # themselves.
    heavy = {"picture": variants.pop("picture")}
    light = {**variants, "picture again": again}
    in_turns({**light, **heavy}, 3)
    return {**in_turns(light, rounds), **in_turns(heavy, rounds)}


if __name__ == "__main__":
    sys.exit(run_alone(section))
