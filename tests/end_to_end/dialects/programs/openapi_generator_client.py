"""Uses the client that OpenAPI Generator has generated, and prints what it has received."""

import base64
import json
import sys

import openapi_client as easel

base_url, key, prompt = sys.argv[1:]
configuration = easel.Configuration(host=base_url, access_token=key)
with easel.ApiClient(configuration) as client:
    pictures = [
        base64.b64encode(easel.PicturesApi(client).get_picture(prompt, seed=7, width=64)).decode(),
        easel.OpenAIApi(client)
        .create_image(easel.ImagesRequest(prompt=prompt, seed=7))
        .data[0]
        .b64_json,
        easel.AUTOMATIC1111Api(client)
        .txt2img(easel.Txt2ImgRequest(prompt=prompt, steps=3))
        .images[0],
    ]
    job = easel.JobsApi(client).create_job(easel.Request(prompt=prompt, seed=7, model="sdxl"))
    configuration.access_token = "wrong"
    try:
        easel.PicturesApi(client).get_picture(prompt, seed=7)
    except easel.ApiException as error:
        refused = error.data.error.code
print(json.dumps({"pictures": pictures, "job": job.state, "refused": refused}))
