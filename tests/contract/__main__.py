"""Record the contract anew, or some topics of it: `python -m tests.contract record [TOPIC ...]`."""

from __future__ import annotations

import argparse

from tests.contract.topics import TOPICS, record


def main() -> None:
    """Record the topics that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract", description=__doc__)
    parser.add_argument("command", choices=["record"])
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"{', '.join(TOPICS)}; or all")
    asked = parser.parse_args()
    unknown = set(asked.topics) - set(TOPICS)
    if unknown:
        parser.error(f"unknown topics: {', '.join(sorted(unknown))}")
    for name in asked.topics or TOPICS:
        record(name)
        print(f"recorded {name}", flush=True)


if __name__ == "__main__":
    main()
