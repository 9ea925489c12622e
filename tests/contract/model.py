"""What the model package writes and answers, asked as a serving container asks it.

`model_package/code/inference.py` is loaded by path, with the bundled model, in a process of its
own. The pictures themselves differ from processor to processor; what is written into them does not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.contract.wording import reduced

ROOT = Path(__file__).parents[2]
_CODE = ROOT / "model_package" / "code"
_WEIGHTS = ROOT / "model_package" / "demo" / "weights"
_ASK = """
import io, json, re, sys
sys.path.insert(0, sys.argv[1])
import inference
from PIL import ExifTags, Image

model = inference.model_fn(sys.argv[2])

def ask(request, accept):
    data = inference.input_fn(json.dumps(request), "application/json")
    return inference.output_fn(inference.predict_fn(data, model), accept)

def names_of(text):
    line = text.rpartition("\\n")[2]
    return re.findall(r"(?:^|, )([A-Z][A-Za-z ]*): ", line)

result = {}
request = {"prompt": "a red apple", "negative_prompt": "blue", "seed": 1, "steps": 1}
for kind in ("png", "webp", "jpeg"):
    body = ask({**request, "format": kind}, f"image/{kind}")
    image = Image.open(io.BytesIO(body))
    shown = {"format": image.format, "size": image.size}
    if kind == "png":
        text = image.text
        shown["text"] = sorted(text)
        shown["easel"] = json.loads(text["easel"])
        shown["parameters"] = names_of(text["parameters"])
        shown["lines"] = text["parameters"].split("\\n")[:2]
    else:
        exif = image.getexif()
        comment = exif.get_ifd(ExifTags.IFD.Exif)
        shown["exif"] = sorted(ExifTags.TAGS[tag] for tag in exif)
        shown["exif ifd"] = sorted(ExifTags.TAGS[tag] for tag in comment)
        shown["easel"] = json.loads(exif[ExifTags.Base.ImageDescription])
        written = comment[ExifTags.Base.UserComment]
        shown["encoding"] = written[:8].decode()
        shown["parameters"] = names_of(written[8:].decode("utf-16-be"))
    result[kind] = shown
answered = ask({**request, "format": "png"}, "application/json")
value = json.loads(answered)
result["as JSON"] = {name: type(part).__name__ for name, part in value.items()}
result["described"] = json.loads(ask({"describe": True}, "application/json"))
result["a field that is wrong"] = json.loads(ask({"prompt": "x", "steps": 0}, "image/png"))
result["no prompt"] = json.loads(ask({}, "image/png"))
result["an adapter that is not there"] = json.loads(ask({**request, "lora": "nobody"}, "image/png"))
print(json.dumps(result))
"""


def answers() -> dict[str, Any]:
    """Return what a container would answer, and the metadata of its pictures."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _ASK, str(_CODE), str(_WEIGHTS)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    # What the machine can do is the machine's.
    found["described"]["speed"] = sorted(found["described"]["speed"])
    # The words themselves are data, compared by the tests of the bundled model.
    vocabulary = found["described"]["vocabulary"]
    found["described"]["vocabulary"] = {
        kind: type(vocabulary[kind]).__name__ for kind in vocabulary
    }
    return dict(reduced(found))
