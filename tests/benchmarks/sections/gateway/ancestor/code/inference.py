"""The recipe's serving code, implemented from its public description, with pipeline defaults.

Half precision on a GPU, as described; single precision on a CPU, where half precision is much
slower. The picture is returned as a JPEG in base64 in JSON, as in the serving toolkit's examples.
"""

import base64
import io
import json

import torch
from diffusers import StableDiffusionPipeline

STEPS = 50  # StableDiffusionPipeline's own default


def model_fn(model_dir):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float16 if device == "cuda" else torch.float32
    return StableDiffusionPipeline.from_pretrained(model_dir, dtype=dtype).to(device)


def input_fn(data, content_type):
    return json.loads(data)


def predict_fn(data, model):
    picture = model(data["inputs"], num_inference_steps=STEPS).images[0]
    file = io.BytesIO()
    picture.save(file, "JPEG")
    return {"image": base64.b64encode(file.getvalue()).decode()}


def output_fn(prediction, accept):
    return json.dumps(prediction)
