"""The pages, held to the code."""

import re
from pathlib import Path

from chalicelib import errors
from chalicelib.generation import describe

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
        for each in errors.GatewayError.__subclasses__()
    ]
    return "| status | code | `Retry-After` | |\n|---|---|---|---|\n" + "".join(rows)


def first_line(each):
    return " ".join(each.__doc__.split("\n\n")[0].split())


def test_the_readme_lists_the_contracts_fields():
    assert marked("README.md", "fields") == field_table()


def test_the_gateways_page_lists_its_errors():
    assert marked("docs/gateway.md", "errors") == error_table()


def test_every_link_to_a_page_of_ours_leads_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_gateways_page_names_every_setting():
    code = (ROOT / "gateway/chalicelib/settings.py").read_text(encoding="utf-8")
    page = (ROOT / "docs/gateway.md").read_text(encoding="utf-8")

    for variable in set(re.findall(r"EASEL_[A-Z_]+", code)):
        assert f"`{variable}`" in page
