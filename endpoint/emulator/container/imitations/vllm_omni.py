"""AWS's image of vLLM-Omni: its images API behind SageMaker's one path.

Follows vllm_omni/entrypoints/openai/{protocol/images.py,api_server.py,image_api_utils.py,utils.py}
of vllm-omni 0.26.0, the error handlers of vllm/entrypoints/serve/utils/server_utils.py, and
scripts/docker/vllm/{omni_sagemaker_serve.py,sagemaker_args.py} of aws/deep-learning-containers, all
Apache-2.0. Left out: other routes, edits, layered and multi-stage models.
"""

from __future__ import annotations

import base64
import io
import json
import re
import secrets
import time
import uuid
import zipfile
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any

from PIL import Image
from pydantic import BaseModel, Field, ValidationError, field_validator

from endpoint.emulator.container.imitations.images import Generate, ImageRequest, encoded
from endpoint.emulator.container.toolkit import JSON, Response

ROUTE = "/v1/images/generations"
ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
# In omni_sagemaker_serve.py: anywhere in the attributes, up to white space or a comma.
_ROUTE = re.compile(r"route=(/[^\s,]+)")
_SETTING = "SM_VLLM_"
_MODEL_FOLDER = "/opt/ml/model"
# `num_inference_steps or ...` in diffusion/models/*/pipeline_*.py.
_DEFAULT_STEPS = 50
_DEFAULT_STEPS_OF = {"flux.1": 28, "stable-diffusion-3": 28, "krea-2": 28}
# vae_scale_factor * 2 in the same files.
_SIZE_STEP = 16
# FLUX.2 klein and ERNIE-Image log a warning and round sizes down; Z-Image raises.
_REFUSES_SIZES = "z-image"
_SEEDS = 2**32
# Of image_api_utils.py: compression 100, which for PNG is level 0.
_ENCODING: Mapping[str, tuple[str, dict[str, int]]] = {
    "png": ("image/png", {"compress_level": 0}),
    "jpg": ("image/jpeg", {"quality": 100}),
    "jpeg": ("image/jpeg", {"quality": 100}),
    "webp": ("image/webp", {"quality": 100}),
}
_SYSTEM_PROMPTS = ("dynamic", "en_vanilla", "en_recaption", "en_think_recaption", "en_unified")


class ResponseFormat(StrEnum):
    """`url` is there to be refused."""

    B64_JSON = "b64_json"
    URL = "url"
    FILE = "file"


class ImagesRequest(BaseModel):
    """The body's fields and limits; pydantic ignores unknown fields, and so does the server."""

    prompt: str
    bot_task: str | None = None
    model: str | None = None
    n: Annotated[int, Field(ge=1, le=10)] = 1
    size: str | None = None
    response_format: ResponseFormat = ResponseFormat.B64_JSON
    user: str | None = None
    layers: int | None = None
    negative_prompt: str | None = None
    system_prompt: str | None = None
    use_system_prompt: str | None = None
    num_inference_steps: Annotated[int | None, Field(ge=1, le=200)] = None
    guidance_scale: Annotated[float | None, Field(ge=0.0, le=20.0)] = None
    true_cfg_scale: Annotated[float | None, Field(ge=0.0, le=20.0)] = None
    flow_shift: float | None = None
    extra_params: dict[str, Any] | None = None
    seed: int | None = None
    generator_device: str | None = None
    lora: dict[str, Any] | None = None
    vae_use_slicing: bool | None = False
    vae_use_tiling: bool | None = False
    output_format: str | None = None

    @field_validator("size")
    @classmethod
    def _has_an_x(cls, value: str | None) -> str | None:
        if value is not None and "x" not in value:
            raise ValueError("size must be in format 'WIDTHxHEIGHT' (e.g., '1024x1024')")
        return value

    @field_validator("response_format")
    @classmethod
    def _is_no_url(cls, value: ResponseFormat) -> ResponseFormat:
        if value is ResponseFormat.URL:
            raise ValueError(
                "Only 'b64_json' or 'file' response format is supported, got: ResponseFormat.URL"
            )
        return value

    @field_validator("layers")
    @classmethod
    def _has_few_layers(cls, value: int | None) -> int | None:
        if value is not None and not 2 <= value <= 10:
            raise ValueError(
                f"Invalid layers value {value}. layers must be between 2 and 10 inclusive."
            )
        return value

    @field_validator("use_system_prompt")
    @classmethod
    def _is_a_known_kind(cls, value: str | None) -> str | None:
        if value is not None and value not in (*_SYSTEM_PROMPTS, "custom"):
            names = [*_SYSTEM_PROMPTS, "custom", None]
            raise ValueError(f"Invalid use_system_prompt type: {value}. Must be one of: {names}")
        return value


