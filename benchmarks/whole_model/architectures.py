"""Known architectures with random weights, as ONNX: the sizes are the published ones."""

from __future__ import annotations

from benchmarks.whole_model.graph import Graph

Made = tuple[Graph, list[str]]
"""A graph and the names of its outputs."""


def lenet5() -> Made:
    """LeNet-5 on 28x28 digits (LeCun et al. 1998, with ReLU and max-pooling as it is written today)."""
    g = Graph(1)
    x = g.input("image", 1, 1, 28, 28)
    x = g.op("MaxPool", g.op("Relu", g.conv(x, 1, 6, 5)), kernel_shape=[2, 2], strides=[2, 2])
    weight, bias = g.weight(16, 6, 5, 5), g.weight(16, scale=0.1)
    x = g.op("Relu", g.op("Conv", x, weight, bias, kernel_shape=[5, 5]))
    x = g.op("Flatten", g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    x = g.op("Relu", g.gemm(x, 400, 120))
    x = g.op("Relu", g.gemm(x, 120, 84))
    return g, [g.op("Softmax", g.gemm(x, 84, 10))]


def mobilenet_v2() -> Made:
    """MobileNetV2 1.0 at 224x224 (Sandler et al. 2018, table 2), batch normalizations folded."""
    g = Graph(2)
    x = g.relu6(g.conv(g.input("image", 1, 3, 224, 224), 3, 32, stride=2))
    channels = 32
    for widen, outputs, count, first in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for number in range(count):
            stride, wide = first if number == 0 else 1, widen * channels
            y = g.relu6(g.conv(x, channels, wide, 1)) if widen > 1 else x
            y = g.relu6(g.conv(y, wide, wide, stride=stride, groups=wide))
            y = g.conv(y, wide, outputs, 1, gain=1.0)
            x = g.op("Add", x, y) if stride == 1 and channels == outputs else y
            channels = outputs
    x = g.pooled(g.relu6(g.conv(x, channels, 1280, 1)))
    return g, [g.gemm(x, 1280, 1000)]


def mobilenet_v3() -> Made:
    """MobileNetV3-Large 1.0 at 224x224 (Howard et al. 2019, table 1), batch normalizations folded.

    The gain of 1 in front of hard-swish is too small by what hard-swish takes away; the normalization of a trained
    model would give it back, so layers are scaled by 2 as in front of a ReLU.
    """
    # HardSwish exists since opset 14; the gate is HardSigmoid with a slope of 1/6.
    g = Graph(3)
    x = g.hard_swish(g.conv(g.input("image", 1, 3, 224, 224), 3, 16, stride=2))
    channels = 16
    for kernel, wide, outputs, gated, hard, stride in (
        (3, 16, 16, False, False, 1),
        (3, 64, 24, False, False, 2),
        (3, 72, 24, False, False, 1),
        (5, 72, 40, True, False, 2),
        (5, 120, 40, True, False, 1),
        (5, 120, 40, True, False, 1),
        (3, 240, 80, False, True, 2),
        (3, 200, 80, False, True, 1),
        (3, 184, 80, False, True, 1),
        (3, 184, 80, False, True, 1),
        (3, 480, 112, True, True, 1),
        (3, 672, 112, True, True, 1),
        (5, 672, 160, True, True, 2),
        (5, 960, 160, True, True, 1),
        (5, 960, 160, True, True, 1),
    ):
        name = "HardSwish" if hard else "Relu"
        y = g.op(name, g.conv(x, channels, wide, 1)) if wide != channels else x
        y = g.op(name, g.conv(y, wide, wide, kernel, stride, wide))
        if gated:
            few = _eighths(wide / 4)
            gate = g.op("Relu", g.conv(g.op("GlobalAveragePool", y), wide, few, 1))
            y = g.op("Mul", y, g.op("HardSigmoid", g.conv(gate, few, wide, 1), alpha=1 / 6, beta=0.5))
        y = g.conv(y, wide, outputs, 1, gain=1.0)
        x = g.op("Add", x, y) if stride == 1 and channels == outputs else y
        channels = outputs
    x = g.pooled(g.hard_swish(g.conv(x, channels, 960, 1)))
    return g, [g.gemm(g.hard_swish(g.gemm(x, 960, 1280)), 1280, 1000)]


def _eighths(size: float) -> int:
    """Return the multiple of 8 next to a size, not below nine tenths of it."""
    near = max(8, int(size + 4) // 8 * 8)
    return near + 8 if near < 0.9 * size else near


def resnet18() -> Made:
    """ResNet-18 at 224x224 (He et al. 2015), batch normalizations folded."""
    g = Graph(4)
    x = g.op("Relu", g.conv(g.input("image", 1, 3, 224, 224), 3, 64, 7, 2))
    x = g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for outputs, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            y = g.op("Relu", g.conv(x, channels, outputs, stride=stride))
            y = g.conv(y, outputs, outputs, gain=1.0)
            if stride > 1:
                x = g.conv(x, channels, outputs, 1, stride, gain=1.0)
            x = g.op("Relu", g.op("Add", y, x))
            channels = outputs
    return g, [g.gemm(g.pooled(x), 512, 1000)]


def encoder(layers: int, width: int, heads: int, length: int, words: int) -> Made:
    """Return a BERT encoder on token ids with a mask (Devlin et al. 2018), as PyTorch exports it."""
    g = Graph(5)
    ids, mask = g.input("input_ids", 1, length, whole=True), g.input("attention_mask", 1, length, whole=True)
    x = g.op("Gather", g.weight(words, width, scale=1.0), ids)
    x = g.layer_norm(g.op("Add", x, g.weight(1, length, width, scale=1.0)), width)
    opened = g.op("Unsqueeze", mask, g.integers(1, 2))
    hidden = g.op("Sub", g.number(1.0), g.op("Cast", opened, to=1))
    bias = g.op("Mul", hidden, g.number(-10000.0))
    shape = g.integers(1, length, heads, width // heads)
    for _ in range(layers):
        q, k, v = (g.op("Reshape", g.linear(x, width, width), shape) for _ in range(3))
        q, v = (g.op("Transpose", each, perm=[0, 2, 1, 3]) for each in (q, v))
        scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 2, 3, 1]))
        scores = g.op("Add", g.op("Div", scores, g.number((width / heads) ** 0.5)), bias)
        found = g.op("Transpose", g.op("MatMul", g.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        found = g.linear(g.op("Reshape", found, g.integers(1, length, width)), width, width)
        x = g.layer_norm(g.op("Add", found, x), width)
        y = g.linear(g.gelu(g.linear(x, width, 4 * width)), 4 * width, width)
        x = g.layer_norm(g.op("Add", y, x), width)
    return g, [x]


def bert() -> Made:
    """Two layers of width 256 over 128 tokens."""
    return encoder(layers=2, width=256, heads=4, length=128, words=8000)


def minilm() -> Made:
    """Build the sizes of MiniLM-L6 (Wang et al. 2020) over 128 tokens; 2000 words, not 30522: that changes no time."""
    return encoder(layers=6, width=384, heads=12, length=128, words=2000)


def recurrent(cell: str) -> Made:
    """Two layers of 128 units over 50 steps of 40 features, and a head, as a small speech model has them."""
    g = Graph(6)
    steps, features, hidden = 50, 40, 128
    gates = {"LSTM": 4, "GRU": 3}[cell]
    x, inputs = g.input("features", steps, 1, features), features
    more: dict[str, object] = {"linear_before_reset": 1} if cell == "GRU" else {}
    for _ in range(2):
        weights = [g.weight(1, gates * hidden, size, scale=hidden**-0.5) for size in (inputs, hidden)]
        bias = g.weight(1, 2 * gates * hidden, scale=0.1)
        x = g.op("Squeeze", g.op(cell, x, *weights, bias, hidden_size=hidden, **more), g.integers(1))
        inputs = hidden
    return g, [g.linear(x, hidden, 30)]


def lstm() -> Made:
    """Two LSTM layers."""
    return recurrent("LSTM")


def gru() -> Made:
    """Two GRU layers, as PyTorch exports them (linear_before_reset)."""
    return recurrent("GRU")


def unet() -> Made:
    """Build a U-Net (Ronneberger et al. 2015) of three levels on a 96x96 image, with transposed convolutions."""
    g = Graph(7)
    x, channels = g.input("image", 1, 3, 96, 96), 3
    kept = []
    for outputs in (16, 32):
        x = g.op("Relu", g.conv(g.op("Relu", g.conv(x, channels, outputs)), outputs, outputs))
        kept.append((x, outputs))
        x, channels = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), outputs
    x, channels = g.op("Relu", g.conv(x, channels, 64)), 64
    for skip, outputs in reversed(kept):
        up = g.weight(channels, outputs, 2, 2, scale=channels**-0.5), g.weight(outputs, scale=0.1)
        x = g.op("ConvTranspose", x, *up, kernel_shape=[2, 2], strides=[2, 2])
        x = g.op("Relu", g.conv(g.op("Concat", x, skip, axis=1), 2 * outputs, outputs))
        channels = outputs
    return g, [g.op("Sigmoid", g.conv(x, channels, 1, 1, gain=1.0))]


def keywords() -> Made:
    """DS-CNN for keyword spotting, the medium of Zhang et al. 2017 (172 channels), batch normalizations folded."""
    g = Graph(8)
    x, channels = g.input("mfcc", 1, 1, 49, 10), 172
    weight, bias = g.weight(channels, 1, 10, 4, scale=0.2), g.weight(channels, scale=0.1)
    x = g.op("Conv", x, weight, bias, kernel_shape=[10, 4], strides=[2, 1], auto_pad="SAME_UPPER")
    x = g.op("Relu", x)
    for number in range(4):
        stride = 2 if number == 0 else 1
        x = g.op("Relu", g.conv(x, channels, channels, 3, stride, channels))
        x = g.op("Relu", g.conv(x, channels, channels, 1))
    return g, [g.op("Softmax", g.gemm(g.pooled(x), channels, 12))]
