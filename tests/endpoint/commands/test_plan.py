"""Plans of the infrastructure: what is read is what is applied, and nothing else."""

from __future__ import annotations

import json

import pytest

from endpoint import delete_endpoint
from endpoint.commands import apply, plan, status
from endpoint.provision import infrastructure
from tests.endpoint.doubles import create
from tests.endpoint.world import IMAGE

STACK = "easel-main"
BUDGET = ("--budget", "5", "--email", "me@example.com")


def _plan(world, capsys, *options):
    capsys.readouterr()
    assert world.run(plan.main, "--image", IMAGE, "--json", *options) == 0
    return json.loads(capsys.readouterr().out)


def _apply(world, change_set, *options):
    return world.run(apply.main, "--image", IMAGE, "--yes", "--change-set", change_set, *options)


def _stacks(world):
    return {
        item["StackName"]: item["StackStatus"]
        for item in world.client("cloudformation").describe_stacks()["Stacks"]
    }


def _change_sets(world):
    found = world.client("cloudformation").list_change_sets(StackName=STACK)["Summaries"]
    return [item["ChangeSetId"] for item in found]


def test_a_plan_makes_nothing_and_applying_it_makes_what_deploy_would(world, capsys):
    planned = _plan(world, capsys, "--commit", "abc")
    assert _stacks(world) == {STACK: "REVIEW_IN_PROGRESS"}
    assert world.client("s3").list_buckets()["Buckets"] == []
    assert "commit `abc`" in planned["markdown"]
    assert "| Add | Bucket | AWS::S3::Bucket |" in planned["markdown"]
    assert planned["change_set"] in planned["markdown"]

    assert _apply(world, planned["change_set"]) == 0
    assert _stacks(world) == {STACK: "CREATE_COMPLETE"}
    assert _plan(world, capsys)["change_set"] == ""
    # With this role's rights, `deploy` could not update a stack.
    world.fail("UpdateStack", "AccessDenied")
    assert create(world) == 0


def test_a_plan_says_whether_the_model_fits_and_refuses_one_that_does_not(world, capsys):
    options = ("--model", "z-image-turbo", "--instance-type", "ml.g6.2xlarge")
    assert world.run(plan.main, "--image", IMAGE, *options) == 0
    said = "Memory on ml.g6.2xlarge: 22.6 of 24 GB: tight. --quantise fp8 needs 12.8 GB."
    assert said in capsys.readouterr().err
    options = ("--model", "ernie-image-turbo", "--instance-type", "ml.g4dn.xlarge")
    assert world.run(plan.main, "--image", IMAGE, *options) == 2
    assert "does not fit on ml.g4dn.xlarge" in capsys.readouterr().err


def test_an_update_is_planned_without_the_values_of_parameters(world, capsys):
    assert create(world) == 0
    planned = _plan(world, capsys, *BUDGET)
    assert "AlarmEmail, BudgetVersion, MonthlyBudget" in planned["markdown"]
    assert "example.com" not in planned["markdown"]
    assert _apply(world, planned["change_set"], *BUDGET) == 0
    (stack,) = world.client("cloudformation").describe_stacks()["Stacks"]
    parameters = {item["ParameterKey"]: item["ParameterValue"] for item in stack["Parameters"]}
    assert parameters["AlarmEmail"] == "me@example.com"


def test_the_same_plan_is_made_once_and_another_one_replaces_it(world, capsys):
    first = _plan(world, capsys)["change_set"]
    assert _plan(world, capsys)["change_set"] == first
    second = _plan(world, capsys, *BUDGET)["change_set"]
    assert _change_sets(world) == [second]
    assert _apply(world, first) == 1
    assert "it was applied or deleted" in capsys.readouterr().err


def test_plans_of_other_labels_stay_until_one_of_them_is_applied(world, capsys):
    mine = _plan(world, capsys, "--label", "pull request 1")["change_set"]
    other = _plan(world, capsys, "--label", "pull request 12")["change_set"]
    assert sorted(_change_sets(world)) == sorted([mine, other])
    assert _apply(world, mine) == 0
    assert _apply(world, other) == 1
    assert "Plan again" in capsys.readouterr().err


@pytest.mark.parametrize("abandoned", ["alone", "with others", "without the right to delete"])
def test_what_a_discarded_plan_leaves(world, capsys, abandoned):
    _plan(world, capsys, "--label", "pull request 1")
    if abandoned == "with others":
        _plan(world, capsys, "--label", "pull request 12")
    if abandoned == "without the right to delete":
        world.fail("DeleteStack", "AccessDenied")
    assert world.run(plan.main, "--label", "pull request 1", "--discard") == 0
    said = capsys.readouterr().out
    assert 'Change sets of "pull request 1" deleted: 1.' in said
    assert (_stacks(world) == {}) == (abandoned == "alone")
    assert ("is left, which costs nothing" in said) == (abandoned.startswith("without"))


def test_a_dry_run_does_not_say_that_it_discarded_a_plan(world, capsys):
    _plan(world, capsys)
    assert world.run(plan.main, "--discard", "--dry-run") == 0
    said = capsys.readouterr()
    assert "would call cloudformation.DeleteChangeSet" in said.err
    assert "would be deleted: 1." in said.out
    assert len(_change_sets(world)) == 1


def test_a_live_stack_survives_that_its_plans_are_discarded(world, capsys):
    assert create(world) == 0
    _plan(world, capsys, *BUDGET)
    assert world.run(plan.main, "--discard") == 0
    assert _stacks(world) == {STACK: "CREATE_COMPLETE"}
    assert _change_sets(world) == []


