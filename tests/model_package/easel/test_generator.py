import json
import weakref

import numpy as np
import pytest
import torch

import inference
from easel.defaults import Defaults
from easel.errors import GenerationFailed, ModerationBlocked, OutOfMemory
from easel.generator import ImageGenerator, to_pixels
from easel.model import Model
from generation import GenerationRequest, InvalidField
from tests.model_package.doubles.fake_gpu import DEVICE, FakeGpu
from tests.model_package.doubles.pipelines import BarePipeline, PlainPipeline
from tests.model_package.doubles.toolkit import Context

REQUEST = GenerationRequest(prompt="a cat", seed=7, width=64, height=64)


def ask(pipeline, **fields):
    """Return the status and the error that the toolkit would see from a model that misbehaves."""
    context = Context()
    model = Model(lambda: ImageGenerator(pipeline, Defaults()))
    body = json.dumps({"prompt": "a cat", "seed": 7, "width": 512, "height": 768, **fields})
    request = inference.input_fn(body, "application/json", context)
    prediction = inference.predict_fn(request, model, context)
    response = json.loads(inference.output_fn(prediction, "image/png", context))
    return context.status, response["error"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.50 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_too_little_memory_is_a_507_that_names_a_smaller_size(error, capsys):
    status, body = ask(PlainPipeline(error=error))
    assert status == 507
    assert body == {
        "code": "out_of_memory",
        "message": "The model ran out of memory at 512 x 768 pixels; "
        "request a smaller size, such as 256 x 384.",
    }
    assert json.loads(capsys.readouterr().out)["event"] == "out_of_memory"


def test_after_running_out_of_memory_nothing_of_the_picture_is_kept():
    class Greedy(PlainPipeline):
        def generate(self, **arguments):
            self.calls.append(arguments)
            latents = torch.zeros(8)
            self.watch = weakref.ref(latents)
            raise torch.OutOfMemoryError("CUDA out of memory.")

    pipeline = Greedy()
    with pytest.raises(OutOfMemory) as caught:
        ImageGenerator(pipeline, Defaults()).generate(REQUEST)
    # The traceback that comes with the error would keep the latents alive as long as it is there.
    assert caught.value.__cause__.__traceback__ is not None
    assert pipeline.watch() is None


def test_the_next_picture_works_after_one_that_ran_out_of_memory():
    pipeline = PlainPipeline(error=torch.OutOfMemoryError("CUDA out of memory."))
    generator = ImageGenerator(pipeline, Defaults())
    with pytest.raises(OutOfMemory):
        generator.generate(REQUEST)
    pipeline.error = None
    assert generator.generate(REQUEST).pixels.shape == (64, 64, 3)


def test_any_other_failure_is_a_500_that_tells_nothing(capsys):
    status, body = ask(PlainPipeline(error=RuntimeError("shape mismatch in /opt/ml/model/unet")))
    assert (status, body["code"]) == (500, "generation_failed")
    assert "/opt" not in body["message"]
    assert "/opt/ml/model/unet" in json.loads(capsys.readouterr().out)["traceback"]


def test_a_blocked_picture_is_a_422():
    status, body = ask(PlainPipeline(flags=[True]))
    assert (status, body["code"]) == (422, "moderation_blocked")


@pytest.mark.parametrize("flags", [None, [False], []])
def test_a_picture_that_is_not_blocked_is_shown(flags):
    picture = ImageGenerator(PlainPipeline(flags=flags), Defaults()).generate(REQUEST)
    assert (picture.pixels == 128).all()


def test_numbers_that_overflowed_are_refused_and_not_shown_as_a_black_square():
    status, body = ask(PlainPipeline(image=np.full((64, 64, 3), np.nan)))
    assert (status, body["code"]) == (500, "generation_failed")
    assert "EASEL_DTYPE" in body["message"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixels_that_become_bytes_on_the_gpu_are_those_that_diffusers_makes(dtype):
    image = torch.rand((3, 40, 24), generator=torch.Generator().manual_seed(0)).to(dtype)
    image[:, 0, :5] = torch.tensor([0.0, 1.0, 0.5, 127.5 / 255, 0.25])
    theirs = (image.permute(1, 2, 0).float().numpy() * 255).round().astype(np.uint8)
    assert np.array_equal(to_pixels(image), theirs)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_overflow_on_the_gpu_is_refused_too(value):
    image = torch.full((3, 8, 8), 0.5)
    image[1, 2, 3] = value
    with pytest.raises(GenerationFailed):
        to_pixels(image)


def test_a_picture_leaves_the_gpu_in_one_copy_of_a_byte_per_value():
    with FakeGpu() as gpu:
        image = torch.full((3, 40, 24), 0.5).to(DEVICE)
        uploads = gpu.waits.total()
        assert to_pixels(image).nbytes == 40 * 24 * 3
    assert gpu.waits.total() - uploads == 1


def test_the_brightest_and_the_darkest_values_keep_their_ends():
    image = np.zeros((64, 64, 3))
    image[0, 0] = 1.0
    pixels = ImageGenerator(PlainPipeline(image=image), Defaults()).generate(REQUEST).pixels
    assert (pixels.max(), pixels.min(), pixels.sum()) == (255, 0, 3 * 255)


def test_a_size_that_the_model_decides_is_read_from_the_picture():
    pipeline = BarePipeline(image=np.zeros((72, 96, 3)))
    request = (
        ImageGenerator(pipeline, Defaults())
        .generate(GenerationRequest(prompt="a"))
        .provenance.request
    )
    assert (request.width, request.height) == (96, 72)
    assert request.seed is not None


def test_a_prompt_alone_is_completed_with_the_models_defaults():
    pipeline = PlainPipeline()
    ImageGenerator(pipeline, Defaults(steps=4)).generate(GenerationRequest(prompt="a", seed=9))
    (call,) = pipeline.calls
    assert (call["num_inference_steps"], call["guidance_scale"], call["width"]) == (4, 7.5, 128)
    assert call["generator"].initial_seed() == 9
    assert call["generator"].device.type == "cpu"


def test_warming_up_generates_the_default_size_in_two_steps_and_no_more_than_the_model_takes():
    pipeline = PlainPipeline(flags=[True])
    ImageGenerator(pipeline, Defaults(steps=30)).warm_up()
    ImageGenerator(pipeline, Defaults(steps=1)).warm_up()
    assert [call["num_inference_steps"] for call in pipeline.calls] == [2, 1]
    assert {call["width"] for call in pipeline.calls} == {128}


class OnDevice(PlainPipeline):
    def __init__(self, device):
        super().__init__()
        self.device = torch.device(device)


@pytest.mark.parametrize(("device", "width"), [("cpu", 64), ("cuda", 128)])
def test_only_a_gpu_is_warmed_up_with_the_default_size_which_it_chooses_kernels_for(device, width):
    pipeline = OnDevice(device)
    ImageGenerator(pipeline, Defaults()).warm_up()
    assert [(call["width"], call["height"]) for call in pipeline.calls] == [(width, width)]


def test_a_default_size_that_the_model_cannot_generate_fails_at_the_start_on_a_cpu_too():
    with pytest.raises(InvalidField, match="width"):
        ImageGenerator(OnDevice("cpu"), Defaults(width=100)).warm_up()


def test_a_model_that_cannot_generate_fails_while_it_warms_up():
    with pytest.raises(GenerationFailed):
        ImageGenerator(PlainPipeline(image=np.full((8, 8, 3), np.inf)), Defaults()).warm_up()


def test_a_blocked_picture_raises_for_the_caller_of_the_generator():
    with pytest.raises(ModerationBlocked):
        ImageGenerator(PlainPipeline(flags=[True]), Defaults()).generate(REQUEST)
