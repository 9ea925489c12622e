"""The checks before a deployment; none of them changes anything.

credentials   the account
rights        actions that the caller's policies do not allow, as far as IAM can simulate them
quota         instances of the model's types, with the command that raises the quota
model         licence, gate and revision, from the hub
files         a local folder's files: whether the container can load them, and what is left out
compiled      on Inferentia2: whether the model is compiled, with this adapter and size
bucket        whether its name is free, or taken by another account
image         whether the serving image exists or has to be built, whether SageMaker takes its
              manifest, and what is known to be wrong with it
cost          per hour, day and month
lease, cap    what ends the endpoint, and what the month has cost already
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from botocore.exceptions import ClientError

from endpoint.aws.quotas import SPOT, TRAINING, increase_command
from endpoint.aws.registry import Image
from endpoint.catalogue import models, prices
from endpoint.catalogue import training as catalogue
from endpoint.catalogue.images import KnownImage
from endpoint.catalogue.models import Model
from endpoint.cli.context import Context
from endpoint.cli.options import EndpointOptions
from endpoint.core.model_folder.check import check
from endpoint.core.model_folder.files import select
from endpoint.core.problems import (
    AccessDenied,
    BadArgument,
    ScriptError,
    code_of,
    message_of,
    translated,
)
from endpoint.provision import backends, rights
from endpoint.provision.files.weights import shortened
from endpoint.provision.rights import Denial
from endpoint.provision.serving import capacity, fit, inferentia, lease, own_image, pins
from endpoint.provision.serving.image import choose_image, inference_ami, known_image
from endpoint.provision.training import trainer

State = Literal["good", "note", "bad"]
# Of equal width, so that the subjects are in one column.
_MARKS = {"good": "ok  ", "note": "note", "bad": "BAD "}


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        subject: what was checked.
        state: good, note (not checked, or worth knowing) or bad (prevents a deployment).
        finding: the result in words.
        advice: what to do about it.
    """

    subject: str
    state: State
    finding: str
    advice: str = ""

    def lines(self) -> Iterator[str]:
        """Yield it as lines of text."""
        yield f"{_MARKS[self.state]} {self.subject}: {self.finding}"
        if self.advice:
            yield f"     {self.advice}"


AskHub = Callable[[Model], dict[str, Any]]


def examine(
    context: Context,
    options: EndpointOptions,
    ask_hub: AskHub | None = None,
    *,
    training: bool = False,
) -> list[Check]:
    """Run all checks.

    Args:
        context: the deployment.
        options: how to create the endpoint.
        ask_hub: replaces the hub.
        training: whether what training needs is checked as well.

    Raises:
        BadArgument: if the model does not exist.
        AwsError: if there are no credentials: no other check can run then.
    """
    model = inferentia.check(backends.resolve(options), options)
    types = options.instance_type or model.instance_types
    weights = "s3" if inferentia.is_served_on(types) else options.weights or model.weights
    account = context.account
    results = [
        Check("credentials", "good", f"{account.caller['Arn']} in {account.region}"),
        *_rights(context, model, training=training),
        *_quotas(
            context, context.deployment.endpoint(model.name), types, replace=options.replace
        ),
        *_model(context, model, weights, ask_hub or ask_the_hub),
        *_memory(model, types),
        *_files(model),
        *_backend(model, options),
        *_compiled(context, options, model),
        _bucket(context),
        *_image(context, options, types[0], model.backend),
        Check("cost", "good", f"at most {prices.in_words(prices.dearest(types))}",
              prices.provenance(types)),
        *_lease(context, options, model),
    ]  # fmt: skip
    results += _training(context, model) if training else []
    if model.asynchronous:
        advice = "It scales to zero instances and costs nothing per hour while idle."
        results.append(Check("scaling", "good", f"{model.name} is asynchronous", advice))
    return results


def require_good(context: Context, options: EndpointOptions) -> None:
    """Run all checks and print them.

    Raises:
        ScriptError: the first that prevents a deployment.
    """
    results = examine(context, options)
    for result in results:
        for line in result.lines():
            context.console.say(line)
    for result in results:
        if result.state == "bad":
            raise ScriptError(f"{result.subject}: {result.finding}", result.advice)


