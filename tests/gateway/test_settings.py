"""The gateway's settings."""

import json

import pytest

from chalicelib import settings
from chalicelib.settings import BadSetting, Queue, Settings, route_prefix

MODELS = '{"sd": {"endpoint": "easel-sd"}, "sdxl": {"endpoint": "easel-sdxl"}}'


def test_the_first_model_is_the_default():
    settings = Settings.from_environment({"EASEL_MODELS": MODELS})

    assert settings.default_model == "sd"
    assert settings.models["sdxl"].endpoint == "easel-sdxl"


def test_a_model_can_have_an_asynchronous_endpoint_with_a_prefix_for_its_jobs():
    models = '{"sdxl": {"asynchronous": {"endpoint": "e", "jobs": "s3://bucket/jobs/sdxl/"}}}'
    (model,) = Settings.from_environment({"EASEL_MODELS": models}).models.values()

    assert model.endpoint is None
    assert model.queue == Queue("e", "bucket", "jobs/sdxl/")


def test_what_is_configured_of_a_model_is_described():
    entry = {
        "endpoint": "e",
        "defaults": {"steps": 40, "guidance_scale": 7.5, "width": 1024, "height": 768},
        "seconds": 9.5,
        "loras": ["watercolour", "pixel"],
        "largest_area": 1024 * 1024,
        "limits": {"steps": {"maximum": 50}, "width": {"multipleOf": 16}},
    }
    (model,) = Settings.from_environment(
        {"EASEL_MODELS": json.dumps({"sd": entry})}
    ).models.values()

    described = {"name": "sd", "asynchronous": False, **entry}
    del described["endpoint"]
    described["limits"] = {
        "steps": {"type": "integer", "minimum": 1, "maximum": 50},
        "width": {"type": "integer", "minimum": 64, "maximum": 1_536, "multipleOf": 16},
    }
    assert model.describe() == described


TRAINING = {
    "bucket": "easel-main-123456789012-eu-west-1",
    "deployment": "main",
    "role": "arn:aws:iam::123456789012:role/easel-main-training",
    "image": "763104351884.dkr.ecr.eu-west-1.amazonaws.com/pytorch-training:2.9",
    "code": "training/code/1a2b/",
    "models": {
        "sdxl": {
            "weights": "training/weights/sdxl/1a2b/",
            "instance_type": "ml.g5.xlarge",
            "usd_per_hour": 1.41,
            "spot_share": 0.4,
            "seconds_per_step": 1,
            "start_seconds": 400,
            "resolution": 1024,
        }
    },
}


def with_training(**changes):
    training = {name: value for name, value in {**TRAINING, **changes}.items() if value != "gone"}
    variables = {"EASEL_MODELS": MODELS, "EASEL_TRAINING": json.dumps(training)}
    return Settings.from_environment(variables).training


def test_without_a_setting_nothing_is_trained():
    assert Settings.from_environment({"EASEL_MODELS": MODELS}).training is None


def test_what_is_trained_where_and_at_what_price_is_one_setting():
    training = with_training()

    assert (training.open, training.per_month) == (False, 20)
    assert training.models["sdxl"].usd_per_hour == 1.41
    assert with_training(open=True, per_month=5).per_month == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"bucket": "gone"},
        {"models": {}},
        {"models": {"a/b": TRAINING["models"]["sdxl"]}},
        {"models": {"sdxl": {**TRAINING["models"]["sdxl"], "usd_per_hour": -1}}},
        {"models": {"sdxl": {**TRAINING["models"]["sdxl"], "spot_share": "0.4"}}},
        {"models": {"sdxl": {**TRAINING["models"]["sdxl"], "weights": "../x/"}}},
        {"models": {"sdxl": {**TRAINING["models"]["sdxl"], "instance_type": "g5"}}},
        {"models": {"sdxl": {"weights": "a/"}}},
        {"code": "training/code"},
        {"role": "easel-training"},
        {"bucket": "A bucket"},
        {"open": "yes"},
        {"prodigy": 1},
        {"per_month": 0},
        {"per_moth": 5},
    ],
)
def test_an_unusable_setting_of_training_is_named(changes):
    with pytest.raises(BadSetting, match="EASEL_TRAINING"):
        with_training(**changes)


@pytest.mark.parametrize(
    "limits",
    [
        {"stpes": {"maximum": 50}},
        {"steps": {"most": 50}},
        {"steps": {"maximum": 0}},
        {"steps": {"maximum": "many"}},
        {"width": {"multipleOf": 0}},
        {"guidance_scale": {"maximum": 2}},
        [],
    ],
)
def test_limits_that_cannot_be_read_are_refused(limits):
    entry = {"endpoint": "e", "limits": limits}
    with pytest.raises(BadSetting, match="EASEL_MODELS cannot be read"):
        Settings.from_environment({"EASEL_MODELS": json.dumps({"sd": entry})})


