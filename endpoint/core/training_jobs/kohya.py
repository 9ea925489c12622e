"""Translate the configuration files of kohya's sd-scripts into a job.

Both kinds of TOML file are read: `config_file` with flat keys, whose sections have no meaning, and
`dataset_config` with `[general]`, `[[datasets]]` and `[[datasets.subsets]]`. Values that a file
leaves out are those of sd-scripts, not this trainer's. sd-scripts ignores unknown keys without a
word; here, each key is in the report.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .fields import InvalidField, Name

UNDERSTOOD, CHANGED, IGNORED = "understood", "changed", "ignored"

# What sd-scripts does without a key.
_DEFAULTS: dict[str, Any] = {
    "name": "last",
    "rank": 4,
    "alpha": 1.0,
    "steps": 1_600,
    "rate": 2e-6,
    "schedule": "constant",
    "warm_up": 0.0,
    "min_snr": 0.0,
    "caption_dropout": 0.0,
    "buckets": False,
}
# Keys that change how fast or where, and not what is learned; and what sd-scripts writes besides.
_WITHOUT_EFFECT = {
    "cache_latents", "cache_latents_to_disk", "cache_text_encoder_outputs",
    "cache_text_encoder_outputs_to_disk", "dynamo_backend", "highvram", "log_with", "logging_dir",
    "lowram", "max_data_loader_n_workers", "mem_eff_attn", "no_half_vae",
    "persistent_data_loader_workers", "save_every_n_epochs", "save_every_n_steps", "save_model_as",
    "save_state", "sdpa", "vae_batch_size", "xformers",
}  # fmt: skip
_CHANNELS = {
    "train_data_dir": "the channel pictures",
    "image_dir": "the channels pictures and class",
    "pretrained_model_name_or_path": "the channel model",
    "output_dir": "the folder model",
}
# Features that are not there; the value is the one that means off.
_OFF: dict[str, Any] = {
    "caption_dropout_every_n_epochs": 0, "caption_tag_dropout_rate": 0, "color_aug": False,
    "random_crop": False, "full_bf16": False, "full_fp16": False, "min_timestep": 0,
    "max_timestep": 1_000, "network_dropout": 0, "clip_skip": 1, "max_token_length": 75,
    "max_grad_norm": 1, "lr_scheduler_num_cycles": 1, "lr_scheduler_power": 1,
    "network_module": "networks.lora", "bucket_reso_steps": 64, "adaptive_noise_scale": 0,
    "loss_type": "l2", "enable_wildcard": False, "caption_suffix": "",
}  # fmt: skip
_SCHEDULES = {
    "cosine": "cosine",
    "linear": "linear",
    "constant": "constant",
    "constant_with_warmup": "constant",
}
_SCHEDULES_CHANGED = {"cosine_with_restarts": "cosine", "polynomial": "linear",
                      "adafactor": "constant"}  # fmt: skip
# What the trainer's Adafactor does as well.
_ADAFACTOR = {"scale_parameter=False", "relative_step=False", "warmup_init=False"}
_LONGEST_VALUE = 80


@dataclass(frozen=True)
class Row:
    """A row of the report: a key, whether it was understood, and what became of it."""

    key: str
    state: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.state}: {self.text}"


@dataclass
class _Translation:
    config: Mapping[str, Any]
    prodigy: bool = False  # whether there is Prodigy
    finds_rate: bool = False  # whether the optimizer that is replaced would do that
    job: dict[str, Any] = field(default_factory=lambda: dict(_DEFAULTS))
    rows: list[Row] = field(default_factory=list)

    def put(self, key: str, name: str, value: Any, changed: str = "") -> None:
        """Set a field of the job; `changed` says how its meaning differs."""
        self.job[name] = value
        text = f"{name} = {str(value)[:_LONGEST_VALUE]}{'; ' if changed else ''}{changed}"
        self.rows.append(Row(key, CHANGED if changed else UNDERSTOOD, text))


def read(paths: Sequence[Path]) -> dict[str, Any]:
    """Return the keys of TOML files, of both kinds; the last file wins.

    Raises:
        InvalidField: naming a file that is no TOML.
    """
    config: dict[str, Any] = {}
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise InvalidField(path.name, "cannot be read as TOML") from error
        config |= parse(text, path.name)
    return config


def parse(text: str, name: str) -> dict[str, Any]:
    """Return the keys of a TOML file's text.

    Raises:
        InvalidField: named `name`, if it is no TOML.
    """
    try:
        return flatten(tomllib.loads(text))
    except InvalidField:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidField(name, "cannot be read as TOML") from error


def flatten(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat keys: sections have no meaning, but for those of a dataset_config.

    Sets of pictures that differ are in the list `subsets`, with what differs.

    Raises:
        InvalidField: if they differ in what all pictures of a job have in common.
    """
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat |= flatten(value)
        elif key != "datasets":
            flat[key] = value
    try:
        sets = [
            {**{key: value for key, value in dataset.items() if key != "subsets"}, **subset}
            for dataset in content.get("datasets", [])
            for subset in dataset.get("subsets", [])
        ]
    except (AttributeError, TypeError) as error:
        raise InvalidField("datasets", "has a value that sd-scripts would refuse") from error
    return flat | _one_set(sets)


