"""The training's working folder, image size, device and threads."""

import os
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]

# Downloads, pools of images and checkpoints: several hundred MB that git ignores.
WORK_DIR = Path(os.environ.get("EASEL_TRAINING", REPOSITORY / ".training"))

# The committed folder, which `StableDiffusionPipeline.from_pretrained` loads.
WEIGHTS = HERE / "weights"

# Pixels on each side. 256 takes four times as long and needs a GPU. All files in a
# working folder are for one size, so another size needs another folder.
PICTURE_SIZE = int(os.environ.get("EASEL_PICTURE_SIZE", "128"))


def pick_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_threads(count: int) -> None:
    """Limit torch to `count` threads.

    OpenMP's threads spin while they wait for each other: on a machine with other work, two threads
    were measured to be 20 times slower than one.
    """
    torch.set_num_threads(count)
