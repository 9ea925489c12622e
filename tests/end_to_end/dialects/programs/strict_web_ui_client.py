"""Generates pictures with sd-backend-client, which checks every field of a web UI's answers."""

import json
import sys

from sd_backend_client import DiffusionParams, connect_to_backend

url, fields = sys.argv[1:]
backend = connect_to_backend(url)
result = backend.submit_txt2img(DiffusionParams(**json.loads(fields))).wait(timeout=60)
sizes = [image.size for image in result.images]
print(json.dumps({"backend": type(backend).__name__, "sizes": sizes, "seeds": result.seeds}))