def _one_set(sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the sets of pictures have in common, and what each of several has of its own."""
    of_class = [one for one in sets if one.get("is_reg")]
    pictures = [one for one in sets if not one.get("is_reg")]
    keys = {key: None for one in pictures for key in one if key not in ("image_dir", "is_reg")}
    differing = {
        key for key in keys if any(one.get(key) != pictures[0].get(key) for one in pictures)
    }
    for key in sorted(differing - _OF_SETS.keys()):
        raise InvalidField(key, "differs between sets of pictures; use one set")
    values = {key: pictures[0][key] for key in keys if key not in differing}
    if any("image_dir" in one for one in sets):
        values["image_dir"] = True
    if of_class:
        values |= {"is_reg": True, "reg_class_tokens": of_class[0].get("class_tokens", "")}
    if differing:
        values["subsets"] = [_own(one, differing) for one in pictures]
        values["subsets"] += [_own(one, set(_OF_SETS)) | {"is_reg": True} for one in of_class]
    return values


def _own(one: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    """Return the folder of a set, which is below the pictures, and what it has of its own."""
    folder = str(one.get("image_dir", "")).replace("\\", "/").rstrip("/").rpartition("/")[2]
    if not folder:
        raise InvalidField("image_dir", "is missing in one of several sets of pictures")
    # sd-scripts' own values, which are not those of another set.
    return {"folder": folder, **{key: one.get(key, _OF_SETS[key][1]) for key in sorted(keys)}}


def translate(
    config: Mapping[str, Any], pictures: int = 0, *, prodigy: bool = False
) -> tuple[dict[str, Any], list[Row]]:
    """Return the fields of a job, and a row for each key.

    Args:
        config: flat keys, from `read`.
        pictures: how many an epoch has, with repeats; for `max_train_epochs`.
        prodigy: whether the package of the optimizer Prodigy is there.

    Raises:
        InvalidField: naming a key whose value is of another type than sd-scripts'.
    """
    made = _Translation(config, prodigy)
    for key, value in config.items():
        try:
            _translate(made, key, value)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise InvalidField(key, "has a value that sd-scripts would refuse") from error
    _set_text_encoder_rate(made)
    _set_steps(made, pictures)
    return made.job, made.rows


def _translate(made: _Translation, key: str, value: Any) -> None:
    if key in _FIELDS:
        name, convert = _FIELDS[key]
        made.put(key, name, convert(value))
    elif key in _SPECIAL:
        _SPECIAL[key](made, key, value)
    elif key in _WITHOUT_EFFECT:
        made.rows.append(Row(key, IGNORED, "has no effect on what is learned"))
    elif key in _CHANNELS:
        made.rows.append(Row(key, CHANGED, f"is {_CHANNELS[key]}"))
    elif key in _OFF:
        if value == _OFF[key] or value in (False, "", []):
            made.rows.append(Row(key, UNDERSTOOD, "is the same here"))
        else:
            made.rows.append(Row(key, CHANGED, f"is {_OFF[key]!r} here"))
    elif key not in _LATER:
        made.rows.append(Row(key, IGNORED, "is not known"))


def _side(value: Any) -> int:
    """Return the side of the square with the area of `1024`, `"1024,768"` or `[1024, 768]`."""
    sides = value.split(",") if isinstance(value, str) else value
    numbers = [int(side) for side in sides] if isinstance(sides, list) else [int(sides)]
    if not numbers:
        raise ValueError("has no number")
    area = numbers[0] * numbers[-1]
    return round(math.sqrt(area) / 8) * 8


def _subsets(made: _Translation, key: str, value: Any) -> None:
    sets = []
    for one in value:
        own: dict[str, Any] = {"folder": one["folder"]}
        if one.get("is_reg"):
            own["of_class"] = True
        for name, given in one.items():
            if name in _OF_SETS and given is not None:
                own[_OF_SETS[name][0]] = _OF_SETS[name][2](given)
        sets.append(own)
    folders = ", ".join(one["folder"] for one in sets)
    made.put(key, "sets", sets, f"the pictures of each are in a folder: {folders}")


def _held_out(made: _Translation, key: str, value: Any) -> None:
    made.put(key, "held_out", min(float(value), 0.5), "at most 0.5" if float(value) > 0.5 else "")


def _name(made: _Translation, key: str, value: Any) -> None:
    name = Name.of(str(value))
    made.put(
        key, "name", name, "" if name == value else "a name has letters, digits, '.', '_', '-'"
    )


def _optimizer(made: _Translation, key: str, value: Any) -> None:
    kind = str(value).casefold()
    if kind in ("adamw", "adafactor") or (kind == "prodigy" and made.prodigy):
        made.put(key, "optimizer", kind)
        if kind == "adafactor":
            made.job.setdefault("weight_decay", 0.0)
    elif "adamw" in kind:
        made.put(key, "optimizer", "adamw", "with its state in 32 bits")
    else:
        why = "needs the package prodigyopt" if kind == "prodigy" else "is not supported"
        made.put(key, "optimizer", "adamw", f"{value} {why}")
        # These find the rate themselves, and have 1 where AdamW needs far less.
        if kind.startswith(("prodigy", "dadapt")):
            made.put(key, "rate", 1e-4, f"{value} would find the rate itself")
            made.job["text_encoder_rate"] = 0.0
            made.finds_rate = True


def _optimizer_args(made: _Translation, key: str, value: Any) -> None:
    for argument in value:
        name, _, text = str(argument).partition("=")
        if name.strip() == "weight_decay":
            made.put(f"{key} {name.strip()}", "weight_decay", float(text))
        elif str(argument).replace(" ", "") in _ADAFACTOR:
            made.rows.append(Row(f"{key} {argument}", UNDERSTOOD, "is the same here"))
        else:
            made.rows.append(Row(f"{key} {argument}"[:_LONGEST_VALUE], IGNORED, "is not known"))


def _network_args(made: _Translation, key: str, value: Any) -> None:
    for argument in value:
        name, _, text = (part.strip() for part in str(argument).partition("="))
        if name == "conv_dim":
            made.put(f"{key} {name}", "conv_rank", int(text))
            made.job |= {"conv": True, "conv_alpha": made.job.get("conv_alpha", 1.0)}
        elif name == "conv_alpha" and any("conv_dim" in str(one) for one in value):
            made.put(f"{key} {name}", "conv_alpha", float(text))
        else:
            made.rows.append(Row(f"{key} {argument}"[:_LONGEST_VALUE], IGNORED, "is not known"))


def _schedule(made: _Translation, key: str, value: Any) -> None:
    if value in _SCHEDULES:
        made.put(key, "schedule", _SCHEDULES[value])
    else:
        changed = _SCHEDULES_CHANGED.get(str(value), "constant")
        made.put(key, "schedule", changed, f"{value} is not supported")


def _precision(made: _Translation, key: str, value: Any) -> None:
    if value == "no":
        made.put(key, "precision", "fp32")
    else:
        made.put(key, "precision", "auto", "16 bits of the kind that the GPU has")


def _class_pictures(made: _Translation, key: str, value: Any) -> None:
    if value:
        made.put(key, "preserve", "pictures", "with the pictures of the channel class")
    else:
        made.rows.append(Row(key, UNDERSTOOD, "there are no pictures of the class"))


def _sample_prompts(made: _Translation, key: str, value: Any) -> None:
    if isinstance(value, list):
        prompts = [str(prompt).partition(" --")[0].strip() for prompt in value]
        made.put(key, "sample_prompts", prompts[:8], "without their options")
    else:
        made.rows.append(Row(key, IGNORED, "is a file elsewhere; list the prompts here"))


def _extension(made: _Translation, key: str, value: Any) -> None:
    known = value in (".txt", ".caption")
    made.rows.append(Row(key, UNDERSTOOD if known else CHANGED, ".txt and .caption are read"))


def _sides(made: _Translation, key: str, value: Any) -> None:  # noqa: ARG001
    made.rows.append(Row(key, CHANGED, "sides are from half of the resolution to twice of it"))


def _prefix(made: _Translation, key: str, value: Any) -> None:
    made.put(key, "trigger", str(value).strip(" ,"), "with a comma, unless the caption has it")


def _prediction(made: _Translation, key: str, value: Any) -> None:  # noqa: ARG001
    made.rows.append(Row(key, CHANGED, "is what the model's own files say"))


def _save_precision(made: _Translation, key: str, value: Any) -> None:
    same = value == "fp16"
    made.rows.append(Row(key, UNDERSTOOD if same else CHANGED, "is fp16"))


def _set_text_encoder_rate(made: _Translation) -> None:
    """sd-scripts trains text encoders, unless it is told not to; then at the UNet's rate."""
    config = made.config
    for key in ("learning_rate", "unet_lr"):  # the second wins
        if config.get(key) is not None:
            if made.finds_rate:
                made.rows.append(Row(key, CHANGED, "is set for the other optimizer"))
            else:
                made.put(key, "rate", _number(key, config[key]))
    rate = config.get("text_encoder_lr", config.get("learning_rate", _DEFAULTS["rate"]))
    rate = rate[0] if isinstance(rate, list) and rate else rate
    only_unet = config.get("network_train_unet_only", False)
    if "network_train_unet_only" in config:
        made.rows.append(Row("network_train_unet_only", UNDERSTOOD, str(bool(only_unet)).lower()))
    if only_unet or made.job.get("text_encoder_rate") == 0.0:
        value = 0.0
    else:
        value = _number("text_encoder_lr", rate)
    if value and made.job.get("optimizer") == "prodigy":
        value = made.job["rate"]  # it finds one rate for all
    if "text_encoder_lr" in config:
        made.put("text_encoder_lr", "text_encoder_rate", value)
    made.job["text_encoder_rate"] = value


def _set_steps(made: _Translation, pictures: int) -> None:
    config, job = made.config, made.job
    if config.get("max_train_steps"):
        made.put(
            "max_train_steps", "steps", int(_number("max_train_steps", config["max_train_steps"]))
        )
    epochs = config.get("max_train_epochs")
    if epochs and pictures:
        each = job.get("batch_size", 1) * job.get("accumulation", 1)
        steps = math.ceil(pictures / max(each, 1)) * int(_number("max_train_epochs", epochs))
        made.put("max_train_epochs", "steps", steps)
    elif epochs:
        made.rows.append(Row("max_train_epochs", IGNORED, "there are no pictures yet"))
    warm = config.get("lr_warmup_steps")
    if warm is not None:
        number = _number("lr_warmup_steps", warm)
        share = number if number < 1 else number / max(job["steps"], 1)
        made.put("lr_warmup_steps", "warm_up", min(share, 0.9))


def _number(key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidField(key, "must be a number") from error
    if not math.isfinite(number):
        raise InvalidField(key, "must be a number")
    return number


def _not(value: Any) -> bool:
    return not value


_LATER = {"learning_rate", "unet_lr", "text_encoder_lr", "network_train_unet_only",
          "max_train_steps", "max_train_epochs", "lr_warmup_steps"}  # fmt: skip
_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "network_dim": ("rank", int),
    "network_alpha": ("alpha", float),
    "train_batch_size": ("batch_size", int),
    "batch_size": ("batch_size", int),
    "gradient_accumulation_steps": ("accumulation", int),
    "gradient_checkpointing": ("gradient_checkpointing", bool),
    "seed": ("seed", int),
    "min_snr_gamma": ("min_snr", float),
    "noise_offset": ("noise_offset", float),
    "resolution": ("resolution", _side),
    "enable_bucket": ("buckets", bool),
    "bucket_no_upscale": ("upscale", _not),
    "shuffle_caption": ("shuffle_tags", bool),
    "keep_tokens": ("keep_tags", int),
    "caption_dropout_rate": ("caption_dropout", float),
    "flip_aug": ("flip", bool),
    "prior_loss_weight": ("preserve_weight", float),
    "num_repeats": ("repeats", int),
    "class_tokens": ("instance_prompt", str),
    "reg_class_tokens": ("class_prompt", str),
    "sample_every_n_steps": ("sample_every", int),
}
# What sets of pictures may differ in: the field, sd-scripts' value without it, and its type.
_OF_SETS: dict[str, tuple[str, Any, Callable[[Any], Any]]] = {
    "num_repeats": ("repeats", 1, int),
    "class_tokens": ("instance_prompt", None, str),
    "caption_prefix": ("trigger", None, str),
    "caption_dropout_rate": ("caption_dropout", 0.0, float),
    "shuffle_caption": ("shuffle_tags", False, bool),
    "keep_tokens": ("keep_tags", 0, int),
    "flip_aug": ("flip", False, bool),
}
_SPECIAL: dict[str, Callable[[_Translation, str, Any], None]] = {
    "output_name": _name,
    "optimizer_type": _optimizer,
    "optimizer_args": _optimizer_args,
    "network_args": _network_args,
    "lr_scheduler": _schedule,
    "mixed_precision": _precision,
    "save_precision": _save_precision,
    "subsets": _subsets,
    "validation_split": _held_out,
    "reg_data_dir": _class_pictures,
    "is_reg": _class_pictures,
    "sample_prompts": _sample_prompts,
    "caption_extension": _extension,
    "min_bucket_reso": _sides,
    "max_bucket_reso": _sides,
    "caption_prefix": _prefix,
    "v_parameterization": _prediction,
}
