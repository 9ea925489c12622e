"""How the packaged gateway is set up for many visitors."""

import json

from tests.benchmarks.lib.load_world import limit_instances


def test_the_function_gets_as_many_instances_as_are_asked_for_and_nothing_else_changes(tmp_path):
    function = {"Type": "AWS::Serverless::Function", "Properties": {"Timeout": 29}}
    api = {"Type": "AWS::Serverless::Api", "Properties": {"StageName": "api"}}
    template = tmp_path / "sam.json"
    template.write_text(json.dumps({"Resources": {"Handler": function, "Api": api}}))

    limit_instances(template, 30)

    function["Properties"]["ReservedConcurrentExecutions"] = 30
    assert json.loads(template.read_text()) == {"Resources": {"Handler": function, "Api": api}}