def _rights(context: Context, model: Model, *, training: bool) -> Iterator[Check]:
    caller = context.account.caller["Arn"]
    # IAM does not simulate the root user's policies: it has none.
    if caller.endswith(":root"):
        yield Check(
            "rights", "note", "the root user has all permissions", "Create an IAM user instead."
        )
        return
    try:
        source = _policy_source(caller)
        denials = rights.simulate(context, source, model.name, training=training)
    except ClientError as error:
        # The simulation requires a permission of its own: iam:SimulatePrincipalPolicy.
        reason = message_of(error) or code_of(error)
        yield Check("rights", "note", f"not checked, because IAM refused ({reason})",
                    f"The policy that is needed: {_POLICY}.")  # fmt: skip
        return
    for denial in denials:
        yield _denied(denial)
    if not denials:
        yield Check("rights", "good", "all actions of the scripts are allowed")


_POLICY = "`python -m endpoint doctor --policy stack`, and likewise endpoints and gateway"


def _denied(denial: Denial) -> Check:
    actions = ", ".join(denial.actions)
    if denial.certain:
        advice = f"Ask for a policy without this denial, or pass another --profile. All: {_POLICY}."
        return Check("rights", "bad", f"a policy denies {actions}", advice)
    # The simulation knows neither resource policies nor a session's conditions, and stands on names
    # that do not exist yet, so it can be wrong.
    advice = f"If the calls are refused, this is missing: {denial.statement()} All: {_POLICY}."
    return Check("rights", "note", f"IAM's simulation does not allow {actions}", advice)


def _policy_source(caller: str) -> str:
    """Return the ARN whose policies apply: the role's for a session of an assumed role."""
    # IAM simulates the policies of users, groups and roles, but not those of sessions:
    # https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
    if ":assumed-role/" not in caller:
        return caller
    role = caller.partition(":assumed-role/")[2].partition("/")[0]
    return caller.partition(":assumed-role/")[0].replace(":sts:", ":iam:") + f":role/{role}"


def _quotas(
    context: Context, endpoint: str, types: tuple[str, ...], *, replace: bool
) -> Iterator[Check]:
    rooms = capacity.read(context, types)
    region = context.account.region
    if rooms is None:
        yield Check("quota", "note", "not checked (servicequotas:ListServiceQuotas is not allowed)")
        return
    listed = capacity.offered(rooms.values())
    # One type with room is enough, because the others are passed over.
    usable = any(room.has_one for room in listed)
    allowed = any(room.quota is None or room.quota >= 1 for room in listed)
    exists = context.endpoints.find(endpoint) is not None
    for room in rooms.values():
        if room.quota is None:
            left_out = ", and is left out" if room not in listed else ""
            finding = f"{room.instance_type} is not listed in {region}{left_out}"
            yield Check("quota", "note", finding)
        elif room.quota < 1:
            state: State = "note" if usable or (allowed and exists) else "bad"
            finding = f"no instance of {room.instance_type}"
            yield Check("quota", state, finding, room.command)
        elif room.has_one:
            yield Check("quota", "good", room.in_words())
        elif exists and not replace and not usable:
            finding = f"{room.in_words()}: an update would be refused"
            advice = f"Ask for {max(2, room.used + 1)}, {capacity.REPLACE}:\n     {room.command}"
            yield Check("quota", "note", finding, advice)
        else:
            state = "note" if usable or exists else "bad"
            yield Check("quota", state, room.in_words(), room.command)


def _lease(context: Context, options: EndpointOptions, model: Model) -> Iterator[Check]:
    """Yield what ends the endpoint, and whether the monthly cap leaves room for it."""
    if not model.asynchronous:
        endpoint = context.deployment.endpoint(model.name)
        finding = lease.in_words(context, endpoint, options.lease)
        never = options.lease is not None and options.lease.hours is None
        yield Check("lease", "note" if never else "good", finding)
    limit = lease.cap(context) if options.monthly_cap is None else options.monthly_cap
    if not limit:
        yield Check("cap", "good", "no monthly cap", "--monthly-cap USD sets one.")
        return
    spent = (lease.spending(context) or {"usd": 0.0})["usd"]
    finding = f"{spent:.2f} of {limit:g} USD are spent this month"
    if spent < limit:
        yield Check("cap", "good", finding)
    else:
        advice = "Raise --monthly-cap, or wait until next month."
        yield Check("cap", "bad", finding, advice)


