"""C code of a chain as one would write it: the reference paper's einsum loops, and plain matrix products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels.arrays import Arrays
from benchmarks.kernels.foreign import ALIGN, SIGNATURE, Pool, layout
from benchmarks.kernels.layers import Case


@dataclass(frozen=True, slots=True)
class Source:
    """C code with what it reads."""

    functions: tuple[str, ...]
    """One for each contraction."""
    calls: str
    """The kernel, which calls them."""
    weights: NDArray[np.float32]
    work: int
    """Elements of the work buffer."""

    @property
    def text(self) -> str:
        """The whole file."""
        return "\n".join([*self.functions, self.calls])


@dataclass(frozen=True, slots=True)
class _Loop:
    """One contraction as C, its function's body over G, I and O."""

    body: str
    weight: NDArray[np.float64]
    output: int
    """Elements of O."""


def paper(case: Case, numbers: Arrays) -> Source:
    """Return the einsum ``O[m][b][r] += G[r][n][m][k] * I[b][n][k]`` for every core, as the reference paper writes it.

    Cores in execution order: the last one first, or mirrored for designs that contract the first one first. Several
    rows are part of b, which needs one transpose of the output (mirrored: of the input). The dense layer is a plain
    product of its matrix with each row.
    """
    if not case.is_factorized:
        return _dense(case, numbers)
    f, cores, bonds = case.factorization, numbers.cores, case.factorization.bonds
    loops = []
    size = case.rows * f.inputs
    order = range(len(cores)) if f.direction == "lr" else reversed(range(len(cores)))
    for k in order:
        m, n = f.out_modes[k], f.in_modes[k]
        if f.direction == "rl":
            r, s = bonds[k], bonds[k + 1]
            b, weight = size // (n * s), cores[k].transpose(0, 2, 1, 3)
            body = _nest(
                (("m", m), ("b", b), ("r", r)),
                (("n", n), ("k", s)),
                "o[m][b][r]",
                "g[r][n][m][k] * i[b][n][k]",
                {"g": (r, n, m, s), "i": (b, n, s), "o": (m, b, r)},
            )
        else:
            r, s = bonds[k + 1], bonds[k]
            b, weight = size // (n * s), cores[k].transpose(0, 2, 1, 3)
            body = _nest(
                (("r", r), ("b", b), ("m", m)),
                (("k", s), ("n", n)),
                "o[r][b][m]",
                "g[k][n][m][r] * i[k][n][b]",
                {"g": (s, n, m, r), "i": (s, n, b), "o": (r, b, m)},
            )
        size = m * b * r
        loops.append(_Loop(body, weight, size))
    return _program(case, loops)


def plain(case: Case, numbers: Arrays) -> Source:
    """Return every step of the chain as a matrix product with its loops in the order i, k, j: no transposes.

    A step of one column is a product with the transposed weight, so that the innermost loop runs over outputs in the
    order of memory; the others have their columns innermost.
    """
    loops = []
    matrices = case.factorization.step_matrices(list(numbers.cores))
    for step, matrix in zip(case.factorization.steps(case.rows), matrices, strict=True):
        p, j, k, q = step.batch, step.out, step.inner, step.columns
        if q == 1:
            body = (
                f"for (int p = 0; p < {p}; p++) for (int j = 0; j < {j}; j++) O[p * {j} + j] = 0;\n"
                f"for (int p = 0; p < {p}; p++) for (int k = 0; k < {k}; k++) for (int j = 0; j < {j}; j++)\n"
                f"    O[p * {j} + j] += I[p * {k} + k] * G[k * {j} + j];"
            )
            loops.append(_Loop(body, matrix.T, step.output_size))
        else:
            body = (
                f"for (int i = 0; i < {p * j * q}; i++) O[i] = 0;\n"
                f"for (int p = 0; p < {p}; p++) for (int j = 0; j < {j}; j++) for (int k = 0; k < {k}; k++)\n"
                f"    for (int q = 0; q < {q}; q++) "
                f"O[(p * {j} + j) * {q} + q] += G[j * {k} + k] * I[(p * {k} + k) * {q} + q];"
            )
            loops.append(_Loop(body, matrix, step.output_size))
    return _program(case, loops, transposed=False)


def _dense(case: Case, numbers: Arrays) -> Source:
    rows, m, n = case.rows, case.layer.outputs, case.layer.inputs
    body = _nest(
        (("b", rows), ("m", m)),
        (("n", n),),
        "o[b][m]",
        "g[m][n] * i[b][n]",
        {"g": (m, n), "i": (rows, n), "o": (rows, m)},
    )
    return _program(case, [_Loop(body, numbers.cores[0], rows * m)], transposed=False)


def _nest(
    outer: tuple[tuple[str, int], ...],
    inner: tuple[tuple[str, int], ...],
    target: str,
    value: str,
    shapes: dict[str, tuple[int, ...]],
) -> str:
    """Return the loops that clear `target` and those that add `value` to it, with arrays of the given shapes."""

    def loops(axes: tuple[tuple[str, int], ...]) -> str:
        return "".join(f"for (int {name} = 0; {name} < {size}; {name}++) " for name, size in axes)

    lines = [_array(name, shape) for name, shape in shapes.items()]
    lines += ["#pragma scop", f"{loops(outer)}{target} = 0;", f"{loops(outer + inner)}\n    {target} += {value};"]
    return "\n".join([*lines, "#pragma endscop"])


def _array(name: str, shape: tuple[int, ...]) -> str:
    const = "" if name == "o" else "const "
    inner = "".join(f"[{size}]" for size in shape[1:])
    return f"{const}float (*restrict {name}){inner} = ({const}float (*){inner}){name.upper()};"


def _program(case: Case, loops: list[_Loop], *, transposed: bool = True) -> Source:
    """Return the functions of a chain and the one that calls them; rows are transposed where `transposed`."""
    pool = Pool.of([loop.weight for loop in loops])
    f, rows = case.factorization, case.rows
    turns = transposed and rows > 1
    chain = [(f"step{k}(w + {pool.offsets[k]}, FROM, TO);", loop.output) for k, loop in enumerate(loops)]
    if turns and f.direction == "lr":
        chain.insert(0, (f"turn(FROM, TO, {rows}, {f.inputs});", rows * f.inputs))
    elif turns:
        chain.append((f"turn(FROM, TO, {f.outputs}, {rows});", rows * f.outputs))
    sizes = [size for _, size in chain[:-1]]
    offsets = layout([max(sizes[::2], default=0), max(sizes[1::2], default=0)])
    names = ["x", *(f"work + {offsets[i % 2]}" for i in range(len(sizes))), "y"]
    calls = [call.replace("FROM", names[i]).replace("TO", names[i + 1]) for i, (call, _) in enumerate(chain)]
    head = "(const float *restrict G, const float *restrict I, float *restrict O)"
    functions = tuple(f"static void step{k}{head} {{\n{loop.body}\n}}\n" for k, loop in enumerate(loops))
    lines = [_TURN if turns else "", SIGNATURE + " {", *(f"    {call}" for call in calls), "}", ""]
    return Source(functions, "\n".join(lines), pool.data, offsets[-1] if sizes else ALIGN)


_TURN = """static void turn(const float *restrict in, float *restrict out, int rows, int columns) {
    for (int i = 0; i < columns; i++) for (int j = 0; j < rows; j++) out[i * rows + j] = in[j * columns + i];
}
"""
