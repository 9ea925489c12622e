"""The workflows of GitHub Actions: through the linters, and their shell steps against moto.

`aws` and `git` are the real ones; docker, gh, sudo, pip and the installation of a deployment are
programs of a few lines, since no test has their other side.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto.moto_api._internal import moto_api_backend

from endpoint.emulator.aws_server import AwsServer
from tests.policies.tools import find_program
from tests.workflow import FOLDER, Runner, holds, load

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in FOLDER.glob("*.yml"))
ACCOUNT, REGION = "123456789012", "us-east-1"
REPOSITORY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/easel-main"
SCHEMA_2 = "application/vnd.docker.distribution.manifest.v2+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
ARN = "arn:aws:cloudformation"


# --- As files ----------------------------------------------------------------------------------


def _steps():
    for name in NAMES:
        for job in load(name)["jobs"].values():
            yield from job.get("steps", [])


def test_zizmor_finds_nothing():
    command = [find_program("zizmor"), "--offline", "--no-progress", "--quiet", str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflows_are_valid():
    files = [str(path) for path in FOLDER.glob("*.yml")]
    command = [find_program("check-jsonschema"), "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*command, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_action_is_pinned_to_a_commit_whose_version_is_named():
    for path in FOLDER.glob("*.yml"):
        for line in path.read_text("utf-8").splitlines():
            if "uses:" in line and "./.github" not in line:
                assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_an_action_has_one_version_in_all_workflows():
    used = {step["uses"] for step in _steps() if "uses" in step}
    assert len({each.partition("@")[0] for each in used}) == len(used)


@pytest.mark.parametrize("name", NAMES)
def test_every_job_has_its_own_permissions_and_an_end(name):
    workflow = load(name)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"]
        assert "uses" in job or job["timeout-minutes"] <= 120
        writes = {key for key, value in job["permissions"].items() if value == "write"}
        assert writes <= {"id-token", "pull-requests"}
        # Whoever can write does not run the code of a pull request.
        if "pull-requests" in writes:
            assert not any("uses" in step for step in job["steps"])
        # A role's environment is in its trust.
        assert ("id-token" in writes) == ("environment" in job or "uses" in job)


def test_no_expression_is_put_into_a_script():
    assert [step["run"] for step in _steps() if "${{" in step.get("run", "")] == []


def test_no_checkout_leaves_its_token_behind():
    for step in _steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("name", ["image", "infrastructure"])
def test_a_repository_without_variables_does_nothing(name):
    contexts = _push() | {"vars": {}, "needs": {}}
    for job in load(name)["jobs"].values():
        assert not holds(job["if"], contexts)


# --- On a runner -------------------------------------------------------------------------------

_STUBS = {
    "pip": "",
    "df": "",
    "sudo": 'echo "sudo $*" >> "$CALLS"',
    "docker": """
echo "docker $*" >> "$CALLS"
case $1 in
  login) grep -q . ;;
  buildx)
    case $2 in build)
      case $* in *push=true*) ;; *) exit 0 ;; esac
      curl --silent --fail "$AWS_ENDPOINT_URL" --output /dev/null \\
        --header 'Content-Type: application/x-amz-json-1.1' \\
        --header 'X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.PutImage' \\
        --header "Authorization: AWS4-HMAC-SHA256 Credential=a/20260101/$AWS_REGION/ecr/b" \\
        --data "{\\"repositoryName\\": \\"easel-main\\", \\"imageTag\\": \\"$TAG\\",
          \\"imageManifestMediaType\\": \\"$PUSHED\\",
          \\"imageManifest\\": \\"{\\\\\\"mediaType\\\\\\": \\\\\\"$PUSHED\\\\\\"}\\"}" ;;
    esac ;;
esac
""",
    "gh": """
echo "gh $*" >> "$CALLS"
case $1 in
  api) echo "$PROTECTION" ;;
  pr) cat > comment.md ;;
