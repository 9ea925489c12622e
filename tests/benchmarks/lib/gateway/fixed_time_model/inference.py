"""A serving script that takes a fixed time per image, so that everything else can be measured.

EASEL_BENCHMARK_SECONDS sets the time; the image is always the same 300 kB of noise.
"""

import io
import json
import os
import random
import time

from PIL import Image

SIDE = 320


def model_fn(model_dir):
    image = io.BytesIO()
    noise = random.Random(0).randbytes(SIDE * SIDE * 3)
    Image.frombytes("RGB", (SIDE, SIDE), noise).save(image, "PNG")
    return image.getvalue()


def input_fn(data, content_type):
    return json.loads(data)


def predict_fn(data, model):
    time.sleep(float(os.environ["EASEL_BENCHMARK_SECONDS"]))
    return model


def output_fn(prediction, accept):
    return prediction
