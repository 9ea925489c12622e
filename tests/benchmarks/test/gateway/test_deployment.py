"""How the packaged gateway is deployed for many clients."""

import json
from argparse import ArgumentParser

from endpoint.cli.options import add_deploy_options
from tests.benchmarks.lib.gateway.deployment import SETTINGS, limit_instances


def test_the_function_gets_reserved_concurrency_and_nothing_else_changes(tmp_path):
    function = {"Type": "AWS::Serverless::Function", "Properties": {"Timeout": 29}}
    api = {"Type": "AWS::Serverless::Api", "Properties": {"StageName": "api"}}
    template = tmp_path / "sam.json"
    template.write_text(json.dumps({"Resources": {"Handler": function, "Api": api}}))

    limit_instances(template, 30)

    function["Properties"]["ReservedConcurrentExecutions"] = 30
    assert json.loads(template.read_text()) == {"Resources": {"Handler": function, "Api": api}}


def test_the_gateway_is_measured_with_what_deploy_writes():
    defaults = ArgumentParser()
    add_deploy_options(defaults)
    concurrency = defaults.parse_args([]).concurrency

    assert concurrency == SETTINGS.concurrency
    assert SETTINGS.environment()["EASEL_MOST_WAITING"] == str(concurrency // 2)
