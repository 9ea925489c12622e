"""A serving script that takes a fixed time for each picture, so that all else can be measured.

EASEL_BENCHMARK_SECONDS says how long; the picture is always the same, noise of 300 kB.
"""

import io
import json
import os
import random
import time

from PIL import Image

SIDE = 320


def model_fn(model_dir):
    picture = io.BytesIO()
    noise = random.Random(0).randbytes(SIDE * SIDE * 3)
    Image.frombytes("RGB", (SIDE, SIDE), noise).save(picture, "PNG")
    return picture.getvalue()


def input_fn(data, content_type):
    return json.loads(data)


def predict_fn(data, model):
    time.sleep(float(os.environ["EASEL_BENCHMARK_SECONDS"]))
    return model


def output_fn(prediction, accept):
    return prediction
