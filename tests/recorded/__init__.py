"""What programs are known to send: one JSON file each, which names where that is to be seen.

The prompt alone is ours, and values where the file says so. `BODIES` are single bodies; `PROGRAMS`
are all the requests of a program, with their headers, in which KEY is the key, and what each must
get: the status, if it is not 200, and

- `pictures` and `shape`: how many pictures, and the field that holds each: `b64_json`, `url`, or
  `images` of the web UI;
- `size` and `model`: of the pictures;
- `names`: of the entries of a list;
- `message`: part of the error's text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BODIES: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(Path(__file__).parent.glob("*.json"))
}
PROGRAMS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "programs").glob("*.json"))
}
