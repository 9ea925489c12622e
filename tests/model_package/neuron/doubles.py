"""Folders as optimum-neuron writes them, and a double of it that takes what it takes."""

import json
import sys
from inspect import Parameter, Signature
from pathlib import Path
from types import ModuleType


def write_compiled(folder, recorded, kind="sdxl", **changes):
    """Write a compiled model's folder with empty programs; `changes` are of each block."""
    name = "StableDiffusionXLPipeline" if kind == "sdxl" else "StableDiffusionPipeline"
    parts = {Path(file).parent.name for file in recorded["files"][kind] if "/" in file}
    index = {"_class_name": name, **{part: ["library", "Class"] for part in sorted(parts)}}
    for file in recorded["files"][kind]:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    for part in parts & set(recorded["blocks"]):
        block = {**recorded["blocks"][part], **changes}
        (folder / part / "config.json").write_text(json.dumps({"neuron": block}))
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "easel.json").write_text('{"steps": 2}')
    return folder


class Exporter:
    """Stands for `optimum.exporters.neuron`; it takes the recorded parameters and no others."""

    def __init__(self, recorded, kind):
        self._recorded = recorded
        self._parts = [part for part in recorded["blocks"]
                       if kind == "sdxl" or part != "text_encoder_2"]  # fmt: skip
        self.compiled = []
        self.pipeline = None

    def install(self, patch):
        """Put the modules that the job imports into `sys.modules`."""
        exporter = ModuleType("optimum.exporters.neuron")
        for name in self._recorded["parameters"]:
            setattr(exporter, name, getattr(self, name))
        instance = ModuleType("optimum.neuron.utils.instance")
        instance.align_compilation_target = self.align
        compiler = ModuleType("neuronxcc")
        compiler.__version__ = "2.21.33363.0+82129205"
        names = ("optimum", "optimum.exporters", "optimum.neuron", "optimum.neuron.utils",
                 "torch_neuronx")  # fmt: skip
        modules = {name: ModuleType(name) for name in names}
        modules |= {module.__name__: module for module in (exporter, instance, compiler)}
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)

    def align(self, target, override):
        assert (target, override) == ("inf2", True)

    def _check(self, name, arguments):
        parameters = [
            Parameter(each, Parameter.KEYWORD_ONLY, default=Parameter.empty if required else None)
            for each, required in self._recorded["parameters"][name].items()
        ]
        Signature(parameters).bind(**arguments)

    def normalize_diffusers_input_shapes(self, args):
        assert {"batch_size", "width", "height", "num_images_per_prompt"} == set(args)
        return {"text_encoder": {}, "unet_or_transformer": {}, "vae_decoder": {}}

    def load_models_and_neuron_configs(self, **arguments):
        shapes = ("text_encoder", "unet_or_transformer", "vae_decoder")
        own = {name: value for name, value in arguments.items() if name not in shapes}
        self._check("load_models_and_neuron_configs", own)
        self.pipeline = own["model"]
        self.pipeline.save_config(own["output"])
        names = [*self._parts, "vae_encoder"]
        models = dict.fromkeys(names, (self.pipeline, None))
        return models, {part: f"{part}/model.neuron" for part in names}

    def export_models(self, **arguments):
        self._check("export_models", arguments)
        assert arguments["compiler_kwargs"]["instance_type"] == "inf2"
        (part,) = arguments["models_and_neuron_configs"]
        self.compiled.append(part)
        folder = arguments["output_dir"] / part
        folder.mkdir(parents=True)
        (arguments["output_dir"] / arguments["output_file_names"][part]).write_text("program")
        block = json.dumps({"neuron": self._recorded["blocks"][part]})
        (folder / "config.json").write_text(block)
