"""The shapes of requests and responses, as JSON Schema in the dialect of OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from chalicelib.auth.link_quota import MOST_PICTURES as MOST_LINKED
from chalicelib.auth.sessions import LONGEST_LINK, SHORTEST_LINK
from chalicelib.batch_runs.reading import LARGEST_FILE
from chalicelib.batch_runs.records import Status
from chalicelib.batches.automatic1111 import FIELDS, FORMATS
from chalicelib.batches.lines import URL
from chalicelib.batches.openai import IGNORED, QUALITIES
from chalicelib.description import KINDS
from chalicelib.dialects.batch import MOST_PICTURES
from chalicelib.dialects.openai_batches import PURPOSE, WINDOW
from chalicelib.generation import RULES, describe
from chalicelib.training import datasets
from chalicelib.training.training_request import MOST_PICTURES as MOST_TRAINED
from chalicelib.training_jobs import job
from chalicelib.training_jobs.state import STATES

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
BINARY: Schema = {"type": "string", "format": "binary"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
# Of any members; generators make a map of it.
OBJECT: Schema = {"type": "object", "additionalProperties": True}

# By what a report of usage sums up.
GROUPS = ("day", "key", "model", "link")
_ANY_MODEL = "A model; any other name means the default one."


def ref(name: str) -> Schema:
    """Return a reference to one of the schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def empty(value: Any) -> Schema:
    """Return the schema of a value that is always the same, with the types that it has."""
    if isinstance(value, list):
        return {"type": "array", "items": OBJECT, "maxItems": 0}
    if isinstance(value, dict):
        properties = {name: empty(each) for name, each in value.items()}
        return {**OBJECT, "properties": properties} if properties else OBJECT
    return TEXT


