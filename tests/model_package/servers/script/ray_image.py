"""What the entry point of AWS's Ray Serve image does, until SIGTERM: a cluster, and `serve run`.

https://github.com/aws/deep-learning-containers/blob/e0ecedea6a1c56d6b5914f9cfb2fec5c548e67e0/scripts/docker/ray/sagemaker_entrypoint.sh
"""

import signal
import sys
import tempfile

import ray
from ray import serve
from ray.serve.scripts import cli

config, port = sys.argv[1:]
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
# Ray's sockets need a short path.
with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, _temp_dir=folder)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    try:
        cli(["run", config])
    finally:
        ray.shutdown()
