"""The pages, held to the code."""

import re
from pathlib import Path

import pytest

from chalicelib import errors
from chalicelib.dialects.openai import QUALITIES
from chalicelib.generation import describe
from easel_errors import EaselError

ROOT = Path(__file__).parents[1]


def marked(page, name):
    """Return what stands between a page's markers."""
    text = (ROOT / page).read_text(encoding="utf-8")
    (found,) = re.findall(f"<!-- {name}:.*?-->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    return found


def field_table():
    rows = [
        f"| `{name}` | {limits(field)} | {unset(name, field)} | {field['description']} |\n"
        for name, field in describe()["properties"].items()
    ]
    return "| field | values | when left out | |\n|---|---|---|---|\n" + "".join(rows)


def limits(field):
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if "maxLength" in field:
        return f"{field['minLength']} to {field['maxLength']:,} characters"
    if "examples" in field:
        return f"such as `{field['examples'][0]}`"
    if "pattern" in field:
        return "a name"
    step = f", multiples of {field['multipleOf']}" if "multipleOf" in field else ""
    return f"{field['minimum']:,} to {field['maximum']:,}{step}"


def unset(name, field):
    if name in describe()["required"]:
        return "it stands in the path"
    return field.get("x-unset") or (f"`{field['default']}`" if field["default"] else "nothing")


def error_table():
    rows = [
        f"| {each.status} | `{each.code}` | {each.retry_after or ''} | {first_line(each)} |\n"
        for each in errors.every_error()
    ]
    return "| status | code | `Retry-After` | |\n|---|---|---|---|\n" + "".join(rows)


def quality_table():
    def steps(share):
        return "the model's own" if share == 1 else f"{share:g} times the model's own"

    rows = [f"| `{name}` | {steps(share)} |\n" for name, share in QUALITIES.items()]
    return "| `quality` | steps |\n|---|---|\n" + "".join(rows)


def first_line(each):
    return " ".join(each.__doc__.split("\n\n")[0].split())


def test_the_readme_lists_the_contracts_fields():
    assert marked("README.md", "fields") == field_table()


def test_the_gateways_page_lists_its_errors():
    assert marked("docs/gateway.md", "errors") == error_table()


def test_the_dialects_page_lists_the_qualities():
    assert marked("docs/dialects.md", "qualities") == quality_table()


def test_every_link_to_a_page_of_ours_leads_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize(
    ("page", "code"),
    [
        ("docs/gateway.md", "gateway/chalicelib/settings.py"),
        ("docs/gateway.md", "gateway/chalicelib/access_settings.py"),
        ("docs/model-package.md", "model_package/code/easel_settings.py"),
        ("docs/speed.md", "model_package/code/easel_speed.py"),
    ],
)
def test_a_page_names_every_setting_of_its_part(page, code):
    variables = set(re.findall(r"EASEL_[A-Z_]+", (ROOT / code).read_text(encoding="utf-8")))

    for variable in variables:
        assert f"`{variable}`" in (ROOT / page).read_text(encoding="utf-8")


def test_the_model_packages_page_lists_its_errors():
    page = (ROOT / "docs/model-package.md").read_text(encoding="utf-8")

    for each in (EaselError, *EaselError.__subclasses__()):
        assert f"| {each.status} | `{each.code}` |" in page
