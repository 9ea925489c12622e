"""Train the tokenizer: CLIP's byte-level BPE, on this model's own captions.

    python -m model_package.demo.tokens

CLIP's own vocabulary of 49 408 entries would make the text encoder's table larger than the UNet.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from transformers import CLIPTokenizer

from model_package.demo.data.captions import Captioner
from model_package.demo.data.compose import SpecMaker
from model_package.demo.work_dir import WORK_DIR

# Settings
VOCABULARY = 2048
CAPTIONS = 60_000
LENGTH = 77  # as in Stable Diffusion: some programs assume it

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
# How CLIP splits text into words before it merges letters.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

FOLDER = WORK_DIR / "tokenizer"


def learn_merges(captions: Sequence[str]) -> list[tuple[str, str]]:
    """Return the byte pairs to merge, most frequent first."""
    learner = Tokenizer(BPE(end_of_word_suffix=END_OF_WORD))
    learner.normalizer = normalizers.Lowercase()
    split = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = BpeTrainer(
        vocab_size=VOCABULARY - 2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [(first, second) for first, second in merges]


def write_tokenizer(captions: Sequence[str], folder: Path) -> None:
    """Train on captions and write the files that transformers 4 and 5 load as a CLIPTokenizer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols = [*alphabet, *(letter + END_OF_WORD for letter in alphabet)]
    merges = learn_merges(captions)[: VOCABULARY - len(symbols) - 2]
    symbols += [*("".join(pair) for pair in merges), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
        "do_lower_case": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), "utf-8")


def load_tokenizer(folder: Path = FOLDER) -> CLIPTokenizer:
    """Return the trained tokenizer."""
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer


def to_ids(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Return captions as token ids (N, 77), cut and padded as in the pipeline."""
    ids = tokenizer(
        list(captions),
        padding="max_length",
        max_length=LENGTH,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return torch.as_tensor(ids)


def main() -> None:
    """Train on captions of random specs, unless there is a tokenizer already."""
    if (FOLDER / "merges.txt").exists():
        return
    rng = np.random.default_rng(0)
    maker, captioner = SpecMaker(rng), Captioner(rng)
    write_tokenizer([captioner.caption(maker.make()) for _ in range(CAPTIONS)], FOLDER)
    print(f"{FOLDER}: {len(load_tokenizer())} entries")


if __name__ == "__main__":
    main()
