"""Functions of float32 vectors as TIR, without a mathematics library: polynomials around exact reductions.

Errors are stated for cores with FMA and tested against float64; an ulp is the distance of neighbouring float32 numbers.
Results below 2^-125 are only known to be so small. NaN gives NaN. Nothing relies on the order of additions: where LLVM
may reassociate sums, numbers that were rounded by an addition are read from their bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from lrfdse.ir.epilogue import Function
from lrfdse.kernels.operators.coefficients import (
    COS,
    ERF_ABOVE,
    ERF_BELOW,
    ERF_END,
    EXP,
    EXP_SHORT,
    HALF_PI,
    LN2,
    LOG,
    SIN,
    TANH_ABOVE,
    TANH_BELOW,
    TANH_END,
)
from lrfdse.kernels.operators.vectors import Vectors
from lrfdse.kernels.tir import Expr, vector_type

_EXP_LEAST = -87.0
"""Arguments of exp below it give 0: float32's normal numbers end at exp(-87.34)."""

_EXP_MOST = 88.72283172607422
"""The largest float32 whose exp is finite."""

_EXPONENT_BIAS = 127
"""What float32 adds to exponents of two."""

_CIRCLE_END = 4194304.0
"""2^22: beyond it sine and cosine are NaN, because the multiple of pi/2 would no longer be exact."""

_WHOLE = 8388608.0
"""2^23: float32 from there on are whole numbers."""

_WHOLE_BITS = 0x4B000000
"""The bits of 2^23 as float32: those of 2^23 + n, for whole n below it, are n more."""

_ROUNDING = 12582912.0
"""1.5 * 2^23: float32 around it are whole numbers, so that adding it rounds numbers of either sign up to 2^22."""

_ROUNDING_BITS = 0x4B400000
"""Its bits."""

_RECIPROCAL_BITS = 0x7EF31000
"""What the bits of a positive float32 are taken from so that those of its reciprocal are left, within 5.1 %: the number
that leaves the least error after one cubic step, 1.3e-4, of the multiples of 1024."""

_ROOT_HALF_BITS = 0x3F3504F3
"""The bits of sqrt(1/2) as float32: mantissas are taken between it and sqrt(2)."""

_LEAST_NORMAL = 1.1754943508222875e-38
"""2^-126, float32's least normal number."""

