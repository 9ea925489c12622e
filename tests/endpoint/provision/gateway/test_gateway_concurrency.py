"""The concurrency that `deploy` reserves, of what the account's limit leaves."""

from __future__ import annotations

import pytest

from endpoint.provision.gateway.gateway import _allowed_concurrency, _free_concurrency
from tests.endpoint.doubles import create, create_gateway
from tests.endpoint.world import aws_response


def limit(world, total, reserved):
    free = {"UnreservedConcurrentExecutions": total - reserved}
    world._before_get_account_settings = lambda _: aws_response({"AccountLimit": free})


@pytest.mark.parametrize(("total", "allowed"), [(110, 10), (119, 10), (109, None)])
def test_a_second_deployment_reserves_what_the_first_did(world, context, total, allowed):
    limit(world, total, 0)
    assert _allowed_concurrency(context, 10, _free_concurrency(context)) == allowed
    if allowed is None:
        return
    assert create(world) == 0  # makes the function's role
    create_gateway(world)
    world.client("lambda").put_function_concurrency(
        FunctionName="easel-main", ReservedConcurrentExecutions=10
    )
    limit(world, total, 10)
    assert _allowed_concurrency(context, 10, _free_concurrency(context)) == 10
