"""The scripts' options: argparse reads them once, and then they are frozen dataclasses.

A field has the name of its option. Scripts with the same options share a class.
"""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from endpoint.aws.registry import Image
from endpoint.catalogue import images, quantisation
from endpoint.core.backends import setting
from endpoint.core.compiled_models import INSTANCES
from endpoint.core.generation import RULES, Weighted
from endpoint.core.leases import DEFAULT_HOURS, Lease
from endpoint.core.problems import BadArgument

if TYPE_CHECKING:
    # This module exists for type checkers only.
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")
# Of Lambda functions. Requests that wait for asynchronous pictures keep up to half of them busy.
CONCURRENCY = 30
# What a private network reaches: S3 for nothing, or also ECR and CloudWatch Logs for some money.
NETWORKS = ("s3", "endpoints")
# A mistake is caught here; whether it is somebody's, nobody but its server knows.
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
# The most that SageMaker allows: letters, digits and single hyphens.
_ENDPOINT = re.compile(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,62}")
# A compiled model has one adapter at most.
_ADAPTER = replace(cast(Weighted, RULES["lora"]), most_names=1)
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_INSTANCE_TYPE = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9-]+")


@dataclass(frozen=True)
class CommonOptions:
    """The options of every script that calls AWS.

    Attributes:
        name: the deployment; None for all deployments, where a script allows that.
    """

    name: str | None
    region: str | None
    profile: str | None
    yes: bool
    dry_run: bool
    json: bool


@dataclass(frozen=True)
class ModelOptions(CommonOptions):
    """The options of scripts that act on one model, or on all of the deployment's."""

    model: str | None


@dataclass(frozen=True)
class UsageOptions(CommonOptions):
    """Which days to report.

    Attributes:
        days: their number, up to the last; None for 30, or for those from the first.
        first: the first day in UTC; last likewise, None for today.
        csv: print the rows as CSV.
    """

    days: int | None
    first: date | None
    last: date | None
    csv: bool


@dataclass(frozen=True)
class EndpointOptions(CommonOptions):
    """How to create an endpoint.

    Attributes:
        weights: fetch or s3; None for the model's own way, see `models.Model.weights`.
        instance_type: the types to try, in this order; None for the model's own.
        private_network: what the container reaches in it: s3, or endpoints for ECR and logs, too;
            None for the network that exists, if any.
        budget: USD per month; 0 for the budget that exists, if any.
        email: the recipient of the warnings; empty for the one that exists.
        replace: delete an endpoint before its new version is created, instead of an update.
        lease: of a real-time endpoint; None for the one that it has, or of the default length.
        monthly_cap: USD of GPUs per month; 0 for no cap, None for the one that exists.
        wake: whether the gateway may start an endpoint that its lease has ended; None for as it is.
        backend: what answers in the container, a name in `core/backends`; None for the model's own.
        lora: on Inferentia2, the name and weight of the adapter in the compiled model; None for
            none.
        size: on Inferentia2, width and height in pixels of the compiled model; None for the model's
            own.
        quantise: how to store the weights; None for the model's own way.
    """

    model: str | None
    revision: str | None
    weights: str | None
    instance_type: tuple[str, ...] | None
    most_instances: int
    image: str | None
    inference_ami: str | None
    private_network: str | None
    budget: float
    email: str
    log_prompts: bool
    replace: bool
    lease: Lease | None
    monthly_cap: float | None
    wake: bool | None
    backend: str | None
    lora: tuple[str, float] | None
    size: tuple[int, int] | None
    quantise: str | None


@dataclass(frozen=True)
class StartOptions(ModelOptions):
    """The options of `start`.

    Attributes:
        lease: of the started endpoints; None for the one that each had.
    """

    lease: Lease | None


@dataclass(frozen=True)
class DoctorOptions(EndpointOptions):
    """What to check before an endpoint is created.

    Attributes:
        policy: which of the operator's policies to print, checking nothing; None for none.
        training: what training needs as well.
    """

    policy: str | None
    training: bool


