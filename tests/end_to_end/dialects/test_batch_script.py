"""`python -m endpoint batch --local`, unmodified, with the URL of the gateway."""

import json
from collections import Counter

import pytest

from endpoint.commands import batch
from tests.end_to_end.account import ASYNC_ENDPOINT, ENDPOINT
from tests.end_to_end.calls import bodies


@pytest.mark.parametrize(("model", "endpoint"), [("sd", ENDPOINT), ("sdxl", ASYNC_ENDPOINT)])
def test_a_file_becomes_pictures_through_the_gateway(
    gateway_url, emulator, tmp_path, prompt, model, endpoint
):
    file = tmp_path / "prompts.jsonl"
    lines = [
        {"prompt": f"{prompt} one"},
        {"prompt": f"{prompt} two", "n": 2, "steps": 3, "output_format": "webp"},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    arguments = [str(file), "--out", str(tmp_path / "out"), "--model", model, "--yes"]
    arguments += ["--local", gateway_url]

    assert batch.main(arguments) == 0

    rows = [
        json.loads(row) for row in (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    ]
    assert {row["custom_id"]: row["response"]["status_code"] for row in rows} == {
        "0001": 200,
        "0002": 200,
    }
    assert sorted(path.name for path in (tmp_path / "out").glob("0*")) == [
        "0001.png", "0002-1.webp", "0002-2.webp",
    ]  # fmt: skip
    sent = Counter(body["seed"] for body in bodies(emulator, endpoint))
    assert sorted(sent.values()) == [1, 1, 1]
    assert batch.main(arguments) == 0
    assert len(bodies(emulator, endpoint)) == 3
