"""The recipe's Lambda, implemented from its public description; see ../ancestor_recipe.py.

A Chalice app that depends on the SageMaker SDK and essential-generators. It requests JSON from the
endpoint, and returns an HTML page with the picture as base64 and the sentence below it.
"""

import html
import os
from urllib.parse import unquote

from chalice import Chalice, Response
from essential_generators import DocumentGenerator
from sagemaker.huggingface import HuggingFacePredictor

app = Chalice(app_name="sd-public-endpoint")
generator = DocumentGenerator()
predictor = HuggingFacePredictor(endpoint_name=os.environ["ENDPOINT"])


@app.route("/inference")
def random_picture():
    return picture(generator.sentence())


@app.route("/inference/{text}")
def picture(text):
    text = unquote(text)
    result = predictor.predict({"inputs": text})
    page = (
        f'<html><body><img src="data:image/jpeg;base64,{result["image"]}">'
        f"<p>{html.escape(text)}</p></body></html>"
    )
    return Response(page, headers={"Content-Type": "text/html"})
