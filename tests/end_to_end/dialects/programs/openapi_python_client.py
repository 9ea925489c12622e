"""Uses the client that openapi-python-client has generated, and prints what it has received."""

import base64
import json
import sys

from easel_client import AuthenticatedClient
from easel_client.api.automatic1111 import txt2img
from easel_client.api.jobs import create_job
from easel_client.api.open_ai import create_image
from easel_client.api.pictures import get_picture
from easel_client.models import ImagesRequest, Request, Txt2ImgRequest

base_url, key, prompt = sys.argv[1:]
client = AuthenticatedClient(base_url=base_url, token=key, follow_redirects=True)
picture = get_picture.sync(prompt, client=client, seed=7, width=64)
images = create_image.sync(client=client, body=ImagesRequest(prompt=prompt, seed=7))
web_ui = txt2img.sync(client=client, body=Txt2ImgRequest(prompt=prompt, steps=3))
job = create_job.sync(client=client, body=Request(prompt=prompt, seed=7, model="sdxl"))
pictures = [
    base64.b64encode(picture.payload.read()).decode(), images.data[0].b64_json, web_ui.images[0]
]  # fmt: skip
wrong = AuthenticatedClient(base_url=base_url, token="wrong")
refused = get_picture.sync(prompt, client=wrong, seed=7)
print(json.dumps({"pictures": pictures, "job": job.state, "refused": refused.error.code}))
