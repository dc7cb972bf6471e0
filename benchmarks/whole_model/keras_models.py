"""The architectures as LiteRT models, made by TensorFlow's own converter; run as a program, because it takes seconds.

``python -m benchmarks.whole_model.keras_models NAME FILE`` writes one. Weights are Keras's random ones: latency does
not depend on them, and outputs are compared with onnxruntime's only where both have the same weights.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def lenet5(k: Any) -> Any:
    """Return LeNet-5."""
    layers = k.layers
    return k.Sequential(
        [
            k.Input((28, 28, 1), batch_size=1),
            layers.Conv2D(6, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def mobilenet_v2(k: Any) -> Any:
    """Return MobileNetV2 without its final softmax."""
    image = k.Input((224, 224, 3), batch_size=1)
    return k.applications.MobileNetV2(input_tensor=image, weights=None, classifier_activation=None)


def mobilenet_v3(k: Any) -> Any:
    """Return MobileNetV3-Large without its final softmax."""
    image = k.Input((224, 224, 3), batch_size=1)
    return k.applications.MobileNetV3Large(
        input_tensor=image, weights=None, classifier_activation=None, include_preprocessing=False, dropout_rate=0.0
    )


def resnet18(k: Any) -> Any:
    """Return ResNet-18."""
    layers = k.layers
    image = k.Input((224, 224, 3), batch_size=1)
    x = layers.Conv2D(64, 7, 2, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for outputs, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            y = layers.Conv2D(outputs, 3, stride, padding="same", activation="relu")(x)
            y = layers.Conv2D(outputs, 3, padding="same")(y)
            x = layers.Conv2D(outputs, 1, stride)(x) if stride > 1 else x
            x = layers.ReLU()(layers.Add()([y, x]))
    x = layers.GlobalAveragePooling2D()(x)
    return k.Model(image, layers.Dense(1000)(x))


def keywords(k: Any) -> Any:
    """Return the medium DS-CNN."""
    layers = k.layers
    x = sound = k.Input((49, 10, 1), batch_size=1)
    x = layers.Conv2D(172, (10, 4), (2, 1), padding="same", activation="relu")(x)
    for number in range(4):
        x = layers.DepthwiseConv2D(3, 2 if number == 0 else 1, padding="same", activation="relu")(x)
        x = layers.Conv2D(172, 1, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return k.Model(sound, layers.Dense(12, activation="softmax")(x))


def unet(k: Any) -> Any:
    """Return the small U-Net."""
    layers = k.layers
    x = image = k.Input((96, 96, 3), batch_size=1)
    kept = []
    for outputs in (16, 32):
        for _ in range(2):
            x = layers.Conv2D(outputs, 3, padding="same", activation="relu")(x)
        kept.append((x, outputs))
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    for skip, outputs in reversed(kept):
        x = layers.Conv2DTranspose(outputs, 2, 2)(x)
        x = layers.Conv2D(outputs, 3, padding="same", activation="relu")(layers.Concatenate()([x, skip]))
    return k.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


MAKERS: dict[str, Callable[[Any], Any]] = {
    made.__name__: made for made in (lenet5, mobilenet_v2, mobilenet_v3, resnet18, keywords, unet)
}


def main(name: str, path: Path) -> None:
    """Write an architecture as a LiteRT model of float32."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(MAKERS[name](keras)).convert())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
