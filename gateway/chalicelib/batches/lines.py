"""A file of many requests: prompts as text, a table with a header, or JSON lines.

    .txt     a prompt a line, or a line of options such as `--prompt a cat --steps 20`, as the
             script "Prompts from file or textbox" of AUTOMATIC1111's web UI has them
    .csv     a header with the names of fields, one of them `prompt`
    .jsonl   OpenAI's batch lines (custom_id, method, url, body), or the fields themselves

A file is either read as a whole or refused as a whole, with the numbers of its wrong lines. The
seeds are fixed here, so that a file that is read again asks for the same pictures.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import automatic1111, openai
from .fields import GenerationRequest, InvalidField, Name, Whole
from .values import read_whole

# Of OpenAI's batches: https://platform.openai.com/docs/api-reference/batch/create
MOST_LINES = 50_000
LARGEST_FILE = 200_000_000  # bytes
MOST_PICTURES = 50_000  # of all lines together
SUFFIXES = (".txt", ".csv", ".jsonl")
URL = "/v1/images/generations"
# After so many wrong lines the rest is not read.
_MOST_FAULTS = 20
_COUNT = Whole("How many pictures of one line.", 1, 100)
_MOST_SEEDS = 2**32
_LONGEST_ID = 512
_RESERVED = {"results", "contact-sheet"}
_OPENAI_LINE = {"custom_id", "method", "url", "body"}
# What tables and flat lines may call the fields of OpenAI's API.
_ALSO = {
    "format": "output_format",
    "batch_size": "n",
    **{theirs: ours for theirs, ours in automatic1111.FIELDS.items() if theirs != ours},
}


@dataclass(frozen=True)
class Picture:
    """One picture of a line.

    Attributes:
        name: of its file, without the ending; no other picture of the batch has it, whatever the
            case of its letters.
        request: complete with a seed, unless its model takes none, and a format.
    """

    name: str
    request: GenerationRequest

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.{self.request.file_format}"

    @property
    def digest(self) -> str:
        """24 hexadecimal digits that depend on the request alone."""
        return _digest(self.request.to_dict())


@dataclass(frozen=True)
class ModelFacts:
    """What the lines of a model depend on.

    Attributes:
        steps: its own number, for OpenAI's `quality`, if that is known.
        format: of pictures whose lines name none.
        repeats: whether it takes a seed.
        step: the pixels of which its sides are a multiple.
    """

    steps: int | None = None
    format: str = "png"
    repeats: bool = True
    step: int = openai.side_step({})


# Of the model that a line names.
_FactsOf = Callable[[object], ModelFacts]


@dataclass(frozen=True)
class Line:
    """A line of the file.

    Attributes:
        number: of the line, counted from 1; of a table, where the row begins.
        custom_id: the line's own, or its number with at least four digits.
        pictures: at least one; their seeds count up.
    """

    number: int
    custom_id: str
    pictures: tuple[Picture, ...]

    @property
    def digest(self) -> str:
        """24 hexadecimal digits that depend on the requests alone."""
        return _digest([picture.request.to_dict() for picture in self.pictures])


@dataclass(frozen=True)
class Fault:
    """What is wrong with a line.

    Attributes:
        number: of the line; 0 for the file.
        reason: without the line's number.
        field: as the file spells it, if it is about one.
    """

    number: int
    reason: str
    field: str | None = None

    def __str__(self) -> str:
        where = f"line {self.number}: " if self.number else ""
        return f"{where}{self.field}: {self.reason}" if self.field else f"{where}{self.reason}"


class FileRefused(Exception):
    """The file cannot be used.

    Attributes:
        faults: at least one, by the number of the line.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


@dataclass(frozen=True)
class _Asked:
    """A line before its seed and the names of its pictures are known."""

    request: GenerationRequest
    count: int = 1
    custom_id: str | None = None
    model: str | None = None
    quality: str = "auto"


