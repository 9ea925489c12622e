"""A modular pipeline of diffusers, called like any other text-to-image pipeline.

A modular pipeline is a list of blocks; its inputs are what the blocks take, and its result is all
that they made. Some models, such as FLUX.3, have no other. `adapt` gives one the signature of its
blocks' inputs, so that `Capabilities` reads it as it reads any pipeline, and a callback after each
step, so that a run can be stopped and reported.

Prompts are painted as they are written: a block that has a language model rewrite them is left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch

from easel.model_folder import files as model_folder
from easel.pipelines.unet_swap import CALLBACK

_WORKFLOW = "text2image"
_INPUTS = f"{CALLBACK}_tensor_inputs"
_SCALE = "guidance_scale"  # an argument of a pipeline's, and a property of a guider
_NEEDED = ("prompt", "generator", "output_type")
_OPTIONAL = ("negative_prompt", "height", "width", "num_inference_steps", _SCALE)


def load(
    folder: Path,
    index: Mapping[str, Any],
    arguments: dict[str, Any],
    parts: Mapping[str, Any],
) -> Any:
    """Return the pipeline in a folder, adapted.

    Args:
        folder: with a `modular_model_index.json`.
        index: its content.
        arguments: those of `from_pretrained` for the components.
        parts: components that are loaded already.

    Raises:
        ValueError: if it has no blocks in diffusers, or does not generate images from text.
        OSError: if a component cannot be loaded.
    """
    kind: Any = getattr(diffusers, str(index.get("_class_name")), None)
    if kind is None or not issubclass(kind, diffusers.ModularPipeline):
        raise ValueError(f"{index.get('_class_name')} is no modular pipeline of this diffusers")
    # By name from diffusers itself: the code that a repository may have is not run.
    name = str(index.get("_blocks_class_name") or kind.default_blocks_name)
    blocks_class: Any = getattr(diffusers, name, None)
    if blocks_class is None or not blocks_class.block_classes:
        blocks_class = getattr(diffusers, str(kind.default_blocks_name))
    blocks = blocks_class()
    for name in model_folder.REWRITERS & {*blocks.sub_blocks}:
        blocks.sub_blocks.pop(name)
    if _WORKFLOW in (blocks._workflow_map or {}):
        blocks = blocks.get_workflow(_WORKFLOW)
    pipeline = kind(blocks, str(folder), modular_config_dict=dict(index))
    _load_components(pipeline, {**arguments}, parts)
    return adapt(pipeline)


def _load_components(pipeline: Any, arguments: dict[str, Any], parts: Mapping[str, Any]) -> None:
    loaded = dict(parts)
    for name in pipeline.pretrained_component_names:
        spec = pipeline.get_component_spec(name)
        if name in loaded or name in model_folder.REWRITERS:
            continue
        if spec.pretrained_model_name_or_path is None:
            raise ValueError(f"its index does not say where {name} is")
        # One by one: `load_components` only warns of a component that cannot be loaded.
        loaded[name] = _load_component(spec, arguments)
    pipeline.register_components(**loaded)


def _load_component(spec: Any, arguments: dict[str, Any]) -> Any:
    if spec.type_hint is not None and str(spec.type_hint.__name__).endswith("Processor"):
        return TextProcessor(spec)
    is_model = spec.type_hint is None or issubclass(spec.type_hint, torch.nn.Module)
    return spec.load(**(arguments if is_model else {}))


class TextProcessor:
    """A processor of texts and pictures, without pictures: their part needs torchvision."""

    def __init__(self, spec: Any) -> None:
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(
            spec.pretrained_model_name_or_path, subfolder=spec.subfolder or "", revision=spec.revision
        )

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        """Return the messages as one text; arguments as for a tokenizer."""
        return self.tokenizer.apply_chat_template(messages, **options)


def adapt(pipeline: Any) -> Any:
    """Change a modular pipeline so that it is called like others; return it."""
    kind = type(pipeline)
    defaults = {each.name: each.default for each in pipeline.blocks.inputs}
    if not defaults.keys() >= {*_NEEDED}:
        raise ValueError(f"{kind.__name__} does not generate images from a prompt alone")
    guider = getattr(pipeline, "guider", None)
    if guider is not None and hasattr(guider, _SCALE):
        defaults[_SCALE] = guider.guidance_scale

    def call(self: Any, **arguments: Any) -> SimpleNamespace:
        callback = arguments.pop(CALLBACK, None)
        names = arguments.pop(_INPUTS, None) or ["latents"]
        scale = arguments.pop(_SCALE, None)
        with _guided(self, scale), _calling_back(self, callback, names):
            images = kind.__call__(self, output="images", **arguments)
        return SimpleNamespace(images=images)

    call.__signature__ = _signature(defaults)  # type: ignore[attr-defined]
    pipeline.__class__ = type(kind.__name__, (kind,), {"__call__": call})
    return pipeline


def _signature(defaults: Mapping[str, Any]) -> inspect.Signature:
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    parameters.append(inspect.Parameter("prompt", keyword))
    for name in (*_NEEDED[1:], *_OPTIONAL, CALLBACK, _INPUTS):
        if name in defaults or name in (CALLBACK, _INPUTS):
            parameters.append(inspect.Parameter(name, keyword, default=defaults.get(name)))
    return inspect.Signature(parameters)


@contextmanager
def _guided(pipeline: Any, scale: float | None) -> Iterator[None]:
    """A context with another guidance scale; a guider keeps its own."""
    if scale is None:
        yield
        return
    own = pipeline.guider
    pipeline.guider = own.new(guidance_scale=scale)
    try:
        yield
    finally:
        pipeline.guider = own


@contextmanager
def _calling_back(
    pipeline: Any, callback: Callable[..., Any] | None, names: Collection[str]
) -> Iterator[None]:
    """A context that calls back after each step of the scheduler, with its result as latents."""
    if callback is None:
        yield
        return
    scheduler, done = pipeline.scheduler, 0

    def step(*arguments: Any, **options: Any) -> Any:
        nonlocal done
        result = type(scheduler).step(scheduler, *arguments, **options)
        latents = result[0] if isinstance(result, tuple) else result.prev_sample
        tensors = {"latents": latents} if "latents" in names else {}
        callback(pipeline, done, arguments[1] if len(arguments) > 1 else None, tensors)
        done += 1
        return result

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step