class _Refused(Exception):
    """An error as the server's handlers render it."""

    def __init__(self, status: int, message: str, param: str | None = None, kind: str = "") -> None:
        self.status = status
        self.error: dict[str, Any] = {
            "message": message,
            "type": kind or HTTPStatus(status).phrase,
            "param": param,
            "code": status,
        }
        super().__init__(message)


class VllmOmni:
    """A server of one diffusion model.

    Args:
        generate: makes the images.
        environment: the container's; SM_VLLM_MODEL or HF_MODEL_ID names the model, and other
            SM_VLLM_* variables are options of the server.
        has_model_data: whether SageMaker has put files into /opt/ml/model.
        names_fields: whether validation errors have a `param`, as those of vLLM since 2026 do.
    """

    def __init__(
        self,
        generate: Generate,
        environment: Mapping[str, str],
        *,
        has_model_data: bool = False,
        names_fields: bool = True,
    ) -> None:
        self._generate, self._names_fields = generate, names_fields
        fallback = _MODEL_FOLDER if has_model_data else environment.get("HF_MODEL_ID", "")
        self._model = environment.get(f"{_SETTING}MODEL") or fallback
        self._served_name = environment.get(f"{_SETTING}SERVED_MODEL_NAME") or self._model
        self._largest = environment.get(f"{_SETTING}MAX_GENERATED_IMAGE_SIZE")

    def answer(self, headers: Mapping[str, str], body: bytes) -> Response:
        """Respond to `POST /invocations`."""
        lowered = {name.lower(): value for name, value in headers.items()}
        try:
            self._check_route(lowered.get(ATTRIBUTES, ""))
            return self._images(self._read(lowered.get("content-type", ""), body))
        except _Refused as refusal:
            content = json.dumps({"error": refusal.error}).encode()
            return Response(refusal.status, {"content-type": JSON}, content)

    def _check_route(self, attributes: str) -> None:
        route = _ROUTE.search(attributes)
        if route is None:
            # vLLM's own /invocations looks for chat, completion and embedding requests.
            raise _Refused(
                400,
                "Cannot find suitable handler for request. Expected one of: []",
                kind="BadRequestError",
            )
        if route[1] != ROUTE:
            raise _Refused(404, "Not Found")

    def _read(self, content_type: str, body: bytes) -> ImagesRequest:
        if content_type.lower().split(";", maxsplit=1)[0] != JSON:
            raise self._invalid(["Unsupported Media Type: Only 'application/json' is allowed"])
        try:
            # FastAPI lets pydantic read attributes, too.
            return ImagesRequest.model_validate(json.loads(body), from_attributes=True)
        except json.JSONDecodeError as error:
            place = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error"}
            raise self._invalid([{**place, "input": {}, "ctx": {"error": error.msg}}]) from error
        except ValidationError as error:
            listed = [
                {**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)
            ]
            raise self._invalid(listed) from error

    def _invalid(self, errors: list[Any]) -> _Refused:
        """Return the 400 by which vLLM replaces FastAPI's 422."""
        places = errors[0]["loc"] if isinstance(errors[0], dict) else ()
        param = ".".join(map(str, places)) or None
        title = f"{len(errors)} validation error{'s' if len(errors) > 1 else ''}"
        lines = "\n".join(f"  {error}" for error in errors)
        return _Refused(400, f"{title}:\n{lines}", param if self._names_fields else None)

    def _images(self, request: ImagesRequest) -> Response:
        if request.model is not None and request.model != self._served_name:
            raise _Refused(
                400,
                f"Model mismatch: request specifies '{request.model}' but server is running"
                f" '{self._served_name}'.",
            )
        lora = _lora(request.lora)
        width, height = self._size(request.size)
        wanted = ImageRequest(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            width=width,
            height=height,
            steps=request.num_inference_steps or self._default_steps(),
            guidance_scale=request.guidance_scale,
            # A random seed, which the response does not have.
            seed=secrets.randbelow(_SEEDS) if request.seed is None else request.seed,
            lora=lora,
        )
        if not request.prompt.strip():
            raise _failed("`prompt` cannot be empty or whitespace-only.")
        try:
            images = [self._generate(wanted) for _ in range(request.n)]
        except Exception as error:
            raise _failed(str(error)) from error
        return _response(images, request)

    def _default_steps(self) -> int:
        name = self._model.lower()
        return next(
            (steps for part, steps in _DEFAULT_STEPS_OF.items() if part in name), _DEFAULT_STEPS
        )

    def _size(self, size: str | None) -> tuple[int | None, int | None]:
        if not size:
            return None, None
        width, height = _parsed_size(size)
        if self._largest is not None and width * height > int(self._largest):
            raise _Refused(
                400,
                f"Requested image size {width}x{height} exceeds the maximum allowed size of"
                f" {self._largest} pixels. You can reduce the requested size or increase the"
                " server's --max-generated-image-size limit.",
            )
        if _REFUSES_SIZES in self._model.lower():
            for name, pixels in (("height", height), ("width", width)):
                if pixels % _SIZE_STEP:
                    raise _failed(
                        f"{name.title()} must be divisible by {_SIZE_STEP} (got {pixels})."
                        f" Please adjust the {name} to a multiple of {_SIZE_STEP}."
                    )
        return width - width % _SIZE_STEP, height - height % _SIZE_STEP


