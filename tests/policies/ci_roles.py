"""The statements of endpoint/ci-roles.yaml that are rights of the operator, from `rights.py`.

python -m tests.policies.ci_roles     writes them into the template, between its markers
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from endpoint.core.naming import Deployment
from endpoint.provision.rights import Right, rights, training_rights

TEMPLATE = Path(__file__).parents[2] / "endpoint" / "ci-roles.yaml"
# Made by the stack, so that CloudFormation's role alone changes them.
_STACKS_OWN = {
    "Budget",
    "BuildRule",
    "Dashboard",
    "Guard",
    "LeaseGroup",
    "NetworkNames",
    "PassTheBuildsRole",
    "PassTheGuardsRole",
    "PassTheRulesRole",
    "PrivateNetwork",
    "Roles",
    "SpendMail",
    "SpendMailEnds",
}
_SHARED = {
    "Bucket",
    "Builds",
    "Leases",
    "Logs",
    "PassTheLeasesRole",
    "Repository",
    "SeeTheNetwork",
    "ServingImage",
}
# What the scripts do with the stack's own resources, and CloudFormation does not.
_SCRIPTS_ALONE = {
    "codebuild:BatchGetBuilds",
    "codebuild:ListBuildsForProject",
    "codebuild:StartBuild",
    "codebuild:StopBuild",
    "ecr:BatchGetImage",
    "ecr:DescribeImages",
    "logs:FilterLogEvents",
    "logs:GetLogEvents",
    "s3:ListBucketMultipartUploads",
    "s3:ListBucketVersions",
}
# Of the other rights, those that `deploy` does without: it asks IAM for no simulation, and the
# stack's changes are planned and applied by other roles.
_NOT_DEPLOYS = _STACKS_OWN | {"DoctorsSimulation"}
_READING = ("BatchGet", "Describe", "Get", "List", "Filter")
_INDENT = " " * 14


def stack_rights() -> list[Right]:
    """Return what CloudFormation needs for the resources of the template."""
    return [
        _with(right, [action for action in right.actions if action not in _SCRIPTS_ALONE])
        for right in rights(_deployment())
        if right.sid in _STACKS_OWN | _SHARED
    ]


def deploy_rights() -> list[Right]:
    """Return what `deploy` needs once the stack is as it should be."""
    # Training is set up by the operator; a later `deploy` finds its stack as it should be.
    stack = [right for right in training_rights(_deployment()) if right.sid == "TrainingStack"]
    return [
        _with(right, [action for action in right.actions if _is_deploys(right.sid, action)])
        for right in [*rights(_deployment()), *stack]
        if right.sid not in _NOT_DEPLOYS
    ]


def _is_deploys(sid: str, action: str) -> bool:
    if sid in {"Stack", "TrainingStack", "Bucket", "Builds", "Repository", "SeeTheNetwork"}:
        reads = action.partition(":")[2].startswith(_READING)
        return reads or action in {"codebuild:StartBuild", "codebuild:StopBuild"}
    return True


def _with(right: Right, actions: Iterable[str]) -> Right:
    return Right(right.sid, tuple(actions), right.resources, right.context)


def _deployment() -> Deployment:
    # Valid names that occur nowhere else, and become the template's parameters.
    return Deployment("deploymentname", "accountid", "regionname", "partitionname")


def _parametrized(text: str) -> str:
    for name, parameter in (
        ("deploymentname", "DeploymentName"),
        ("accountid", "AWS::AccountId"),
        ("regionname", "AWS::Region"),
        ("partitionname", "AWS::Partition"),
    ):
        text = text.replace(name, f"${{{parameter}}}")
    return text if text == "*" else f'!Sub "{text}"' if "${" in text else f'"{text}"'


def statements(of: Iterable[Right]) -> str:
    """Return rights as the statements of a policy, in YAML."""
    lines = []
    for right in of:
        lines += [f"- Sid: {right.sid}", "  Effect: Allow"]
        lines += _listed("Action", [f'"{action}"' for action in right.actions])
        arns = [_parametrized(arn) for arn in right.resources]
        lines += ['  Resource: "*"'] if arns == ["*"] else _listed("Resource", arns)
        for key, value in right.context.items():
            lines += ["  Condition:", f'    StringEquals: {{"{key}": "{value}"}}']
    return "".join(f"{_INDENT}{line}\n" for line in lines)


def _listed(key: str, values: list[str]) -> list[str]:
    if len(values) == 1:
        return [f"  {key}: {values[0]}"]
    return [f"  {key}:", *(f"    - {value}" for value in values)]


def filled(text: str) -> str:
    """Return the template's text with its generated statements."""
    for name, of in (("stack", stack_rights()), ("deploy", deploy_rights())):
        pattern = rf"( *# <rights: {name}>\n).*?( *# </rights>\n)"
        content = statements(of)
        text = re.sub(
            pattern,
            lambda found, content=content: found[1] + content + found[2],  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    TEMPLATE.write_text(filled(TEMPLATE.read_text("utf-8")), "utf-8")
