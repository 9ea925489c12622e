"""Makes calls of LiteLLM's, and prints what it makes of each answer."""

import json
import os
import sys

# Otherwise it fetches its list of prices from the internet when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
import openai

litellm.suppress_debug_info = True


def call(fields):
    try:
        answer = litellm.image_generation(**fields)
    except openai.APIStatusError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"pictures": [picture.b64_json for picture in answer.data]}


print(json.dumps([call(fields) for fields in json.loads(sys.argv[1])]))
