import gc
import json
import shutil
import threading

import pytest
import torch

from easel.defaults import Defaults
from easel.errors import ModelUnusable
from easel.generator import ImageGenerator
from easel.loading.pipeline import find_folder, load_pipeline
from easel.loading.refiner import find_refiner, load_refiner
from easel.model_folder.files import SHARED
from easel.pipelines.ensemble import Ensemble
from easel.settings import Settings
from easel.speed.speed import Speed, SpeedSettings
from generation import GenerationRequest
from tests.model_package.doubles.toolkit import Toolkit

HOW = {"dtype": torch.float32, "device": torch.device("cpu"), "allow_pickle": False}
REQUEST = {"prompt": "a cat", "seed": 7}
SIZE = {"width": 64, "height": 64, "guidance_scale": 5.0}


def load(folder):
    base = load_pipeline(folder / "base", **HOW)
    return base, load_refiner(folder / "refiner", base, **HOW)


@pytest.fixture(scope="module")
def pair(stand_in):
    return load(stand_in(kind="ensemble"))


class Counter:
    """Counts how often each of the two UNets is called."""

    def __init__(self, *pipelines):
        self.calls = [0] * len(pipelines)
        self.handles = [
            pipeline.unet.register_forward_hook(lambda *_, place=place: self.count(place))
            for place, pipeline in enumerate(pipelines)
        ]

    def count(self, place):
        self.calls[place] += 1

    def __enter__(self):
        return self.calls

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def run(ensemble, steps, **arguments):
    request = {"prompt": "a cat", "num_inference_steps": steps, **SIZE, **arguments}
    return ensemble.run(request, seed=7, state="").images[0].numpy()


@pytest.mark.parametrize(
    ("start", "steps", "expected"),
    [
        (None, 10, [8, 2]),
        (0.8, 50, [40, 10]),
        (0.5, 10, [5, 5]),
        (0.8, 3, [2, 1]),
        (0.8, 1, [1, 0]),  # too few for both
        (1, 10, [10, 0]),
    ],
)
def test_the_refiner_takes_over_where_the_setting_says_and_steps_count_in_total(
    pair, start, steps, expected
):
    with Counter(*pair) as calls:
        run(Ensemble(*pair, start=start), steps)
    assert calls == expected


def test_a_base_alone_does_all_steps(pair):
    with Counter(*pair) as calls:
        run(Ensemble(pair[0]), 10)
    assert calls == [10, 0]


def test_the_refiner_changes_the_picture_and_its_start_matters(pair):
    pictures = [run(Ensemble(pair[0], refiner), 10) for refiner in (None, pair[1])]
    pictures.append(run(Ensemble(*pair, start=0.5), 10))
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_the_refiner_follows_the_bases_scheduler(pair):
    base, refiner = pair
    own = dict(refiner.scheduler.config) | {"timestep_spacing": "trailing"}
    refiner.scheduler = type(refiner.scheduler).from_config(own)
    seen = []
    handle = refiner.unet.register_forward_pre_hook(lambda _, inputs: seen.append(int(inputs[1])))
    run(Ensemble(*pair), 10)
    handle.remove()
    assert seen == [int(step) for step in base.scheduler.timesteps[8:]]


@pytest.mark.parametrize("prompt", ["a (cat:1.4)", "a cat on a mat, " * 12])
def test_weights_and_long_prompts_reach_the_refiner(pair, prompt):
    widths = []
    handle = pair[1].unet.register_forward_pre_hook(
        lambda _, __, named: widths.append(named["encoder_hidden_states"].shape), with_kwargs=True
    )
    changed = run(Ensemble(*pair), 10, prompt=prompt)
    handle.remove()
    assert (widths[0][1] > 77) == (len(prompt) > 77)
    assert changed.tobytes() != run(Ensemble(*pair), 10).tobytes()


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_without_guidance_each_unet_sees_one_prompt(pair, scale):
    sizes = []
    handles = [
        pipeline.unet.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
        for pipeline in pair
    ]
    run(Ensemble(*pair), 5, guidance_scale=scale)
    for handle in handles:
        handle.remove()
    assert sizes == [1] * 5


def test_the_negative_prompt_is_used(pair):
    plain, other = (run(Ensemble(*pair), 5, **extra) for extra in ({}, {"negative_prompt": "x"}))
    assert plain.tobytes() != other.tobytes()


def test_shared_parts_are_there_once(pair):
    base, refiner = pair
    for name in SHARED:
        assert refiner.components[name] is base.components[name]
    assert refiner.text_encoder is None
    assert refiner.unet is not base.unet


def weights():
    """Return the bytes of all 32-bit tensors that are alive."""
    gc.collect()
    tensors = {
        item.data_ptr(): item.numel() * item.element_size()
        for item in gc.get_objects()
        if type(item) is torch.nn.Parameter
    }
    return sum(tensors.values())


def test_the_refiner_takes_no_more_memory_than_its_unet(stand_in):
    folder = stand_in(kind="ensemble")
    base = load_pipeline(folder / "base", **HOW)
    before = weights()
    refiner = load_refiner(folder / "refiner", base, **HOW)
    assert weights() - before == sum(
        parameter.numel() * 4 for parameter in refiner.unet.parameters()
    )


