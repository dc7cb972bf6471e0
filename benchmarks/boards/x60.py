"""What others measured on a SpacemiT X60 at 1.6 GHz, with the sources: what the model is compared with."""

from __future__ import annotations

from dataclasses import dataclass

CLOCK_GHZ = 1.6
"""The clock of both sources' boards."""

GEMM_SOURCE = "BabarHussain786, riscv-openblas-gemm-accelerator: BPI-F3, GCC 14.2, core 0, median of six, 4096^3"
STREAM_SOURCE = "camel-cdr, rvv-bench-results, 2026-01-31: SpacemiT X60"


@dataclass(frozen=True, slots=True)
class Gemm:
    """One published matrix product, and what the inner loop of its object code consists of."""

    bits: int
    """Of an element."""
    rows: int
    columns: int
    lmul: str
    unroll: int
    gflops: float
    parts: int = 1
    """Vectors that hold the rows of one column."""
    length: int = 8
    """Elements that one vector operation works on."""
    spills: int = 0
    """Accumulators that one pass of the loop loads from the stack and stores back."""
    vlenb: int = 0
    """Reads of the vector length, by which the addresses of spilled accumulators are computed, in one pass."""

    @property
    def cycles(self) -> float:
        """Cycles of one step along the inner axis."""
        return 2 * self.rows * self.columns * CLOCK_GHZ / self.gflops

    @property
    def group(self) -> str:
        """The kernels that differ from this one in how far they are unrolled only."""
        return f"f{self.bits} {self.rows}x{self.columns} {self.lmul}"

    def __str__(self) -> str:
        return f"{self.group} u{self.unroll}"


def _gemms(
    shape: tuple[int, int, int], lmul: str, numbers: dict[int, float | tuple[float, int, int]], parts: int, length: int
) -> list[Gemm]:
    found = []
    for unroll, number in numbers.items():
        gflops, spills, vlenb = (number, 0, 0) if isinstance(number, float) else number
        found.append(Gemm(*shape, lmul, unroll, gflops, parts, length, spills, vlenb))
    return found


GEMMS = (
    *_gemms((32, 8, 8), "mf2", {1: 8.68, 2: 8.72, 4: 8.68, 8: 8.64}, 1, 4),
    *_gemms((32, 8, 8), "m1", {1: 7.40, 2: 7.84, 4: 8.15, 8: 8.09}, 1, 8),
    *_gemms((32, 8, 8), "m2", {1: 5.81, 2: 5.81, 4: 5.87, 8: 5.74}, 1, 8),
    *_gemms((32, 8, 8), "m4", {1: (1.82, 2, 2), 2: (1.56, 5, 5), 4: (1.57, 10, 10), 8: (1.79, 18, 14)}, 1, 8),
    *_gemms((32, 8, 8), "m8", {1: (0.54, 6, 5), 2: (0.56, 13, 1), 4: (0.44, 25, 40), 8: (0.44, 49, 80)}, 1, 8),
    *_gemms((32, 16, 8), "mf2", {1: 11.54, 2: 11.50, 4: 11.58}, 2, 4),
    *_gemms((32, 16, 8), "m1", {1: 11.06}, 2, 8),
    *_gemms((32, 16, 8), "m2", {1: (3.36, 3, 4)}, 2, 8),
    *_gemms((32, 16, 8), "m4", {1: (0.68, 11, 20)}, 2, 8),
    *_gemms((32, 16, 8), "m8", {1: (0.36, 15, 28)}, 2, 8),
    *_gemms((64, 8, 4), "m1", {1: 4.31, 2: 4.34, 4: 4.32, 8: 4.33}, 1, 4),
    *_gemms((64, 8, 4), "m2", {1: 3.94, 2: 3.87, 4: 3.85, 8: 3.91}, 1, 8),
    *_gemms((64, 8, 4), "m4", {1: 2.82, 2: 2.85, 4: 2.84, 8: 2.85}, 1, 8),
    *_gemms((64, 8, 4), "m8", {1: (0.58, 2, 2), 2: (0.56, 5, 4), 4: (0.54, 9, 10), 8: (0.62, 16, 17)}, 1, 8),
    *_gemms((64, 8, 8), "m1", {1: 4.64}, 1, 4),
    *_gemms((64, 8, 8), "m1", {2: 4.94, 4: 4.91, 8: 4.92}, 2, 4),
    *_gemms((64, 8, 8), "m2", {1: 4.92, 2: 4.96, 4: 4.91, 8: 4.94}, 1, 8),
    *_gemms((64, 8, 8), "m4", {1: (1.82, 2, 2), 2: (1.54, 5, 5), 4: (1.70, 10, 6), 8: (1.92, 18, 5)}, 1, 8),
    *_gemms((64, 8, 8), "m8", {1: (0.53, 6, 5), 2: (0.54, 13, 1), 4: (0.44, 25, 40), 8: (0.43, 49, 80)}, 1, 8),
)
"""Of kernels whose inner loops have equal object code, whatever their names say, one stands for all.

Where a vector holds half of the rows that the loop's pointer passes over (f32 mf2 8x8, f64 m1 8x4 and the first 8x8),
the published kernel computes half of the product; its time is that of the code as it is.
"""

