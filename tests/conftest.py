"""What holds for every test."""

import os

# Set before anything imports botocore or torch, and inherited by every process a test starts.
os.environ.update(
    AWS_ACCESS_KEY_ID="testing",
    AWS_SECRET_ACCESS_KEY="testing",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    HF_HUB_OFFLINE="1",
    # Two OpenMP threads that spin against another process take ten times as long as one.
    OMP_NUM_THREADS="1",
)
for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
    os.environ.pop(name, None)
