"""`python -m endpoint models`: what the catalogue has, without an account."""

from __future__ import annotations

import json

from endpoint.catalogue import models as catalogue
from endpoint.commands import models


def test_every_model_is_listed_with_licence_duties_memory_steps_and_price(capsys):
    assert models.main([]) == 0
    output = capsys.readouterr().out
    for model in catalogue.read().values():
        assert f"{model.name}: {model.title}\n  licence   {model.licence}" in output
        assert model.duties in output
        for name in model.instance_types:
            assert f"  {name:16}" in output
    assert "  picture   1 step, 512 x 512, in real time" in output
    assert "  memory    22.6 GB; --quantise fp8 12.8; --quantise int8 12.8" in output
    assert "3.6 s, published: 0.95 USD per 1,000" in output
    assert "  backends  --backend hugging-face, --backend vllm-omni\n" in output
    assert "compiled   0.990 USD/h   1.01 s, published: 0.45 USD per 1,000" in output
    # SDXL does not load on the small one.
    assert output.count("  ml.inf2.xlarge ") == 2
    assert "no legal advice" in output


def test_programs_get_the_same_as_json(capsys):
    assert models.main(["--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert list(listed) == list(catalogue.read())
    sd = listed["sd"]
    assert (sd["steps"], sd["licence"], sd["gated"]) == (25, "CreativeML OpenRAIL-M", False)
    assert sd["memory_gb"]["none"] == 3.6
    first = sd["instance_types"][0]
    assert (first["name"], first["fit"], first["usd_per_1000"]) == ("ml.g4dn.xlarge", "fits", 0.95)
    assert [one["name"] for one in sd["compiled"]] == ["ml.inf2.xlarge", "ml.inf2.8xlarge"]
    assert listed["flux3-klein"]["compiled"] == []
    assert listed["flux3-klein"]["revision"] is None
