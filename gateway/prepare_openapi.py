"""Prepare the OpenAPI document and its page: make them of the code once, and write them down.

What they are made of is not shipped: the Lambda only fills in its own address.

    python gateway/prepare_openapi.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from openapi.document import document
from openapi.page import page_template

PAGES = Path(__file__).parent / "chalicelib" / "pages"


def main() -> int:
    """Write both files."""
    for name, text in contents().items():
        (PAGES / name).write_text(text, encoding="utf-8")
        print(f"{PAGES / name} ({len(text.encode())} bytes)")
    return 0


def contents() -> dict[str, str]:
    """Return the content of each file, by name."""
    text = json.dumps(document(), indent=1, ensure_ascii=False)
    return {"openapi.json": text + "\n", "openapi.html": page_template()}


if __name__ == "__main__":
    sys.exit(main())
