from __future__ import annotations

import dataclasses

import pytest

from endpoint import create_endpoint
from endpoint.cli.options import (
    CommonOptions,
    DeployOptions,
    EndpointOptions,
    add_deploy_options,
    add_endpoint_options,
    common_parser,
    read,
)
from endpoint.commands import estimate

NUMBERS = [
    (estimate, "--seconds"),
    (estimate, "--per-day"),
    (estimate, "--most-instances"),
    (create_endpoint, "--budget"),
    (create_endpoint, "--most-instances"),
]


def test_the_options_are_read_once_and_frozen():
    options = read(CommonOptions, common_parser("x", "").parse_args(["--region", "eu-west-1"]))
    assert (options.name, options.region, options.yes) == ("main", "eu-west-1", False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.region = "us-east-1"  # type: ignore[misc]


def test_a_repeatable_option_becomes_a_tuple_in_its_order():
    parser = common_parser("x", "")
    add_endpoint_options(parser)
    types = ("--instance-type", "ml.g5.xlarge", "--instance-type", "ml.g6.xlarge")
    assert read(EndpointOptions, parser.parse_args(types)).instance_type == types[1::2]
    assert read(EndpointOptions, parser.parse_args([])).instance_type is None


def test_every_option_of_a_deployment_has_a_field():
    parser = common_parser("x", "")
    add_deploy_options(parser)
    fields = {field.name for field in dataclasses.fields(DeployOptions)}
    assert fields == {action.dest for action in parser._actions} - {"help"}


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "-inf", "x", ""])
@pytest.mark.parametrize(("command", "option"), NUMBERS)
def test_a_number_that_makes_no_sense_is_refused(command, option, value, capsys):
    try:
        status = command.main([f"{option}={value}"])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert option in capsys.readouterr().err
