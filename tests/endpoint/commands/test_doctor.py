from __future__ import annotations

import json

import pytest

from endpoint.catalogue import images
from endpoint.commands import doctor
from endpoint.emulator.moto_ import service_quotas
from endpoint.provision import checks
from tests.endpoint.world import ACCOUNT, IMAGE, REGION, contents
from tests.model_folders import write_file, write_pipeline

pytestmark = pytest.mark.usefixtures("ungated_hub")


def examine(world, capsys, *more, code=0):
    assert world.run(doctor.main, "--image", IMAGE, "--json", *more) == code
    by_subject: dict[str, list[dict]] = {}
    for check in json.loads(capsys.readouterr().out)["checks"]:
        by_subject.setdefault(check["subject"], []).append(check)
    return by_subject


def test_a_good_account_gets_a_price_and_no_changes(world, capsys):
    results = examine(world, capsys)
    assert {check["state"] for checked in results.values() for check in checked} == {"good"}
    assert "USD per hour" in results["cost"][0]["finding"]
    assert "per month" in results["cost"][0]["finding"]
    assert contents(world) == []
    assert not any("Create" in call for call in world.calls)


def test_a_quota_of_zero_comes_with_the_command_that_raises_it(world, capsys, monkeypatch):
    monkeypatch.setattr(service_quotas, "QUOTAS", {"ml.g5.xlarge": 0.0})
    results = examine(world, capsys, "--instance-type", "ml.g5.xlarge", code=1)
    (quota,) = results["quota"]
    assert quota["state"] == "bad"
    assert "aws service-quotas request-service-quota-increase" in quota["advice"]
    assert f"--region {REGION}" in quota["advice"]


def test_one_type_with_a_quota_is_enough(world, capsys, monkeypatch):
    monkeypatch.setattr(service_quotas, "QUOTAS", {"ml.g4dn.xlarge": 0.0})
    states = [check["state"] for check in examine(world, capsys)["quota"]]
    assert sorted(states) == ["good", "good", "note"]


def test_the_policies_of_a_session_are_its_roles():
    session = "arn:aws:sts::123456789012:assumed-role/admin/me@example.com"
    assert checks._policy_source(session) == "arn:aws:iam::123456789012:role/admin"
    user = "arn:aws:iam::123456789012:user/me"
    assert checks._policy_source(user) == user


def test_an_image_that_does_not_exist_is_bad(world, capsys):
    world.images = set()
    assert examine(world, capsys, code=1)["image"][0]["state"] == "bad"


def test_a_bucket_of_another_account_is_bad(world, capsys):
    world.fail("HeadBucket", "403", status=403)
    assert examine(world, capsys, code=1)["bucket"][0]["state"] == "bad"


def test_a_gated_model_has_to_be_uploaded(world, capsys, monkeypatch):
    monkeypatch.setattr(checks, "ask_the_hub", lambda _model: {"gated": True})
    results = examine(world, capsys, "--model", "some/gated", code=1)
    assert "--weights s3" in results["model"][0]["advice"]
    results = examine(world, capsys, "--model", "some/gated", "--weights", "s3")
    assert results["model"][0]["state"] == "good"


def test_a_hub_that_does_not_answer_prevents_nothing(world, capsys, monkeypatch):
    def no_network(_model):
        raise OSError("no route to host")

    monkeypatch.setattr(checks, "ask_the_hub", no_network)
    results = examine(world, capsys)
    assert results["model"][0]["state"] == "note"
    assert "no route to host" in results["model"][0]["advice"]


def test_little_memory_is_a_note_with_what_would_need_less(world, capsys):
    options = ("--model", "z-image-turbo", "--instance-type", "ml.g6.2xlarge")
    results = examine(world, capsys, *options)
    assert results["memory"] == [
        {
            "subject": "memory",
            "state": "note",
            "finding": "ml.g6.2xlarge: 22.6 of 24 GB: tight",
            "advice": "--quantise fp8 needs 12.8 GB.",
        }
    ]
    results = examine(world, capsys, *options, "--quantise", "fp8")
    assert results["memory"][0]["finding"] == "ml.g6.2xlarge: 12.8 of 24 GB: fits"