@dataclass(frozen=True)
class AccessOptions:
    """Who can use the gateway, and how much; None leaves a setting as it is deployed."""

    keys: Path | None
    open: bool
    new_secret: bool
    pictures_per_minute: int | None
    prompt_filter: str | None
    prompt_filter_words: str | None
    cors_origins: str | None
    cdn: bool | None


@dataclass(frozen=True)
class DeployOptions(EndpointOptions, AccessOptions):
    """How to deploy endpoints and the gateway.

    Attributes:
        endpoint: somebody else's endpoint, to put the gateway in front of; the backend is its.
        without_endpoint: the endpoints of others that the gateway offers no more.
        accepts: the fields that a server of OpenAI's images API takes besides prompt and size, or
            a model of JumpStart besides the prompt.
        accept_eula: whether the licence of a gated JumpStart model is accepted.
    """

    also: tuple[str, ...]
    endpoint: str | None
    without_endpoint: tuple[str, ...]
    accepts: tuple[str, ...]
    accept_eula: bool
    requests_per_second: float
    burst: int
    concurrency: int
    stored_pictures: bool | None
    training: bool | None
    training_image: str | None
    trainings_per_month: int | None

    @property
    def own(self) -> tuple[str | None, ...]:
        """The models that get endpoints of the deployment's own; None for the default model.

        With an endpoint of others, --model says what that serves; --also adds own ones.
        """
        if self.endpoint or (self.without_endpoint and self.model is None):
            return self.also
        return (self.model, *self.also)

    def own_options(self) -> list[DeployOptions]:
        """Return the options of each of those models; --backend may be of another's endpoint."""
        backend = None if self.endpoint else self.backend
        return [replace(self, model=model, backend=backend) for model in self.own]


@dataclass(frozen=True)
class TrainOptions(CommonOptions):
    """What to train, and which job to look at.

    Attributes:
        folder: the pictures and captions.
        adapter: the adapter's name.
        kohya: a file of kohya's scripts, over which the other options have priority.
        long: whether a job may take longer than an hour.
        contact_sheet: where to write it; None for a place of the project's.
        watch: True for the job that is started, or the name or id of one.
        stop: the name or id of a job; likewise resume.
    """

    folder: Path | None
    adapter: str | None
    model: str
    revision: str | None
    trigger: str | None
    prompt: str | None
    class_prompt: str | None
    class_pictures: Path | None
    preserve: str | None
    steps: int | None
    rank: int | None
    rate: float | None
    resolution: int | None
    seed: int | None
    sample_prompt: tuple[str, ...]
    sample_every: int | None
    kohya: Path | None
    image: str | None
    instance_type: str | None
    on_demand: bool
    long: bool
    contact_sheet: Path | None
    watch: str | bool | None
    stop: str | None
    resume: str | None
    list: bool


@dataclass(frozen=True)
class CompileOptions(CommonOptions):
    """What to compile, and which job to stop.

    Attributes:
        lora: the name and weight of the adapter to merge; None for none.
        instance: the family of instances to compile for.
        size: width and height in pixels; None for the model's own.
        instance_type: to compile on; None for the cheapest with enough memory.
        spot: whether to use a spot instance.
        stop: the name of a job to stop; True for that of this compilation.
    """

    model: str
    lora: tuple[str, float] | None
    instance: str
    size: tuple[int, int] | None
    image: str | None
    instance_type: str | None
    spot: bool
    stop: str | bool | None
    list: bool


def read(options: type[Options], args: argparse.Namespace) -> Options:
    """Return the parsed command line as `options`; repeatable options become tuples."""
    values = {field.name: getattr(args, field.name) for field in fields(options)}
    # argparse collects a repeatable option in a list, which a frozen dataclass should not hold.
    frozen = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return options(**frozen)