def read_file(
    suffix: str,
    content: bytes,
    models: Sequence[str],
    facts: Mapping[str, ModelFacts] | None = None,
) -> list[Line]:
    """Return the lines of a file.

    Args:
        suffix: of its name, such as `.csv`.
        content: UTF-8, with or without a byte order mark.
        models: that are offered, at least one; the first is the default, and also the model of a
            line that names one of OpenAI's.
        facts: about the models, as far as they differ from the defaults.

    Raises:
        FileRefused: with the first 20 faults.
    """
    facts = facts or {}
    asked, faults = _read_all(suffix, _decoded(suffix, content), models, facts)
    faults += _repeated(asked)
    if not asked and not faults:
        faults.append(Fault(0, "the file has no prompts"))
    if sum(one.count for _, one in asked) > MOST_PICTURES:
        faults.append(Fault(0, f"the file asks for more than {MOST_PICTURES:,} pictures"))
    if faults:
        raise FileRefused(sorted(faults, key=lambda fault: fault.number)[:_MOST_FAULTS])
    return _named(asked, facts)


def _read_all(
    suffix: str, text: str, models: Sequence[str], facts: Mapping[str, ModelFacts]
) -> tuple[list[tuple[int, _Asked]], list[Fault]]:
    """Return what the lines ask for, by their numbers, and the first faults."""
    split, read = _FORMATS[suffix]

    def facts_of(model: object) -> ModelFacts:
        return facts.get(_offered(model, models), ModelFacts())

    asked: list[tuple[int, _Asked]] = []
    faults: list[Fault] = []
    for number, line in split(text):
        if len(asked) == MOST_LINES:
            faults.append(Fault(number, f"a file has at most {MOST_LINES:,} lines"))
            break
        try:
            asked.append((number, _with_model(read(line, facts_of), models, facts_of)))
        except InvalidField as error:
            faults.append(Fault(number, error.reason, error.field or None))
        except ValueError as error:
            faults.append(Fault(number, str(error)))
        if len(faults) == _MOST_FAULTS:
            break
    return asked, faults


def read_lines(content: bytes) -> list[Line]:
    """Read what `to_jsonl` has written."""
    rows = [json.loads(row) for row in content.decode().splitlines()]
    return [
        Line(
            row["line"],
            row["custom_id"],
            tuple(
                Picture(name, GenerationRequest.from_dict(request))
                for name, request in row["pictures"].items()
            ),
        )
        for row in rows
    ]


def to_jsonl(lines: Iterable[Line]) -> bytes:
    """Return lines as JSON, one a line, with everything that `read_lines` needs."""
    rows = (
        {
            "line": line.number,
            "custom_id": line.custom_id,
            "pictures": {picture.name: picture.request.to_dict() for picture in line.pictures},
        }
        for line in lines
    )
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