def test_too_little_memory_and_a_quantisation_without_a_file_are_bad(world, capsys):
    options = ("--model", "ernie-image-turbo", "--instance-type", "ml.g4dn.xlarge")
    results = examine(world, capsys, *options, code=1)
    assert results["memory"][0]["state"] == "bad"
    assert results["memory"][0]["advice"] == "It fits on ml.g6e.xlarge."
    results = examine(world, capsys, "--model", "sd", "--quantise", "gguf", code=1)
    assert "no file for gguf" in results["memory"][0]["finding"]


def test_the_memory_of_an_unknown_model_or_type_is_not_known(world, capsys):
    results = examine(world, capsys, "--model", "some/model")
    assert {check["state"] for check in results["memory"]} == {"note"}
    assert "the parameters of model are not" in results["memory"][0]["finding"]
    results = examine(world, capsys, "--instance-type", "ml.p99.xlarge")
    assert "its GPU is not in" in results["memory"][0]["finding"]


def test_the_licence_comes_with_its_duties(world, capsys):
    (licence,) = examine(world, capsys, "--model", "sd-turbo")["licence"]
    assert licence["finding"].startswith("Stability AI Community")
    assert "Powered by Stability AI" in licence["advice"]


def test_a_model_that_is_not_pinned_says_what_create_does(world, capsys):
    options = ("--model", "flux3-klein", "--instance-type", "ml.g6e.xlarge")
    (model,) = examine(world, capsys, *options)["model"]
    assert model["state"] == "note"
    assert "flux-3-image-klein at main" in model["finding"]
    assert "asks the hub for the newest commit" in model["advice"]


def test_expired_credentials_end_the_examination(world, capsys):
    world.fail("GetCallerIdentity", "ExpiredToken", "The security token is expired")
    assert world.run(doctor.main, "--image", IMAGE) == 1
    assert "aws sso login" in capsys.readouterr().err


def test_the_files_of_a_folder_are_checked(world, capsys, tmp_path):
    folder = write_pipeline(tmp_path / "my-model")
    write_file(folder / "notes.md")
    results = examine(world, capsys, "--model", str(folder))
    assert results["files"][0]["state"] == "good"
    assert results["files"][1]["finding"] == "no part of the model: notes.md"

    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1"
    )
    (folder / "vae" / "config.json").unlink()
    results = examine(world, capsys, "--model", str(folder), code=1)
    assert [check["state"] for check in results["files"]] == ["bad", "bad"]
    assert "unet/diffusion_pytorch_model.safetensors is a Git LFS pointer" in str(results)
    assert "git lfs pull" in str(results)


@pytest.mark.parametrize("content", ["{", "\ufeff{}", "[]", "{}"])
def test_an_index_that_cannot_be_read_is_bad(world, capsys, tmp_path, content):
    folder = write_pipeline(tmp_path)
    (folder / "model_index.json").write_text(content, encoding="utf-8")
    results = examine(world, capsys, "--model", str(folder), code=1)
    assert "model_index.json" in results["files"][0]["finding"]


def test_known_trouble_and_the_end_of_support_of_an_image_are_notes(world, capsys):
    known = images.read()[images.DEFAULT]
    world.images = {known.tag}
    registry = IMAGE.partition("/")[0]
    results = examine(world, capsys, "--image", f"{registry}/{known.repository}:{known.tag}")
    states = [check["state"] for check in results["image"]]
    assert states == ["good", "note", "note"]
    assert "torch 2.6.0, CUDA 12.4, diffusers 0.38.0" in results["image"][0]["finding"]
    assert "ncclCommResume" in results["image"][1]["finding"]
    assert "https://" in results["image"][1]["advice"]
    assert "support ended on 2026-06-30" in results["image"][2]["finding"]


def test_an_image_with_a_newer_cuda_gets_its_machine_image(world, capsys):
    world.images = {"1.0-cu130"}
    own = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mine:1.0-cu130"
    results = examine(world, capsys, "--image", own)
    assert "al2023-ami-sagemaker-inference-gpu-4-1" in results["image"][1]["finding"]


def test_an_image_that_is_neither_a_name_nor_a_uri_is_refused(world, capsys):
    with pytest.raises(SystemExit, match="2"):
        world.run(doctor.main, "--image", "huggingface-9")
    assert "huggingface-5.5.3" in capsys.readouterr().err
