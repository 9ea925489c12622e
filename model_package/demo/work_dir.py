"""Where the training keeps its working files, and how it uses the machine."""

import os
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]

# Packages, pools of pictures and checkpoints: some hundred MB that git ignores.
WORK_DIR = Path(os.environ.get("EASEL_TRAINING", REPOSITORY / ".training"))

# The folder that is committed and that `StableDiffusionPipeline.from_pretrained` loads.
WEIGHTS = HERE / "weights"

# Pixels on each side. 256 is for those with a GPU: it costs four times as much. All that lies in a
# working folder is of one size, so another size needs another folder.
PICTURE_SIZE = int(os.environ.get("EASEL_PICTURE_SIZE", "128"))


def pick_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_threads(count: int) -> None:
    """Limit torch to `count` threads.

    OpenMP's threads spin while they wait for one another, so on a machine that does other work as
    well two threads were measured to be 20 times slower than one.
    """
    torch.set_num_threads(count)
