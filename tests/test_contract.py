"""What the parts must agree on: files that two of them need, and that are copied."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RULE = "model_package/code/easel/model_folder"
# The file to edit, and its copy.
COPIES = {
    "model_package/code/generation.py": "gateway/chalicelib/generation.py",
    **{
        path.relative_to(ROOT).as_posix(): f"endpoint/core/model_folder/{path.name}"
        for path in sorted((ROOT / RULE).glob("*.py"))
    },
}


@pytest.mark.parametrize(("edited", "copied"), COPIES.items())
def test_a_file_that_two_parts_need_is_the_same_in_both(edited, copied):
    copy = ROOT / copied
    same = copy.is_file() and (ROOT / edited).read_bytes() == copy.read_bytes()

    assert same, f"the two copies differ; run: cp {edited} {copied}"


def test_no_copy_is_left_of_a_file_that_is_gone():
    copies = {f"endpoint/core/model_folder/{path.name}" for path in
              (ROOT / "endpoint/core/model_folder").glob("*.py")}  # fmt: skip

    assert copies <= set(COPIES.values())
