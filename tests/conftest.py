"""Settings, order and checks that apply to every test.

The tests of Inferentia2 read this file in an environment of their own, which has no boto3.
"""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from endpoint.core.local_addresses import go_direct

# Set before anything imports botocore or torch, and inherited by every process a test starts.
os.environ.update(
    AWS_ACCESS_KEY_ID="testing",
    AWS_SECRET_ACCESS_KEY="testing",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    HF_HUB_OFFLINE="1",
    # Else setuptools, which torch's compiler imports, fails where distutils was imported first.
    SETUPTOOLS_USE_DISTUTILS="stdlib",
    # Two OpenMP threads that spin against another process take ten times as long as one.
    OMP_NUM_THREADS="1",
)
for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
    os.environ.pop(name, None)

# Every server of a test is on this machine.
go_direct(os.environ)

# Set by `./setup.sh test --all`.
ALL = bool(os.environ.get("ALL_TESTS"))

# Files whose tests take minutes each with --all, and are independent.
LONG = ("tests/endpoint/test_histories.py",)
# The slowest files, the slowest first: started last, one of them would delay the end.
LONGEST = (
    *LONG,
    "tests/test_setup.py",
    "tests/endpoint/test_crashes.py",
    "tests/endpoint/commands/test_deploy.py",
    "tests/model_package/easel/speed/test_compile_cache.py",
    "tests/endpoint/emulator/test_run.py",
    "tests/endpoint/provision/test_infrastructure.py",
    "tests/model_package/training/test_loop.py",
    "tests/model_package/servers/test_servers.py",
    "tests/model_package/neuron/test_on_chip.py",
    "tests/test_workflows.py",
    "tests/end_to_end/images/test_jobs_cold.py",
    "tests/end_to_end/images/test_failures.py",
    "tests/end_to_end/test_run.py",
    "tests/end_to_end/dialects/test_openai_slow.py",
    "tests/end_to_end/web/test_schema.py",
)

# A deadline for one example would fail on a busy machine. The quick profile tries the same examples
# in every run, so that more of them would find nothing new the next time; the thorough one tries
# others each time, and prints how to repeat a failure.
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=1_000, print_blob=True)
settings.load_profile("thorough" if ALL else "quick")

# Asked to end, pytest closes its servers and browsers, as it does on Ctrl-C. A shell starts a
# command in the background with SIGINT ignored, which the processes of the tests would inherit.
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.default_int_handler)


class ByFile(LoadFileScheduling):
    """Gives each process whole files, but those of `LONG`, whose tests it gives one by one."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return nodeid if file in LONG else file


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log) if config.option.dist == "loadfile" else None


def pytest_collection_modifyitems(config, items):
    """Order and choose the tests.

    The longest are first, so that no process is left with one when the others have ended. What
    needs an environment of its own is left out without --all, unless `-m` names it.
    """
    places = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))
    if len({item.nodeid for item in items}) < len(items):
        raise pytest.UsageError("of tests that share a node id, pytest-xdist runs one alone")
    if ALL or "own_environment" in config.option.markexpr:
        return
    apart = [item for item in items if item.get_closest_marker("own_environment")]
    if apart:
        config.hook.pytest_deselected(items=apart)
        items[:] = [item for item in items if item not in apart]


def pytest_collection_finish():
    """Let the garbage collector look at less, and less often.

    Importing everything leaves more than a million objects, which no test frees; by default the
    collector would walk over all of them again and again.
    """
    _leave_to_itself()
    gc.set_threshold(10_000, 10, 10)


@pytest.fixture(autouse=True, scope="module")
def _what_earlier_files_left():
    """Do the same for the objects that earlier files left."""
    _leave_to_itself()


def _leave_to_itself():
    """Free what nothing refers to, and have the collector pass over everything else from now on."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_leaks():
    """Fail a test that leaves settings or the current folder changed for those after it."""
    before = _settings()
    yield
    assert _settings() == before


def _settings():
    ours = ("AWS_", "EASEL_", "HF_")
    variables = {name: text for name, text in os.environ.items() if name.startswith(ours)}
    # A copy of os.environ in its place would reach no process that a test starts.
    return type(os.environ), variables, Path.cwd()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Escape what UTF-8 cannot encode in captured output: pytest-xdist could not pass it on."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report
