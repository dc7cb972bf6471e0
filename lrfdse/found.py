"""What an exploration or an inspection gives in Python, whether it has just been made or is read from its folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.errors import InputError

if TYPE_CHECKING:
    import pandas

    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document, InspectionDocument
    from lrfdse.results.layers import LayerFacts, UntouchedPart


@dataclass(frozen=True, slots=True, repr=False)
class Exploration:
    """A finished exploration: what was asked and found, and the folder that its files lie in.

    It is the same whether it has just been made or is loaded from its folder. Its `repr` is the table of designs that
    the command line prints; a notebook shows a short report.
    """

    document: Document
    """Everything that ``front.json`` holds."""
    folder: Path
    """The output folder."""

    @property
    def designs(self) -> tuple[DesignFacts, ...]:
        """Every evaluated design, the original included, slowest first."""
        return tuple(self.document.every_design())

    @property
    def front(self) -> tuple[DesignFacts, ...]:
        """The designs that no other beats in parameters, latency and score together, slowest first."""
        return tuple(design for design in self.document.every_design() if design.on_front)

    @property
    def original(self) -> DesignFacts:
        """The model as it was given."""
        return self.document.original

    @property
    def recommended(self) -> DesignFacts | None:
        """The recommended design; None where none satisfies the limits, or nobody measured what designs lose."""
        return self.document.best

    def design(self, identity: str) -> DesignFacts:
        """Return the design of an id.

        Raises
        ------
        InputError
            There is no such design; the message has the ids.
        """
        if (found := self.document.design(identity)) is None:
            known = ", ".join(sorted(design.id for design in self.document.every_design()))
            raise InputError(f"no design {identity!r}; there are {known}")
        return found

    def export(self, identity: str) -> Path:
        """Write a design's ONNX model and kernels to ``designs/<id>`` in the folder and return the model's path.

        `identity` is a design's id or the beginning of one.

        Raises
        ------
        InputError
            There is no such design, or the model or the data are not those that were explored.
        ToolError
            A tool that the target needs is missing or failed.
        """
        from lrfdse.base.threads import one_thread_each
        from lrfdse.explore.export import export

        with one_thread_each():
            return export(self.folder, identity)

    def to_pandas(self) -> pandas.DataFrame:
        """Return every evaluated design as a row of pandas: columns of ``front.csv``, its role, a column a layer."""
        from lrfdse.report.rows import design_frame

        return design_frame(self.designs, self.document)

    def __repr__(self) -> str:
        from lrfdse.report.text import designs_text

        return designs_text(self.document, self.folder)

    def _repr_html_(self) -> str:
        from lrfdse.report.page.html import brief_html

        return brief_html(self.document, self.folder)


@dataclass(frozen=True, slots=True, repr=False)
class Inspection:
    """What can be said of a model before anything is compiled; its `repr` is the tables of `lrfdse inspect`."""

    document: InspectionDocument
    """Everything that ``lrfdse inspect --json`` prints."""

    @property
    def layers(self) -> tuple[LayerFacts, ...]:
        """The fully-connected layers, with how compressible they are and how many designs there would be."""
        return self.document.layers

    @property
    def untouched(self) -> tuple[UntouchedPart, ...]:
        """The parts of the model that hold weights and are left as they are, each with the reason."""
        return self.document.untouched

    def __repr__(self) -> str:
        from lrfdse.report.text import layers_text

        return layers_text(self.document)


def load(folder: str | os.PathLike[str]) -> Exploration:
    """Read a finished exploration from its output folder, or from a ``front.json`` of any version.

    What is missing or damaged there is an `InputError`.
    """
    from lrfdse.results.read import read_document

    path = Path(folder)
    return Exploration(read_document(path), path if path.is_dir() else path.parent)