def _training(context: Context, model: Model) -> Iterator[Check]:
    """Yield whether a model can be trained, and the quotas for its training jobs."""
    try:
        family = trainer.family_of(model)
    except BadArgument as error:
        yield Check("training", "note", str(error), error.advice)
        return
    yield from _training_quotas(context, family.instance_types)
    seconds = catalogue.seconds_per_step(family, family.instance_types[0])
    if seconds:
        finding = f"{model.name}: about {seconds:.2f} s per step on {family.instance_types[0]}"
        yield Check("training", "good", finding, "Computed, not measured: docs/costs.md.")


def _training_quotas(context: Context, types: tuple[str, ...]) -> Iterator[Check]:
    for usage in (SPOT, TRAINING):
        quotas = context.quotas.read(types, usage)
        if quotas is None:
            yield Check(
                "training", "note", f"{usage}: not checked (servicequotas:ListServiceQuotas)"
            )
            continue
        usable = {name: quotas[name][0] for name in types if name in quotas}
        room = [name for name, value in usable.items() if value >= 1]
        if room:
            yield Check("training", "good", f"{usage}: {', '.join(room)}")
            continue
        # A job may use either.
        name = next(iter(usable), types[0])
        finding = f"{usage}: the quota of {', '.join(types)} is 0 or not listed"
        code = quotas.get(name, (0.0, ""))[1]
        command = increase_command(code, 1, context.account.region) if code else ""
        yield Check("training", "note", finding, command)


def _model(context: Context, model: Model, weights: str, ask_hub: AskHub) -> Iterator[Check]:
    """Yield what the hub says of a model, and what its licence requires."""
    yield _on_hub(pins.recorded(context, model), weights, ask_hub)
    if model.duties:
        yield Check("licence", "good", model.licence, model.duties)


def _on_hub(model: Model, weights: str, ask_hub: AskHub) -> Check:
    if model.source is None:
        upload = "" if weights == "s3" else " It must be uploaded: add --weights s3."
        return Check("model", "good", f"{model.folder}", f"Check its licence yourself.{upload}")
    summary = f"{model.repository} at {model.source.ref[:12]}, licence: {model.licence}"
    unpinned = [at.name for at in model.repositories.values() if at.revision is None]
    pinning = ""
    if unpinned:
        pinning = f"`create` asks the hub for the newest commit of {', '.join(unpinned)}, and keeps"
        pinning += " it for this deployment."
    try:
        hub = ask_hub(model)
    except Exception as error:  # noqa: BLE001 - the hub library documents no set of errors
        unheard = f"The hub did not answer: {str(error)[:120]}"
        return Check("model", "note", summary, " ".join(filter(None, (unheard, pinning))))
    gated = bool(hub.get("gated", model.gated))
    if gated and weights == "fetch":
        advice = "Accept its terms on its page, set HF_TOKEN here, and use --weights s3."
        return Check("model", "bad", f"{summary}; gated", advice)
    state: State = "note" if unpinned else "good"
    return Check("model", state, f"{summary}; {'gated' if gated else 'not gated'}", pinning)


def _memory(model: Model, types: Iterable[str]) -> Iterator[Check]:
    """Yield whether a model fits on each instance type, and what would make it fit."""
    for name in types:
        compared = fit.of_type(model, name)
        if isinstance(compared, str):
            yield Check("memory", "note", compared)
        elif compared.refused:
            yield Check("memory", "bad", compared.refused)
        else:
            state: State = _STATE_OF_FIT[compared.fit.state]
            yield Check("memory", state, f"{name}: {compared.fit.finding}", compared.advice)


_STATE_OF_FIT: dict[str, State] = {"fits": "good", "tight": "note", "too large": "bad"}


