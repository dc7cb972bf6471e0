"""Registers that AArch64 and ARM instructions read and write, from the text that LLVM prints."""

from __future__ import annotations

import re

from lrfdse.targets.isa.code import Instruction, Registers

_A64_NAME = re.compile(r"\b(?:([xw])(\d+|zr)|(w?sp)|[vqdshb](\d+)(?:\.\w+)?)\b")
_A64_ACCUMULATES = re.compile(
    r"(fml[as]l?2?|ml[as]|[su]ml[as]l2?|[su]?s?dot|[usf]?mmla|ins|movk|bsl|bit|bif|tbx|sli|sri|[su]aba.*)$"
)
_A64_SETS_FLAGS = re.compile(r"(cmp|cmn|tst|fcmpe?|fccmpe?|ccmp|ccmn|adds|subs|ands|bics|adcs|sbcs|negs)$")
_A64_READS_FLAGS = re.compile(r"(b\..+|f?csel|csetm?|cs(inc|inv|neg)|c(inc|inv|neg)|adcs?|sbcs?|f?ccmpe?|ccmn)$")
_A64_NO_RESULT = re.compile(
    r"(st\w+|prfu?m|cmp|cmn|tst|fcmpe?|fccmpe?|ccmp|ccmn|b|b\..+|br|ret|cbn?z|tbn?z|nop|svc|dmb|hint)$"
)


_RESULT = re.compile(r"\S+ \{? ?(?:v\d+\.(\w+)|([qdshbwx])\d+)\b")


def form(instruction: Instruction) -> str:
    """Return an instruction's mnemonic with what its first operand is: the arrangement or the kind of a register.

    >>> form(Instruction("fmla v0.4s, v1.4s, v2.s[1]")), form(Instruction("ldp q0, q1, [x8]"))
    ('fmla 4s', 'ldp q')
    >>> form(Instruction("vfma.f32 q8, q9, q10")), form(Instruction("b.ne #-16"))
    ('vfma.f32 q', 'b.ne')
    """
    mnemonic = instruction.text.partition(" ")[0]
    found = _RESULT.match(instruction.text)
    return f"{mnemonic} {found[1] or found[2]}" if found else mnemonic


def aarch64_registers(instruction: Instruction) -> Registers:
    """Return an AArch64 instruction's registers; all views of a register are one.

    >>> aarch64_registers(Instruction("fmla v0.4s, v1.4s, v2.s[1]"))
    Registers(writes=('v0',), reads=('v1', 'v2', 'v0'), updates=())
    >>> aarch64_registers(Instruction("ldp q0, q1, [x8], #32"))
    Registers(writes=('v0', 'v1'), reads=('x8',), updates=('x8',))
    """
    mnemonic, _, operands = instruction.text.partition(" ")
    outside, _, address = operands.partition("[") if re.search(r"\[[xs]", operands) else (operands, "", "")
    direct, based = _a64_names(outside), _a64_names(address)
    updates = based[:1] if "]!" in operands or re.search(r"\], ?[#x]", operands) else []
    sets_flags = ["nzcv"] if _A64_SETS_FLAGS.match(mnemonic) else []
    reads_flags = ["nzcv"] if _A64_READS_FLAGS.match(mnemonic) else []
    if mnemonic in ("bl", "blr"):
        return Registers(("x30",), tuple(direct))
    if mnemonic == "ret":
        return Registers((), tuple(direct or ["x30"]))
    if _A64_NO_RESULT.match(mnemonic):
        return Registers(tuple(sets_flags), (*direct, *based, *reads_flags), tuple(updates))
    is_load = mnemonic.startswith("ld")
    results = direct if is_load else direct[:1]
    sources = [] if is_load else direct[1:]
    lane_only = re.match(r"(\{ ?)?v\d+(\.\w+)? ?\}?\[\d+\]|v\d+\.\w+\[", operands) is not None
    if _A64_ACCUMULATES.match(mnemonic) or lane_only:
        sources = sources + results
    return Registers((*results, *sets_flags), (*sources, *based, *reads_flags), tuple(updates))


def _a64_names(text: str) -> list[str]:
    """Return register names, `x` for general and `v` for vector ones; the zero register is none."""
    text = re.sub(
        r"v(\d+)(\.\w+) ?- ?v(\d+)\.\w+",
        lambda found: ", ".join(f"v{i}{found[2]}" for i in range(int(found[1]), int(found[3]) + 1)),
        text,
    )
    names = []
    for kind, number, stack, vector in _A64_NAME.findall(text):
        if stack:
            names.append("sp")
        elif vector:
            names.append(f"v{vector}")
        elif kind and number != "zr":
            names.append(f"x{number}")
    return names


