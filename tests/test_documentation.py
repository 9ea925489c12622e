"""The README and docs/, compared with the code and with each other."""

import json
import re
from pathlib import Path

import pytest

from easel.errors import EaselError
from endpoint.provision import infrastructure
from endpoint.provision.training import stack
from tests.policies.role_policies import read_template
from tests.recorded import BODIES, PROGRAMS

ROOT = Path(__file__).parents[1]
CARD = ROOT / "model_package" / "demo" / "MODEL_CARD.md"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", CARD, *sorted((ROOT / "docs").glob("*.md"))]
WIDTH = 100
WEIGHTS = ROOT / "model_package" / "demo" / "weights"
# Where the paths in the pages begin.
TOPS = dict.fromkeys(["docs", "endpoint", "gateway", "model_package", "tests"], ROOT) | {
    "chalicelib": ROOT / "gateway",
    "easel": ROOT / "model_package" / "code",
}
# The code appends _ID and _REVISION to these.
PREFIXES = {"EASEL_MERGED_LORA", "EASEL_MODEL", "EASEL_QUANTISED", "EASEL_REFINER"}
# Words of this project's former vocabulary; STYLE's standard terms replace them.
FORMER_WORDS = re.compile(
    r"\b(visit(s|ors?)?|guests?|paint(s|ed|ers?|ing)?|anew|beside|patience|waiters?|ledger"
    r"|stands in|who may|whoever|of so many)\b",
    re.IGNORECASE,
)


def named(page):
    return str(page.relative_to(ROOT))


def prose(page):
    """Yield the lines of a page that are neither code, tables, headings nor comments."""
    fenced = indented = False
    blank = True
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        # Four spaces after an empty line begin a code block; within a list they do not.
        indented = line.startswith("    ") and (indented or blank)
        blank = not line.strip()
        if not (fenced or indented or line.startswith(("```", "|", "<!--", "#"))):
            yield number, line


def anchors(page):
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def without_code(line):
    return re.sub(r"`[^`]*`|first (contentful )?paint", "", line, flags=re.IGNORECASE)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if ":" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=named)
def test_every_path_of_the_repository_exists(page):
    text = page.read_text(encoding="utf-8")
    paths = set(re.findall(rf"(?<![\w/.])(?:{'|'.join(TOPS)})/[\w./-]*\w/?", text))

    assert {path for path in paths if not (TOPS[path.split("/")[0]] / path).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_prose_is_wrapped(page):
    """The target of a link does not count, because it cannot be broken."""
    too_long = [
        number for number, line in prose(page) if len(re.sub(r"\]\([^)]*\)", "]", line)) > WIDTH
    ]

    assert not too_long, f"longer than {WIDTH} columns"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "prove.md"], ids=named)
def test_what_was_not_tried_on_aws_leads_to_the_proof(page):
    """A paragraph that says so links to the page of `prove`; a heading cannot."""
    paragraphs = re.split(r"\n\n", page.read_text(encoding="utf-8"))
    untried = [each for each in paragraphs if re.search("(tested|tried|run) on AWS", each)]

    assert not [each for each in untried if "prove.md" not in each and not each.startswith("#")]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_prose_uses_the_standard_terms(page):
    former = [
        f"{number}: {match[0]}"
        for number, line in prose(page)
        if (match := FORMER_WORDS.search(without_code(line)))
    ]

    assert not former


@pytest.mark.parametrize(
    ("part", "pages"),
    [
        ("gateway", ["docs/gateway.md"]),
        ("model_package/code", ["docs/model-package.md", "docs/speed.md"]),
    ],
)
def test_the_pages_list_every_setting_of_a_part(part, pages):
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / part).rglob("*.py")]
    settings = set(re.findall(r"\bEASEL_[A-Z_]+\b", "".join(sources)))
    settings -= PREFIXES
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in pages)

    assert settings
    assert {setting for setting in settings if f"| `{setting}` |" not in text} == set()


def test_the_model_package_page_lists_its_errors():
    page = (ROOT / "docs" / "model-package.md").read_text(encoding="utf-8")

    for error in (EaselError, *EaselError.__subclasses__()):
        assert f"| {error.status} | `{error.code}` |" in page


def test_the_page_names_every_action_that_a_role_may_use_on_everything():
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    paragraphs = [" ".join(text.split()) for text in page.split("\n\n")]
    (paragraph,) = [text for text in paragraphs if "allowed on `*`" in text]
    actions = {
        action
        for template in (infrastructure.TEMPLATE, stack.TEMPLATE)
        for resource in read_template(template)["Resources"].values()
        if resource["Type"] == "AWS::IAM::Role"
        for policy in resource["Properties"].get("Policies", ())
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Resource"] == "*"
        for action in statement["Action"]
    }
    assert "sagemaker:ListEndpoints" in actions

    # Those of the private network are named together.
    single = {action for action in actions if not action.startswith("ec2:Describe")}
    assert [action for action in sorted(single) if f"`{action}`" not in paragraph] == []


def test_the_stated_size_of_the_bundled_model_is_that_of_its_files():
    sizes = {path: path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()}
    extras = {path for path in sizes if {"refiner", "loras"} & {*path.relative_to(WEIGHTS).parts}}
    total = sum(sizes.values()) / 1e6
    alone = total - sum(sizes[path] for path in extras) / 1e6

    assert f"bundled {total:.0f} MB model" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{total:.0f} MB in total: the model {alone:.1f} MB" in CARD.read_text(encoding="utf-8")


def test_the_prompts_in_the_readme_are_ones_that_the_bundled_model_knows():
    vocabulary = json.loads((WEIGHTS / "easel.json").read_text("utf-8"))["vocabulary"]
    names = [name for entries in vocabulary.values() for entry in entries
             for name in ([entry] if isinstance(entry, str) else entry)]  # fmt: skip
    known = {word for name in names for word in name.split()}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    prompts = re.findall(r"/api/inference/([\w%][^<>`?|\n]*)", text)
    prompts += re.findall(r"!\[([^\]]*)\]\(docs/images/picture-", text)
    words = {word for prompt in prompts for word in prompt.replace("%20", " ").split()}

    assert len(prompts) > 5
    assert words - known == {"default"}


def programs():
    """Return the rows of the table of programs: program, version, setting, tested."""
    text = (ROOT / "docs" / "dialects.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"\| Program \| Version .*?\n\|[-|]+\n(.*?)\n\n", text, re.DOTALL)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]


def test_the_programs_that_are_listed_as_replayed_are_those_with_recorded_requests():
    recorded = {each["program"]: each["version"] for each in PROGRAMS.values()}
    # Of these the bodies alone are recorded, without a version.
    bodies = {each["client"] for each in BODIES.values()}
    rows = {program: version for program, version, _, tested in programs() if tested == "requests"}
    others = {program for program, version in rows.items() if not version}

    assert {program: rows[program] for program in rows.keys() - others} == recorded
    for program in others:
        assert any(client.startswith(program) for client in bodies), program


def test_the_programs_that_are_listed_with_a_test_run_in_it_in_that_version():
    folder = ROOT / "tests" / "end_to_end" / "dialects"
    pins = [*(ROOT / "tests").glob("requirements*.txt"), folder / "node" / "package.json"]
    pinned = "".join(path.read_text(encoding="utf-8") for path in pins)
    rows = [row for row in programs() if row[3] != "requests"]

    assert len(rows) > 5
    for program, version, _, tested in rows:
        assert (folder / tested.strip("`")).is_file(), program
        assert re.search(rf'(==|": ")({re.escape(version)})\b', pinned), program
