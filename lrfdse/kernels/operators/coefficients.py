"""Coefficients of functions of float32: polynomials, quotients of two, and constants as sums of float32.

`scripts/fit_functions.py` fits the polynomials and prints them.
"""

EXP = (4.999999178e-01, 1.666649684e-01, 4.166866801e-02, 8.371495577e-03, 1.380884549e-03)
"""``(exp(r) - 1 - r) / r^2`` as a polynomial for r from -0.36 to 0.36, error 4e-9 of exp; ``scripts/fit_functions.py``
fitted it."""

EXP_SHORT = (4.999920207e-01, 1.666713299e-01, 4.189445249e-02, 8.312056930e-03)
"""The same for r from -0.35 to 0.35 with a term less, error 1.2e-7 of exp. Fitted likewise."""

LOG = (
    *(3.333333772e-01, -2.500085847e-01, 2.000073131e-01, -1.662150063e-01),
    *(1.421208759e-01, -1.319057179e-01, 1.269944679e-01, -7.469033805e-02),
)
"""``(log(1 + f) - f + f^2 / 2) / f^3`` for f from sqrt(1/2) - 1 to sqrt(2) - 1, error 6e-9 of log. Fitted likewise."""

ERF_ABOVE = (1.128379144e00, 1.915492692e-01, 5.287518046e-02, 3.808073867e-03, 2.846785606e-04, 2.025827229e-06)
"""Numerator of ``erf(x) / x`` in x^2 for x up to 3.95, error of the quotient 2e-8. Fitted likewise."""

ERF_BELOW = (1.0, 5.030887973e-01, 1.145590741e-01, 1.505493046e-02, 1.170690415e-03, 3.783047186e-05)
"""Its denominator."""

ERF_END = 3.95
"""Where float32 of erf is 1 to half an ulp: beyond, the argument is clamped."""

TANH_ABOVE = (9.999999772e-01, 1.337448737e-01, 3.487824730e-03, 2.048138149e-05, 1.317773809e-08)
"""Numerator of ``tanh(x) / x`` in x^2 for x up to 9.1, error of the quotient 2e-8. Fitted likewise."""

TANH_BELOW = (1.0, 4.670780118e-01, 2.584744266e-02, 3.272941233e-04, 7.704145720e-07)
"""Its denominator."""

TANH_END = 9.1
"""Where float32 of tanh is 1 to half an ulp: beyond, the argument is clamped."""

SIN = (-1.666665365e-01, 8.332099740e-03, -1.950694140e-04)
"""``(sin(r) / r - 1) / r^2`` in r^2 for r up to pi/4 + 0.01, error 4e-9 of sin. Fitted likewise."""

COS = (4.166664531e-02, -1.388728891e-03, 2.442921092e-05)
"""``(cos(r) - 1 + r^2 / 2) / r^4`` in r^2 for the same r, error 1e-10. Fitted likewise."""

LN2 = (0.693359375, -2.12194440e-4)
"""ln 2 as two float32, the first of nine bits, so that its product with an exponent is exact."""

HALF_PI = (1.5707963705062866, -4.371138828673793e-08, -1.7763568394002505e-15)
"""pi/2 as three float32 of 24 bits each: successive remainders of rounding it."""
