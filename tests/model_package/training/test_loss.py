import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from model_package.training.loss import min_snr_weights, noisy_and_target

TIMESTEPS = torch.tensor([0, 10, 500, 999])


def schedule(prediction):
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                         prediction_type=prediction)  # fmt: skip


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_input_and_target_are_those_of_diffusers(prediction):
    latents, noise = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    reference = schedule(prediction)

    noisy, target = noisy_and_target(reference, latents, noise, TIMESTEPS)

    torch.testing.assert_close(noisy, reference.add_noise(latents, noise, TIMESTEPS))
    expected = noise
    if prediction == "v_prediction":
        expected = reference.get_velocity(latents, noise, TIMESTEPS)
    torch.testing.assert_close(target, expected)


def test_min_snr_limits_the_weight_of_the_loss_in_the_latent():
    snr = compute_snr(schedule("epsilon"), TIMESTEPS)
    assert snr[0] > 5 > snr[-1]

    epsilon = min_snr_weights(schedule("epsilon"), TIMESTEPS, 5)
    velocity = min_snr_weights(schedule("v_prediction"), TIMESTEPS, 5)

    torch.testing.assert_close(epsilon, torch.minimum(snr, torch.tensor(5.0)) / snr)
    torch.testing.assert_close(velocity, torch.minimum(snr, torch.tensor(5.0)) / (snr + 1))


def test_by_hand():
    one = schedule("epsilon")
    one.alphas_cumprod = torch.tensor([0.9, 0.5])  # ratios of 9 and 1

    assert min_snr_weights(one, torch.tensor([0, 1]), 5).tolist() == pytest.approx([5 / 9, 1])
    one.register_to_config(prediction_type="v_prediction")
    assert min_snr_weights(one, torch.tensor([0, 1]), 5).tolist() == pytest.approx([0.5, 0.5])


def test_gamma_0_is_no_weight():
    assert min_snr_weights(schedule("epsilon"), TIMESTEPS, 0).tolist() == [1, 1, 1, 1]
