import os
import subprocess
import sys
from pathlib import Path

CODE = Path(__file__).parents[3] / "model_package" / "code"
WATCH = """
import builtins, gc, sys
real = builtins.__import__
def watch(name, *rest, **more):
    if name == "torch" and not states:
        states.append((len(sys.modules["easel.startup.read_ahead"]._started), gc.isenabled()))
    return real(name, *rest, **more)
states = []
builtins.__import__ = watch
import inference
print(states, gc.isenabled(), gc.get_freeze_count() > 100_000, inference._IMPORTS > 0)
"""


def test_before_all_that_takes_long_the_weights_are_read_and_the_collector_rests(tmp_path):
    (tmp_path / "model" / "unet").mkdir(parents=True)
    (tmp_path / "model" / "unet" / "model.safetensors").write_bytes(b"0" * 1_000)
    environ = {**os.environ, "SAGEMAKER_BASE_DIR": str(tmp_path), "PYTHONPATH": str(CODE)}
    command = [sys.executable, "-W", "ignore", "-c", WATCH]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    assert done.stdout == "[(1, False)] True True True\n", done.stderr
