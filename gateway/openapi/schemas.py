"""The shapes of requests and responses, as JSON Schema in the dialect of OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from chalicelib.auth.link_quota import MOST_PICTURES as MOST_LINKED
from chalicelib.auth.sessions import LONGEST_LINK, SHORTEST_LINK
from chalicelib.description import KINDS
from chalicelib.dialects.automatic1111 import FIELDS, FORMATS
from chalicelib.dialects.batch import MOST_PICTURES
from chalicelib.dialects.openai import IGNORED, QUALITIES
from chalicelib.generation import RULES, describe

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
BINARY: Schema = {"type": "string", "format": "binary"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
# Of any members; generators make a map of it.
OBJECT: Schema = {"type": "object", "additionalProperties": True}

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
    return {**_easel(), **_openai(), **_web_ui(), **_problems()}


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
    limits = dict.fromkeys(("seed", "steps", "width", "height"), OBJECT)
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
    return {
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
    data = json_object({"seed": WHOLE}, b64_json=TEXT, url=TEXT)
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
