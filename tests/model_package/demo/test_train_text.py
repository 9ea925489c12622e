import pytest
import torch

from model_package.demo.data.compose import Spec
from model_package.demo.tokens import LENGTH
from model_package.demo.train_text import CLASSES, TextModel, classification_loss


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return TextModel().eval()


def test_the_model_predicts_a_whole_latent(model):
    with torch.no_grad():
        answers, foretold = model(torch.ones(2, LENGTH, dtype=torch.long))
    assert answers.shape == (2, sum(CLASSES))
    assert foretold.shape == (2, 8, 16, 16)


def test_the_last_position_predicts_the_lower_right(model):
    ids = torch.ones(1, LENGTH, dtype=torch.long)
    changed = ids.clone()
    changed[0, -1] = 7  # being causal, no earlier position sees it
    with torch.no_grad():
        difference = (model(ids)[1] - model(changed)[1]).abs().amax((0, 1))
    assert difference[12:, 12:].min() > 0
    difference[12:, 12:] = 0
    assert difference.max() < 1e-5


def test_right_answers_cost_nothing():
    rows = [Spec(0, 5).row(), Spec(1, 6, 2, 7, 3, 4).row()]
    answers = torch.full((2, sum(CLASSES)), -50.0)
    for line, row in zip(answers, rows, strict=True):
        for part, column in zip(line.split(CLASSES), row, strict=True):
            part[column % len(part)] = 50.0  # "none" is the last answer
    assert float(classification_loss(answers, torch.tensor(rows))) == pytest.approx(0)
    assert float(classification_loss(-answers, torch.tensor(rows))) > 50