esac
""",
}


def _write(path: Path, text: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{text}\n", "utf-8")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def server():
    with AwsServer().serve() as started:
        yield started


class Machine:
    """A runner's machine: a repository of two commits, the programs, and the account."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self._programs = folder / "bin"
        self._programs.mkdir()
        for name, text in _STUBS.items():
            _write(self._programs / name, text)
        _write(self._programs / "python", f'exec "{sys.executable}" "$@"')
        _write(folder / "setup.sh", 'echo "setup.sh $*" >> "$CALLS"; echo "Easel is at URL"')
        self.environment = {
            "PATH": f"{self._programs}{os.pathsep}{_aws()}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "CALLS": str(folder / "calls"),
            "PUSHED": SCHEMA_2,
            "PROTECTION": "branch_policy required_reviewers",
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            # As aws-actions/configure-aws-credentials sets them.
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }
        self.session = boto3.Session("testing", "testing", region_name=REGION)
        self._url = url
        self.image_commit = self._commit("model_package/inference.py")
        self.commit = self._commit("README.md")

    def client(self, service: str) -> Any:
        return self.session.client(service, endpoint_url=self._url)

    def _commit(self, name: str) -> str:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(name)
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example"]
        for arguments in (["init", "-q"], ["add", name], ["commit", "-qm", name]):
            subprocess.run([*git, *arguments], cwd=self.folder, check=True)
        head = ["git", "rev-parse", "HEAD"]
        return subprocess.run(
            head, cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    def run(self, workflow: str, job: str, contexts: dict[str, Any]) -> Any:
        runner = Runner(self.folder, self.environment, {"aws-account-id": ACCOUNT})
        return runner.run(workflow, job, contexts)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text("utf-8").splitlines() if path.exists() else []


def _aws() -> str:
    """Return the folder of the program `aws`."""
    own = ROOT / ".cache" / "programs" / "bin"
    if (own / "aws").exists():
        return str(own)
    program = shutil.which("aws")
    if not program or not shutil.which("jq") or not shutil.which("git"):
        pytest.skip("aws, jq or git is not installed")
    return str(Path(program).parent)


@pytest.fixture
def machine(server, tmp_path):
    if not shutil.which("jq"):
        pytest.skip("jq is not installed, which GitHub's runners have")
    moto_api_backend.reset()
    return Machine(tmp_path, server.url)


VARIABLES = {
    "EASEL_REGION": REGION,
    "EASEL_OPTIONS": "--model sd-turbo\n  --weights fetch",
    "EASEL_STACK_ROLE": f"arn:aws:iam::{ACCOUNT}:role/stack",
    **{f"EASEL_{role}_ROLE": "arn" for role in ("PUSH", "PLAN", "APPLY", "DEPLOY")},
}


def _contexts(event: str, ref: str, payload: dict[str, Any], **more: Any) -> dict[str, Any]:
    github = {"event_name": event, "ref": ref, "ref_name": "main", "repository": "me/easel"}
    return {
        "github": {**github, "sha": "c0ffee", "event": payload, "token": "t"},
        "vars": VARIABLES,
        **more,
    }


def _push(**more: Any) -> dict[str, Any]:
    return _contexts("push", "refs/heads/main", {}, **more)


def _pull_request(action: str, repository: str = "me/easel") -> dict[str, Any]:
    head = {"sha": "beef", "repo": {"full_name": repository}}
    payload = {"action": action, "number": 7, "pull_request": {"head": head, "base": {"sha": "b"}}}
    return _contexts("pull_request", "refs/pull/7/merge", payload)


def _dispatch(change_set: str) -> dict[str, Any]:
    inputs = {"change-set": change_set}
    return _contexts("workflow_dispatch", "refs/heads/main", {}, inputs=inputs)


# Image


def test_an_image_is_built_once_for_each_commit_that_changes_the_model_package(machine):
    machine.client("ecr").create_repository(repositoryName="easel-main")
    built = machine.run("image", "image", _push())
    uri = f"{REPOSITORY}:{machine.image_commit}"
    assert built.ok, built.log
    assert built.outputs == {"uri": uri}
    (build,) = [call for call in machine.calls if call.startswith("docker buildx build")]
    for part in ("--provenance=false --sbom=false", f"name={uri}", "oci-mediatypes=false"):
        assert part in build
    assert "docker login --username AWS --password-stdin" in " ".join(machine.calls)
    assert uri in built.summary
    before = machine.calls
    again = machine.run("image", "image", _push())
    assert (again.ok, again.outputs, machine.calls) == (True, {"uri": uri}, before)
    assert again.steps == ["Look for the image", "Check the manifest's type"]


def test_a_manifest_that_sagemaker_refuses_fails_the_workflow(machine):
    machine.client("ecr").create_repository(repositoryName="easel-main")
    machine.environment["PUSHED"] = OCI_INDEX
    built = machine.run("image", "image", _push())
    assert not built.ok
    assert f"has a manifest of the type {OCI_INDEX}, which SageMaker refuses" in built.log


def test_nothing_is_built_before_there_is_a_repository(machine):
    built = machine.run("image", "image", _push())
    assert (built.ok, built.outputs, machine.calls) == (True, {"uri": ""}, [])
    assert "does not exist yet" in built.log


def test_what_aws_refuses_is_not_taken_for_a_missing_image(machine):
    # A name that ECR does not allow stands for every other error.
    contexts = _push()
    contexts["vars"] = {**VARIABLES, "EASEL_DEPLOYMENT": "a--b__"}
    machine.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    machine.environment["AWS_MAX_ATTEMPTS"] = "1"
    built = machine.run("image", "image", contexts)
    assert not built.ok
    assert "Could not connect" in built.log
    assert machine.calls == []


# Infrastructure


def _plan(machine, contexts):
    planned = machine.run("infrastructure", "plan", contexts)
    assert planned.ok, planned.log
    return planned


def _apply(machine, contexts):
    return machine.run("infrastructure", "apply", contexts)


def _status(machine):
    stacks = machine.client("cloudformation").describe_stacks()["Stacks"]
    return [stack["StackStatus"] for stack in stacks]


def test_a_pull_request_is_planned_in_a_comment_and_discarded_when_it_is_closed(machine):
    contexts = _pull_request("opened")
    planned = _plan(machine, contexts)
    change_set = planned.outputs["change-set"]
    assert change_set.startswith(ARN)
    assert planned.outputs["commit"] == "beef"
    assert "| Add | Bucket | AWS::S3::Bucket |" in planned.summary
    assert _status(machine) == ["REVIEW_IN_PROGRESS"]

    needs = {"plan": {"outputs": planned.outputs, "result": "success"}}
    assert machine.run("infrastructure", "comment", {**contexts, "needs": needs}).ok
    assert (machine.folder / "comment.md").read_text("utf-8").strip() == planned.summary.strip()
    assert _apply(machine, {**contexts, "needs": needs}) is None

    discarded = _plan(machine, _pull_request("closed"))
    assert discarded.steps == ["Install", "Discard the plan of a closed pull request"]
    assert _status(machine) == []


def test_a_forks_pull_request_is_not_planned(machine):
    assert machine.run("infrastructure", "plan", _pull_request("opened", "you/easel")) is None


def test_a_push_applies_exactly_what_was_planned_and_then_deploys(machine):
    planned = _plan(machine, _push())
    assert "waits for an approval in the environment `production`" in planned.summary
    needs = {"plan": {"outputs": planned.outputs, "result": "success"}}
    applied = _apply(machine, _push(needs=needs))
    assert applied.ok, applied.log
    assert _status(machine) == ["CREATE_COMPLETE"]
    (stack,) = machine.client("cloudformation").describe_stacks()["Stacks"]
    assert stack["RoleARN"] == VARIABLES["EASEL_STACK_ROLE"]

    done = {"apply": {"result": "success"}, "image": {"result": "success"}}
    done["image"]["outputs"] = {"uri": f"{REPOSITORY}:tag"}
    deployed = machine.run("infrastructure", "deploy", _push(needs=done))
    assert deployed.ok
    assert "Easel is at URL" in deployed.summary
    (call,) = [call for call in machine.calls if call.startswith("setup.sh")]
    options = "--model sd-turbo --weights fetch"
    assert call == f"setup.sh deploy --yes --name main --image {REPOSITORY}:tag {options}"

    # A second push without changes: there is nothing to apply, and it is deployed.
    planned = _plan(machine, _push())
    assert planned.outputs["change-set"] == ""
    assert "Nothing is changed by commit `c0ffee`." in planned.summary
    needs = {"plan": {"outputs": planned.outputs, "result": "success"}}
    applied = _apply(machine, _push(needs=needs))
    assert (applied.ok, applied.summary) == (True, "The infrastructure is not changed.\n")


def test_without_required_reviewers_a_person_applies_by_hand(machine):
    machine.environment["PROTECTION"] = "branch_policy"
    planned = _plan(machine, _push())
    change_set = planned.outputs["change-set"]
    assert f"gh workflow run infrastructure.yml -f change-set={change_set}" in planned.summary
    needs = {"plan": {"outputs": planned.outputs, "result": "success"}}
    assert _apply(machine, _push(needs=needs)) is None
    assert machine.run("infrastructure", "plan", _dispatch(change_set)) is None
    applied = _apply(machine, _dispatch(change_set))
    assert applied.ok, applied.log
    assert _status(machine) == ["CREATE_COMPLETE"]


def test_a_change_set_that_is_obsolete_or_unknown_or_malicious_is_refused(machine):
    planned = _plan(machine, _push()).outputs["change-set"]
    machine.client("cloudformation").delete_change_set(ChangeSetName=planned)
    refused = _apply(machine, _dispatch(planned))
    assert not refused.ok
    assert "Plan again, and apply the new change set." in refused.log
    refused = _apply(machine, _dispatch(f"{ARN}:x; touch {machine.folder}/owned; `id`"))
    assert not refused.ok
    assert not (machine.folder / "owned").exists()
    assert _status(machine) == ["REVIEW_IN_PROGRESS"]


def test_an_apply_that_fails_stops_the_workflow_before_anything_is_deployed(machine):
    planned = _plan(machine, _push())
    machine.client("s3").create_bucket(Bucket=f"easel-main-{ACCOUNT}-{REGION}")
    needs = {"plan": {"outputs": planned.outputs, "result": "success"}}
    applied = _apply(machine, _push(needs=needs))
    assert not applied.ok
    failed = {"apply": {"result": "failure"}, "image": {"result": "skipped"}}
    jobs = load("infrastructure")["jobs"]
    assert not holds(jobs["image"]["if"], _push(needs=failed))
    assert not holds(jobs["deploy"]["if"], _push(needs=failed))


def test_a_plan_that_fails_is_applied_by_nobody():
    jobs = load("infrastructure")["jobs"]
    failed = {"plan": {"result": "failure", "outputs": {}}}
    assert not holds(jobs["apply"]["if"], _push(needs=failed))
    assert yaml.safe_load(json.dumps(jobs["apply"]["environment"])) == "production"
