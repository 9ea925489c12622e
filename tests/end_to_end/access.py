"""A gateway that asks for keys, and what opens it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import requests

from tests.end_to_end.account import ASLEEP, BUCKET, ENDPOINT, LEASE, QUEUE, STORED

KEY, OTHER_KEY = "easel_" + "k" * 43, "easel_" + "o" * 43
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
FRIEND = "https://friend.example"
SETTINGS = {
    "EASEL_MODELS": json.dumps(
        {
            "sd": {
                "endpoint": ENDPOINT,
                "adapters": f"s3://{BUCKET}/loras/sd/",
                "usd_per_hour": 1.408,
                "lease": LEASE,
            },
            "sdxl": {"asynchronous": QUEUE, "usd_per_hour": 1.408},
            "stored": STORED,
            "asleep": ASLEEP,
        }
    ),
    "EASEL_API_KEYS": json.dumps(
        [
            {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()}
            for name, key in {"ada": KEY, "bob": OTHER_KEY}.items()
        ]
    ),
    "EASEL_SECRET": "s" * 43,
    "EASEL_BATCHES": f"s3://{BUCKET}/",
    "EASEL_LINKS": f"s3://{BUCKET}/links/",
    "EASEL_USAGE": f"s3://{BUCKET}/usage/",
    "EASEL_SPEND": f"s3://{BUCKET}/spend/",
    "EASEL_PROMPT_FILTER": "refuse",
    "EASEL_CORS_ORIGINS": FRIEND,
}


def create_link(gateway_url: str, **fields: Any) -> str:
    """Return the token of a new link."""
    response = requests.post(f"{gateway_url}/links", json=fields, headers=AUTHORIZED, timeout=30)
    assert response.status_code == 201, response.text
    url: str = response.json()["url"]
    return url.partition("?link=")[2]