def test_what_is_not_configured_of_a_model_is_empty():
    queue = {"endpoint": "e", "jobs": "s3://bucket/jobs/sdxl/"}
    (model,) = Settings.from_environment(
        {"EASEL_MODELS": json.dumps({"sdxl": {"asynchronous": queue}})}
    ).models.values()

    assert model.describe() == {
        "name": "sdxl", "asynchronous": True, "defaults": {}, "seconds": None, "loras": [],
    }  # fmt: skip


def test_adapters_can_be_published_in_a_bucket():
    entry = {"endpoint": "e", "adapters": "s3://easel-main/loras/sd/"}
    (model,) = Settings.from_environment(
        {"EASEL_MODELS": json.dumps({"sd": entry})}
    ).models.values()
    assert model.adapters == ("easel-main", "loras/sd/")
    assert model.loras is None


@pytest.mark.parametrize(
    "queue", [{}, {"asynchronous": {"endpoint": "e", "jobs": "s3://bucket/sd/"}}]
)
def test_pictures_of_a_real_time_endpoint_are_stored_in_a_bucket(queue):
    entry = {"endpoint": "e", "pictures": "s3://bucket/sd/", **queue}
    (model,) = Settings.from_environment(
        {"EASEL_MODELS": json.dumps({"sd": entry})}
    ).models.values()
    assert model.pictures == model.place == ("bucket", "sd/")


KEYS = json.dumps([{"name": "ada", "sha256": "0" * 64, "usd_per_month": 5, "owner": True}])
PRICED = '{"sd": {"endpoint": "easel-sd", "usd_per_hour": 1.408}}'
BUDGETS = {
    "EASEL_API_KEYS": KEYS,
    "EASEL_SECRET": "s" * 43,
    "EASEL_USAGE": "s3://bucket/usage/",
    "EASEL_MODELS": PRICED,
}


def test_a_key_has_a_budget_where_pictures_have_a_price_and_are_counted():
    settings = Settings.from_environment(BUDGETS)
    (key,) = settings.protection.keys

    assert (key.usd_per_month, key.owner) == (5, True)
    assert settings.usage == ("bucket", "usage/")
    assert settings.models["sd"].usd_per_hour == 1.408


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [("EASEL_USAGE", "", "is not set"), ("EASEL_MODELS", MODELS, "has no usd_per_hour for 'sd'")],
)
def test_a_budget_that_nothing_would_use_up_is_refused(variable, value, problem):
    with pytest.raises(BadSetting, match=f"^{variable} {problem}, but .* usd_per_month"):
        Settings.from_environment({**BUDGETS, variable: value})


