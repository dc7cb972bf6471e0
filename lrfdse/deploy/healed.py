"""The factors of a design that were trained, as a file: nothing else could make them again."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.files import read_regular
from lrfdse.base.text import one_line
from lrfdse.errors import InputError
from lrfdse.ir.factors import packed, unpacked

if TYPE_CHECKING:
    from lrfdse.ir.factors import Factors
    from lrfdse.ir.plan import Plan

HEALED = "healed.npz"
"""Name of the file in a design's folder."""

_MOST = 1 << 32
"""Bytes that such a file may have at most: 4 GiB, a thousand million weights."""


def healed_content(factors: Mapping[str, Factors]) -> bytes:
    """Return the file of a design's factors; equal factors give equal bytes."""
    import numpy as np

    compressed = [each for each in factors.values() if not each.choice.is_original]
    arrays = {f"{n}.{name}": array for n, each in enumerate(compressed) for name, array in packed(each).items()}
    buffer = io.BytesIO()
    # As `np.savez`, without the time of day.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, array in sorted(arrays.items()):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
    return buffer.getvalue()


def read_healed(folder: Path, plan: Plan, digest: str) -> dict[str, Factors]:
    """Return the factors of the compressed layers of a plan from the design's folder.

    Parameters
    ----------
    folder
        The design's folder.
    plan
        Its plan.
    digest
        SHA-256 of the file.

    Raises
    ------
    InputError
        The file is not there, or not the one that was written.
    """
    import numpy as np

    path = folder / HEALED
    try:
        content = read_regular(path, _MOST, links=False)
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("its digest differs")
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            if any(member.compress_type != zipfile.ZIP_STORED for member in file.infolist()):
                raise ValueError("it is packed")
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if any(array.dtype.kind not in "fi" for array in arrays.values()):
            raise ValueError("it holds something else than numbers")
        found = {}
        for n, (name, choice) in enumerate(each for each in plan.choices if not each[1].is_original):
            own = {key.partition(".")[2]: array for key, array in arrays.items() if key.partition(".")[0] == str(n)}
            found[name] = unpacked(choice, own)
    except Exception as error:  # The folder may be anybody's, and the file whatever a reader stumbles over.
        why = error.strerror if isinstance(error, OSError) else one_line(error)
        raise InputError(f"{path}: not the factors that training left there: {why}; explore and heal again") from error
    return found
