"""Hand-written pipelines that behave in ways that a tiny real one cannot."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np


class PlainPipeline:
    """Takes the usual arguments, returns grey images, and records its calls."""

    vae_scale_factor = 8
    unet = SimpleNamespace(config=SimpleNamespace(sample_size=16))

    def __init__(self, *, error=None, image=None, flags=None):
        self.error = error
        self.image = np.full((64, 64, 3), 0.5) if image is None else image
        self.flags = flags
        self.calls = []

    def __call__(
        self,
        prompt=None,
        height=None,
        width=None,
        num_inference_steps=50,
        guidance_scale=7.5,
        negative_prompt=None,
        generator=None,
        output_type="pil",
    ):
        return self.generate(
            prompt=prompt,
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            negative_prompt=negative_prompt,
            generator=generator,
            output_type=output_type,
        )

    def generate(self, **arguments):
        self.calls.append(arguments)
        if self.error is not None:
            raise self.error
        return SimpleNamespace(images=[self.image], nsfw_content_detected=self.flags)


class BarePipeline(PlainPipeline):
    """Takes only a prompt."""

    def __call__(self, prompt, generator=None, output_type="pil"):
        return self.generate(prompt=prompt, generator=generator, output_type=output_type)


class ImageToImagePipeline(PlainPipeline):
    def __call__(self, prompt, image):
        raise AssertionError(f"called with {prompt!r} and {image!r}")


class UnconditionalPipeline(PlainPipeline):
    def __call__(self, batch_size=1):
        raise AssertionError(f"called with {batch_size!r}")
