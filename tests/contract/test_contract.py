"""What users, programs and AWS can see of Easel, compared with what was recorded.

The contract is everything outside that others rely on. It is looked at through public doors only
(the Lambda handler, `python -m`, `setup.sh`, files that AWS reads), so modules can be moved and
rewritten freely while these tests say that nobody else will notice:

    http_*            every route's answers: status, all headers, body; by deployment
    routes, openapi   the gateway's routes with their methods, and the OpenAPI document
    storage           the S3 keys of jobs and links, and what the objects hold
    invocations       what SageMaker Runtime is sent
    log               the keys of the log lines, and the values that do not vary
    options, setup    the options of every script; the commands of `setup.sh`
    infrastructure    the CloudFormation template
    gateway_settings, package   what a deployment gives AWS, and that the zip answers by itself
    variables         the names of the `EASEL_*` variables
    model_package     the answers of `inference.py`, and the metadata in its pictures

Words are not part of it: messages, descriptions and the text of pages are recorded as `<prose>`,
and of a page its tags with ids, names, links and data. Codes, fields, numbers, ids and addresses
are compared letter by letter. For that the gateway's clock stands still and what it draws by lot is
always the same; what varies all the same (times taken, signatures of links to S3, the seconds left
of a limit) is replaced.

Where a change is meant, record it and read the difference in the commit:

    python -m tests.contract record [TOPIC ...]
"""

from __future__ import annotations

import pytest

from tests.contract.cases import ROUTES
from tests.contract.gateway import routes
from tests.contract.topics import COMMAND, RECORDED, SLOW, TOPICS, differences

_MOST_SHOWN = 40


def _marked(name):
    return pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name


@pytest.mark.parametrize("name", [_marked(name) for name in TOPICS])
def test_nothing_changes_for_users(name):
    found = differences(name)

    more = len(found) - _MOST_SHOWN
    shown = [*found[:_MOST_SHOWN], f"and {more} more"] if more > 0 else found
    advice = f"Where this is meant, record it:\n\n    {COMMAND} {name}"
    assert not found, "\n\n".join([f"{name}: {len(found)} differences", *shown, advice])


def test_every_route_is_asked():
    assert set(routes()) == set(ROUTES)


def test_every_recording_is_of_a_topic():
    assert {path.stem for path in RECORDED.glob("*.json")} == set(TOPICS)
