"""Reading what an IREE-compiled module does from its HAL text: which dispatches, over which parts of which buffers.

IREE compiles a model into dispatch functions and a host program that calls them. The host program is written here as
MLIR text (``--compile-to=hal``). Of that text only what moves data matters: constants, buffers, command buffers, and
loops around them; devices, fences and checks are passed over. Only static shapes, dispatches, copies and clearing are
understood.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["constant", "transient", "input"]


class UnsupportedError(Exception):
    """The host program holds something that is not understood; the message names it."""


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """A buffer of the host program."""

    kind: Kind
    size: int
    """Bytes."""
    data: bytes = b""
    """Of constants."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A part of a buffer that a dispatch reads or writes."""

    buffer: Buffer
    offset: int
    length: int


CLEAR = ""
"""Function of a command that sets the bytes of its only binding to zero."""

COPY = "copy"
"""Function of a command that copies its first binding to its second one of the same length."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A call of a dispatch function for every workgroup, or `CLEAR`, or `COPY`."""

    function: str
    workgroups: tuple[int, int, int]
    bindings: tuple[Binding, ...]
    constants: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """What runs once before the first inference, and what runs in each."""

    first: tuple[Dispatch, ...]
    each: tuple[Dispatch, ...]
    inputs: tuple[Buffer, ...]
    outputs: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class _Slot:
    """An entry of a binding table that is given when commands are executed."""

    index: int


@dataclass(frozen=True, slots=True)
class _Planned:
    """A dispatch whose bindings may be slots."""

    function: str
    workgroups: tuple[int, int, int]
    bindings: tuple[tuple[Buffer | _Slot, int, int], ...]
    constants: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Function:
    """A function's head, and its statements."""

    head: str
    body: list[str]


@dataclass(slots=True)
class _State:
    """What the host program holds in its globals."""

    functions: dict[str, _Function]
    values: dict[str, object] = field(default_factory=dict)
    executed: list[Dispatch] = field(default_factory=list)


def read(text: str, entry: str) -> Program:
    """Return the program of a module in HAL text whose model function is ``entry``.

    Raises
    ------
    UnsupportedError
        The module does something other than dispatches over static buffers.
    """
    functions, initializers = _parts(text)
    state = _State(functions)
    for body in initializers:
        _run(body, {}, state)
    first, state.executed = tuple(state.executed), []
    main = functions.get(f"{entry}$async") or functions.get(entry)
    if main is None:
        raise UnsupportedError(f"no function {entry}")
    inputs = {name: Buffer("input", 0) for name in _VIEW_ARGUMENT.findall(main.head)}
    names: dict[str, object] = dict(inputs)
    returned = _run(main.body, names, state)
    outputs = tuple(value for value in returned if isinstance(value, Binding))
    if not outputs or len(outputs) != len(returned):
        raise UnsupportedError("the model returns something other than buffers")
    return Program(first, tuple(state.executed), tuple(inputs.values()), outputs)


def _parts(text: str) -> tuple[dict[str, _Function], list[list[str]]]:
    """Return every function by name, and the statements of every initializer in order."""
    functions: dict[str, _Function] = {}
    initializers: list[list[str]] = []
    body: list[str] | None = None
    for statement in _statements(text):
        if statement.startswith("util.initializer"):
            body = []
            initializers.append(body)
        elif found := re.match(rf"util\.func (?:public|private) {_SYMBOL}\(", statement):
            body = functions.setdefault(found[1].strip('"'), _Function(statement, [])).body
        elif statement == "}":
            body = None
        elif body is not None:
            body.append(statement)
    return functions, initializers


def _statements(text: str) -> Iterator[str]:
    """Yield statements, those of several lines joined, heads of functions without what follows."""
    held: list[str] = []
    depth = 0
    for line in text.splitlines():
        line = line.strip()
        # Only these brackets span lines; hex text of constants holds none.
        if len(line) < _LONG:
            depth += line.count("[") + line.count("(") - line.count("]") - line.count(")")
        held.append(line)
        if depth <= 0:
            yield " ".join(held)
            held, depth = [], 0


