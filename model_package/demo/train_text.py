"""Train the text encoder alone: to know what a caption names, and what the picture looks like.

    python -m model_package.demo.train_text

Trained together with the UNet from nothing, the two learn little for a long time: the text means
nothing yet, so the UNet ignores it. Trained alone first, the encoder names the things, colours and
background of a caption, and 16 of its positions each foretell a sixteenth of the picture's latent.
The UNet then finds a rough picture in its text and sharpens that.
"""

import os

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import CLIPTextConfig, CLIPTextModel

from model_package.demo.captions import Captioner
from model_package.demo.codec import CHANNELS, LATENT_SIZE
from model_package.demo.colours import COLOUR_NAMES
from model_package.demo.compose import KINDS
from model_package.demo.pool import Pool
from model_package.demo.scenes import BACKGROUNDS
from model_package.demo.things import all_things
from model_package.demo.tokens import LENGTH, VOCABULARY, load_tokenizer, to_ids
from model_package.demo.training import Plan, Rng, Trainer
from model_package.demo.work_dir import WORK_DIR, pick_device, use_threads

# Knobs
SECONDS = float(os.environ.get("EASEL_TEXT_SECONDS", "900"))
RATE = float(os.environ.get("EASEL_TEXT_RATE", "1.5e-3"))  # half of it after `restart`
BATCH = 96
WIDTH = 192
PLAN = Plan(seconds=SECONDS, rate=RATE, hold=0.2, average=0.995, checkpoint_seconds=120)

FOLDER = WORK_DIR / "text"

# The picture is foretold as a 4 x 4 grid of patches, one by each of the positions 32 to 47. Those
# are padding (captions have some 12 tokens and hardly ever 30) and, as the encoder is causal, they
# see the whole caption and nothing of what follows: so the rest need not be computed here.
GRID = 4
POSITIONS = GRID * GRID
TAUGHT = 32 + POSITIONS
PATCH = LATENT_SIZE // GRID
LATENT_WEIGHT = 4.0

THINGS, COLOURS = len(all_things()), len(COLOUR_NAMES)
# How many answers each column of a pool's table has; "none" (-1) becomes one answer more.
ANSWERS = (len(KINDS), THINGS, COLOURS + 1, THINGS + 1, COLOURS + 1, len(BACKGROUNDS))


def new_text_encoder() -> CLIPTextModel:
    """An untrained encoder: 1.7 million weights."""
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            projection_dim=WIDTH,
            bos_token_id=VOCABULARY - 2,
            eos_token_id=VOCABULARY - 1,
            pad_token_id=VOCABULARY - 1,
        )
    )
    if pick_device().type == "cpu":
        # The fused attention's backward pass is slower here than plain products.
        encoder.set_attn_implementation("eager")
    return encoder


class TextModel(nn.Module):
    """The encoder with the heads that question it; the heads are thrown away afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = new_text_encoder()
        self.answers = nn.Linear(WIDTH, sum(ANSWERS))
        # Linear, so that what it reads is just as plain to the UNet's cross-attention.
        self.patches = nn.Linear(WIDTH, CHANNELS * PATCH * PATCH)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Answers (N, sum of ANSWERS) and the foretold latents (N, 8, 16, 16)."""
        ends = self.encoder(ids).last_hidden_state[:, -POSITIONS:]
        patches = self.patches(ends).unflatten(2, (CHANNELS, PATCH, PATCH))
        grid = patches.unflatten(1, (GRID, GRID)).permute(0, 3, 1, 4, 2, 5)
        return self.answers(ends.mean(1)), grid.flatten(4, 5).flatten(2, 3)


def question(answers: Tensor, table: Tensor) -> Tensor:
    """The summed cross-entropies of all questions; `table` holds rows of specs."""
    parts = torch.split(answers.float(), list(ANSWERS), 1)
    # The first thing is always there; "none" of the other columns is their last answer.
    rights = [column % count for column, count in zip(table.T, ANSWERS, strict=True)]
    return torch.stack([cross_entropy(p, r) for p, r in zip(parts, rights, strict=True)]).sum()


class TextObjective:
    """Draws batches from the pool and says how wrong the model is."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.table = torch.tensor([spec.row() for spec in pool.specs])
        self.tokenizer = load_tokenizer()
        self.device = pick_device()

    def __call__(self, model: nn.Module, rng: Rng) -> Tensor:
        chosen = rng.choices.integers(len(self.pool.specs), size=BATCH)
        captioner = Captioner(rng.choices)
        captions = [captioner.word(self.pool.specs[index]) for index in chosen]
        ids = to_ids(self.tokenizer, captions)[:, :TAUGHT].to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            answers, foretold = model(ids)
        latents = self.pool.latents[chosen].float().to(self.device)
        wrong = mse_loss(foretold.float(), latents)
        self.picture_error = float(wrong.detach())
        return LATENT_WEIGHT * wrong + 0.2 * question(answers, self.table[chosen].to(self.device))


def load_text_encoder() -> CLIPTextModel:
    """The trained encoder of this working folder."""
    trainer = Trainer(TextModel(), PLAN, FOLDER)
    found = trainer.resume()
    encoder = trainer.average.encoder
    if not found or not isinstance(encoder, CLIPTextModel):
        raise FileNotFoundError(f"no text encoder in {FOLDER}: run train_text first")
    return encoder


def main() -> None:
    """Train until the plan's time is used up."""
    use_threads(1)
    torch.manual_seed(0)
    trainer = Trainer(TextModel().to(pick_device()), PLAN, FOLDER)
    trainer.resume()
    objective = TextObjective(Pool.load())
    trainer.train(
        objective, lambda: print(f"latent error {objective.picture_error:.3f}", flush=True)
    )


if __name__ == "__main__":
    main()
