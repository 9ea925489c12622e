"""The way of a picture: from what a visitor asked for to the bytes that answer it."""

from __future__ import annotations

import secrets

from chalicelib.answers import Answer, head_answer, picture_answer, prefetch_answer
from chalicelib.deadline import Deadline
from chalicelib.errors import InvalidRequest
from chalicelib.generation import GenerationRequest, InvalidField
from chalicelib.sagemaker import Endpoint, Runtime
from chalicelib.settings import Settings
from chalicelib.visits import Visit


class Painter:
    """Paints for visitors with the models on offer."""

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        self._settings = settings
        self._runtime = runtime

    def paint(self, visit: Visit, prompt: str, seed: int | None = None) -> Answer:
        """Answer with the picture of `prompt`, made as the visit's parameters say.

        Args:
            visit: its query holds the contract's other fields.
            prompt: what to paint, as typed.
            seed: what to use where the query leaves the seed open; any, if this does too.

        Raises:
            GatewayError: if the request is not valid, or no picture came of it.
        """
        request = self._complete(read_request(visit, prompt), seed)
        self._note(visit, request)
        if visit.is_prefetch:
            return prefetch_answer()
        if visit.method == "HEAD":
            return head_answer(request.format)
        # A URL that names its seed is one picture for ever.
        return picture_answer(
            self._ask(visit, request), request, fixed=any(visit.query.get("seed", ()))
        )

    def _complete(self, request: GenerationRequest, seed: int | None) -> GenerationRequest:
        seed = random_seed() if seed is None else seed
        request = request.complete(seed=seed, model=self._settings.default_model)
        if request.model not in self._settings.models:
            offered = ", ".join(self._settings.models)
            raise InvalidRequest(f"model: must be one of {offered}", field="model")
        return request

    def _note(self, visit: Visit, request: GenerationRequest) -> None:
        visit.notes.update(request.to_dict())
        if not self._settings.log_prompts:
            del visit.notes["prompt"], visit.notes["negative_prompt"]

    def _ask(self, visit: Visit, request: GenerationRequest) -> bytes:
        model = self._settings.models[str(request.model)]
        deadline = Deadline(visit.arrived + self._settings.deadline_seconds)
        before = visit.elapsed
        try:
            endpoint = Endpoint(self._runtime, model.endpoint)
            body = endpoint.invoke(request, deadline, trace=visit.request_id)
            visit.notes["bytes"] = len(body)
            return body
        finally:
            visit.notes["endpoint_milliseconds"] = round((visit.elapsed - before) * 1_000, 1)


def read_request(visit: Visit, prompt: str) -> GenerationRequest:
    """Return the request that the query's parameters and `prompt` make.

    Raises:
        InvalidRequest: for the first field that is wrong.
    """
    parameters = visit.parameters()
    if "prompt" in parameters:
        raise InvalidRequest("prompt: stands in the path, not in the query", field="prompt")
    try:
        return GenerationRequest.from_query({**parameters, "prompt": prompt})
    except InvalidField as error:
        raise InvalidRequest(str(error), field=error.field) from error


def random_seed() -> int:
    """Return any seed of the contract's, each as likely as the next."""
    return secrets.randbelow(2**32)