_LONG = 4096
_NAME = r"%[\w$.\-]+"
_SYMBOL = r'@("[^"]*"|[\w$.\-]+)'
_VIEW_ARGUMENT = re.compile(rf"({_NAME}): !hal\.buffer_view\b")
_CONSTANT = re.compile(rf"({_NAME}) = arith\.constant (-?\d+|true|false)\b")
_BUFFER_CONSTANT = re.compile(rf"({_NAME}) = util\.buffer\.constant")
_IMPORT = re.compile(
    rf"({_NAME}), ({_NAME}) = hal\.allocator\.import.* source\(({_NAME}) : [^)]*\)\[({_NAME}), ({_NAME})\]"
)
_ALLOCA = re.compile(rf"({_NAME}) = hal\.device\.queue\.alloca.*!hal\.buffer\{{({_NAME})\}}")
_TO = r"(\^\w+)(?:\(([^:]*):[^)]*\))?"
_BRANCH = re.compile(rf"cf\.cond_br ({_NAME}), {_TO}, {_TO}")
_JUMP = re.compile(rf"cf\.br {_TO}")
_LABEL = re.compile(r"(\^\w+)(?:\((.*)\))?:")
_ARITHMETIC = re.compile(rf"({_NAME}) = arith\.(\w+) (?:(\w+), )?({_NAME})(?:, ({_NAME}))?(?:, ({_NAME}))? : ")
_LOAD = re.compile(rf"({_NAME}) = util\.global\.load (?:immutable )?{_SYMBOL}")
_STORE = re.compile(rf"util\.global\.store ({_NAME}), {_SYMBOL}")
_COMMANDS = re.compile(rf"({_NAME}) = hal\.command_buffer\.create")
_FUNCTION = re.compile(rf'({_NAME}) = hal\.executable\.lookup\.function .*function\(@[^:]+::@[^:]+::@"?([^)"]+)"?\)')
_DISPATCH = re.compile(
    rf"hal\.command_buffer\.dispatch<({_NAME}) .*\[({_NAME})\] workgroups\(\[([^\]]*)\]\)"
    r"(?: constants\(\[([^\]]*)\]\))? bindings\(\[(.*)\]\)"
)
_EXECUTE = re.compile(rf"hal\.device\.queue\.execute(?:\.indirect)?<.* commands\(({_NAME})\)(?: bindings\(\[(.*)\]\))?")
_BINDING = re.compile(rf"\(({_NAME}) : ([^)]*)\)\[({_NAME}), ({_NAME})\]")
_CALL = re.compile(rf"({_NAME}) = util\.call {_SYMBOL}\(([^)]*)\)")
_VIEWED = re.compile(rf"({_NAME}) = hal\.buffer_view\.buffer<({_NAME}) ")
_VIEW = re.compile(rf"({_NAME}) = hal\.buffer_view\.create buffer\(({_NAME}) : [^)]*\)\[({_NAME}), ({_NAME})\]")
_RETURN = re.compile(rf"util\.return((?: {_NAME},?)*)")
_FILL = re.compile(rf"hal\.command_buffer\.fill_buffer<({_NAME}) .*target(.*) pattern\(({_NAME}) : ")
_COPY = re.compile(
    rf"hal\.command_buffer\.copy_buffer<({_NAME}) .*source\(({_NAME}) : ([^)]*)\)\[({_NAME})\] "
    rf"target\(({_NAME}) : ([^)]*)\)\[({_NAME})\] length\(({_NAME})\)"
)
_REFUSED = re.compile(
    r"hal\.(command_buffer\.(?:fill_buffer|copy_buffer|update_buffer|collective|dispatch\.indirect)"
    r"|device\.queue\.(?:fill|copy|update))\b"
)


_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "addi": operator.add,
    "subi": operator.sub,
    "muli": operator.mul,
    "divui": operator.floordiv,
    "divsi": operator.floordiv,
    "remui": operator.mod,
    "minui": min,
    "minsi": min,
    "maxui": max,
    "maxsi": max,
}
"""Of whole numbers that are not negative, as sizes and offsets are."""
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    **{f"{sign}{name}": getattr(operator, name) for sign in "su" for name in ("lt", "le", "gt", "ge")},
}
_SAME = ("index_cast", "index_castui", "extui", "extsi", "trunci")