def _failed(message: str) -> _Refused:
    """Return the error for whatever goes wrong in the engine."""
    failed = _Refused(500, message, kind="InternalServerError")
    failed.error |= {"request_id": f"img_gen-{uuid.uuid4().hex}", "error_stage_id": None}
    return failed


def _parsed_size(size: str) -> tuple[int, int]:
    parts = size.split("x")
    if len(parts) != 2:
        raise _Refused(
            400,
            f"Invalid size format: '{size}'. Expected format: 'WIDTHxHEIGHT' (e.g., '1024x1024')."
            " Did you mean to use 'x' as separator?",
        )
    try:
        width, height = int(parts[0]), int(parts[1])
    except ValueError as error:
        raise _Refused(
            400, f"Invalid size format: '{size}'. Width and height must be integers."
        ) from error
    if width <= 0 or height <= 0:
        raise _Refused(
            400, f"Invalid size: {width}x{height}. Width and height must be positive integers."
        )
    return width, height


def _lora(fields: dict[str, Any] | None) -> tuple[str, float] | None:
    """Return an adapter's path and weight from the names that utils.py knows for them."""
    if fields is None:
        return None
    name = fields.get("name") or fields.get("lora_name") or fields.get("adapter")
    paths = ("local_path", "path", "lora_path", "lora_local_path")
    path = next((fields[key] for key in paths if fields.get(key)), None)
    if not name or not path:
        raise _Refused(400, "Invalid lora object: both name and path are required.")
    scale = fields.get("scale")
    scale = fields.get("lora_scale") if scale is None else scale
    try:
        weight = 1.0 if scale is None else float(scale)
    except ValueError as error:
        raise _Refused(400, str(error)) from error
    # The engine deactivates all adapters at weight 0.
    return (str(path), weight) if weight else None


def _response(images: list[Image.Image], request: ImagesRequest) -> Response:
    chosen = (request.output_format or "png").lower()
    # Any other name is a JPEG, without a word.
    chosen = chosen if chosen in _ENCODING else "jpeg"
    media_type, options = _ENCODING[chosen]
    kind = "jpeg" if chosen == "jpg" else chosen
    files = [encoded(image, kind, **options) for image in images]
    if request.response_format is ResponseFormat.FILE:
        return _files(files, chosen, media_type)
    content: dict[str, Any] = {
        "created": int(time.time()),
        "data": [
            {"b64_json": base64.b64encode(file).decode(), "url": None, "revised_prompt": None}
            for file in files
        ],
        "output_format": chosen,
        "size": request.size,
        "cot_output": None,
        "metrics": {"stage_durations": None, "peak_memory_mb": None},
    }
    return Response(200, {"content-type": JSON}, json.dumps(content).encode())


def _files(files: list[bytes], extension: str, media_type: str) -> Response:
    if len(files) == 1:
        name = f"image_{uuid.uuid4().hex[:8]}.{extension}"
        disposition = f'attachment; filename="{name}"'
        headers = {"content-type": media_type, "content-disposition": disposition}
        return Response(200, headers, files[0])
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for number, file in enumerate(files):
            packed.writestr(f"image_{number}.{extension}", file)
    disposition = f'attachment; filename="images_{uuid.uuid4().hex[:8]}.zip"'
    headers = {"content-type": "application/zip", "content-disposition": disposition}
    return Response(200, headers, archive.getvalue())
