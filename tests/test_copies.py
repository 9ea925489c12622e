"""What the parts must agree on: files that two of them need, and that are copied."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EASEL = "model_package/code/easel"
RULE = f"{EASEL}/model_folder"
JOBS = "endpoint/core/training_jobs"
BATCHES = "endpoint/core/batches"
BACKENDS = "endpoint/core/backends"
TRAINER = "model_package/training"
# Each copy, and the file to edit.
COPIES = {
    "gateway/chalicelib/generation.py": "model_package/code/generation.py",
    "endpoint/core/generation.py": "model_package/code/generation.py",
    "gateway/chalicelib/picture_files.py": "endpoint/core/picture_files.py",
    "gateway/chalicelib/description.py": f"{RULE}/description.py",
    "model_package/batch/job_folder.py": f"{TRAINER}/job_folder.py",
    "model_package/neuron/job_folder.py": f"{TRAINER}/job_folder.py",
    "gateway/chalicelib/usage_days.py": "endpoint/core/usage_days.py",
    "gateway/chalicelib/usage_records.py": "endpoint/core/usage_records.py",
    "model_package/server/log.py": f"{EASEL}/log.py",
    "gateway/chalicelib/images/prompt_weights.py": f"{EASEL}/prompts/prompt_weights.py",
    **{
        f"endpoint/core/model_folder/{path.name}": path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / RULE).glob("*.py"))
    },
    **{
        f"gateway/chalicelib/training_jobs/{path.name}": path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / JOBS).glob("*.py"))
    },
    **{
        f"gateway/chalicelib/batches/{path.name}": path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / BATCHES).glob("*.py"))
    },
    **{
        f"gateway/chalicelib/backends/{path.name}": path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / BACKENDS).glob("*.py"))
    },
    **{
        f"{JOBS}/{name}": f"{TRAINER}/{name}"
        for name in ("dataset.py", "failures.py", "job.py", "kohya.py")
    },
}


@pytest.mark.parametrize(("copied", "edited"), COPIES.items())
def test_a_file_that_two_parts_need_is_the_same_in_both(copied, edited):
    copy = ROOT / copied
    same = copy.is_file() and (ROOT / edited).read_bytes() == copy.read_bytes()

    assert same, f"the two copies differ; run: cp {edited} {copied}"


def test_no_copy_is_left_of_a_file_that_is_gone():
    folders = (
        "endpoint/core/model_folder",
        "gateway/chalicelib/backends",
        "gateway/chalicelib/batches",
        "gateway/chalicelib/training_jobs",
    )
    copies = {f"{folder}/{path.name}" for folder in folders
              for path in (ROOT / folder).glob("*.py")}  # fmt: skip

    assert copies <= set(COPIES)
