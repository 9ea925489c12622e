"""What AWS is given: the CloudFormation template, and what `chalice package` makes."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

from tests.contract.cases import MODELS, get
from tests.contract.gateway import call
from tests.contract.wording import reduced
from tests.packages import package_gateway

ROOT = Path(__file__).parents[2]
GATEWAY = ROOT / "gateway"


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short functions, too."""


def _function(loader: Loader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {f"!{suffix}": loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {f"!{suffix}": loader.construct_sequence(node, deep=True)}
    return {f"!{suffix}": loader.construct_mapping(node, deep=True)}


Loader.add_multi_constructor("!", _function)


def infrastructure() -> Any:
    """Return the deployment's CloudFormation template without its words."""
    return _template("infrastructure.yaml")


def training() -> Any:
    """Return the template of training, with the pipeline's definition as JSON."""
    template = _template("training.yaml")
    definition = template["Resources"]["Pipeline"]["Properties"]["PipelineDefinition"]
    body = definition["PipelineDefinitionBody"]
    # A number's parameter is not in quotation marks.
    text = re.sub(r": (\$\{\w+\})", r': "\1"', body["!Sub"])
    definition["PipelineDefinitionBody"] = {"!Sub": json.loads(text)}
    return template


def _template(name: str) -> Any:
    text = (ROOT / "endpoint" / name).read_text("utf-8")
    return reduced(yaml.load(text, Loader))  # noqa: S506 - a safe loader


def settings() -> dict[str, Any]:
    """Return the gateway's deployment settings and its policy."""
    folder = GATEWAY / ".chalice"
    return {
        name: json.loads((folder / name).read_text("utf-8"))
        for name in ("config.json", "policy-dev.json")
    }


def package() -> dict[str, Any]:
    """Return what AWS sees of the package: the SAM template, the zip's top level, one answer."""
    with tempfile.TemporaryDirectory() as place:
        folder = package_gateway(Path(place))
        template = json.loads((folder / "sam.json").read_text("utf-8"))
        unpacked = folder / "unpacked"
        with zipfile.ZipFile(folder / "deployment.zip") as archive:
            archive.extractall(unpacked)
        # Bytecode is beside app.py only where the tests have imported it.
        names = {path.name for path in unpacked.iterdir()} - {"__pycache__"}
        ours = sorted(name for name in names if (GATEWAY / name).exists())
        # Without site-packages: a Lambda has nothing but the package.
        # A picture needs botocore, too; nobody answers it, and that is a 503.
        requests = [{"name": path, **get(path)} for path in ("/health", "/docs", "/inference/x")]
        models = {"EASEL_MODELS": json.dumps({"sd": MODELS["sd"]})}
        nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
        given = call(unpacked, requests, {**models, **nowhere}, "-I", "-S")
    return {
        "template": _without_hashes(template),
        "our own at the top of the zip": ours,
        "statuses": [each["answer"]["statusCode"] for each in given["answers"]],
    }


def _without_hashes(template: dict[str, Any]) -> Any:
    body = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
    body["paths"] = {path: sorted(methods) for path, methods in sorted(body["paths"].items())}
    function = template["Resources"]["APIHandler"]["Properties"]
    function["Runtime"] = re.sub(r"^python3\.\d+$", "<this Python>", function["Runtime"])
    return reduced(template)


def variables() -> list[str]:
    """Return the names of all variables that the code mentions."""
    name = re.compile(r"EASEL_[A-Z0-9_]*[A-Z0-9]")
    texts = (
        path.read_text("utf-8")
        for folder in (GATEWAY, ROOT / "endpoint", ROOT / "model_package")
        for path in folder.rglob("*")
        if path.suffix in {".py", ".json", ".yaml", ".sh", ".js", ".html"}
        and path.is_file()
        # What chalice and pip leave behind.
        and not {"vendor", "deployments"} & set(path.relative_to(ROOT).parts)
    )
    return sorted({found for text in texts for found in name.findall(text)})