def _blocks(body: list[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Return the parameters and statements of every block by label; the first block's is empty."""
    parameters: list[str] = []
    statements: list[str] = []
    found = {"": (parameters, statements)}
    for statement in body:
        if len(statement) < _LONG and (label := _LABEL.match(statement)):
            parameters = [part.split(":")[0].strip() for part in (label[2] or "").split(",")]
            statements = []
            found[label[1]] = (parameters, statements)
        else:
            statements.append(statement)
    return found


def _run(body: list[str], names: dict[str, object], state: _State) -> tuple[object, ...]:
    """Interpret blocks from the first one on and return what they return.

    Of a condition that is not known (whether a constant could be imported, whether there is a further device) the first
    way is taken, and the second one where it is met again.
    """
    blocks = _blocks(body)
    label = ""
    given: list[object] = []
    passed: set[str] = set()
    while True:
        parameters, statements = blocks[label]
        names.update(zip(parameters, given, strict=False))
        for statement in statements:
            if len(statement) >= _LONG or statement.startswith("%buffer_cst"):
                if found := _BUFFER_CONSTANT.match(statement):
                    data = constant_bytes(statement)
                    names[found[1]] = Buffer("constant", len(data), data)
            elif found := _RETURN.match(statement):
                return tuple(names.get(name) for name in re.findall(_NAME, found[1]))
            elif found := _JUMP.match(statement):
                label, given = found[1], _given(names, found[2])
            elif found := _BRANCH.match(statement):
                known = names.get(found[1])
                first = known if isinstance(known, bool) else statement not in passed
                passed.add(statement)
                label, given = (found[2], _given(names, found[3])) if first else (found[4], _given(names, found[5]))
            else:
                _step(statement, names, state)
        if not statements or not statements[-1].startswith("cf."):
            return ()


def _given(names: dict[str, object], listed: str | None) -> list[object]:
    return [names.get(name.strip()) for name in (listed or "").split(",")]


def _step(statement: str, names: dict[str, object], state: _State) -> None:
    """Interpret one statement that is none of a block's ends."""
    if found := _CONSTANT.match(statement):
        names[found[1]] = int(found[2]) if found[2][-1].isdigit() else found[2] == "true"
    elif found := _ARITHMETIC.match(statement):
        names[found[1]] = _computed(found[2], found[3], [names.get(name) for name in found.group(4, 5, 6)])
    elif found := _IMPORT.match(statement):
        names[found[1]] = True
        names[found[2]] = _imported(_part(names, found[3], found[4], found[5]))
    elif found := _ALLOCA.match(statement):
        names[found[1]] = Buffer("transient", _whole(names, found[2]))
    elif found := _LOAD.match(statement):
        names[found[1]] = state.values.get(found[2])
    elif found := _STORE.match(statement):
        state.values[found[2]] = names.get(found[1])
    elif found := _COMMANDS.match(statement):
        names[found[1]] = []
    elif found := _FUNCTION.match(statement):
        names[found[1]] = found[2]
    elif found := _DISPATCH.match(statement):
        _commands(names, found[1]).append(_planned(names, *found.group(2, 3, 4, 5)))
    elif (found := _FILL.match(statement)) and names.get(found[3]) == 0:
        _commands(names, found[1]).append(_Planned(CLEAR, (1, 1, 1), _bound(names, found[2]), ()))
    elif found := _COPY.match(statement):
        source = _where(names, found[2], found[3], found[4], found[8])
        to = _where(names, found[5], found[6], found[7], found[8])
        _commands(names, found[1]).append(_Planned(COPY, (1, 1, 1), (source, to), ()))
    elif found := _EXECUTE.match(statement):
        _execute(names, found[1], found[2], state)
    elif found := _CALL.match(statement):
        called = state.functions.get(found[2].strip('"'))
        if called is None:
            raise UnsupportedError(f"call of {found[2]}")
        names[found[1]] = next(iter(_run(called.body, {}, state)), None)
    elif found := _VIEWED.match(statement):
        names[found[1]] = names.get(found[2])
    elif found := _VIEW.match(statement):
        names[found[1]] = _part(names, found[2], found[3], found[4])
    elif found := _REFUSED.search(statement):
        raise UnsupportedError(f"command {found[1]}")


def _computed(name: str, how: str | None, values: list[object]) -> object:
    """Return what an operation gives, or None where that is not known."""
    if name == "select":
        chosen, one, other = values
        return None if chosen is None else one if chosen else other
    if name in _SAME:
        return values[0]
    first, second = values[:2]
    if not isinstance(first, int) or not isinstance(second, int):
        return None
    if name == "cmpi":
        return _COMPARISONS[how or ""](first, second)
    return _OPERATIONS[name](first, second) if name in _OPERATIONS else None


def _commands(names: dict[str, object], name: str) -> list[_Planned]:
    commands = names[name]
    assert isinstance(commands, list)
    return commands


def _planned(names: dict[str, object], function: str, groups: str, constants: str | None, bindings: str) -> _Planned:
    x, y, z = (_whole(names, name.strip()) for name in groups.split(","))
    given = tuple(_whole(names, name.strip()) for name in (constants or "").split(",") if name.strip())
    return _Planned(str(names[function]), (x, y, z), _bound(names, bindings), given)


def _bound(names: dict[str, object], bindings: str) -> tuple[tuple[Buffer | _Slot, int, int], ...]:
    return tuple(_where(names, *found) for found in _BINDING.findall(bindings))


def _where(names: dict[str, object], name: str, kind: str, offset: str, length: str) -> tuple[Buffer | _Slot, int, int]:
    where = _Slot(_whole(names, name)) if kind.strip() == "index" else names.get(name)
    if not isinstance(where, Buffer | _Slot):
        raise UnsupportedError(f"binding of {name}")
    return where, _whole(names, offset), _whole(names, length)


def _execute(names: dict[str, object], commands: str, table: str | None, state: _State) -> None:
    slots = [_part(names, name, offset, length) for name, _, offset, length in _BINDING.findall(table or "")]
    planned = names.get(commands)
    if not isinstance(planned, list):
        raise UnsupportedError(f"commands {commands}")
    for one in planned:
        bindings = []
        for where, offset, length in one.bindings:
            base = slots[where.index] if isinstance(where, _Slot) else Binding(where, 0, where.size)
            bindings.append(Binding(base.buffer, base.offset + offset, length))
        state.executed.append(Dispatch(one.function, one.workgroups, tuple(bindings), one.constants))


def _part(names: dict[str, object], name: str, offset: str, length: str) -> Binding:
    buffer = names.get(name)
    if not isinstance(buffer, Buffer):
        raise UnsupportedError(f"buffer {name}")
    return Binding(buffer, _whole(names, offset), _whole(names, length))


def _imported(part: Binding) -> Buffer:
    return Buffer(part.buffer.kind, part.length, part.buffer.data[part.offset : part.offset + part.length])


def _whole(names: dict[str, object], name: str) -> int:
    value = names.get(name)
    if not isinstance(value, int):
        raise UnsupportedError(f"{name} is not a constant")
    return value


_TYPE = re.compile(r": (?:tensor|vector)<((?:\d+x)*)(\w+)>")
_DTYPES = {"f32": "<f4", "i8": "<i1", "i32": "<i4", "i64": "<i8", "f64": "<f8"}


def constant_bytes(statement: str) -> bytes:
    """Return the bytes of a ``util.buffer.constant``: one array, or a composite of several.

    >>> constant_bytes('%b = util.buffer.constant : !util.buffer = dense<[1.0, -2.5]> : tensor<2xf32>').hex()
    '0000803f000020c0'
    >>> len(constant_bytes('%b = util.buffer.constant : !util.buffer = dense<0> : tensor<4xi8>'))
    4
    """
    made = []
    for found in re.finditer(r'dense<("0x[0-9A-Fa-f]*"|[^>]*)>', statement):
        kind = _TYPE.match(statement, found.end() + 1)
        if kind is None or kind[2] not in _DTYPES:
            raise UnsupportedError(f"constant of type {statement[found.end() : found.end() + 40]}")
        made.append(_dense(found[1], kind[1], _DTYPES[kind[2]]))
    if not made:
        raise UnsupportedError(f"constant {statement[:80]}")
    return b"".join(made)


def _dense(text: str, sizes: str, dtype: str) -> bytes:
    count = int(np.prod([int(size) for size in sizes.split("x") if size], dtype=np.int64))
    if text.startswith('"0x'):
        data = bytes.fromhex(text[3:-1])
        return data * (count * np.dtype(dtype).itemsize // len(data))
    numbers = re.findall(r"[-+\w.]+", text)
    values: NDArray[np.generic] = np.array([_number(number) for number in numbers], dtype=dtype)
    return (np.full(count, values[0], dtype=dtype) if len(values) == 1 else values).tobytes()


def _number(text: str) -> float:
    if text.startswith("0x"):
        return float(np.array([int(text, 16)], dtype="<u4").view("<f4")[0])
    return float(text)
