import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation import InvalidField
from model_package.training import kohya
from model_package.training.__main__ import read_job
from model_package.training.job import Job

# All keys of the SDXL configuration in AWS's example of a pipeline for kohya's scripts, with its
# values.
FLAT = """
bucket_no_upscale = true
bucket_reso_steps = 64
cache_latents = true
cache_latents_to_disk = true
caption_dropout_every_n_epochs = 0
caption_dropout_rate = 0.0
conv_alpha = 1
conv_dim = 1
enable_bucket = true
gradient_accumulation_steps = 1
gradient_checkpointing = true
learning_rate = 0.0004
lr_scheduler = "constant"
lr_scheduler_num_cycles = 1
lr_scheduler_power = 1
max_bucket_reso = 4096
resolution = "1024,1024"
max_timestep = 1000
max_token_length = 75
max_train_epochs = 1
mem_eff_attn = false
min_bucket_reso = 512
min_timestep = 0
mixed_precision = "bf16"
model_list = "custom"
network_alpha = 1
network_dim = 256
network_module = "networks.lora"
no_token_padding = false
noise_offset = 0.0357
noise_offset_type = "Original"
optimizer_type = "Adafactor"
optimizer_args = ["scale_parameter=False", "relative_step=False", "warmup_init=False"]
output_dir = "/opt/ml/model"
output_name = "dwjz_lora_model"
persistent_data_loader_workers = false
pretrained_model_name_or_path = "stabilityai/stable-diffusion-xl-base-1.0"
prior_loss_weight = 1.0
random_crop = false
save_every_n_epochs = 1
save_model_as = "safetensors"
save_precision = "bf16"
save_state = false
sdxl = true
cache_text_encoder_outputs = false
no_half_vae = true
shuffle_caption = false
text_encoder_lr = 0.0004
train_batch_size = 1
train_data_dir = "/opt/ml/input/data/train"
train_on_input = true
unet_lr = 0.0004
unit = 1
v_parameterization = false
vae_batch_size = 0
xformers = "xformers"
"""
UNKNOWN = {"conv_dim", "conv_alpha", "noise_offset_type", "no_token_padding", "model_list", "sdxl",
           "train_on_input", "unit"}  # fmt: skip


def translate(text, pictures=0):
    return kohya.translate(kohya.flatten(tomllib.loads(text)), pictures)


def test_the_pipelines_configuration_becomes_a_job_with_a_row_for_each_of_56_keys():
    fields, rows = translate(FLAT, pictures=12)

    job = Job.from_dict(fields)
    assert (job.name, job.rank, job.alpha, job.steps) == ("dwjz_lora_model", 256, 1.0, 12)
    assert (job.optimizer, job.rate, job.text_encoder_rate) == ("adafactor", 4e-4, 4e-4)
    assert (job.resolution, job.upscale, job.noise_offset) == (1_024, False, 0.0357)
    assert {row.key.split()[0] for row in rows} == set(tomllib.loads(FLAT))
    assert len(tomllib.loads(FLAT)) == 56
    assert {row.key for row in rows if row.text == "is not known"} == UNKNOWN


def test_what_a_file_leaves_out_has_the_default_of_kohyas_scripts():
    job = Job.from_dict(translate("")[0])

    assert (job.alpha, job.rank, job.steps, job.rate) == (1.0, 4, 1_600, 2e-6)
    assert (job.min_snr, job.caption_dropout, job.schedule) == (0, 0, "constant")
    assert job.text_encoder_rate == 2e-6
    assert not job.buckets


def test_a_dataset_config_is_one_set_of_pictures_and_one_of_the_class():
    fields, rows = translate("""
        [general]
        shuffle_caption = true
        keep_tokens = 2
        [[datasets]]
        resolution = [768, 512]
        batch_size = 3
        [[datasets.subsets]]
        image_dir = "/data/a"
        class_tokens = "sks dog"
        num_repeats = 7
        keep_tokens = 1
        [[datasets.subsets]]
        is_reg = true
        image_dir = "/data/dogs"
        class_tokens = "dog"
    """)

    job = Job.from_dict(fields)
    assert (job.shuffle_tags, job.keep_tags, job.batch_size, job.repeats) == (True, 1, 3, 7)
    assert (job.instance_prompt, job.class_prompt, job.preserve) == ("sks dog", "dog", "pictures")
    assert job.resolution == 624
    assert "image_dir" in {row.key for row in rows}