def listed(of: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": of}


def json_object(required: dict[str, Schema], **optional: Schema) -> Schema:
    """Return the schema of an object; it can have more properties than these."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": sorted(required),
    }


def optional(schema: Schema) -> Schema:
    """Return the schema of a field that can be left out, with its default in words.

    Generators such as openapi-typescript require a field that has a `default`.
    """
    schema = dict(schema)
    default = schema.pop("default", "")
    if default == "":
        return schema
    meaning = " ".join([schema.get("description", ""), f"The default is {default}."]).strip()
    return {**schema, "description": meaning}


def or_null(schema: Schema) -> Schema:
    """Return the schema or null; in a request null means that a field is unset."""
    schema = optional(schema)
    if "enum" in schema:
        # Generators cannot name null among the values of an enum.
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def schemas() -> dict[str, Schema]:
    """Return all schemas by name."""
    return {**_easel(), **_training(), **_openai(), **_batches(), **_web_ui(), **_problems()}


def _contract() -> dict[str, Schema]:
    described: dict[str, Schema] = describe()["properties"]
    return described


def _easel() -> dict[str, Schema]:
    fields = _contract()
    required = describe()["required"]
    request = {
        **describe(),
        "properties": {
            name: schema if name in required else or_null(schema) for name, schema in fields.items()
        },
    }
    defaults = {name: fields[name] for name in ("steps", "guidance_scale", "width", "height")}
    model = {
        "name": fields["model"],
        "asynchronous": {"type": "boolean"},
        "defaults": {"type": "object", "properties": defaults, "additionalProperties": False},
        "seconds": {"type": ["number", "null"], "description": "How long a picture takes."},
        "loras": listed(fields["model"]),
    }
    narrower = "The fields whose limits are narrower for this model; absent if there are none."
    limited = ("seed", "steps", "width", "height", "guidance_scale", "lora")
    limits = dict.fromkeys(limited, OBJECT)
    names = listed({"anyOf": [TEXT, listed(TEXT)]})  # a name, or a name and others for the same
    about = {"description": "What the model says about itself; absent if it says nothing."}
    described: dict[str, Schema] = {
        "largest_area": {
            **WHOLE,
            "description": "In pixels; larger pictures are painted smaller and scaled up.",
        },
        "limits": {
            "type": "object",
            "description": narrower,
            "properties": limits,
            "additionalProperties": False,
        },
        "backend": {
            **TEXT,
            "description": "What answers in its endpoint; absent for Easel's own container.",
        },
        "unsupported": {
            **listed(TEXT),
            "description": "The fields that its backend cannot carry out; refused by name.",
        },
        "formats": {
            **listed({"type": "string", "enum": fields["format"]["enum"]}),
            "description": "Of its pictures; the first is the default. Absent for all of them.",
        },
        "facts": {
            "type": "object",
            "description": "What the catalogue says of the model; absent if it says nothing.",
            "properties": {
                "title": TEXT,
                "licence": TEXT,
                "duties": {**TEXT, "description": "What the licence requires, in short."},
                "memory_gb": {**NUMBER, "description": "Of the GPU, in 10**9 bytes."},
                "usd_per_1000": {**NUMBER, "description": "Of pictures, on a busy instance."},
                "instance_types": listed(TEXT),
            },
        },
        "about": {**TEXT, **about},
        "examples": {**listed(TEXT), "description": "Example prompts."},
        "vocabulary": {
            "type": "object",
            "description": "The only words that the model knows; absent if it knows more.",
            "properties": dict.fromkeys(KINDS, names),
        },
    }
    options = {
        "fields": OBJECT,
        "models": listed(ref("Model")),
        "access": {"enum": ["open", "key"]},
        "training": {
            "type": ["object", "null"],
            "description": "What can be trained; null if nothing can.",
            "properties": {"models": listed(TEXT), "fields": OBJECT, "pictures": OBJECT},
        },
        "usage": {"type": "boolean", "description": "Whether what is used is recorded."},
    }
    invitation = {
        "pictures": or_null({**WHOLE, "minimum": 1, "maximum": MOST_LINKED, "default": 10}),
        "expires_in": optional(
            {**WHOLE, "minimum": SHORTEST_LINK, "maximum": LONGEST_LINK, "default": 86_400}
        ),
    }
    job = {
        "id": TEXT,
        "state": {"enum": ["waiting", "done", "failed", "expired"]},
        "waited_seconds": NUMBER,
        "request": ref("Request"),
        "url": TEXT,
        "image": TEXT,
    }
    unknown = {"type": ["number", "null"]}
    priced = {
        "model": TEXT,
        "seed": {**WHOLE, "type": ["integer", "null"]},
        "exists": {"type": "boolean", "description": "Whether it is stored, and costs nothing."},
        "seconds": unknown,
        "usd": unknown,
    }
    used = {"pictures": WHOLE, "gpu_seconds": NUMBER, "usd": NUMBER}
    row = {"day": TEXT, "key": TEXT, "link": TEXT, "model": TEXT, "kind": TEXT, **used}
    budget = {"key": TEXT, "usd_per_month": NUMBER, "spent_usd": NUMBER, "reserved_usd": NUMBER}
    usage = {
        "from": TEXT,
        "to": TEXT,
        **used,
        **{f"{name}s": listed(json_object({name: TEXT, **used})) for name in GROUPS},
        "rows": listed(json_object(row)),
        "owner": {"type": "boolean", "description": "Whether it is the usage of all keys."},
        "month": {
            **json_object({"month": TEXT, "usd": NUMBER, "cap_usd": unknown, "state": TEXT}),
            "type": ["object", "null"],
            "description": "What the endpoints have cost, and the cap; for an owner's key.",
        },
        "budgets": listed(json_object(budget)),
    }
    return {
        "DryRun": json_object(
            {"dry_run": {"const": True}, "usd": unknown, "pictures": listed(json_object(priced))}
        ),
        "Usage": json_object(usage),
        "Request": request,
        "Model": json_object(model, **described),
        "Options": json_object(options),
        "Key": json_object({"key": {**TEXT, "minLength": 1}}),
        "LinkRequest": {"type": "object", "properties": invitation, "additionalProperties": False},
        "Link": json_object({"url": TEXT, "expires": TEXT, "pictures": invitation["pictures"]}),
        "Sentence": json_object({"sentence": TEXT, "seed": fields["seed"]}),
        "Health": json_object({"status": TEXT, "version": TEXT, "models": listed(TEXT)}),
        "Job": json_object(job, error=json_object({"code": TEXT, "message": TEXT})),
    }


def _training() -> dict[str, Schema]:
    """Return the schemas of fine-tuning."""
    size = {**WHOLE, "minimum": 1, "maximum": datasets.LARGEST_PICTURE}
    file = {
        "type": "object",
        "properties": {
            "type": {**TEXT, "enum": [*datasets.PICTURES, *datasets.CAPTIONS]},
            "size": {**size, "description": "In bytes."},
            "caption_of": {
                **WHOLE,
                "minimum": 0,
                "description": "Of a caption: the index of its picture in the list.",
            },
        },
        "required": ["size", "type"],
        "additionalProperties": False,
    }
    upload = json_object({"name": TEXT, "url": TEXT, "fields": OBJECT})
    price = {
        "model": TEXT,
        "name": TEXT,
        "pictures": WHOLE,
        "steps": WHOLE,
        "seconds": json_object(dict.fromkeys(("low", "expected", "most"), NUMBER)),
        "cost": json_object(
            {**dict.fromkeys(("low", "expected", "most"), NUMBER), "currency": TEXT}
        ),
        "spot": {"type": "boolean"},
        "kohya": listed(json_object({"key": TEXT, "state": TEXT, "text": TEXT})),
    }
    short = {
        "id": TEXT,
        "name": TEXT,
        "model": TEXT,
        "state": {**TEXT, "enum": list(STATES)},
        "steps": WHOLE,
        "created": TEXT,
        "error": {"type": ["string", "null"]},
        "url": TEXT,
    }
    files = {"type": "array", "minItems": 1, "maxItems": 2 * MOST_TRAINED, "items": file}
    on_demand = _switch("Pay the full price, and do not wait for spot instances.")
    resume = {"on_demand": on_demand}
    words = ["Not Started", "Running", "Completed", "Failed"]
    return {
        "DataSetRequest": _closed({"files": files}, required=["files"]),
        "DataSet": json_object({"dataset": TEXT, "expires": TEXT, "uploads": listed(upload)}),
        "TrainingRequest": _training_request(on_demand),
        "StartedTraining": json_object({**price, **short}),
        "TrainingJobs": json_object({"jobs": listed(json_object(short))}),
        "TrainingJob": json_object({**short, **_watched()}),
        "TrainingStatus": json_object({"status": {**TEXT, "enum": words}}),
        "ResumeRequest": _closed(resume, required=[]),
    }


def _training_request(on_demand: Schema) -> Schema:
    fields = {
        name: or_null(schema)
        for name, schema in job.describe()["properties"].items()
        if name not in {"version", "usd_per_hour", "captions"}
    }
    fields |= {
        "dataset": {**TEXT, "description": "From `POST /datasets`."},
        "pictures": {
            **WHOLE,
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": MOST_TRAINED,
            "description": "With `dry_run`, in the place of `dataset`: how many there will be.",
        },
        "model": or_null({**TEXT, "description": "The first that can be trained by default."}),
        "captions": {
            "type": ["object", "null"],
            "description": "Captions by the name of a picture, such as 0001.",
            "additionalProperties": {**TEXT, "minLength": 1, "maxLength": 1_000},
            "maxProperties": MOST_TRAINED,
        },
        "kohya": or_null({**TEXT, "description": "A configuration file of sd-scripts, as TOML."}),
        "on_demand": on_demand,
        "dry_run": _switch("Only return the price: model, name, pictures, steps, seconds, cost."),
    }
    return {"type": "object", "properties": fields}


def _watched() -> dict[str, Schema]:
    """Return what is reported of one job, besides what a list says."""
    points = listed(listed(NUMBER))
    result = {"lora": TEXT, "prompt": TEXT, "url": TEXT}
    return {
        "step": WHOLE,
        "loss": {**points, "description": "Pairs of a step and its loss."},
        "validation": {**points, "description": "The same, on the same pictures and noise."},
        "curve": TEXT,
        "samples": listed(TEXT),
        "cost": json_object({"so_far": NUMBER, "most": NUMBER, "currency": TEXT}),
        "spot": {"type": "boolean"},
        "pictures": WHOLE,
        "attempt": WHOLE,
        "seconds_left": {"type": ["integer", "null"]},
        "result": {"type": ["object", "null"], "properties": result},
    }


def _closed(properties: dict[str, Schema], required: list[str]) -> Schema:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": required} if required else schema


def _switch(meaning: str) -> Schema:
    return {"type": ["boolean", "null"], "description": meaning}


def _openai() -> dict[str, Schema]:
    own: dict[str, Schema] = {
        "prompt": _contract()["prompt"],
        "model": or_null({**TEXT, "description": _ANY_MODEL}),
        "n": or_null({**WHOLE, "minimum": 1, "maximum": MOST_PICTURES}),
        "size": or_null({**TEXT, "pattern": "^(auto|[0-9]{1,5}x[0-9]{1,5})$"}),
        "quality": or_null({**TEXT, "enum": list(QUALITIES)}),
        "response_format": or_null({**TEXT, "enum": ["b64_json", "url"]}),
        "output_format": or_null(_contract()["format"]),
        "stream": {"type": ["boolean", "null"], "description": "Only false is supported."},
        "cfg": or_null(_contract()["guidance_scale"]),
    }
    contract = {
        name: or_null(schema)
        for name, schema in _contract().items()
        if name not in {*own, "format"}
    }
    data = json_object({}, seed=WHOLE, b64_json=TEXT, url=TEXT)
    return {
        "ImagesRequest": {
            "type": "object",
            "description": f"Accepted and ignored: {', '.join(sorted(IGNORED))}.",
            "properties": {**own, **contract},
            "required": ["prompt"],
            # No properties: of those a generator makes fields, of which none does anything.
            "patternProperties": {f"^({'|'.join(sorted(IGNORED))})$": {}},
            "additionalProperties": False,
        },
        "ImagesAnswer": json_object(
            {"created": WHOLE, "data": listed(data), "model": TEXT, "output_format": TEXT},
            size=TEXT,
            painted_size={
                **TEXT,
                "description": "The size that the model painted, if the picture was scaled up.",
            },
        ),
        "Models": json_object({"object": TEXT, "data": listed(ref("OpenAIModel"))}),
        "OpenAIModel": json_object({"id": TEXT, "object": TEXT}),
    }


def _batches() -> dict[str, Schema]:
    file = json_object(
        {
            **dict.fromkeys(("id", "object", "filename", "purpose", "status"), TEXT),
            **dict.fromkeys(("bytes", "created_at"), WHOLE),
        },
        upload_url={**TEXT, "description": "Where the content is to be PUT, for an hour."},
    )
    error = dict.fromkeys(("code", "message", "param"), or_null(TEXT))
    errors = json_object({"data": listed(json_object({**error, "line": or_null(WHOLE)}))})
    counts = json_object(dict.fromkeys(("total", "completed", "failed"), WHOLE))
    metadata = {"type": ["object", "null"], "additionalProperties": TEXT}
    texts = ("id", "object", "endpoint", "input_file_id", "completion_window")
    batch = json_object(
        {
            **dict.fromkeys(texts, TEXT),
            "status": {**TEXT, "enum": [str(status) for status in Status]},
            "created_at": WHOLE,
            "request_counts": counts,
        },
        **dict.fromkeys(("model", "output_file_id", "error_file_id"), or_null(TEXT)),
        errors={"anyOf": [errors, {"type": "null"}]},
        metadata=metadata,
    )

    def page(name: str) -> Schema:
        return json_object(
            {"object": TEXT, "data": listed(ref(name)), "has_more": {"type": "boolean"}}
        )

    purpose = {**TEXT, "enum": [PURPOSE]}
    request = {
        "input_file_id": TEXT,
        "endpoint": {**TEXT, "enum": [URL]},
        "completion_window": {**TEXT, "enum": [WINDOW]},
    }
    size = {**WHOLE, "minimum": 1, "maximum": LARGEST_FILE}
    sent = {"filename": TEXT, "bytes": size, "purpose": purpose}
    ignored = {
        "type": ["object", "null"],
        "additionalProperties": {"type": ["string", "integer"]},
        "description": "Accepted and ignored.",
    }
    return {
        "FileRequest": _closed({**sent, "expires_after": ignored}, list(sent)),
        "FileForm": json_object({"file": BINARY, "purpose": purpose}),
        "OpenAIFile": file,
        "OpenAIFiles": page("OpenAIFile"),
        "OpenAIDeleted": json_object({"id": TEXT, "object": TEXT, "deleted": {"type": "boolean"}}),
        "BatchRequest": _closed(
            {**request, "metadata": metadata, "output_expires_after": ignored}, list(request)
        ),
        "OpenAIBatch": batch,
        "OpenAIBatches": page("OpenAIBatch"),
    }


def _web_ui() -> dict[str, Schema]:
    # A number may be spelled as text, here as everywhere; a client needs one spelling of it.
    fields = {theirs: or_null(_contract()[ours]) for theirs, ours in FIELDS.items()}
    fields["seed"] |= {"minimum": -1, "description": "-1 is random."}
    counts = or_null({**WHOLE, "minimum": 1, "maximum": MOST_PICTURES})
    override = {
        "sd_model_checkpoint": or_null({**TEXT, "description": _ANY_MODEL}),
        "samples_format": or_null({**TEXT, "enum": list(FORMATS)}),
    }
    request = json_object(
        {"prompt": _contract()["prompt"]},
        **{name: each for name, each in fields.items() if name != "prompt"},
        batch_size=counts,
        n_iter=counts,
        override_settings={"type": ["object", "null"], "properties": override},
    )
    response = {
        "images": listed({**TEXT, "contentEncoding": "base64"}),
        "parameters": OBJECT,
        "info": {**TEXT, "contentMediaType": "application/json"},
    }
    checkpoint = {"title": TEXT, "model_name": TEXT, "filename": TEXT}
    return {
        "Txt2ImgRequest": request,
        "Txt2ImgAnswer": json_object(response),
        "WebUIOptions": json_object({"sd_model_checkpoint": TEXT}),
        "WebUISettings": OBJECT,
        "Checkpoints": listed(json_object(checkpoint)),
        "Named": listed(json_object({"name": TEXT})),
        "Progress": json_object({"progress": NUMBER, "state": OBJECT}),
    }


def _problems() -> dict[str, Schema]:
    optional = {"field": TEXT, "retry_after": WHOLE}
    easel = json_object({"code": TEXT, "message": TEXT, "request_id": TEXT}, **optional)
    openai = json_object(
        {"message": TEXT, "type": TEXT, "param": {"type": ["string", "null"]}, "code": TEXT}
    )
    place = json_object({"loc": listed(TEXT), "msg": TEXT, "type": TEXT})
    return {
        "Problem": json_object({"error": easel}),
        "OpenAIProblem": json_object({"error": openai}),
        "WebUIProblem": json_object({"error": TEXT, "detail": TEXT, "errors": TEXT}),
        "WebUIBadField": json_object({"detail": listed(place)}),
        "ApiGatewayProblem": json_object({"message": TEXT}),
    }


def query_parameters() -> list[Schema]:
    """Return the contract's fields, but for the prompt, as parameters of a query."""
    return [
        {
            "name": name,
            "in": "query",
            "description": RULES[name].meaning,
            # An empty value means the same as none: HTML forms send it.
            "allowEmptyValue": True,
            "schema": optional(schema),
        }
        for name, schema in _contract().items()
        if name != "prompt"
    ]
