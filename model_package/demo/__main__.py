r"""Train the demo model from scratch, from the first image to the exported weights.

    EASEL_TRAINING=/somewhere/with/1GB python -m model_package.demo

Every step keeps finished work and resumes where it stopped, so this can be stopped and started
again at any time. Needs `npm` (to fetch the artwork) and the packages `torch`, `diffusers`,
`transformers`, `tokenizers`, `peft`, `numpy`, `pillow` and `resvg_py`. Each step is a module of
that name and can be run alone; the decoder can be trained at the same time as the other parts.

| step          | result, in `work_dir`       | on one CPU core    |
|---------------|-----------------------------|--------------------|
| pool          | 80 000 images as latents    | about 3 minutes    |
| tokens        | the tokenizer               | seconds            |
| train_text    | the text encoder, pretrained | its `SECONDS`     |
| train_unet    | UNet and text encoder       | its `SECONDS`      |
| train_decoder | the autoencoder             | its `SECONDS`      |
| train_refiner | a UNet for the last steps   | its `SECONDS`      |
| train_lora    | a LoRA for each style       | its `SECONDS`      |
| export        | `weights/`, next to this    | seconds            |

With a GPU, at 256 x 256 and in about half an hour:

    EASEL_TRAINING=/somewhere/with/4GB EASEL_PICTURE_SIZE=256 EASEL_POOL_WORKERS=16 \
    EASEL_TEXT_SECONDS=120 EASEL_UNET_SECONDS=900 EASEL_DECODER_SECONDS=300 \
    EASEL_REFINER_SECONDS=120 EASEL_LORA_SECONDS=60 python -m model_package.demo

Batches are then larger and the UNet is compiled. A machine without network access needs only the
artwork: `python -m model_package.demo.artwork`, with the first two settings, downloads and renders
it into the working folder, to be copied there. None of this has been run on a GPU yet.
"""

from model_package.demo import (
    export,
    pool,
    tokens,
    train_decoder,
    train_lora,
    train_refiner,
    train_text,
    train_unet,
)

STEPS = (
    pool,
    tokens,
    train_text,
    train_unet,
    train_decoder,
    train_refiner,
    train_lora,
    export,
)

for step in STEPS:
    print(f"== {step.__name__.rpartition('.')[2]}", flush=True)
    step.main()
