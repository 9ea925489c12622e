"""A training service on clients in memory, with data sets and finished files."""

import json
import struct

from chalicelib.settings import Model, Settings
from chalicelib.training.service import TrainingService
from chalicelib.training.training_request import TrainingRequest
from chalicelib.training_jobs import places
from tests.gateway.doubles import TRAINING, Breaks, Bucket, Provided, TrainingJobs, guarded

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
OWNER, STRANGER = places.owner_of("ada"), places.owner_of("bob")


def adapter(value=1.0):
    """Return a small safetensors file with one layer in kohya's names."""
    numbers = struct.pack("<e", value)
    tensors = {"alpha": [], "lora_down.weight": [1, 1], "lora_up.weight": [1, 1]}
    header = {
        f"lora_unet_a.{name}": {"dtype": "F16", "shape": shape, "data_offsets": [2 * n, 2 * n + 2]}
        for n, (name, shape) in enumerate(tensors.items())
    }
    content = json.dumps(header).encode()
    return len(content).to_bytes(8, "little") + content + numbers * len(tensors)


class Bench:
    """A service, what it is made of, and a clock."""

    def __init__(self, training=TRAINING, **protection):
        self.breaks = Breaks()
        self.bucket, self.sagemaker = Bucket(self.breaks), TrainingJobs(self.breaks)
        self.now = 1_800_000_000.0
        self.settings = Settings(
            {"sd": Model("sd", "easel-sd", loras=("ink",)), "slow": Model("slow", "easel-slow")},
            24,
            log_prompts=False,
            protection=guarded(**protection),
            training=training,
        )
        self.service = TrainingService(
            self.settings,
            training,
            Provided(self.bucket),
            Provided(self.sagemaker),
            lambda: self.now,
        )

    def dataset(self, owner=OWNER, pictures=2, **captions):
        """Return the id of a data set with as many pictures, and these captions."""
        identifier = places.new_id()
        files = {f"{number:04}.png": PNG for number in range(1, pictures + 1)}
        files |= {f"{name.lstrip('_')}.txt": text.encode() for name, text in captions.items()}
        for name, body in files.items():
            self.bucket.objects[places.dataset_file(owner, identifier, name)] = body
        return identifier

    def start(self, owner=OWNER, **fields):
        requested = self.requested(owner, **fields)
        return self.service.start(owner, requested, self.service.plan(owner, requested)).record

    def requested(self, owner=OWNER, **fields):
        fields = {"name": "fox", "trigger": "a fxo", **fields}
        if "dataset" not in fields:
            fields["dataset"] = self.dataset(owner)
        return TrainingRequest.from_dict(fields)

    def finish(self, record, body=None, **more):
        """Have a job complete with a file."""
        key = f"{places.output(record.id)}{record.sagemaker_job}/output/model/{record.name}"
        self.bucket.objects[f"{key}.safetensors"] = adapter() if body is None else body
        self.sagemaker.end(record.sagemaker_job, **more)

    def below(self, start):
        return sorted(key for key in self.bucket.objects if key.startswith(start))