def _files(model: Model) -> Iterator[Check]:
    """Yield what is wrong with a local folder's files, or how many there are."""
    if model.folder is None:
        return
    faults = check(model.folder, offline=True)
    for fault in faults:
        state: State = "bad" if fault.fatal else "note"
        yield Check("files", state, f"{fault.path} {fault.finding}", f"{fault.advice}.")
    if any(fault.fatal for fault in faults):
        return
    selection = select(model.folder)
    size = sum((model.folder / path).stat().st_size for path in selection.files)
    yield Check("files", "good", f"{len(selection.files)} files, {size / 1e9:.2f} GB")
    if selection.left_out:
        names = shortened(selection.left_out)
        yield Check("files", "note", f"no part of the model: {names}", "They are not uploaded.")


def _compiled(context: Context, options: EndpointOptions, model: Model) -> Iterator[Check]:
    """Yield whether what an endpoint on Inferentia2 serves is compiled."""
    try:
        chosen = inferentia.chosen(context, model, options)
    except ScriptError as error:
        yield Check("compiled", "bad", str(error), error.advice)
        return
    if chosen is not None:
        finding = f"{chosen.target.title}, {chosen.size / 1e9:.2f} GB"
        yield Check("compiled", "good", finding, f"s3://{context.bucket.name}/{chosen.root}")


def ask_the_hub(model: Model) -> dict[str, Any]:
    """Return the hub's information on a model; raises what huggingface_hub raises."""
    import huggingface_hub  # slow to import, and needed here only

    if model.source is None:
        return {}
    info = huggingface_hub.HfApi().model_info(
        model.source.name, revision=model.source.ref, timeout=10
    )
    return {"gated": bool(info.gated)}


def _bucket(context: Context) -> Check:
    name = context.deployment.bucket
    try:
        with translated():
            exists = context.bucket.exists()
    except AccessDenied:
        return Check("bucket", "bad", f"{name} is another account's, or you cannot access it",
                     "Choose another --name, or ask for s3:ListBucket.")  # fmt: skip
    return Check("bucket", "good", f"{name} {'exists' if exists else 'is free'}")


def _backend(model: Model, options: EndpointOptions) -> Iterator[Check]:
    """Yield what serves the model, and what it cannot do."""
    catalogued = models.resolve(options.model, options.revision)
    lines = backends.lacking(model, catalogued)
    if lines:
        yield Check("backend", "note", lines[0], " ".join(lines[1:]))
    others = [name for name in catalogued.backends if name != model.backend]
    if others:
        finding = f"{model.name} can also be served with --backend {' or '.join(others)}"
        yield Check("backend", "good", finding, "docs/backends.md says what each cannot do.")


def _image(
    context: Context, options: EndpointOptions, instance_type: str, backend: str
) -> Iterator[Check]:
    try:
        image = choose_image(context, options.image, instance_type, backend)
    except ScriptError as error:
        yield Check("image", "bad", str(error), error.advice)
        return
    known = known_image(image)
    yield _stored(context, image, known)
    for trouble in known.known_trouble(context.clock.now().date()) if known else ():
        yield Check("image", "note", trouble.finding, f"{trouble.advice} Source: {trouble.source}")
    ami = inference_ami(context, image, options.inference_ami)
    if ami and not options.inference_ami:
        needs = "Neuron" if known is not None and known.neuron else "CUDA"
        yield Check("image", "note", f"its {needs} requires the machine image {ami}",
                    "`create` sets it; --inference-ami chooses another.")  # fmt: skip


def _stored(context: Context, image: Image, known: KnownImage | None) -> Check:
    """Return whether ECR has an image, and SageMaker takes its manifest."""
    own = own_image.is_own(context, image)
    try:
        with translated():
            manifest = own_image.find(context) if own else context.registry.find(image)
    except AccessDenied:
        return Check("image", "note", f"{image.uri}; not checked, because access is denied")
    if manifest is None and own:
        finding = f"{image.uri} does not exist yet: the deployment builds it"
        return Check("image", "good", finding, prices.image_in_words())
    if manifest is None:
        return Check("image", "bad", f"{image.uri} does not exist", "Pass another one: --image.")
    if not manifest.servable:
        finding = own_image.unservable(image, manifest)
        return Check("image", "bad", finding, own_image.unservable_advice(image))
    if known is None:
        return Check("image", "good", image.uri)
    return Check("image", "good", f"{image.uri} ({known.content})")
