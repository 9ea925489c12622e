"""What AWS's Ray Serve image has on port 8080 in front of Ray Serve: /ping and /invocations.

https://github.com/aws/deep-learning-containers/blob/e0ecedea6a1c56d6b5914f9cfb2fec5c548e67e0/scripts/docker/ray/sagemaker_serve.py
"""

import json
import os
import sys

import urllib3
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

SERVE = f"http://127.0.0.1:{sys.argv[1]}"
SECONDS = int(os.environ.get("RAYSERVE_BACKEND_TIMEOUT", "300"))
POOL = urllib3.PoolManager(maxsize=100, retries=False)


async def ping(request):
    try:
        response = await run_in_threadpool(POOL.request, "GET", f"{SERVE}/-/healthz", timeout=5)
    except urllib3.exceptions.HTTPError:
        return Response(status_code=503)
    return Response(status_code=200 if response.status == 200 else 503)


async def invocations(request):
    ours = "x-amzn-sagemaker-"
    headers = {name: text for name, text in request.headers.items() if name.startswith(ours)}
    for name in ("Content-Type", "Accept"):
        headers[name] = request.headers.get(name, "application/json")
    body = await request.body()
    try:
        response = await run_in_threadpool(
            POOL.request, "POST", f"{SERVE}/", body=body, headers=headers, timeout=SECONDS
        )
    except urllib3.exceptions.TimeoutError:
        return failure(504, "Request timeout")
    except urllib3.exceptions.NewConnectionError:
        return failure(503, "Service unavailable")
    except urllib3.exceptions.HTTPError as error:
        return failure(500, str(error))
    passed = {name: text for name, text in response.headers.items() if name.startswith(ours)}
    kind = response.headers.get("Content-Type", headers["Accept"])
    return Response(response.data, response.status, headers={**passed, "Content-Type": kind})


def failure(status, message):
    return Response(json.dumps({"error": message}), status, media_type="application/json")


if __name__ == "__main__":
    routes = [Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])]
    uvicorn.run(Starlette(routes=routes), port=int(sys.argv[2]), log_level="warning")
