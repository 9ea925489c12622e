"""Pretrain the text encoder: to classify what a caption names, and to predict the image's latent.

    python -m model_package.demo.train_text

Trained together with the UNet from scratch, the two learn little for a long time: the embeddings
mean nothing yet, so the UNet ignores them. So the encoder is first trained alone. It classifies the
things, colours and background of a caption, and 16 of its positions each predict a sixteenth of the
image's latent. The UNet then starts from embeddings that contain a rough image.
"""

import os

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import CLIPTextConfig, CLIPTextModel

from model_package.demo.data.captions import Captioner
from model_package.demo.data.codec import CHANNELS, LATENT_SIZE
from model_package.demo.data.colours import COLOUR_NAMES
from model_package.demo.data.compose import KINDS
from model_package.demo.data.scenes import BACKGROUNDS
from model_package.demo.data.things import all_things
from model_package.demo.pool import Pool
from model_package.demo.tokens import LENGTH, VOCABULARY, load_tokenizer, to_ids
from model_package.demo.training.trainer import Plan, Rng, Trainer
from model_package.demo.work_dir import WORK_DIR, pick_device, use_threads

# Settings
SECONDS = float(os.environ.get("EASEL_TEXT_SECONDS", "900"))
RATE = float(os.environ.get("EASEL_TEXT_RATE", "1.5e-3"))  # half of it after `restart`
BATCH = 96
WIDTH = 192
PLAN = Plan(seconds=SECONDS, rate=RATE, hold=0.2, average=0.995, checkpoint_seconds=120)

FOLDER = WORK_DIR / "text"

# The latent is predicted as a 4 x 4 grid of patches, one by each of the positions 32 to 47. These
# are padding (captions have about 12 tokens and rarely 30). The encoder is causal, so they depend
# on the whole caption and on no later position, and the later ones are not computed here.
GRID = 4
POSITIONS = GRID * GRID
TAUGHT = 32 + POSITIONS
PATCH = LATENT_SIZE // GRID
LATENT_WEIGHT = 4.0

THINGS, COLOURS = len(all_things()), len(COLOUR_NAMES)
# The number of classes of each column of a pool's table; "none" (-1) is an additional class.
CLASSES = (len(KINDS), THINGS, COLOURS + 1, THINGS + 1, COLOURS + 1, len(BACKGROUNDS))


def new_text_encoder() -> CLIPTextModel:
    """Return an untrained encoder: 1.7 million weights."""
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
    """The encoder with two heads, which are discarded after the pretraining."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = new_text_encoder()
        # The names of both heads are in existing checkpoints.
        self.answers = nn.Linear(WIDTH, sum(CLASSES))
        # Linear, so that the UNet's cross-attention can read the same information.
        self.patches = nn.Linear(WIDTH, CHANNELS * PATCH * PATCH)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (N, sum of CLASSES) and the predicted latents (N, 8, 16, 16)."""
        ends = self.encoder(ids).last_hidden_state[:, -POSITIONS:]
        patches = self.patches(ends).unflatten(2, (CHANNELS, PATCH, PATCH))
        grid = patches.unflatten(1, (GRID, GRID)).permute(0, 3, 1, 4, 2, 5)
        return self.answers(ends.mean(1)), grid.flatten(4, 5).flatten(2, 3)


def classification_loss(answers: Tensor, table: Tensor) -> Tensor:
    """Return the sum of the columns' cross-entropies; `table` has rows of specs."""
    parts = torch.split(answers.float(), list(CLASSES), 1)
    # The first thing is always there; "none" of the other columns is their last class.
    targets = [column % count for column, count in zip(table.T, CLASSES, strict=True)]
    return torch.stack(
        [cross_entropy(part, target) for part, target in zip(parts, targets, strict=True)]
    ).sum()


class TextObjective:
    """Draws batches from the pool and returns the model's loss."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.table = torch.tensor([spec.row() for spec in pool.specs])
        self.tokenizer = load_tokenizer()
        self.device = pick_device()

    def __call__(self, model: nn.Module, rng: Rng) -> Tensor:
        chosen = rng.choices.integers(len(self.pool.specs), size=BATCH)
        captioner = Captioner(rng.choices)
        captions = [captioner.caption(self.pool.specs[index]) for index in chosen]
        ids = to_ids(self.tokenizer, captions)[:, :TAUGHT].to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            answers, predicted = model(ids)
        latents = self.pool.latents[chosen].float().to(self.device)
        latent_loss = mse_loss(predicted.float(), latents)
        self.latent_error = float(latent_loss.detach())
        return LATENT_WEIGHT * latent_loss + 0.2 * classification_loss(
            answers, self.table[chosen].to(self.device)
        )


def load_text_encoder() -> CLIPTextModel:
    """Return the trained encoder from the working folder."""
    trainer = Trainer(TextModel(), PLAN, FOLDER)
    trained = trainer.resume()
    encoder = trainer.average.encoder
    if not trained or not isinstance(encoder, CLIPTextModel):
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
        objective, lambda: print(f"latent error {objective.latent_error:.3f}", flush=True)
    )


if __name__ == "__main__":
    main()