_ARM_NAME = re.compile(r"\b(r\d+|sp|lr|pc|ip|fp|sl|sb|[sdq]\d+)\b")
_ARM_RANGE = re.compile(r"\b([rsdq])(\d+) ?- ?[rsdq](\d+)\b")
_ARM_SPECIAL = {"sb": "r9", "sl": "r10", "fp": "r11", "ip": "r12", "sp": "r13", "lr": "r14", "pc": "r15"}
_ARM_PLAIN = re.compile(
    r"add|adc|sub|sbc|rs[bc]|and|orr|eor|bic|mov[wt]?|mvn|mul|ml[as]|cmp|cmn|tst|teq|ldr(b|h|d|sb|sh)?|str[bhd]?|"
    r"(ld|st)m(ib|db|da)?|push|pop|b|bl|bx|blx|lsl|lsr|asr|ror|[su]bfx|[su]xt[bh]|[su]mull|[su]mlal|clz|rev|nop|pld|bfi"
)
_CONDITIONS = re.compile(r"eq|ne|hs|cs|lo|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le")
_ARM_ACCUMULATES = re.compile(r"v?f?n?ml[as]l?$|vfn?m[as]$|[su]mlal$|movt$|bfi$|vs[lr]i$|vbsl$|vbi[tf]$|vtbx$|vpadal$")
_ARM_STORES = re.compile(r"(str\w*|stm\w*|push|vstr|vst[1-4]|vstm\w*|vpush|pld\w*)$")
_ARM_LOADS = re.compile(r"(ldr\w*|ldm\w*|pop|vldr|vld[1-4]|vldm\w*|vpop)$")


def armv7_registers(instruction: Instruction) -> Registers:
    """Return an ARM (A32) instruction's registers; NEON registers are tracked by their single-precision parts.

    >>> armv7_registers(Instruction("vmla.f32 q0, q1, d4[0]")).writes
    ('s0', 's1', 's2', 's3')
    >>> armv7_registers(Instruction("vldmia r0!, {d0, d1}")).updates
    ('r0',)
    """
    word, _, operands = instruction.text.partition(" ")
    mnemonic, conditional, sets_flags = _arm_mnemonic(word.split(".")[0])
    reads = ["cpsr"] if conditional or mnemonic in ("adc", "sbc", "rsc", "vmrs") else []
    writes = ["cpsr"] if sets_flags or mnemonic in ("cmp", "cmn", "tst", "teq") else []
    if mnemonic in ("push", "pop", "vpush", "vpop"):
        listed = _arm_names(operands)
        if mnemonic in ("push", "vpush"):
            return Registers((), (*listed, "r13", *reads), ("r13",))
        return Registers(tuple(listed), ("r13", *reads), ("r13",))
    if _ARM_LOADS.match(mnemonic) or _ARM_STORES.match(mnemonic):
        return _arm_memory(mnemonic, operands, reads)
    names = _arm_names(operands)
    if mnemonic in ("cmp", "cmn", "tst", "teq", "b", "bx", "vcmp", "vcmpe", "nop"):
        return Registers(tuple(writes), (*names, *reads))
    if mnemonic in ("bl", "blx"):
        return Registers(("r14",), tuple(names))
    first = _arm_names(operands.split(",")[0])
    if mnemonic in ("umull", "smull", "umlal", "smlal"):
        first = names[:2]
    sources = names[len(first) :]
    lane_only = re.match(r"d\d+\[\d+\]", operands) is not None
    if conditional or lane_only or (_ARM_ACCUMULATES.search(mnemonic) and mnemonic not in ("mla", "mls")):
        sources = sources + first
    return Registers((*first, *writes), (*sources, *reads))


def _arm_memory(mnemonic: str, operands: str, reads: list[str]) -> Registers:
    multiple = re.search(r"ldm|stm", mnemonic) is not None
    head, _, tail = operands.partition(",") if multiple else operands.partition("[")
    base, listed = (_arm_names(head), _arm_names(tail)) if multiple else (_arm_names(tail), _arm_names(head))
    advances = "!" in operands or re.search(r"\], ?[#r-]", operands)
    updates = tuple(base[:1]) if advances else ()
    if _ARM_STORES.match(mnemonic):
        return Registers((), (*listed, *base, *reads), updates)
    kept = listed if reads or re.search(r"d\d+\[\d+\]", operands) else []
    return Registers(tuple(listed), (*base, *kept, *reads), updates)


def _arm_mnemonic(word: str) -> tuple[str, bool, bool]:
    """Split a mnemonic into its plain form, whether it is conditional, and whether it sets the flags.

    >>> _arm_mnemonic("addne"), _arm_mnemonic("subs"), _arm_mnemonic("blt"), _arm_mnemonic("vmls")
    (('add', True, False), ('sub', False, True), ('b', True, False), ('vmls', False, False))
    """
    if _ARM_PLAIN.fullmatch(word) or word.startswith("v"):
        return word, False, False
    stem, conditional = (word[:-2], True) if _CONDITIONS.fullmatch(word[-2:]) and len(word) > 2 else (word, False)
    if _ARM_PLAIN.fullmatch(stem):
        return stem, conditional, False
    if stem.endswith("s") and _ARM_PLAIN.fullmatch(stem[:-1]):
        return stem[:-1], conditional, True
    return word, False, False


def _arm_names(text: str) -> list[str]:
    text = _ARM_RANGE.sub(
        lambda found: ", ".join(f"{found[1]}{i}" for i in range(int(found[2]), int(found[3]) + 1)), text
    )
    names: list[str] = []
    for name in _ARM_NAME.findall(text):
        if name in _ARM_SPECIAL:
            names.append(_ARM_SPECIAL[name])
        elif name[0] == "d":
            names += _arm_double(int(name[1:]))
        elif name[0] == "q":
            names += _arm_double(2 * int(name[1:])) + _arm_double(2 * int(name[1:]) + 1)
        else:
            names.append(name)
    return names


def _arm_double(number: int) -> list[str]:
    return [f"s{2 * number}", f"s{2 * number + 1}"] if number < 16 else [f"d{number}"]
