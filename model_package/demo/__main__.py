"""Make the demo model from nothing, from the first picture to the exported weights.

    EASEL_TRAINING=/somewhere/with/1GB python -m model_package.demo

Every step keeps what is there and goes on where it was stopped, so this can be stopped and started
again at any moment. Needs `npm` (to fetch the artwork) and the packages `torch`, `diffusers`,
`transformers`, `tokenizers`, `numpy`, `pillow` and `resvg_py`. Each step is a module of that name
and can be run alone; the decoder's can run beside the other two trainings.

| step          | makes, in the workshop      | on one CPU core    |
|---------------|-----------------------------|--------------------|
| pool          | 60 000 pictures as latents  | about 2 minutes    |
| tokens        | the tokenizer               | seconds            |
| train_text    | the text encoder's start    | its knob `SECONDS` |
| train_unet    | UNet and text encoder       | its knob `SECONDS` |
| train_decoder | the autoencoder             | its knob `SECONDS` |
| export        | `weights/`, beside this     | seconds            |
"""

from model_package.demo import export, pool, tokens, train_decoder, train_text, train_unet

for step in (pool, tokens, train_text, train_unet, train_decoder, export):
    print(f"== {step.__name__.rpartition('.')[2]}", flush=True)
    step.main()
