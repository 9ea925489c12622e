"""Reading Python's report of imports."""

from tests.benchmarks.sections.gateway.imports import parse

REPORT = """\
import time: self [us] | cumulative | imported package
import time:       100 |        100 |   zipimport
import time:      2000 |       2500 |     botocore.compat
import time:       500 |        500 |   botocore
an app can write to its standard error
import time:      1500 |       4600 | app
"""


def test_the_time_of_a_package_is_that_of_its_own_modules():
    assert parse(REPORT) == {"zipimport": 0.1, "botocore": 2.5, "app": 1.5}
