"""What the settings' defaults come to for each family of models, held to docs/speed.md."""

import inspect
import re
from pathlib import Path

import diffusers
import pytest

from easel.loading import vae
from easel.pipelines import guidance
from easel.speed import host_timesteps
from endpoint.catalogue import models as catalogue

PAGE = Path(__file__).parents[3] / "docs" / "speed.md"
FAMILIES = (
    ("Stable Diffusion 1 and 2, SD-Turbo", "StableDiffusionPipeline", "UNet2DConditionModel"),
    ("SDXL, SDXL-Turbo, SDXL-Lightning", "StableDiffusionXLPipeline", "UNet2DConditionModel"),
    ("LCM", "LatentConsistencyModelPipeline", "UNet2DConditionModel"),
    ("Stable Diffusion 3", "StableDiffusion3Pipeline", "SD3Transformer2DModel"),
    ("FLUX.1", "FluxPipeline", "FluxTransformer2DModel"),
    ("FLUX.2 klein", "Flux2KleinPipeline", "Flux2Transformer2DModel"),
    ("Z-Image", "ZImagePipeline", "ZImageTransformer2DModel"),
    ("ERNIE-Image", "ErnieImagePipeline", "ErnieImageTransformer2DModel"),
    ("FLUX.3 klein", "Flux3DistilledModularPipeline", "Flux3Transformer2DModel"),
)


def family_table():
    head = (
        "| family | steps, guidance | `regional` compiles | cut-off | steps on host "
        "| VAE of an fp16 model |\n|---|---|---|---|---|---|\n"
    )
    return head + "".join(family_row(*family) for family in FAMILIES)


def family_row(title, pipeline, denoiser):
    steps, scale = own_recipe(getattr(diffusers, pipeline))
    blocks = getattr(diffusers, denoiser)._repeated_blocks or []
    cells = [
        title,
        f"{steps}, {'none' if scale is None else f'{scale:g}'}",
        "nothing" if not blocks else ", ".join(f"`{block}`" for block in blocks),
        yes(pipeline in guidance._INPUTS),
        yes(pipeline in host_timesteps._PIPELINES),
        "fp16" if pipeline in vae._FP16_SAFE else "as its configuration says",
    ]
    return f"| {' | '.join(cells)} |\n"


def own_recipe(pipeline):
    """Return the default steps and guidance scale of a pipeline's class."""
    if issubclass(pipeline, diffusers.ModularPipeline):
        blocks = getattr(diffusers, pipeline.default_blocks_name)().get_workflow("text2image")
        defaults = {each.name: each.default for each in blocks.inputs}
        return defaults["num_inference_steps"], defaults.get("guidance_scale")
    call = inspect.signature(pipeline.__call__).parameters
    return call["num_inference_steps"].default, call["guidance_scale"].default


def yes(value):
    return "yes" if value else "no"


def catalogue_table():
    rows = [
        f"| `{model.name}` | {model.defaults['steps']} | {model.defaults['guidance_scale']:g} "
        f"| {model.defaults['width']} x {model.defaults['height']} |\n"
        for model in catalogue.read().values()
    ]
    return "| model | steps | guidance | size |\n|---|---|---|---|\n" + "".join(rows)


@pytest.mark.parametrize(
    ("name", "table"), [("families", family_table), ("recipes", catalogue_table)]
)
def test_the_page_tells_each_familys_defaults(name, table):
    text = PAGE.read_text(encoding="utf-8")
    (shown,) = re.findall(f"<!-- {name}:.*?-->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    assert shown == table()