def test_the_refiners_folder_need_not_hold_what_it_shares(stand_in, tmp_path):
    shutil.copytree(stand_in(kind="ensemble"), tmp_path, dirs_exist_ok=True)
    for name in SHARED:
        shutil.rmtree(tmp_path / "refiner" / name)
    responses = [Toolkit(folder).post(REQUEST) for folder in (tmp_path, stand_in(kind="ensemble"))]
    assert responses[0].status == 200
    assert responses[0] == responses[1]


def test_a_refiner_in_16_bit_files_generates(stand_in):
    assert Toolkit(stand_in(kind="ensemble", variant="fp16")).post(REQUEST).status == 200


def test_a_refiner_without_its_weights_is_refused_and_not_left_random(stand_in, tmp_path, capsys):
    shutil.copytree(stand_in(kind="ensemble"), tmp_path, dirs_exist_ok=True)
    next((tmp_path / "refiner" / "unet").glob("*.safetensors")).unlink()
    assert Toolkit(tmp_path).post(REQUEST).status == 500
    assert "refiner" in json.loads(capsys.readouterr().out.splitlines()[0])["error"]


def test_what_cannot_be_an_ensemble_is_refused(stand_in):
    sd, both = stand_in(), stand_in(kind="ensemble")
    with pytest.raises(ModelUnusable, match="StableDiffusionPipeline cannot hand over to Stable"):
        load_refiner(both / "refiner", load_pipeline(sd, **HOW), **HOW)
    with pytest.raises(ModelUnusable, match="cannot take over"):
        load_refiner(both / "base", load_pipeline(both / "base", **HOW), **HOW)


def test_base_and_refiner_are_found_in_the_model_folder(stand_in, tmp_path):
    folder = stand_in(kind="ensemble")
    assert find_folder(folder, Settings(model_id="somebody/else")) == folder / "base"
    assert find_refiner(folder, Settings(refiner_id="somebody/else")) == folder / "refiner"
    assert find_refiner(tmp_path, Settings()) is None


def test_the_folder_or_the_environment_says_where_the_refiner_starts(
    stand_in, tmp_path, monkeypatch
):
    shutil.copytree(stand_in(kind="ensemble"), tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("EASEL_METADATA", "off")  # which names the refiner, too
    (tmp_path / "easel.json").write_text('{"refiner_start": 0.5, "steps": 10}')
    bodies = set()
    for defaults in (
        '{"width": 64, "height": 64}',
        '{"width": 64, "height": 64, "refiner_start": 1}',
    ):
        monkeypatch.setenv("EASEL_DEFAULTS", defaults)
        toolkit = Toolkit(tmp_path)
        ensemble = toolkit.model.generator().ensemble
        assert ensemble.handover(10) == (None if "start" in defaults else 0.5)
        bodies.add(toolkit.post(REQUEST, accept="image/png").body)
    assert len(bodies) == 2


def test_the_same_request_gives_the_same_bytes_in_threads_too(stand_in):
    toolkit = Toolkit(stand_in(kind="ensemble"))
    requests = [
        {**REQUEST, "prompt": prompt, "steps": 4} for prompt in ("a", "a (b:1.3)", "c " * 90)
    ]
    alone = [toolkit.post(request, accept="image/png").body for request in requests]
    together = {}

    def ask(place):
        together[place] = toolkit.post(requests[place % 3], accept="image/png").body

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[place] for place in range(6)] == alone * 2


def test_a_picture_that_breaks_off_in_the_refiner_does_not_change_the_next(pair):
    generator = ImageGenerator(pair[0], Defaults(**SIZE, steps=5), refiner=pair[1])
    request = GenerationRequest(**REQUEST)
    first = generator.generate(request).pixels
    handle = pair[1].unet.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generator.generate(request)
    handle.remove()
    assert (generator.generate(request).pixels == first).all()


@pytest.mark.parametrize(
    ("start", "share", "steps", "expected"),
    [
        (1, 1.0, 50, 2),
        (1, 1.0, 1, 1),
        (1, 0.4, 50, 2),
        (1, 0.8, 50, 3),
        (0.8, 1.0, 50, 2),
        (0.8, 0.8, 50, 4),  # of the base's 3, the last goes without guidance
        (0.9, 1.0, 20, 2),
    ],
)
def test_warming_up_takes_as_few_steps_as_do_all_that_a_picture_does(
    pair, start, share, steps, expected
):
    ensemble = Ensemble(*pair, start=start, guided_share=share)
    assert ensemble.fewest_steps(steps) == expected


def test_a_model_is_warmed_up_with_its_refiner_and_without_guidance(stand_in):
    folder = stand_in()  # its steps begin late, so that of 2 the refiner would have none
    base, refiner = (load_pipeline(folder, **HOW) for _ in range(2))
    met = set()
    for name, pipeline in (("base", base), ("refiner", refiner)):
        pipeline.unet.register_forward_hook(
            lambda _, args, __, name=name: met.add((name, len(args[0])))
        )
    speed = Speed([base, refiner], SpeedSettings(guidance_cutoff=0.9))
    sizes = Defaults(steps=20, width=64, height=64)
    ImageGenerator(base, sizes, refiner=refiner, speed=speed).warm_up()
    warmed = set(met)
    met.clear()
    ImageGenerator(base, sizes, refiner=refiner, speed=speed).generate(GenerationRequest(**REQUEST))
    assert warmed == met == {("base", 2), ("refiner", 2), ("refiner", 1)}
