"""The commits of repositories that the catalogue could not pin.

`create` asks the hub for the newest one. The container's variables keep it, and with it every later
`create` of the deployment, so that its weights stay the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from endpoint.catalogue.models import Model, Repository
from endpoint.cli.context import Context
from endpoint.core.problems import AGAIN, UploadFailed

AskCommit = Callable[[str], str]
_SECONDS = 10


def pin(context: Context, model: Model, ask: AskCommit | None = None) -> Model:
    """Return the model with a commit for each of its repositories.

    Args:
        context: the deployment.
        model: a model.
        ask: returns the newest commit of a repository; replaces the hub.

    Raises:
        UploadFailed: if the hub does not answer.
    """
    model = recorded(context, model)
    # A dry run asks nothing of the hub.
    if context.dry_run:
        return model
    return _with(model, lambda at, _: _newest(at, ask or newest_commit))


def recorded(context: Context, model: Model) -> Model:
    """Return the model with the commits that an earlier `create` of the deployment recorded."""
    if all(at.revision for at in model.repositories.values()):
        return model
    endpoint = context.deployment.endpoint(model.name)
    variables: dict[str, str] = {}
    for item in context.models.models(endpoint):  # the newest is first
        if context.deployment.is_version_of(item["ModelName"], model.name):
            found = context.models.find_model(item["ModelName"]) or {}
            variables = found.get("PrimaryContainer", {}).get("Environment", {})
            break

    def known(at: Repository, name: str) -> Repository:
        same = variables.get(f"{name}_ID") == at.name
        commit = variables.get(f"{name}_REVISION") if same else None
        return replace(at, revision=commit, recorded=True) if commit else at

    return _with(model, known)


def _with(model: Model, commit: Callable[[Repository, str], Repository]) -> Model:
    """Return the model with `commit` applied to the repositories that have no revision."""
    new = {
        name: commit(at, name) if at.revision is None else at
        for name, at in model.repositories.items()
    }
    quantised = dict(model.quantised)
    if "EASEL_QUANTISED" in new:
        quantised[model.quantise] = new["EASEL_QUANTISED"]
    return replace(
        model,
        source=new.get("EASEL_MODEL"),
        refiner=new.get("EASEL_REFINER"),
        lora=new.get("EASEL_MERGED_LORA"),
        quantised=quantised,
    )


def _newest(at: Repository, ask: AskCommit) -> Repository:
    try:
        return replace(at, revision=ask(at.name), recorded=True)
    except Exception as error:  # the hub library documents no set of errors
        raise UploadFailed(
            f"The commit of {at.name} is not known, and the hub did not answer: {str(error)[:120]}",
            f"Check the network, and that the repository exists. {AGAIN}",
        ) from error


def newest_commit(repository: str) -> str:
    """Return the newest commit of a repository; raises what huggingface_hub raises."""
    import huggingface_hub  # slow to import, and needed here only

    info = huggingface_hub.HfApi().model_info(repository, timeout=_SECONDS)
    return str(info.sha)