def test_what_is_not_said_has_a_safe_default():
    settings = Settings.from_environment({"EASEL_MODELS": MODELS})

    assert settings.deadline_seconds == 24
    assert settings.log_prompts is False


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EASEL_DESCRIPTIONS", "not json"),
        ("EASEL_DESCRIPTIONS", "[]"),
        ("EASEL_DESCRIPTIONS", '{"sd": []}'),
        ("EASEL_DESCRIPTIONS", '{"sd": {"about": 7}}'),
        ("EASEL_MODELS", "not json"),
        ("EASEL_MODELS", "[]"),
        ("EASEL_MODELS", "{}"),
        ("EASEL_MODELS", '{"sd": "easel-sd"}'),
        ("EASEL_MODELS", '{"sd": {}}'),
        ("EASEL_MODELS", '{"sd": {"endpoint": 7}}'),
        ("EASEL_MODELS", '{"sd": {"endpoint": "x", "more": 1}}'),
        ("EASEL_MODELS", '{"sd": {"asynchronous": {"endpoint": "x"}}}'),
        ("EASEL_MODELS", '{"sd": {"asynchronous": {"endpoint": "x", "jobs": "s3://b"}}}'),
        ("EASEL_MODELS", '{"sd": {"endpoint": "x", "revision": 7}}'),
        ("EASEL_MODELS", '{"sd": {"endpoint": "x", "defaults": {"steps": 0}}}'),
        ("EASEL_MODELS", '{"sd": {"endpoint": "x", "defaults": {"seed": 7}}}'),
        ("EASEL_MODELS", '{"sd": {"endpoint": "x", "defaults": 7}}'),
        ("EASEL_MODELS", '{"sd": {"endpoint": "x", "seconds": "long"}}'),
        ("EASEL_MODELS", '{"sd": {"endpoint": "x", "loras": ["no name"]}}'),
        ("EASEL_MODELS", '{"sd": {"endpoint": "x", "adapters": "loras/sd"}}'),
        ("EASEL_MODELS", '{"sd": {"endpoint": "x", "adapters": "s3://b/"}}'),
        ("EASEL_MODELS", '{"sd": {"endpoint": "x", "adapters": 7}}'),
        ("EASEL_MODELS", '{"sd": {"endpoint": "x", "pictures": "s3://b"}}'),
        (
            "EASEL_MODELS",
            '{"sd": {"asynchronous": {"endpoint": "x", "jobs": "s3://bucket/j/"},'
            ' "pictures": "s3://bucket/j/"}}',
        ),
        (
            "EASEL_MODELS",
            '{"sd": {"endpoint": "x", "asynchronous": {"endpoint": "x", "jobs": "s3://bucket/j/"},'
            ' "pictures": "s3://bucket/p/"}}',
        ),
        ("EASEL_MODELS", '{"sd": {"endpoint": "x", "usd_per_hour": "1"}}'),
        ("EASEL_MODELS", '{"sd": {"endpoint": "x", "usd_per_hour": -1}}'),
        ("EASEL_USAGE", "bucket/usage"),
        ("EASEL_MOST_WAITING", "0"),
        ("EASEL_MODELS", '{"s d": {"endpoint": "x"}}'),
        ("EASEL_DEADLINE_SECONDS", "soon"),
        ("EASEL_DEADLINE_SECONDS", "0"),
        ("EASEL_DEADLINE_SECONDS", "29"),
        ("EASEL_DEADLINE_SECONDS", "nan"),
        ("EASEL_LOG_PROMPTS", "maybe"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named_with_an_example(variable, value):
    with pytest.raises(BadSetting, match=f"^{variable} cannot be read .*for example: {variable}="):
        Settings.from_environment({"EASEL_MODELS": MODELS, variable: value})


def test_a_missing_setting_names_its_origin():
    with pytest.raises(BadSetting, match=r"EASEL_MODELS is not set.*setup\.sh run"):
        Settings.from_environment({})


def test_an_empty_route_prefix_is_none():
    assert route_prefix({"EASEL_ROUTE_PREFIX": ""}) is None
    assert route_prefix({"EASEL_ROUTE_PREFIX": "/api"}) == "/api"


ZOO = {"about": "A small zoo.", "vocabulary": {"things": ["a panda"]}}


def test_a_model_is_described_as_it_describes_itself():
    variables = {"EASEL_MODELS": MODELS, "EASEL_DESCRIPTIONS": json.dumps({"sd": ZOO, "x": ZOO})}
    models = Settings.from_environment(variables).models

    assert ZOO.items() <= models["sd"].describe().items()
    assert set(models["sdxl"].describe()) & {"about", "examples", "vocabulary"} == set()


def test_what_the_catalogue_says_of_a_model_is_part_of_its_description():
    facts = {"licence": "Apache-2.0", "memory_gb": 18.1, "instance_types": ["ml.g6.2xlarge"]}
    described = {"sd": {**ZOO, "facts": facts}}
    variables = {"EASEL_MODELS": MODELS, "EASEL_DESCRIPTIONS": json.dumps(described)}
    models = Settings.from_environment(variables).models

    assert {**ZOO, "facts": facts}.items() <= models["sd"].describe().items()
    assert "facts" not in models["sdxl"].describe()


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ([], "facts: must be a JSON object"),
        ({"license": "MIT"}, "facts: license"),
        ({"licence": 7}, "facts.licence"),
        ({"duties": "x" * 501}, "facts.duties"),
        ({"title": "a\nb"}, "facts.title"),
        ({"memory_gb": "much"}, "facts.memory_gb"),
        ({"memory_gb": True}, "facts.memory_gb"),
        ({"usd_per_1000": 0}, "facts.usd_per_1000"),
        ({"instance_types": "ml.g5.xlarge"}, "facts.instance_types"),
        ({"instance_types": [7]}, "facts.instance_types"),
        ({"instance_types": ["ml.g5.xlarge"] * 11}, "facts.instance_types"),
    ],
)
def test_other_facts_are_refused_by_their_field(facts, field):
    described = {"sd": {"facts": facts}}
    variables = {"EASEL_MODELS": MODELS, "EASEL_DESCRIPTIONS": json.dumps(described)}
    with pytest.raises(BadSetting, match=field):
        Settings.from_environment(variables)


def test_the_descriptions_in_the_package_need_no_variable(monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "DESCRIPTIONS", tmp_path / "descriptions.json")
    (tmp_path / "descriptions.json").write_text(json.dumps({"sd": ZOO}), "utf-8")
    models = Settings.from_environment({"EASEL_MODELS": MODELS}).models

    assert models["sd"].describe()["about"] == "A small zoo."