def test_sets_with_different_settings_become_sets():
    fields, rows = translate("""
        [general]
        shuffle_caption = true
        flip_aug = true
        [[datasets]]
        batch_size = 2
        [[datasets.subsets]]
        image_dir = "/data/dogs/"
        num_repeats = 7
        class_tokens = "sks dog"
        [[datasets.subsets]]
        image_dir = 'C:\\data\\cats'
        class_tokens = "sks cat"
        caption_dropout_rate = 0.5
        [[datasets.subsets]]
        is_reg = true
        image_dir = "/data/animals"
        class_tokens = "animal"
    """)

    job = Job.from_dict(fields)
    assert (job.batch_size, job.shuffle_tags, job.flip) == (2, True, True)
    dogs, cats, animals = job.sets
    assert (dogs.folder, dogs.repeats, dogs.instance_prompt) == ("dogs", 7, "sks dog")
    assert (dogs.caption_dropout, dogs.shuffle_tags) == (0.0, None)
    assert (cats.folder, cats.repeats, cats.caption_dropout) == ("cats", 1, 0.5)
    assert (animals.of_class, animals.instance_prompt) == (True, "animal")
    assert (job.preserve, job.class_prompt) == ("pictures", "animal")
    assert "dogs, cats, animals" in str(next(row for row in rows if row.key == "subsets"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('image_dir = "/{0}"\ncaption_extension = ".{0}"', "caption_extension: differs"),
        ("num_repeats = {0}", "image_dir: is missing"),
        ('image_dir = "/{0}/same"\nnum_repeats = {0}', "each folder once"),
    ],
)
def test_sets_that_cannot_be_told_apart_are_refused(text, words):
    subset = f"[[datasets.subsets]]\n{text}\n"

    with pytest.raises(InvalidField, match=words):
        Job.from_dict(translate("[[datasets]]\n" + subset.format(1) + subset.format(2))[0])


def test_prodigy_stays_prodigy_where_it_is_installed():
    text = 'optimizer_type = "Prodigy"\nlearning_rate = 1.0\ntext_encoder_lr = 0.5'
    job = Job.from_dict(kohya.translate(kohya.parse(text, "x"), prodigy=True)[0])

    assert (job.optimizer, job.rate, job.text_encoder_rate) == ("prodigy", 1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'optimizer_type = "AdamW8bit"\nlearning_rate = 1e-4',
            {"optimizer": "adamw", "rate": 1e-4},
        ),
        ('optimizer_type = "Prodigy"\nlearning_rate = 1.0', {"rate": 1e-4, "text_encoder_rate": 0}),
        ('optimizer_args = ["weight_decay=0.1"]', {"weight_decay": 0.1}),
        (
            'network_args = ["conv_dim=4", "conv_alpha=2"]',
            {"conv": True, "conv_rank": 4, "conv_alpha": 2.0},
        ),
        ('network_args = ["conv_dim=4"]', {"conv": True, "conv_alpha": 1.0}),
        ('network_args = ["conv_alpha=4"]', {"conv": False, "conv_alpha": None}),
        ("validation_split = 0.1", {"held_out": 0.1}),
        ("unet_lr = 1e-3\nlearning_rate = 1e-4", {"rate": 1e-3, "text_encoder_rate": 1e-4}),
        ("network_train_unet_only = true\ntext_encoder_lr = 1", {"text_encoder_rate": 0}),
        ('lr_scheduler = "cosine_with_restarts"', {"schedule": "cosine"}),
        ("lr_warmup_steps = 160", {"warm_up": 0.1}),
        ('[a]\nnetwork_dim = 8\n[b]\noutput_name = "a b"', {"rank": 8}),
        ('sample_prompts = ["a dog --w 512"]', {"sample_prompts": ("a dog",)}),
    ],
)
def test_a_key_sets_its_field(text, expected):
    job = Job.from_dict(translate(text)[0])

    assert {name: getattr(job, name) for name in expected} == expected


VALUES = (
    st.integers(-3, 2**70) | st.floats() | st.text(max_size=5) | st.booleans()
    | st.lists(st.text(max_size=5) | st.integers(), max_size=3)
)  # fmt: skip
KEYS = sorted({*kohya._FIELDS, *kohya._SPECIAL, *kohya._LATER, *kohya._OFF, "datasets", "nonsense"})


@given(st.dictionaries(st.sampled_from(KEYS), VALUES), st.integers(0, 9))
def test_any_value_is_refused_by_name_or_reported(config, pictures):
    try:
        flat = kohya.flatten(config)
        fields, rows = kohya.translate(flat, pictures)
        reported = {row.key.split()[0] for row in rows}
        empty = {key for key, value in flat.items() if value in ([], 0, "", False)}
        Job.from_dict(fields)
    except InvalidField:
        return
    assert set(flat) - empty <= reported


def test_the_job_channel_can_have_both_files(home):
    one = home()
    one.job_file.write_text(json.dumps({"name": "mine"}))
    one.job_file.with_name("config.toml").write_text(
        'output_name = "theirs"\nmax_train_epochs = 3\ntrain_batch_size = 2\n'
        'resolution = 64\n[[datasets]]\n[[datasets.subsets]]\nclass_tokens = "a zorble"'
    )

    job = read_job(one.folder / "input" / "data")

    assert (job.name, job.steps, job.batch_size, job.instance_prompt) == ("mine", 3, 2, "a zorble")


def test_a_file_that_is_no_toml_is_named(tmp_path):
    (tmp_path / "config.toml").write_text("a = ")

    with pytest.raises(InvalidField, match=r"config\.toml: cannot be read as TOML"):
        kohya.read([tmp_path / "config.toml"])