def test_a_plan_is_obsolete_once_the_stack_was_changed_otherwise(world, capsys):
    assert create(world) == 0
    planned = _plan(world, capsys, *BUDGET)["change_set"]
    assert create(world, "--budget", "7", "--email", "me@example.com") == 0
    assert _apply(world, planned, *BUDGET) == 1
    said = capsys.readouterr().err
    assert "is obsolete: the stack easel-main was changed since it was made" in said
    assert "Plan again, and apply the new change set." in said


def test_a_plan_is_applied_once(world, capsys):
    planned = _plan(world, capsys)["change_set"]
    assert _apply(world, planned) == 0
    assert _apply(world, planned) == 1
    assert "was applied already" in capsys.readouterr().err


def test_only_what_was_planned_with_these_options_is_applied(world, capsys):
    planned = _plan(world, capsys)["change_set"]
    assert _apply(world, planned, *BUDGET) == 1
    assert "made with other options" in capsys.readouterr().err
    assert _stacks(world) == {STACK: "REVIEW_IN_PROGRESS"}


def test_only_this_commits_template_is_applied_whatever_the_change_set_is_called(
    world, capsys, monkeypatch, tmp_path
):
    forged = tmp_path / "infrastructure.yaml"
    text = infrastructure.TEMPLATE.read_text("utf-8")
    forged.write_text(text.replace("Principal: {Service: lambda.amazonaws.com}", "Principal: '*'"))
    with monkeypatch.context() as patch:
        patch.setattr(infrastructure, "TEMPLATE", forged)
        planned = _plan(world, capsys)["change_set"]
    assert _apply(world, planned) == 1
    assert "another template than this commit's" in capsys.readouterr().err
    assert _plan(world, capsys)["change_set"] != planned


def test_another_deployments_change_set_is_refused(world, capsys):
    planned = _plan(world, capsys)["change_set"]
    assert _apply(world, planned, "--name", "other") == 1
    assert "changes the stack easel-main, not easel-other" in capsys.readouterr().err


def test_somebody_elses_stack_is_not_planned(world, capsys):
    world.client("cloudformation").create_stack(
        StackName=STACK, TemplateBody='{"Resources": {"T": {"Type": "AWS::SNS::Topic"}}}'
    )
    assert world.run(plan.main, "--image", IMAGE) == 1
    assert "is not Easel's" in capsys.readouterr().err


def test_an_apply_that_is_rolled_back_says_why(world, capsys):
    planned = _plan(world, capsys)["change_set"]
    world.stack_fails_with = ("Bucket", "Access Denied")
    world.stack_status = "ROLLBACK_COMPLETE"
    assert _apply(world, planned) == 1
    assert "Bucket: Access Denied" in capsys.readouterr().err
    # The next plan says that the stack has to be deleted first.
    assert world.run(plan.main, "--image", IMAGE) == 1
    assert "ROLLBACK_COMPLETE, in which it cannot be changed" in capsys.readouterr().err


def test_a_change_set_that_cloudformation_cannot_make_is_deleted_and_its_reason_reported(
    world, capsys
):
    world.change_set_fails_with = "Template format error: unresolved resource dependencies"
    assert world.run(plan.main, "--image", IMAGE) == 1
    assert "could not plan easel-main: Template format error" in capsys.readouterr().err
    assert _change_sets(world) == []


def test_the_other_scripts_see_an_empty_stack_and_use_its_name(world, capsys):
    _plan(world, capsys)
    assert world.run(status.main) == 0
    assert "stack easel-main" in capsys.readouterr().out
    assert create(world) == 0
    assert _stacks(world) == {STACK: "CREATE_COMPLETE"}
    assert world.run(delete_endpoint.main, "--yes") == 0
    _plan(world, capsys)
    assert world.run(delete_endpoint.main, "--yes") == 0
    assert _stacks(world) == {}


def test_a_dry_run_plans_and_applies_nothing(world, capsys):
    assert world.run(plan.main, "--image", IMAGE, "--dry-run") == 0
    assert "Nothing was planned" in capsys.readouterr().out
    assert _stacks(world) == {}
    planned = _plan(world, capsys)["change_set"]
    assert _apply(world, planned, "--dry-run") == 0
    assert _stacks(world) == {STACK: "REVIEW_IN_PROGRESS"}


def test_a_dry_run_lists_what_would_change_property_by_property(world, capsys):
    assert world.run(plan.main, "--image", IMAGE, "--dry-run") == 0
    assert "| Add | Bucket | AWS::S3::Bucket |  |  |" in capsys.readouterr().out
    assert create(world) == 0
    capsys.readouterr()
    assert world.run(plan.main, "--image", IMAGE, "--dry-run") == 0
    assert "Nothing would be changed" in capsys.readouterr().out

    assert world.run(plan.main, "--image", IMAGE, *BUDGET, "--dry-run", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert {(each["action"], each["resource"]) for each in said["changes"]} >= {("Add", "Budget")}
    assert world.run(plan.main, "--image", IMAGE, *BUDGET, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "Parameters that are changed: AlarmEmail, BudgetVersion, MonthlyBudget." in said
    assert "| Add | Budget | AWS::Budgets::Budget |" in said
    assert "example.com" not in said


def test_a_plan_for_several_models_covers_all_of_them(world, capsys):
    options = ("--model", "sd", "--also", "sdxl", "--weights", "fetch")
    planned = _plan(world, capsys, *options)["change_set"]
    assert _apply(world, planned, *options) == 0
    world.fail("UpdateStack", "AccessDenied")
    assert create(world, model="sd") == 0
    assert create(world, model="sdxl") == 0
