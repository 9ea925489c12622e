"""Has LangChain's tool for pictures draw one, and prints its URL."""

import json
import sys

from langchain_community.tools.openai_dalle_image_generation import OpenAIDALLEImageGenerationTool
from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper

base_url, api_key, prompt, fields = sys.argv[1:]
wrapper = DallEAPIWrapper(base_url=base_url, api_key=api_key, **json.loads(fields))
print(json.dumps(OpenAIDALLEImageGenerationTool(api_wrapper=wrapper).run(prompt)))
