"""Tags in a prompt, as AUTOMATIC1111's web UI reads them: `<lora:name:weight>`.

`lyco` is another word for `lora` there. The name is the adapter's, or that of its file; the model
server makes the same name of it. The web UI finds tags of other words, such as `<hypernet:...>`,
which no adapter corresponds to.

The other APIs read the same tags, because people copy prompts with tags in them; there, other words
are no tags but text.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NoReturn, cast

from .fields import RULES, GenerationRequest, InvalidField, Name, Weighted

# Bounded, so that no prompt makes the search slow.
_LONGEST_TAG = 300
_TAG = re.compile(rf"<(\w{{1,40}}):([^<>]{{1,{_LONGEST_TAG}}})>")
# What is left of a tag that is not complete or too long, after all others are removed.
_REST = re.compile(r"<(lora|lyco):", re.IGNORECASE)
_RULE = cast(Weighted, RULES["lora"])
_WORDS = {"lora", "lyco"}
_OF_THE_WEB_UI = {*_WORDS, "hypernet"}
_ENDING = ".safetensors"
_LONGEST = 255  # characters of a file name


def apply_tags(request: GenerationRequest) -> GenerationRequest:
    """Return a request whose prompt has its tags removed and whose `lora` has their adapters.

    Raises:
        InvalidField: naming `prompt`, for a tag that cannot be read or that names an adapter of
            `lora` again.
    """
    prompt, adapters = read_tags(request.prompt, any_word=False)
    if not adapters:
        return request
    together = f"{request.lora},{adapters}" if request.lora else adapters
    try:
        return replace(request, prompt=prompt, lora=together)
    except InvalidField as error:
        reason = error.reason if error.field == "prompt" else f"its tags and lora {error.reason}"
        raise InvalidField("prompt", reason) from error


def read_tags(prompt: str, *, any_word: bool = True) -> tuple[str, str]:
    """Return the prompt without its tags, and the adapters in the contract's spelling.

    Args:
        prompt: as typed.
        any_word: whether every `<word:...>` is a tag, as in the web UI, or only those that the web
            UI has itself.

    Raises:
        InvalidField: naming `prompt`, for a tag that cannot be read or is of another word.
    """
    tags = [tag for tag in _TAG.finditer(prompt) if any_word or tag[1].lower() in _OF_THE_WEB_UI]
    for word in (tag[1] for tag in tags):
        if word.lower() not in _WORDS:
            _refuse(f"<{word}:...> in it is not supported; only <lora:name:weight> is")
    if len(tags) > _RULE.most_names:
        _refuse(f"has more than {_RULE.most_names} <lora:...> in it")
    adapters: dict[str, str] = {}
    for tag in tags:
        name, weight = _read(tag[0][:80], tag[2])
        if name in adapters:
            _refuse(f"{tag[0][:80]} in it names an adapter for the second time")
        adapters[name] = weight
    rest = prompt
    for tag in tags:
        rest = rest.replace(tag[0], "", 1)
    if _REST.search(rest):
        _refuse(
            f"a <lora:...> in it has no end, no name, or more than {_LONGEST_TAG} characters;"
            " write <lora:name:weight>"
        )
    return rest, ",".join(f"{name}:{weight}" for name, weight in adapters.items())


def _read(tag: str, inside: str) -> tuple[str, str]:
    """Return a tag's adapter and its weight."""
    typed, *parts = (part.strip() for part in inside.split(":"))
    # Other tools put the folder in front of a file's name, or its ending behind it.
    name = re.split(r"[/\\]", typed)[-1]
    if name.lower().endswith(_ENDING):
        name = name[: -len(_ENDING)]
    if not name or len(name) > _LONGEST:
        _refuse(f"{tag} in it names no adapter; write <lora:name:weight>")
    # The web UI has a weight for the text encoder and, after it, one for the UNet.
    plain = [part for part in parts if "=" not in part]
    named = {
        key.strip(): value.strip()
        for key, _, value in (p.partition("=") for p in parts if "=" in p)
    }
    if len(plain) > 2 or not set(named) <= {"te", "unet"}:
        _refuse(f"{tag} in it has more than a name and a weight, which is not supported")
    text_encoder = named.get("te", plain[0] if plain else "1")
    unet = named.get("unet", plain[1] if len(plain) > 1 else text_encoder)
    if _weight(tag, text_encoder) != _weight(tag, unet):
        _refuse(f"{tag} in it has two weights; an adapter has one, for all of the model")
    return Name.of(name), text_encoder


def _weight(tag: str, text: str) -> float:
    try:
        ((_, weight),) = _RULE.pairs(f"a:{text}")
    except ValueError:  # which is also that of more than one pair
        _refuse(f"{tag} in it must have a number from {_RULE.least:g} to {_RULE.most:g} after it")
    return weight


def _refuse(reason: str) -> NoReturn:
    raise InvalidField("prompt", reason)
