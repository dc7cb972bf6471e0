"""The whole kernel: the steps of a chain between their buffers, with pointer parameters only."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from lrfdse.errors import KernelError
from lrfdse.ir.kernel import Argument, KernelSpec
from lrfdse.kernels.blocked import BlockedEmitter
from lrfdse.kernels.blocks import Blocks
from lrfdse.kernels.emit import Epilogue, StepEmitter, dense
from lrfdse.kernels.instructions import Instructions
from lrfdse.kernels.layout import Tiling, step_cores
from lrfdse.kernels.lines import gap as gap_of
from lrfdse.kernels.tir import Buffer, Expr, Stmt, load, over, sequence, store, zero
from lrfdse.targets.target import Target

_INDEX_LIMIT = 2**31
"""Elements that a 32-bit index reaches."""


def arguments(spec: KernelSpec, tiles: tuple[Tiling, ...], target: Target) -> tuple[Argument, ...]:
    """Return the parameters in C order: x, weights and scales in the order of the cores, bias, y, work buffers.

    Where the rows of a tile of x crowd in the target's cache (`lrfdse.kernels.lines.crowds`), the first step reads a
    copy with gaps between them, in a work buffer.

    Raises
    ------
    KernelError
        An array is too large for 32-bit indices.
    """
    by_core = sorted(zip(step_cores(spec), tiles, strict=True), key=lambda pair: pair[0])
    scaled = by_core if spec.storage.scaled else []
    listed = (
        Argument("x", "input", spec.rows * spec.inputs),
        *(Argument(f"w{core}", "weight", tile.weight_size, spec.storage) for core, tile in by_core),
        *(Argument(f"s{core}", "scale", tile.step.out) for core, tile in scaled),
        *([Argument("bias", "bias", spec.outputs)] if spec.bias else []),
        Argument("y", "output", spec.rows * spec.outputs),
        *(Argument(f"work{i}", "work", size) for i, size in enumerate(_work_sizes(spec, tiles, target)) if size),
        *([Argument("blocks", "work", size)] if (size := _scratch_size(tiles)) else []),
    )
    largest = max(listed, key=lambda argument: argument.size)
    if largest.size >= _INDEX_LIMIT:
        raise KernelError(
            f"{spec}: {largest.name} has {largest.size} elements, but 32-bit indices allow fewer than 2^31"
        )
    return listed


def _input_gap(spec: KernelSpec, tiles: tuple[Tiling, ...], target: Target) -> int:
    """Return the elements behind each row of a copy of x; 0 where the first step reads x itself, or its padded copy."""
    if spec.factorization.inputs > spec.inputs:
        return 0
    return gap_of(tiles[0], target, tiles[0].step.inner * tiles[0].step.columns)


def function(
    spec: KernelSpec, tiles: tuple[Tiling, ...], instructions: Instructions, target: Target
) -> tuple[list[Buffer], Stmt]:
    """Return the buffers in the order of `arguments` and the body that reads and writes them."""
    # A caller's activations are only as aligned as an element.
    listed, gap = arguments(spec, tiles, target), _input_gap(spec, tiles, target)
    buffers = {
        a.name: tirx.decl_buffer((a.size,), a.storage.element, a.name, data_alignment=a.storage.bytes_of(1))
        for a in listed
    }
    f = spec.factorization
    pads_input, pads_output = f.inputs > spec.inputs, f.outputs > spec.outputs
    source, bias = buffers["x"], buffers.get("bias")
    body: list[Stmt] = []
    # Intermediates alternate between the two work buffers.
    place = 0
    if pads_input:
        source, place = buffers["work0"], 1
        body.append(_pad_rows(buffers["x"], source, spec.rows, spec.inputs, f.inputs))
    if gap:
        source, place = buffers["work0"], 1
        first = tiles[0].step
        run = first.inner * first.columns
        body.append(_copy_rows(buffers["x"], source, first.batch, run, run + gap))
    for core, tile in zip(step_cores(spec), tiles, strict=True):
        finish = tile is tiles[-1] and not pads_output
        made = buffers["y"] if finish else buffers[f"work{place}"]
        place = 1 - place
        epilogue = Epilogue(
            tile.step,
            made,
            bias if finish else None,
            tile.step.batch // spec.rows,
            finish and spec.relu,
            buffers.get(f"s{core}"),
            tile.schedule.axis == "columns",
        )
        weight = buffers[f"w{core}"]
        access = dense(tile.step, gap if tile is tiles[0] else 0)
        emitter = StepEmitter(tile, source, weight, epilogue, instructions, access)
        body.append(_step(emitter, buffers.get("blocks")))
        source = made
    if pads_output:
        epilogue = Epilogue(tiles[-1].step, buffers["y"], bias, 1, spec.relu)
        body.append(_cut_rows(source, epilogue, spec.rows, f.outputs, spec.outputs))
    return list(buffers.values()), sequence(body)


def _step(emitter: StepEmitter, scratch: Buffer | None) -> Stmt:
    """Return the loops of a step, in blocks where its schedule has some."""
    if emitter.tiling.schedule.inner_block:
        return BlockedEmitter(Blocks.of(emitter.tiling), lambda _: emitter, scratch).statement()
    return emitter.statement()


def _scratch_size(tiles: tuple[Tiling, ...]) -> int:
    """Return the elements that the blocks of any step need besides."""
    return max((Blocks.of(tile).scratch for tile in tiles if tile.schedule.inner_block), default=0)


def _work_sizes(spec: KernelSpec, tiles: tuple[Tiling, ...], target: Target) -> tuple[int, int]:
    f = spec.factorization
    sizes = [tile.step.output_size for tile in tiles[:-1]]
    if gap := _input_gap(spec, tiles, target):
        first = tiles[0].step
        sizes.insert(0, first.batch * (first.inner * first.columns + gap))
    if f.inputs > spec.inputs:
        sizes.insert(0, spec.rows * f.inputs)
    if f.outputs > spec.outputs:
        sizes.append(spec.rows * f.outputs)
    return max(sizes[::2], default=0), max(sizes[1::2], default=0)


_CHUNK = 4
"""Elements of one copy: a register of the narrowest vector unit among the targets that ship (128 bits)."""


def _pad_rows(source: Buffer, target: Buffer, rows: int, size: int, padded: int) -> Stmt:
    """Return the loops that copy rows of `size` elements to rows of `padded`, zeros behind them."""

    def row(r: Expr) -> Stmt:
        def copy(first: Expr, lanes: int) -> Stmt:
            return store(target, load(source, r * size + first, lanes), r * padded + first, lanes)

        def clear(first: Expr, lanes: int) -> Stmt:
            return store(target, zero(lanes), r * padded + size + first, lanes)

        return sequence([*_in_pairs(size, copy), *_even_and_odd(padded - size, clear)])

    return over(rows, row)


def _copy_rows(source: Buffer, target: Buffer, rows: int, size: int, distance: int) -> Stmt:
    """Return the loops that copy rows of `size` elements to rows that lie `distance` apart."""

    def row(r: Expr) -> Stmt:
        def copy(first: Expr, lanes: int) -> Stmt:
            return store(target, load(source, r * size + first, lanes), r * distance + first, lanes)

        return sequence(_in_pairs(size, copy))

    return over(rows, row)


def _cut_rows(source: Buffer, epilogue: Epilogue, rows: int, padded: int, size: int) -> Stmt:
    """Return the loops that finish and copy the first `size` elements of rows of `padded`."""

    def row(r: Expr) -> Stmt:
        def copy(first: Expr, lanes: int) -> Stmt:
            return epilogue.store(load(source, r * padded + first, lanes), r * size + first, first, lanes)

        return sequence(_in_pairs(size, copy))

    return over(rows, row)


def _in_pairs(size: int, copy: Callable[[Expr, int], Stmt]) -> list[Stmt]:
    """Return loops that copy `size` elements, two chunks an iteration.

    LLVM would turn a loop of one chunk an iteration into a call of memcpy, and kernels call nothing.
    """
    pairs, rest = divmod(size, 2 * _CHUNK)

    def pair(i: Expr) -> Stmt:
        return sequence([copy((2 * i + half) * _CHUNK, _CHUNK) for half in (0, 1)])

    return ([over(pairs, pair)] if pairs else []) + [copy(size - rest + i, 1) for i in range(rest)]


def _even_and_odd(size: int, clear: Callable[[Expr, int], Stmt]) -> list[Stmt]:
    """Return loops that clear `size` elements, even chunks before odd ones, lest LLVM call memset."""
    chunks, rest = divmod(size, _CHUNK)

    def loop(odd: int, count: int) -> Stmt:
        return over(count, lambda i: clear((2 * i + odd) * _CHUNK, _CHUNK))

    loops = [loop(odd, count) for odd, count in ((0, -(-chunks // 2)), (1, chunks // 2)) if count]
    return loops + [clear(size - rest + i, 1) for i in range(rest)]
