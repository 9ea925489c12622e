"""The layout and the rule of floors in docs/architecture.md, compared with the code."""

import ast
import re
from graphlib import TopologicalSorter

import pytest

from tests.conftest import LONGEST
from tests.packages import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FLOORS = dict(re.findall(r"<!-- floors: (\S+) -->\n(.*?)<!-- /floors -->", PAGE, re.DOTALL))
# The folders that are on sys.path, and the top-level names of the code in each part.
SOURCES = {"gateway": "gateway", "model_package": "model_package/code", "endpoint": "."}
NAMES = {
    "gateway": {"app", "chalicelib"},
    "model_package": {"easel", "inference", "model_package"},
    "endpoint": {"endpoint"},
}
# Entry points are above all floors.
ENTRIES = {"__init__.py", "__main__.py"}


def floors(part):
    """Return the floor of each folder (`web/`) and module (`errors.py`) of a part."""
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", FLOORS[part], re.MULTILINE)
    return {name: int(floor) for floor, names in rows for name in re.findall(r"`(.+?)`", names)}


def modules(folder):
    """Return the Python files of a folder by the dotted names under which they are imported."""
    source = ROOT / SOURCES[folder.split("/")[0]]
    names = {}
    for path in (ROOT / folder).rglob("*.py"):
        root = source if path.is_relative_to(source) else ROOT
        parts = path.relative_to(root).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imported(name, path):
    """Yield the dotted names that a module imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            base = package[: len(package) + 1 - node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def imports(folder):
    """Yield the imports between the modules of a folder: importing module, imported module."""
    known = modules(folder)
    for name, path in known.items():
        for target in imported(name, path):
            # `from package import name` may import a name of the package, not a module.
            module = target if target in known else target.rpartition(".")[0]
            if module in known and module != name:
                yield name, module


@pytest.mark.parametrize("part", FLOORS)
def test_a_module_imports_only_its_own_folder_and_lower_floors(part):
    known, floor = modules(part), floors(part)

    def place(module):
        parts = known[module].relative_to(ROOT / part).parts
        return parts[0] if len(parts) == 1 else f"{parts[0]}/"

    upward = [
        f"{name} imports {target}"
        for name, target in imports(part)
        if (above := place(name)) not in ENTRIES
        and (below := place(target)) not in {above, "__init__.py"}
        and not floor.get(below, 99) < floor.get(above, 0)
        and not (
            floor.get(below) == floor.get(above) and below.endswith(".py") and above.endswith(".py")
        )
    ]

    assert upward == []


@pytest.mark.parametrize("part", FLOORS)
def test_the_floors_name_every_folder_and_module(part):
    folder = ROOT / part
    present = {path.name for path in folder.glob("*.py")} - ENTRIES
    present |= {f"{path.parent.name}/" for path in folder.glob("*/*.py")}

    assert present == set(floors(part))


@pytest.mark.parametrize("part", NAMES)
def test_no_import_goes_in_a_circle(part):
    graph: dict[str, set[str]] = {}
    for name, target in imports(part):
        graph.setdefault(name, set()).add(target)

    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("part", NAMES)
def test_the_parts_do_not_import_one_another(part):
    others = {name for other, names in NAMES.items() if other != part for name in names}
    crossing = [
        f"{name} imports {target}"
        for name, path in modules(part).items()
        for target in imported(name, path)
        if target.split(".")[0] in others
    ]

    assert crossing == []


# Runs tests of other files in another browser.
IN_ANOTHER_BROWSER = "tests/end_to_end/browsers/test_firefox.py"


def test_no_file_of_tests_imports_from_another():
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in (ROOT / "tests").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"(from|import) tests\.([a-z_]+\.)*test_\w+( |$)", line)
    ]

    assert {line.partition(": ")[0] for line in found} == {IN_ANOTHER_BROWSER}, found


def drawn():
    """Yield each path of the drawing of the layout; two spaces are one level."""
    (text,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    parents: list[str] = []
    for indent, name in re.findall(r"^( *)(\S+)", text, re.MULTILINE):
        parents[len(indent) // 2 :] = [name]
        yield ROOT.joinpath(*parents)


def test_every_path_of_the_drawing_exists():
    assert [str(path) for path in drawn() if not path.exists()] == []


def test_the_drawing_has_every_folder_with_code():
    folders = {path.parent for part in NAMES for path in (ROOT / part).rglob("*.py")} | {
        path.parent for path in (ROOT / "tests").glob("*/*.py")
    }

    assert {str(path.relative_to(ROOT)) for path in folders - set(drawn())} == set()


@pytest.mark.parametrize(
    ("question", "folder", "files"),
    re.findall(r"^\| (Wh[^|]*\?) \| `(.*?)` \| (.*?) \|$", PAGE, re.MULTILINE),
)
def test_an_answer_names_a_folder_and_files_in_it(question, folder, files):
    assert (ROOT / folder).is_dir()
    for name in re.findall(r"`([\w/]+(?:\.\w+|/))`", files):
        assert (ROOT / folder / name).exists() or (ROOT / name).exists(), name


def test_the_files_that_tests_start_with_exist():
    assert [file for file in LONGEST if not (ROOT / file).is_file()] == []