STREAM_KIB = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192)
"""Sizes at which the published curves are read: the median of the five nearest points. A copy has two such buffers."""

STREAMS: dict[tuple[str, int], tuple[float, ...]] = {
    ("copy", 1): (3.93, 3.96, 3.98, 3.81, 2.6, 3.12, 3.1, 3.15, 3.09, 2.69, 2.8, 2.64, 2.26, 1.98, 1.66, 1.63, 1.63),
    ("copy", 2): (4.68, 4.75, 5.74, 5.79, 3.19, 3.83, 3.79, 4.05, 3.88, 3.67, 3.31, 2.99, 2.31, 2.06, 1.67, 1.65, 1.65),
    ("copy", 4): (5.04, 5.17, 6.51, 6.63, 3.31, 4.28, 3.95, 4.1, 3.98, 3.15, 2.97, 2.9, 2.28, 2.0, 1.71, 1.69, 1.69),
    ("copy", 8): (5.13, 5.27, 6.57, 6.67, 3.43, 4.14, 4.23, 3.69, 3.9, 3.44, 3.3, 2.93, 2.45, 2.15, 1.74, 1.71, 1.71),
    ("fill", 1): (5.21, 5.27, 5.29, 5.3, 5.32, 5.29, 5.29, 5.3, 5.3, 5.3, 5.3, 5.23, 5.18, 5.07, 4.69, 4.51, 4.46),
    ("fill", 2): (
        10.29,
        10.37,
        10.47,
        10.46,
        9.95,
        9.65,
        9.49,
        9.39,
        9.31,
        9.26,
        8.77,
        8.19,
        7.31,
        6.18,
        5.17,
        4.71,
        4.53,
    ),
    ("fill", 4): (
        13.01,
        13.19,
        13.14,
        12.69,
        11.42,
        10.55,
        9.93,
        9.69,
        9.52,
        9.41,
        9.3,
        8.46,
        7.04,
        6.24,
        5.18,
        4.73,
        4.54,
    ),
    ("fill", 8): (
        12.86,
        13.13,
        13.23,
        13.0,
        11.12,
        10.57,
        9.98,
        9.79,
        9.49,
        9.42,
        9.3,
        8.63,
        7.17,
        6.29,
        5.19,
        4.71,
        4.54,
    ),
    ("count", 1): (1.98, 1.99, 1.99, 1.97, 1.43, 1.64, 1.76, 1.8, 1.8, 1.77, 1.75, 1.75, 1.77, 1.79, 1.83, 1.84, 1.79),
    ("count", 2): (3.5, 3.53, 3.53, 3.44, 2.08, 2.64, 2.92, 2.99, 3.21, 3.15, 3.05, 3.05, 3.15, 3.19, 3.32, 3.26, 3.16),
    ("count", 4): (5.21, 5.25, 5.27, 5.08, 2.7, 3.41, 3.71, 3.84, 4.43, 4.51, 4.44, 4.42, 4.45, 4.43, 4.18, 3.94, 3.86),
    ("count", 8): (6.78, 6.91, 6.92, 6.64, 3.1, 3.77, 3.88, 4.05, 4.78, 4.83, 4.78, 4.75, 4.8, 4.63, 4.29, 3.98, 3.92),
}
"""Bytes a cycle by loop and LMUL at the sizes of `STREAM_KIB`; a copy counts what is copied. Buffers are aligned."""
