"""What the catalogue says of a deployed model, for the page."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from endpoint.aws.models import Models
from endpoint.catalogue import facts
from endpoint.catalogue import models as catalogue
from endpoint.catalogue.models import NONE


def of_deployed(
    models: Models, name: str, sagemaker_model: str, types: Iterable[str]
) -> dict[str, Any]:
    """Return the facts; nothing for a model that is not the catalogue's.

    Args:
        models: SageMaker's models.
        name: the model's name in requests.
        sagemaker_model: its name in SageMaker.
        types: the instance types that it can run on.
    """
    listed = catalogue.read().get(name)
    container = (models.find_model(sagemaker_model) or {}).get("PrimaryContainer", {})
    variables = container.get("Environment", {})
    # A folder can have the name of a model of the catalogue, but has no defaults in a variable.
    if listed is None or _defaults(variables.get("EASEL_DEFAULTS")) != listed.defaults:
        return {}
    return facts.for_page(replace(listed, quantise=variables.get("EASEL_QUANTISE", NONE)), types)


def _defaults(text: str | None) -> object:
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):  # somebody else's
        return None
