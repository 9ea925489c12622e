"""What programs are known to send: one JSON file each, which names where that is to be seen.

The prompt alone is ours, and values where the file says so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BODIES: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(Path(__file__).parent.glob("*.json"))
}