def common_parser(
    command: str, description: str, name: str | None = "main", option: str = "--name"
) -> argparse.ArgumentParser:
    """Return a parser for `CommonOptions`.

    Args:
        command: the script's name after `python -m endpoint`.
        description: what the script does, in one sentence.
        name: the deployment by default; None for all.
        option: the option that names the deployment.
    """
    parser = argparse.ArgumentParser(prog=f"python -m endpoint {command}", description=description)
    which = f"the deployment (default: {name or 'all'})"
    parser.add_argument(option, dest="name", default=name, help=which)
    parser.add_argument("--region", help="AWS region (default: from your AWS configuration)")
    parser.add_argument("--profile", help="profile of your AWS configuration")
    parser.add_argument("--yes", action="store_true", help="confirm every question")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the calls that would change something"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def number(text: str) -> float:
    """Read a number on the command line; not a finite one is refused."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


def amount(text: str) -> float:
    """Read a number that is 0 or more."""
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return value


def day(text: str) -> date:
    """Read a day, such as 2026-11-26."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no date such as 2026-11-26") from error


def count(text: str) -> int:
    """Read a whole number that is 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def lease(text: str) -> Lease:
    """Read the length of a lease."""
    try:
        return Lease.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_lease_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the lease of a real-time endpoint."""
    what = "delete a real-time endpoint that is idle for so long: such as 8h, 30m or never"
    new = f"(new ones: {DEFAULT_HOURS:g}h)"
    parser.add_argument("--lease", type=lease, metavar="LENGTH", help=f"{what} {new}")


def email(text: str) -> str:
    """Read an e-mail address; empty is none."""
    if text and not _EMAIL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text} is no e-mail address")
    return text


def arn(text: str) -> str:
    """Read an ARN."""
    if not re.fullmatch(r"arn:[^:\s]+(:[^:\s]*){3}:\S+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no ARN")
    return text


def endpoint_name(text: str) -> str:
    """Read the name of an endpoint; whether it exists, SageMaker decides."""
    if not _ENDPOINT.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of an endpoint")
    return text


def job_name(text: str) -> str:
    """Read SageMaker's name of a job, whose rule is that of endpoints."""
    if not _ENDPOINT.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a job")
    return text


def field_names(text: str) -> tuple[str, ...]:
    """Read one or more names with commas between them."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} are no names of fields, such as seed,steps")
    return names


def instance_type(text: str) -> str:
    """Read the name of an instance type for endpoints; which of them exist, a region decides."""
    if not _INSTANCE_TYPE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no instance type, such as ml.g5.xlarge")
    return text


def lora(text: str) -> tuple[str, float]:
    """Read an adapter's name, with or without its weight, such as `watercolour:0.8`."""
    try:
        pairs = _ADAPTER.pairs(text)
    except ValueError:
        pairs = []
    if not pairs:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no adapter such as watercolour or watercolour:0.8, with a weight from"
            f" {_ADAPTER.least:g} to {_ADAPTER.most:g}"
        )
    return pairs[0]


