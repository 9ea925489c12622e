"""Prepare the random sentences: generate them once, filter them, and write them to a file.

essential-generators reads a 46 MB model for its first sentence: three seconds and 476 MB in a
process that has 10 s to start. The gateway loads this script's output instead, in milliseconds.

    python gateway/prepare_sentences.py

The same version of essential-generators and the same SEED write the same file.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

from essential_generators import DocumentGenerator

from chalicelib.images.prompt_filter import PromptFilter

SENTENCES = 10_000
SEED = 20_221_008
OUTPUT = Path(__file__).parent / "chalicelib" / "sentences.json"

# Plain words and commas: no digits, brackets, quotation marks, slashes or letters outside ASCII,
# which in this generator's sentences are mostly the remains of references and markup.
CLEAN = re.compile(r"[A-Z][a-z]*(?:[ ,'-]{1,2}[A-Za-z]+){4,14}[.?!]")
# A random picture is shown to people who did not choose its subject.
UNFIT = re.compile(
    r"\b(?:abus|bomb|corpse|dead|death|die[sd]?\b|drug|execut|genocid|holocaust|kill|massacr|"
    r"murder|naked|nazi|nud|porn|rape|rapist|sex|slave|suicid|terror|tortur|victim|weapon)",
    re.IGNORECASE,
)


def main() -> int:
    """Write the sentences, and print how many of those generated were kept."""
    random.seed(SEED)
    generator, prompt_filter = DocumentGenerator(), PromptFilter()
    kept: dict[str, None] = {}
    made = 0
    while len(kept) < SENTENCES:
        # About one sentence in forty has a line break, for which CLEAN would drop it.
        sentence = " ".join(generator.gen_sentence().split())
        made += 1
        if is_fit(sentence) and prompt_filter.check(sentence) is None:
            kept[sentence] = None
    OUTPUT.write_text(json.dumps(list(kept), indent=0) + "\n", encoding="utf-8")
    print(f"kept {SENTENCES} of {made} sentences: {OUTPUT} ({OUTPUT.stat().st_size} bytes)")
    return 0


def is_fit(sentence: str) -> bool:
    """Return whether a sentence consists of words and is suitable for everyone."""
    return bool(CLEAN.fullmatch(sentence)) and not UNFIT.search(sentence)


if __name__ == "__main__":
    sys.exit(main())