_MOST_FACTORS = 8
"""Whole powers up to it are products, more exact than logarithms and faster. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class Functions(Vectors):
    """Functions of vectors of `lanes` elements; statements that they need go to `into`."""

    def call(
        self, function: Function, operands: Sequence[Expr], constants: Sequence[float | None], careless: bool = False
    ) -> Expr:
        """Return a function of its operands.

        Parameters
        ----------
        function
            Which.
        operands
            What it is given.
        constants
            Those of them that are numbers known beforehand.
        careless
            Whether it may give any number where an operand is NaN.
        """
        if function in _ARITHMETIC:
            return self._arithmetic(function, operands, constants)
        if function == "pow":
            return self._power(operands[0], operands[1], constants[1])
        methods: dict[str, Callable[[Expr], Expr]] = {
            "abs": self.magnitude,
            "ceil": self._ceil,
            "cos": lambda x: self._circle(x, 1),
            "erf": lambda x: self._erf(x, careless),
            "exp": self.exp,
            "floor": self._floor,
            "log": self.log,
            "neg": lambda x: x * self.number(-1.0),
            "round": self._round,
            "sigmoid": lambda x: self.sigmoid(x, careless),
            "sin": lambda x: self._circle(x, 0),
            "sqrt": self.root,
            "tanh": lambda x: self.tanh(x, careless),
        }
        return methods[function](self._held(operands[0]))

    def exp(self, x: Expr) -> Expr:
        """Return e^x within 2 ulp; 0 below -87."""
        x = self._held(x)
        p, exponent = self._exp_parts(self._held(self._clamped(x, _EXP_LEAST, _EXP_MOST, True)))
        # Added to the bits, the exponent reaches the largest numbers, where 2^n is none any more.
        shift = tirx.shift_left(exponent, self.whole(23)) - self.whole(_EXPONENT_BIAS << 23)
        scaled = self._held(self._as_float(self._held(self._as_int(p) + shift)))
        # NaN is no number up to the last one.
        upper = tirx.Select(x <= self.number(_EXP_MOST), scaled, x * self.number(math.inf))
        return self._held(tirx.Select(x < self.number(_EXP_LEAST), self.number(0.0), upper))

    def exp_below(self, x: Expr) -> Expr:
        """Return e^x of numbers up to 0 within 2 ulp; 0 below -87. It is faster than `exp`."""
        x = self._held(x)
        made = self._exp_normal(self._held(tirx.Max(self.number(_EXP_LEAST), x)))
        return self._held(tirx.Select(x < self.number(_EXP_LEAST), self.number(0.0), made))

    def _exp_normal(self, near: Expr) -> Expr:
        """Return e^x of numbers from -87 to 87, or of NaN."""
        p, exponent = self._exp_parts(near)
        return self._held(p * self._as_float(self._held(tirx.shift_left(exponent, self.whole(23)))))

    def _exp_parts(self, near: Expr) -> tuple[Expr, Expr]:
        """Return a number between 0.7 and 1.5 and the biased exponent of two, in the low bits, whose product is e^x."""
        exponent, n = self._nearest(near, math.log2(math.e), _EXPONENT_BIAS)
        r = self._fused(n, self.number(-LN2[0]), near)
        r = self._fused(n, self.number(-LN2[1]), r)
        p = self._fused(self._polynomial(EXP, r), self._held(r * r), r)
        return self._held(p + self.number(1.0)), exponent

    def log(self, x: Expr) -> Expr:
        """Return the natural logarithm within 2 ulp; -inf of 0, NaN of negative numbers."""
        x = self._held(x)
        small = x < self.number(_LEAST_NORMAL)
        normal = self._held(tirx.Select(small, x * self.number(_WHOLE), x))
        bits = self._held(self._as_int(normal))
        exponent = tirx.shift_right(self._held(bits - self.whole(_ROOT_HALF_BITS)), self.whole(23))
        exponent = self._held(exponent)
        f = self._as_float(self._held(bits - tirx.shift_left(exponent, self.whole(23))))
        f = self._held(f - self.number(1.0))
        n = self._held(self._cast(exponent, "float32") - tirx.Select(small, self.number(23.0), self.number(0.0)))
        square = self._held(f * f)
        p = self._held(self._polynomial(LOG, f) * f * square)
        p = self._fused(n, self.number(LN2[1]), p)
        p = self._fused(square, self.number(-0.5), p)
        p = self._held(f + p)
        p = self._fused(n, self.number(LN2[0]), p)
        # Infinity and NaN give themselves.
        p = tirx.Select(x < self.number(math.inf), p, x)
        p = self._held(tirx.Select(x > self.number(0.0), p, self.number(-math.inf)))
        # What is neither at least nor below zero is NaN.
        return self._held(tirx.Select(x >= self.number(0.0), p, self.number(math.nan)))

    def sigmoid(self, x: Expr, careless: bool = False) -> Expr:
        """Return 1 / (1 + e^-x) within 5 ulp; that of -87 below it."""
        x = self._held(self._clamped(x, _EXP_LEAST, -_EXP_LEAST, careless))
        if not self.by_bits:
            return self._reciprocal(self._held(self.number(1.0) + self._exp_normal(self._held(x * self.number(-1.0)))))
        # The polynomial has the signs of -x, so that x is not reversed.
        bits, n = self._nearest(x, -math.log2(math.e), _EXPONENT_BIAS)
        r = self._fused(n, self.number(LN2[0]), x)
        r = self._fused(n, self.number(LN2[1]), r)
        p = self._polynomial([-c if place % 2 else c for place, c in enumerate((1.0, 1.0, *EXP_SHORT))], r)
        scale = self._as_float(self._held(tirx.shift_left(bits, self.whole(23))))
        return self._reciprocal(self._fused(p, scale, self.number(1.0)))

    def tanh(self, x: Expr, careless: bool = False) -> Expr:
        """Return the hyperbolic tangent within 5 ulp."""
        x = self._held(self._clamped(x, -TANH_END, TANH_END, careless))
        return self._quotient(x, TANH_ABOVE, TANH_BELOW, careless)

    def root(self, x: Expr) -> Expr:
        """Return the square root, correctly rounded: every machine has an instruction for it."""
        return self._held(tirx.call_llvm_pure_intrin(vector_type(self.lanes), "llvm.sqrt", x))

    def magnitude(self, x: Expr) -> Expr:
        """Return the absolute value."""
        return self._held(tirx.call_llvm_pure_intrin(vector_type(self.lanes), "llvm.fabs", x))

    def _arithmetic(self, function: Function, operands: Sequence[Expr], constants: Sequence[float | None]) -> Expr:
        left, right = operands
        if function == "add":
            return left + right
        if function == "sub":
            return left - right
        if function == "mul":
            return left * right
        if function == "div":
            divisor = constants[1]
            exact = divisor is not None and divisor != 0 and math.frexp(divisor)[0] in (0.5, -0.5)
            # Another number's reciprocal is off by half an ulp, as the product is.
            near = self.slow_quotients and divisor is not None and divisor != 0 and math.isfinite(divisor)
            if (exact or near) and _LEAST_NORMAL <= abs(1.0 / divisor) <= 1.0 / _LEAST_NORMAL:  # type: ignore[operator]
                return left * self.number(1.0 / divisor)  # type: ignore[operator]
            return left / right
        # A comparison with NaN fails, and the second operand is the result then.
        form = tirx.Max if function == "max" else tirx.Min
        if constants[0] is not None:
            return form(left, right)
        if constants[1] is not None:
            return form(right, left)
        left = self._held(left)
        right = self._held(right)
        return tirx.Select(left == left, form(left, right), left)

    def _power(self, x: Expr, y: Expr, exponent: float | None) -> Expr:
        """Return x^y within (2 + size of y log x) 2^-22 of it; whole constants up to 8 by products, 0.5 by a root."""
        x = self._held(x)
        if exponent == 0.5:
            return self.root(x)
        if exponent is not None and exponent == int(exponent) and abs(exponent) <= _MOST_FACTORS:
            made = self._product(x, abs(int(exponent)))
            return made if exponent >= 0 else self._held(self.number(1.0) / made)
        y = self._held(y)
        one, nothing = self.number(1.0), self.number(0.0)
        size = self.magnitude(x)
        logarithm = self.log(size)
        # Powers of 1 are 1, endless ones too.
        made = self.exp(self._held(tirx.Select(logarithm == nothing, nothing, y * logarithm)))
        # Of a negative number only whole powers exist; from 2^23 on all are whole, from 2^24 on even.
        away = self.magnitude(y)
        large = away >= self.number(_WHOLE)
        bits = self._held(self._as_int(self._held(tirx.Select(large, away, away + self.number(_WHOLE)))))
        nearest = self._held(self._cast(bits - self.whole(_WHOLE_BITS), "float32"))
        is_whole = tirx.Select(large, self.whole(1), tirx.Select(nearest == away, self.whole(1), self.whole(0)))
        is_whole = self._held(is_whole) == self.whole(1)
        odd = tirx.bitwise_and(bits, self.whole(1)) == self.whole(1)
        signed = self._held(tirx.Select(odd, made * self.number(-1.0), made))
        signed = self._held(tirx.Select(away < self.number(2 * _WHOLE), signed, made))
        signed = self._held(tirx.Select(is_whole, signed, self.number(math.nan)))
        # -inf of a power that is not whole is +inf or 0, as of +inf.
        finite = size < self.number(math.inf)
        signed = self._held(tirx.Select(finite, signed, self._held(tirx.Select(is_whole, signed, made))))
        made = self._held(tirx.Select(x < nothing, signed, made))
        return self._held(tirx.Select(y == nothing, one, made))

    def _product(self, x: Expr, count: int) -> Expr:
        """Return x^count by squaring."""
        if count == 0:
            return self.number(1.0)
        half = self._product(x, count // 2) if count > 1 else None
        if half is None:
            return x
        square = self._held(half * half)
        return self._held(square * x) if count % 2 else square

    def _erf(self, x: Expr, careless: bool = False) -> Expr:
        """Return the error function within 6 ulp."""
        x = self._held(self._clamped(x, -ERF_END, ERF_END, careless))
        return self._quotient(x, ERF_ABOVE, ERF_BELOW, careless)

    def _circle(self, x: Expr, quarters: int) -> Expr:
        """Return the sine of x plus so many quarters of a circle: error 1e-7, 2e-7 from 10^6 to 2^22, NaN beyond.

        There float32 no longer tells which of two quarters is nearer, and the rest leaves the polynomials' range.
        """
        inside = self.magnitude(x) <= self.number(_CIRCLE_END)
        near = self._held(tirx.Select(inside, x, self.number(0.0)))
        n, turns = self._nearest(near, 2 / math.pi, 0)
        r = near
        for piece in HALF_PI:
            r = self._fused(turns, self.number(-piece), r)
        square = self._held(r * r)
        sine = self._fused(self._held(self._polynomial(SIN, square) * square), r, r)
        cosine = self._held(self._polynomial(COS, square) * square)
        cosine = self._held(self._fused(self._held(cosine - self.number(0.5)), square, self.number(1.0)))
        quarter = self._held(n + self.whole(quarters))
        odd = tirx.bitwise_and(quarter, self.whole(1)) == self.whole(1)
        made = self._held(tirx.Select(odd, cosine, sine))
        behind = tirx.bitwise_and(quarter, self.whole(2)) == self.whole(2)
        made = self._held(tirx.Select(behind, made * self.number(-1.0), made))
        return self._held(tirx.Select(inside, made, self.number(math.nan)))

    def _floor(self, x: Expr) -> Expr:
        return self._rounded(x, lambda n: n - tirx.Select(n > x, self.number(1.0), self.number(0.0)))

    def _ceil(self, x: Expr) -> Expr:
        return self._rounded(x, lambda n: n + tirx.Select(n < x, self.number(1.0), self.number(0.0)))

    def _round(self, x: Expr) -> Expr:
        return self._rounded(x, lambda n: n)

    def _rounded(self, x: Expr, finish: Callable[[Expr], Expr]) -> Expr:
        """Return what `finish` makes of the nearest whole number, halves to even; large numbers are whole."""
        size = self.magnitude(x)
        # From 2^23 on numbers are whole, so that this addition rounds.
        bits = self._held(self._as_int(self._held(size + self.number(_WHOLE))))
        near = self._held(self._cast(bits - self.whole(_WHOLE_BITS), "float32"))
        near = self._held(tirx.Select(x < self.number(0.0), near * self.number(-1.0), near))
        return self._held(tirx.Select(size < self.number(_WHOLE), self._held(finish(near)), x))

    def _nearest(self, x: Expr, factor: float, bias: int) -> tuple[Expr, Expr]:
        """Return the whole number next to a product, plus a bias in the low bits of an int32, and as float32.

        No instruction converts by rounding towards zero: RVV's ends QEMU before 8.0 where a block of translated code
        begins with it.
        """
        if self.by_bits:
            # Two instructions are faster than an FMA and a copy of what it would write over.
            shifted = self._held(self._fenced(x * self.number(factor))) + self.number(_ROUNDING + bias)
        else:
            shifted = self._fused(x, self.number(factor), self.number(_ROUNDING + bias))
        if self.reassociates:
            # LLVM might take the subtraction of what was just added for nothing.
            shifted = self._fenced(shifted)
        shifted = self._held(shifted)
        bits = self._held(self._as_int(shifted))
        whole = shifted - self.number(_ROUNDING + bias)
        return bits, self._held(whole)

    def _quotient(self, x: Expr, above: Sequence[float], below: Sequence[float], careless: bool) -> Expr:
        square = self._held(x * x)
        numerator, divisor = self._held(x * self._polynomial(above, square)), self._polynomial(below, square)
        made = self._ratio(numerator, divisor) if self.by_bits else self._held(numerator / divisor)
        return self._held(self._clamped(made, -1.0, 1.0, careless))

    def _reciprocal(self, x: Expr) -> Expr:
        """Return 1 / x; where `by_bits`, of numbers from 1 to 2^125 alone."""
        return self._ratio(self.number(1.0), x) if self.by_bits else self._held(self.number(1.0) / x)

    def _ratio(self, numerator: Expr, divisor: Expr) -> Expr:
        """Return a quotient within 1 ulp, for divisors from 1 to 2^125, by 7 operations where a division takes 40."""
        divisor = self._held(divisor)
        # Bits of a number, taken from these, are those of its reciprocal, 5 % off.
        near = self._held(self._as_float(self._held(self.whole(_RECIPROCAL_BITS) - self._as_int(divisor))))
        # Exact enough for what follows, and without a copy of what an FMA would write over.
        off = self._held(self.number(1.0) - self._held(self._fenced(divisor * near)))
        near = self._fused(self._fused(off, off, off), near, near)
        made = self._held(numerator * near)
        left = self._fused(self._held(divisor * self.number(-1.0)), made, numerator)
        return self._fused(left, near, made)


_ARITHMETIC = frozenset(("add", "sub", "mul", "div", "max", "min"))
