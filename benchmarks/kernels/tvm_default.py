"""What TVM's default pipeline makes of a layer, as one C function: its packed functions called in order.

The Relax pipeline is taken up to the point where the model is a list of calls of lowered functions; the functions are
built as `tvm.tirx.build` builds them, and C code calls them as TVM's virtual machine would, with tensors described by
DLPack structures. No schedule is applied, as nobody gave one.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels.arrays import Arrays
from benchmarks.kernels.foreign import (
    ALIGN,
    SIGNATURE,
    Built,
    NotAvailableError,
    Pool,
    compile_c,
    foreign,
    joined,
    layout,
)
from benchmarks.kernels.forms import onnx_model
from benchmarks.kernels.layers import Case
from lrfdse.targets.target import Target


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Where a value lies, and its sizes."""

    place: str
    sizes: tuple[int, ...]


def build_default(case: Case, numbers: Arrays, form: str, target: Target) -> Built:
    """Compile a layer by TVM's default pipeline.

    Raises
    ------
    NotAvailableError
        TVM does not compile it, or the model becomes something other than calls of lowered functions.
    """
    import tvm
    from tvm import tirx

    try:
        module, machine = _lowered(onnx_model(case, numbers, form), target)
        functions = {
            name: function.with_attr("global_symbol", name.name_hint)
            for name, function in module.functions.items()
            if isinstance(function, tirx.PrimFunc)
        }
        library = tirx.build(tvm.IRModule(functions), target=machine)
        with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as folder:
            path = Path(folder) / "kernels.o"
            library.write_to_file(str(path), "o")
            kernels = path.read_bytes()
        text, weights, work = _program(module["main"])
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise NotAvailableError(f"TVM failed: {reason[:200]}") from error
    code = joined([compile_c(text, target, ("-O2",)), kernels], target)
    return foreign(case, target, code, numbers.x, weights, work)


def _lowered(model: Any, target: Target) -> tuple[Any, Any]:
    import tvm
    from tvm import relax
    from tvm.relax.backend import cpu_generic
    from tvm.relax.frontend.onnx import from_onnx

    machine = tvm.target.Target(_described(target))
    passes = [
        *cpu_generic.library_dispatch_passes(machine),
        *cpu_generic.legalize_passes(machine),
        relax.transform.RewriteDataflowReshape(),
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
    ]
    with machine:
        return tvm.transform.Sequential(passes)(from_onnx(model, keep_params_in_input=False)), machine


def _described(target: Target) -> dict[str, Any]:
    import tvm

    native = target.is_native
    described: dict[str, Any] = {
        "kind": "llvm",
        "mtriple": target.triple,
        "mcpu": tvm.target.codegen.llvm_get_system_cpu() if native else target.cpu,
        "num-cores": 1,
    }
    if target.features and not native:
        described["mattr"] = list(target.features)
    if target.abi and target.instruction_set.abi_option == "mabi":
        described["mabi"] = target.abi
    return described


def _program(main: Any) -> tuple[str, NDArray[np.float32], int]:
    """Return C code that makes the calls of a model's main function, its constants, and the elements of work."""
    values = {main.params[0].name: _Tensor("x", _sizes(main.params[0]))}
    constants: list[NDArray[np.float32]] = []
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    result = main.body.body.name
    # A result may be a view of what a call wrote.
    for binding in reversed(bindings):
        if binding.var.name == result and "reshape" in str(binding.value.op):
            result = binding.value.args[0].name
    calls: list[tuple[str, list[_Tensor]]] = []
    sizes: list[int] = []
    for binding in bindings:
        value, name = binding.value, binding.var.name
        kind = getattr(value.op, "name", "")
        if kind == "relax.reshape":
            values[name] = _Tensor(values[value.args[0].name].place, _sizes(binding.var))
        elif kind == "relax.call_tir":
            place = "y" if name == result else f"WORK{len(sizes)}"
            if name != result:
                sizes.append(math.prod(_sizes(binding.var)))
            values[name] = _Tensor(place, _sizes(binding.var))
            given = [_operand(argument, values, constants) for argument in value.args[1]]
            calls.append((value.args[0].name_hint, [*given, values[name]]))
        else:
            raise NotAvailableError(f"TVM's model holds {kind or type(value).__name__}")
    pool, offsets = Pool.of(constants), layout(sizes)
    places = {f"W{i}": f"w + {offset}" for i, offset in enumerate(pool.offsets)}
    places |= {f"WORK{i}": f"work + {offset}" for i, offset in enumerate(offsets[:-1])}
    names = dict.fromkeys(name for name, _ in calls)
    declared = [f"extern packed_function __tvm_ffi_{name};" for name in names]
    lines = [f"    {_call(name, tensors, places)}" for name, tensors in calls]
    text = "\n".join([_ABI, *declared, SIGNATURE + " {", *lines, "}", ""])
    return text, pool.data, offsets[-1] if sizes else ALIGN


def _operand(argument: Any, values: dict[str, _Tensor], constants: list[NDArray[np.float32]]) -> _Tensor:
    if hasattr(argument, "name"):
        return values[argument.name]
    data = getattr(argument, "data", None)
    array = (argument.value if data is None else data).numpy()
    if array.dtype != np.float32:
        raise NotAvailableError(f"TVM's model holds a constant of {array.dtype}")
    constants.append(array)
    return _Tensor(f"W{len(constants) - 1}", array.shape)


def _sizes(variable: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in variable.ty.shape)


def _call(name: str, tensors: list[_Tensor], places: dict[str, str]) -> str:
    described = []
    for tensor in tensors:
        sizes = tensor.sizes or (1,)
        strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
        described.append(
            f"TENSOR({places.get(tensor.place, tensor.place)}, {len(sizes)},"
            f" ((long long[]){{{', '.join(map(str, sizes))}}}), ((long long[]){{{', '.join(map(str, strides))}}}))"
        )
    return f"call(__tvm_ffi_{name}, {len(tensors)}, (tensor[]){{{', '.join(described)}}});"


_ABI = """
typedef struct {
    void *data;
    int device_type, device_id, dimensions;
    unsigned char type_code, type_bits;
    unsigned short type_lanes;
    const long long *shape, *strides;
    unsigned long long byte_offset;
} tensor;
typedef struct {
    int type, padding;
    const void *pointer;
} any;
typedef int packed_function(void *self, const any *arguments, int count, any *result);
enum { CPU = 1, FLOAT = 2, TENSOR_POINTER = 7, MOST = 16, WORKSPACE = 1 << 24 };
#define TENSOR(data, n, shape, strides) {(void *)(data), CPU, 0, n, FLOAT, 32, 1, shape, strides, 0}

static char workspace[WORKSPACE] __attribute__((aligned(64)));
static unsigned long long used;
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int count) { __builtin_trap(); }
static void *allocate(int type, int id, unsigned long long size, int code, int bits) {
    void *memory = workspace + used;
    used += (size + 63) / 64 * 64;
    if (used > sizeof workspace) __builtin_trap();
    return memory;
}
static int release(int type, int id, void *memory) {
    used = (unsigned long long)((char *)memory - workspace);
    return 0;
}
/* Modules hold weak pointers of these names, which TVM's runtime sets when it loads them. */
void *(*__TVMBackendAllocWorkspace)(int, int, unsigned long long, int, int) = allocate;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = release;
static inline void call(packed_function *function, int count, const tensor *tensors) {
    any arguments[MOST], result = {0, 0, 0};
    for (int i = 0; i < count; i++) arguments[i] = (any){TENSOR_POINTER, 0, tensors + i};
    if (function(0, arguments, count, &result)) __builtin_trap();
}
"""