def _decoded(suffix: str, content: bytes) -> str:
    if suffix not in SUFFIXES:
        raise FileRefused([Fault(0, f"the file's name must end in {', '.join(SUFFIXES)}")])
    if len(content) > LARGEST_FILE:
        raise FileRefused([Fault(0, f"a file has at most {LARGEST_FILE:,} bytes")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise FileRefused([Fault(number, "is not UTF-8 text; save the file as UTF-8")]) from error


# --- The three formats: how a file is split, and how one of its lines is read ---------------------


def _text_lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        # `splitlines` also ends a line at characters that prompts may contain.
        if line.strip():
            yield number, line.strip()


def _rows(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    number = 1  # where the row begins
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise FileRefused([Fault(number, f"the row cannot be read: {error}")]) from error
        if row is None:
            return
        if not header:
            header = _header(number, row)
        elif any(cell.strip() for cell in row):
            yield number, _cells(header, row)
        number = rows.line_num + 1


def _header(number: int, row: list[str]) -> list[str]:
    names = [cell.strip() for cell in row]
    while names and not names[-1]:  # of a spreadsheet's empty columns
        names.pop()
    if "prompt" not in names:
        reason = "the first row must have the names of the fields, one of them prompt"
        raise FileRefused([Fault(number, reason)])
    for name in names:
        if names.count(name) > 1:
            raise FileRefused([Fault(number, f"the column {name or 'without a name'!r} is there"
                                     " twice")])  # fmt: skip
    return names


def _cells(header: list[str], row: list[str]) -> dict[str, str]:
    """Return the cells that are not empty; what is beyond the header has the name ""."""
    cells = {"": " ".join(row[len(header) :]), **dict(zip(header, row, strict=False))}
    return {name: cell.strip() for name, cell in cells.items() if cell.strip()}


# --- A line of text -------------------------------------------------------------------------------


def _of_prompt(line: str, _: _FactsOf) -> _Asked:
    if not line.startswith("--"):
        # The web UI makes all of it the prompt, options too, which nobody wants painted.
        late = re.search(r"(?<!\S)--(\w+)", line)
        if late and late[1] in automatic1111.OPTIONS:
            raise InvalidField(
                f"--{late[1]}", "comes after the prompt; begin the line with --prompt"
            )
        return _Asked(automatic1111.read_generation({"prompt": line}))
    options = _options(line)
    try:
        automatic1111.refuse(options)
        request = automatic1111.read_generation(options)
        counts = [
            read_whole(options.get(name, 1), name, _COUNT) for name in ("batch_size", "n_iter")
        ]
        count = read_whole(counts[0] * counts[1], "n_iter", _COUNT)
    except InvalidField as error:
        raise InvalidField(f"--{error.field}", error.reason) from error
    return _Asked(request, count, model=options.get("sd_model"))


def _options(line: str) -> dict[str, str]:
    """Return the options of a line, as the web UI splits them: prompts need no quotes."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        reason = f"{str(error).lower()}; write \\' and \\\" for quotation marks in a prompt"
        raise ValueError(reason) from error
    options: dict[str, str] = {}
    place = 0
    while place < len(words):
        option, name = words[place], words[place][2:]
        if name not in automatic1111.OPTIONS:
            raise InvalidField(option, "is not an option; the web UI would paint it as text")
        if name in options:
            raise InvalidField(option, "is there twice")
        end = place + 2
        if name in {"prompt", "negative_prompt"}:
            while end < len(words) and not words[end].startswith("--"):
                end += 1
        if place + 1 >= len(words):
            raise InvalidField(option, "has no value")
        options[name] = " ".join(words[place + 1 : end])
        place = end
    return options


# --- A row of a table, and a line of JSON ---------------------------------------------------------


def _of_row(cells: dict[str, str], facts_of: _FactsOf) -> _Asked:
    if "" in cells:
        raise ValueError("has more cells than the header; put text with commas in quotes")
    return _of_fields(cells, facts_of)


def _of_json(line: str, facts_of: _FactsOf) -> _Asked:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("is not JSON") from error
    if not isinstance(data, dict):
        raise ValueError("is not a JSON object")
    return _of_fields(_body(data) if "body" in data else data, facts_of)


def _body(data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of one of OpenAI's batch lines."""
    for name in data:
        if name not in _OPENAI_LINE:
            raise InvalidField(name, f"is not a field; there are {', '.join(sorted(_OPENAI_LINE))}")
    if data.get("method", "POST") != "POST":
        raise InvalidField("method", "must be POST")
    if str(data.get("url", URL)).removeprefix("/api") != URL:
        raise InvalidField("url", f"must be {URL}")
    if data.get("custom_id") is None:
        raise InvalidField("custom_id", "is missing")
    if not isinstance(data["body"], dict):
        raise InvalidField("body", "must be an object")
    return {**data["body"], "custom_id": data["custom_id"]}


def _of_fields(data: Mapping[str, Any], facts_of: _FactsOf) -> _Asked:
    fields = dict(data)
    if "id" in fields and "custom_id" in fields:
        raise InvalidField("id", "is the same as custom_id; keep one of them")
    identifier = fields.pop("custom_id", fields.pop("id", None))
    for also, name in _ALSO.items():
        if also in fields:
            if name in fields:
                raise InvalidField(also, f"is the same as {name}; keep one of them")
            fields[name] = fields.pop(also)
    if fields.get("seed") in (-1, "-1"):  # random, in the web UI
        del fields["seed"]
    fields = openai.check_fields(fields)
    if "prompt" not in fields:
        raise InvalidField("prompt", "is missing")
    request = openai.read_generation(fields, facts_of(fields.get("model")).step)
    quality = openai.choice(fields, "quality", tuple(openai.QUALITIES))
    openai.choice(fields, "response_format", ("b64_json", "url"))
    count = read_whole(fields.get("n", 1), "n", _COUNT)
    return _Asked(request, count, _checked_id(identifier), request.model, quality)


def _checked_id(identifier: object) -> str | None:
    if identifier is None:
        return None
    if not isinstance(identifier, str) or not identifier.isprintable():
        raise InvalidField("custom_id", "must be text")
    if not 0 < len(identifier) <= _LONGEST_ID:
        raise InvalidField("custom_id", f"must have from 1 to {_LONGEST_ID} characters")
    return identifier


_Split = Callable[[str], Iterator[tuple[int, Any]]]
_FORMATS: dict[str, tuple[_Split, Callable[[Any, _FactsOf], _Asked]]] = {
    ".txt": (_text_lines, _of_prompt),
    ".csv": (_rows, _of_row),
    ".jsonl": (_text_lines, _of_json),
}


# --- All lines together ---------------------------------------------------------------------------


def _offered(model: object, models: Sequence[str]) -> str:
    """Return the model of a line that names one: any other name is the default."""
    return model if isinstance(model, str) and model in models else models[0]


def _with_model(asked: _Asked, models: Sequence[str], facts_of: _FactsOf) -> _Asked:
    model = _offered(asked.model, models)
    own = facts_of(model)
    request = replace(asked.request, model=model)
    steps = openai.steps_of(asked.quality, own.steps)
    return replace(asked, request=request.complete(steps=steps, format=own.format))


def _repeated(asked: Iterable[tuple[int, _Asked]]) -> list[Fault]:
    lines: dict[str, int] = {}
    faults = []
    for number, one in asked:
        identifier = _identifier(number, one)
        first = lines.setdefault(identifier, number)
        if first != number:
            faults.append(Fault(number, f"is that of line {first}, too", "custom_id"))
    return faults


def _identifier(number: int, asked: _Asked) -> str:
    return asked.custom_id or f"{number:04}"


def _named(asked: Iterable[tuple[int, _Asked]], facts: Mapping[str, ModelFacts]) -> list[Line]:
    taken = set(_RESERVED)
    lines = []
    for number, one in asked:
        identifier = _identifier(number, one)
        own = facts.get(str(one.request.model), ModelFacts())
        requests = _with_seeds(identifier, one) if own.repeats else [one.request] * one.count
        width = len(str(len(requests)))
        names = [identifier] if len(requests) == 1 else [
            f"{identifier}-{count:0{width}}" for count in range(1, len(requests) + 1)
        ]  # fmt: skip
        pictures = [
            Picture(_free_name(name, taken), request)
            for name, request in zip(names, requests, strict=True)
        ]
        lines.append(Line(number, identifier, tuple(pictures)))
    return lines


def _free_name(text: str, taken: set[str]) -> str:
    name = Name.of(text)
    # Some file systems do not distinguish "a" and "A".
    while name.casefold() in taken:
        name = f"{name[:50]}-{_digest([text, name])[:8]}"
    taken.add(name.casefold())
    return name


def _with_seeds(identifier: str, asked: _Asked) -> list[GenerationRequest]:
    """Return a request for each picture; their seeds count up, as in the gateway's APIs."""
    first = asked.request.seed
    if first is None:
        # Of the line and its id: other lines can be changed without changing this one's pictures.
        first = int(_digest([identifier, asked.request.to_dict()])[:8], 16)
    return [
        replace(asked.request, seed=(first + count) % _MOST_SEEDS) for count in range(asked.count)
    ]


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]
