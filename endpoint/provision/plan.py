"""The infrastructure's next state, as a change set that is read by a person before it is applied.

create      a change set of exactly what `deploy` with the same options would do to the stack
compare     the same as far as the two templates show it, for a dry run
markdown    its changes, as Markdown for a pull request or a job's summary
apply       that change set and no other: of this template, these options, and the stack as it was
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from endpoint.aws.change_sets import REVIEW, Change, ChangeSet
from endpoint.aws.registry import Image
from endpoint.aws.templates import changes
from endpoint.cli.context import Context
from endpoint.cli.options import DeployOptions
from endpoint.core.naming import digest
from endpoint.core.problems import AccessDenied, PlanUnusable, translated
from endpoint.provision import infrastructure
from endpoint.provision.gateway import gateway
from endpoint.provision.ownership import Ownership
from endpoint.provision.serving import endpoint, fit, own_image
from endpoint.provision.serving.image import choose_image

PLAN_AGAIN = "Plan again, and apply the new change set."
_LEFT = "the next plan or `deploy` uses its name, and `./setup.sh destroy` deletes it."
# GitHub's comments have at most 65,536 characters.
_MOST_CHANGES = 200


@dataclass(frozen=True)
class Wanted:
    """What the stack is to be made from."""

    template: str
    parameters: dict[str, str]

    def name(self, label: str) -> str:
        """Return a name for a change set: the same one for the same state and label."""
        return f"easel-{digest([self.template, self.parameters, label])}"


def wanted(context: Context, options: DeployOptions) -> Wanted:
    """Return what `deploy` with these options would make the stack from.

    Raises:
        BadArgument: if an option has an unusable value.
        ScriptError: if the stack is somebody else's.
    """
    infrastructure.check_budget(options, context.account.region)
    gateway.check_options(context, options)
    types: list[str] = []
    image: Image | None = None
    for model_options in options.own_options():
        model = endpoint.check_options(model_options)
        Ownership(context).refuse_others(context.deployment.endpoint(model.name))
        own_types = endpoint.types_of(context, model_options, model)
        for line in fit.lines(model, own_types):
            context.console.say(line)
        image = image or choose_image(context, options.image, own_types[0], model.backend)
        types += own_types
    image = image or own_image.address(context)
    return Wanted(
        infrastructure.template(context.account.region),
        infrastructure.parameters(context, image, tuple(dict.fromkeys(types)), options),
    )


def create(
    context: Context, options: DeployOptions, *, label: str, commit: str, role: str | None
) -> ChangeSet | None:
    """Return a change set for what the options want; None if the stack is like that already.

    One that was made for the same is used again; the label's others are deleted.

    Args:
        context: the deployment.
        options: as for `deploy`.
        label: what the plan is for, such as a pull request.
        commit: what it is made from; empty if unknown.
        role: the ARN of the role that CloudFormation works with; None for the caller's rights.

    Raises:
        StackFailed: if the stack is broken, or CloudFormation cannot create the change set.
    """
    stack, stacks = context.deployment.stack, context.stacks
    stacks.require_usable(stack)
    state = wanted(context, options)
    unchanged = stacks.has(stack, state.template, state.parameters)
    earlier = None
    for arn in context.change_sets.labelled(stack, label):
        change_set = context.change_sets.find(stack, arn)
        if change_set and not unchanged and _problem_of(context, change_set, state) is None:
            earlier = change_set
        elif change_set:
            context.change_sets.delete(change_set)
    if unchanged or earlier:
        return earlier
    context.begin(f"change set {state.name(label)} for {stack}")
    return context.change_sets.create(
        stack,
        state.name(label),
        state.template,
        state.parameters,
        context.deployment.tags,
        description=f"{label}: commit {commit}" if commit else f"{label}:",
        role=role,
    )


@dataclass(frozen=True)
class Comparison:
    """What differs between the stack and what the options want.

    Attributes:
        parameters: the names of the parameters that change.
        changes: of the resources, without what depends on replaced ones.
        is_update: whether the stack differs; also in a comment or an output of the template.
    """

    parameters: list[str]
    changes: list[Change]
    is_update: bool


def compare(context: Context, options: DeployOptions) -> Comparison:
    """Return what a change set would contain, without creating one; errors as for `wanted`."""
    stack, stacks = context.deployment.stack, context.stacks
    state = wanted(context, options)
    present = stacks.find(stack)
    exists = present is not None and present["StackStatus"] != REVIEW
    before = stacks.parameters(stack) if exists else {}
    template = stacks.template(stack) if exists else ""
    return Comparison(
        _changed(before, state.parameters),
        changes(template, before, state.template, state.parameters),
        not stacks.has(stack, state.template, state.parameters),
    )


def _changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    # Without their values, one of which is somebody's e-mail address.
    return sorted(key for key, value in after.items() if before and before.get(key) != value)


def discard(context: Context, label: str) -> list[str]:
    """Delete a label's change sets, and the stack if nothing else was ever planned or made in it.

    Returns:
        What was deleted, and what is left, as lines of text.
    """
    stack, ownership = context.deployment.stack, Ownership(context)
    arns = context.change_sets.labelled(stack, label)
    for arn in arns:
        if change_set := context.change_sets.find(stack, arn):
            context.begin(f"delete change set {arn}")
            context.change_sets.delete(change_set)
    done = "would be deleted" if context.dry_run else "deleted"
    lines = [f'Change sets of "{label}" {done}: {len(arns)}.']
    if not (ownership.owns_stack and context.change_sets.is_abandoned(stack)):
        return lines
    try:
        with translated():
            context.stacks.delete(stack)
    # A role that plans for pull requests must not be able to delete stacks.
    except AccessDenied:
        return [*lines, f"The empty stack {stack} is left, which costs nothing: {_LEFT}"]
    return [*lines, f"Empty stack {done}: {stack}."]


def find(context: Context, arn: str) -> ChangeSet | None:
    """Return a change set of the deployment's stack; None if it does not exist.

    Raises:
        PlanUnusable: if it is another stack's.
    """
    change_set = context.change_sets.find(context.deployment.stack, arn)
    if change_set and change_set.stack != context.deployment.stack:
        raise PlanUnusable(
            f"{arn} changes the stack {change_set.stack}, not {context.deployment.stack}.",
            "Pass its deployment with --name.",
        )
    return change_set


def require_applicable(context: Context, arn: str, options: DeployOptions) -> ChangeSet:
    """Return the change set if applying it makes what these files and options want.

    Raises:
        PlanUnusable: if it does not exist, is obsolete, or was made from something else.
    """
    state = wanted(context, options)
    change_set = find(context, arn)
    if change_set is None:
        raise PlanUnusable(f"There is no change set {arn}; it was applied or deleted.", PLAN_AGAIN)
    if problem := _problem_of(context, change_set, state):
        raise PlanUnusable(problem, PLAN_AGAIN)
    return change_set


def _problem_of(context: Context, change_set: ChangeSet, state: Wanted) -> str | None:
    if change_set.execution.startswith("EXECUTE"):
        return f"The change set {change_set.arn} was applied already."
    if change_set.execution != "AVAILABLE":
        return (
            f"The change set {change_set.arn} is {change_set.execution.lower()}:"
            f" the stack {change_set.stack} was changed since it was made."
        )
    # Whoever can plan can give a change set any name and description.
    if context.change_sets.template(change_set) != state.template.strip():
        return "The change set was made from another template than this commit's."
    if not state.parameters.items() <= change_set.parameters.items():
        return "The change set was made with other options, or for another state of the account."
    return None


def markdown(context: Context, change_set: ChangeSet | None, commit: str) -> list[str]:
    """Return a plan as lines of Markdown.

    Args:
        context: the deployment.
        change_set: the plan; None if nothing would change.
        commit: what it was made from; empty if unknown.
    """
    deployment = context.deployment
    source = f" by commit `{commit}`" if commit else ""
    lines = [f"### Infrastructure of `{deployment.name}` in {deployment.region}", ""]
    if change_set is None:
        return [*lines, f"Nothing is changed{source}."]
    lines += [f"Resources that are changed{source}: {len(change_set.changes)}."]
    before = context.stacks.parameters(deployment.stack)
    lines += _details(_changed(before, change_set.parameters), change_set.changes)
    if lost := [change.resource for change in change_set.changes if _is_lost(change)]:
        lines += ["", f"**Deleted or replaced, with what they contain: {', '.join(lost)}.**"]
    return [*lines, "", f"Change set: `{change_set.arn}`"]


def described(context: Context, comparison: Comparison, commit: str) -> list[str]:
    """Return a comparison as lines of Markdown; arguments as for `markdown`."""
    deployment = context.deployment
    source = f" by commit `{commit}`" if commit else ""
    lines = [f"### Infrastructure of `{deployment.name}` in {deployment.region}", ""]
    if not comparison.is_update:
        return [*lines, f"Nothing would be changed{source}; nothing was planned."]
    lines += [f"Resources that would be changed{source}: {len(comparison.changes)}."]
    lines += _details(comparison.parameters, comparison.changes)
    return [*lines, "", "Nothing was planned; a change set also shows what would be replaced."]


def _details(parameters: Sequence[str], found: Sequence[Change]) -> Iterator[str]:
    if parameters:
        yield from ("", f"Parameters that are changed: {', '.join(parameters)}.")
    if found:
        yield from ("", *_table(found))


def _is_lost(change: Change) -> bool:
    return change.action == "Remove" or change.replacement in {"True", "Conditional"}


def _table(found: Sequence[Change]) -> Iterator[str]:
    yield "| Action | Resource | Type | Replacement | Properties |"
    yield "|---|---|---|---|---|"
    for change in found[:_MOST_CHANGES]:
        cells = (change.action, change.resource, change.kind, change.replacement)
        yield f"| {' | '.join([*cells, ', '.join(change.properties)])} |"
    if len(found) > _MOST_CHANGES:
        yield f"| ... | {len(found) - _MOST_CHANGES} more | | | |"