def size(text: str) -> tuple[int, int]:
    """Read a width and a height in pixels, such as 512x512."""
    match = _SIZE.fullmatch(text.lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512x512")
    width, height = int(match[1]), int(match[2])
    try:
        RULES["width"].clean(width)
        RULES["height"].clean(height)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: each side {error}") from error
    return width, height


def training_image(text: str) -> str:
    """Read a training image, as `image`."""
    return image(text, "training")


def image(text: str, scope: str = "inference") -> str:
    """Read a serving image: a name in the catalogue, or a URI; whether it exists, ECR decides."""
    try:
        if images.by_name(text, scope) is None:
            Image.parse(text)
    except BadArgument as error:
        raise argparse.ArgumentTypeError(f"{error} {error.advice}") from error
    return text


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `TrainOptions`."""
    add = parser.add_argument
    add("folder", nargs="?", type=Path, help="the pictures, with captions next to them")
    add("--name", dest="adapter", help="the adapter's name: what `lora=` in a URL names")
    add("--model", default="sdxl", help="sd, sdxl (default), or a folder with such a model")
    add("--revision", help="commit, tag or branch of a hub repository")
    add("--trigger", help="words put before each caption that lacks them")
    add("--prompt", help="the caption of pictures without their own")
    add("--class-prompt", help='the caption of the class, such as "a dog"')
    add("--class-pictures", type=Path, metavar="FOLDER", help="pictures of the class")
    preserve = "how the class stays as it is (default: output with --class-prompt, pictures with"
    preserve += " --class-pictures, else none)"
    add("--preserve", choices=["none", "output", "pictures"], help=preserve)
    add("--steps", type=count, help="default: 100 for each picture, from 400 to 2,000")
    add("--rank", type=count, help="rank of the adapter (16)")
    add("--rate", type=amount, help="learning rate (0.0001)")
    add("--resolution", type=count, help="side of the square, in pixels (the model's own)")
    add("--seed", type=int, help="all random numbers follow from it (0)")
    sample = "a prompt of the sample sheets; repeatable"
    add("--sample-prompt", action="append", default=[], metavar="PROMPT", help=sample)
    add("--sample-every", type=count, metavar="STEPS", help="steps between sheets (200)")
    add("--kohya", type=Path, metavar="FILE", help="a configuration file of kohya's sd-scripts")
    add(
        "--image",
        type=training_image,
        help="the training image: aws, a name in the catalogue, or a URI in ECR",
    )
    add("--instance-type", type=instance_type, help="default: the first that your quota allows")
    add("--on-demand", action="store_true", help="no spot instance: not interrupted, full price")
    add("--long", action="store_true", help="allow more than an hour, up to 24")
    add("--contact-sheet", type=Path, metavar="FILE", help="where to write the PNG file")
    add("--watch", nargs="?", const=True, metavar="JOB", help="follow a job, by name or id")
    add("--stop", metavar="JOB", help="stop a job; its checkpoints stay")
    add("--resume", metavar="JOB", help="go on from the newest checkpoint")
    add("--list", action="store_true", help="list all jobs")


def add_compile_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `CompileOptions`."""
    add = parser.add_argument
    add("--model", default="sd", help="a name in the catalogue, or a folder")
    merged = "an adapter to merge into the weights, by its name; its weight is 1 without one"
    add("--lora", type=lora, metavar="NAME[:WEIGHT]", help=merged)
    add("--instance", choices=INSTANCES, default=INSTANCES[0], help="what to compile for (inf2)")
    add("--size", type=size, metavar="WIDTHxHEIGHT", help="of all pictures (the model's own)")
    add("--image", type=image, help="the image with the compiler: a name, or a URI in ECR")
    ram = "to compile on (the cheapest with enough memory that your quota allows)"
    add("--instance-type", type=instance_type, help=ram)
    spot = "use a spot instance: cheaper, and interruptions cost time"
    add("--spot", action="store_true", help=spot)
    stop = "stop a job, by its name (that of this compilation)"
    add("--stop", nargs="?", const=True, type=job_name, metavar="JOB", help=stop)
    add("--list", action="store_true", help="list the compiled models and the jobs that run")


def add_usage_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `UsageOptions`."""
    add = parser.add_argument
    add("--days", type=count, help="how many days, up to the last (30)")
    add("--from", dest="first", type=day, metavar="DAY", help="the first day, such as 2026-11-01")
    add("--to", dest="last", type=day, metavar="DAY", help="the last day (today, in UTC)")
    add("--csv", action="store_true", help="print one row for each day, key, link, model and kind")


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Add the option of `ModelOptions`."""
    parser.add_argument("--model", help="one model only (default: all of the deployment's)")


def add_endpoint_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `EndpointOptions`."""
    add = parser.add_argument
    add("--model", help="a name in the catalogue (sd), org/name on the hub, or a folder")
    add("--revision", help="commit, tag or branch of a hub repository")
    weights = "fetch: the container downloads the weights; s3: upload them from here (default: s3"
    weights += " for asynchronous models, which would download them at every start; else fetch)"
    add("--weights", choices=["fetch", "s3"], help=weights)
    repeatable = "repeatable: tried in this order"
    add("--instance-type", type=instance_type, action="append", help=repeatable)
    fewer = "store the weights in fewer bits, which needs less GPU memory and changes the pictures"
    add("--quantise", choices=quantisation.NAMES, help=f"{fewer} (default: the model's own way)")
    add("--most-instances", type=count, default=1, help="limit of an asynchronous endpoint (1)")
    own = "the serving image: aws, a name in the catalogue, or a URI in ECR (default: Easel's own,"
    own += " which the first deployment builds)"
    add("--image", type=image, help=own)
    add("--inference-ami", help="SageMaker's InferenceAmiVersion (default: the image's)")
    network = "no internet access for the container; endpoints: also ECR and logs, by the hour"
    add("--private-network", nargs="?", choices=NETWORKS, const="s3", help=network)
    add("--budget", type=amount, default=0, help="warn at this many USD of SageMaker per month")
    add("--email", type=email, default="", help="recipient of the warnings of budget and cap")
    add_lease_option(parser)
    cap = "delete all endpoints at this many USD of GPUs per month; 0 for no cap"
    add("--monthly-cap", type=amount, metavar="USD", help=f"{cap} (stays as it is)")
    wake = "let callers with a key start an endpoint that its lease has ended (stays as it is)"
    add("--wake", action=argparse.BooleanOptionalAction, default=None, help=wake)
    add("--log-prompts", action="store_true", help="allow the container to log prompts")
    backend = "what answers in the container (default: easel; docs/backends.md has the others)"
    add("--backend", choices=setting.NAMES, help=backend)
    merged = "on Inferentia2: the adapter that is merged into the compiled model"
    add("--lora", type=lora, metavar="NAME[:WEIGHT]", help=merged)
    compiled = "on Inferentia2: which of the compiled sizes (the model's own)"
    add("--size", type=size, metavar="WIDTHxHEIGHT", help=compiled)
    replace = "delete the endpoint before its new version is created: needs no second instance"
    add("--replace", action="store_true", help=replace)


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `AccessOptions`."""
    add = parser.add_argument
    add("--keys", type=Path, metavar="FILE", help="require a key from this file of create-key")
    add("--open", action="store_true", help="require no key; deletes all keys")
    add("--new-secret", action="store_true", help="sign sessions and links with a new secret")
    add("--pictures-per-minute", type=int, help="limit for a client without a key; 0 for none")
    add("--prompt-filter", choices=["off", "warn", "refuse"], help="new deployments: refuse")
    add("--prompt-filter-words", metavar="WORDS", help="comma-separated; a minus allows a word")
    cdn = "CloudFront in front of the gateway (stays as it is without this option)"
    add("--cdn", action=argparse.BooleanOptionalAction, default=None, help=cdn)
    add("--cors-origins", metavar="ORIGINS", help="comma-separated origins of browser scripts")


def add_deploy_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `DeployOptions`."""
    add_endpoint_options(parser)
    add = parser.add_argument
    add("--also", action="append", default=[], metavar="MODEL", help="another model; repeatable")
    others = "put the URL in front of an endpoint that somebody else made; needs --backend"
    add("--endpoint", type=endpoint_name, metavar="NAME", help=others)
    without = "take the URL away from such an endpoint; repeatable"
    add("--without-endpoint", type=endpoint_name, action="append", default=[], metavar="NAME",
        help=without)  # fmt: skip
    accepts = "what it takes: openai-images besides prompt and size, jumpstart besides the prompt"
    add("--accepts", type=field_names, default=(), metavar="FIELDS", help=accepts)
    eula = "with jumpstart: you accept the licence of its gated model"
    add("--accept-eula", action="store_true", help=eula)
    add("--requests-per-second", type=float, default=4, help="for pictures (default: 4)")
    add("--burst", type=int, default=20, help="pictures at once (default: 20)")
    stored = (
        "store pictures of real-time models whose requests name the seed (new deployments: yes)"
    )
    add("--stored-pictures", action=argparse.BooleanOptionalAction, default=None, help=stored)
    training = "let holders of a key fine-tune models (stays as it is without this option)"
    add("--training", action=argparse.BooleanOptionalAction, default=None, help=training)
    which = "the training image: aws, a name in the catalogue, or a URI in ECR"
    add("--training-image", type=training_image, metavar="IMAGE", help=which)
    per_month = "training jobs of one key in a month (new deployments: 20)"
    add("--trainings-per-month", type=count, metavar="N", help=per_month)
    most = f"functions running at once; 0 for no limit (default: {CONCURRENCY})"
    add("--concurrency", type=int, default=CONCURRENCY, help=most)
    add_access_options(parser)
