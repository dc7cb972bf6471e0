"""The reached definitions of small packages, against what a reader of their code says is reached."""

from __future__ import annotations

import textwrap

import pytest

from lrfdse.base.closure import Sources, included_files
from lrfdse.base.folders import data_folder

HOUSE = {
    "__init__": "",
    "parts/__init__": """
        from house.parts.used import helper
        from house.parts.unused import other

        __all__ = ["helper", "other"]
        """,
    "parts/used": '''
        """Docstring."""
        import numpy as np

        SCALE = 2
        """What the constant means."""
        UNUSED = 3
        STARTED = print("imported")

        def helper(x):
            """Help."""
            return np.sum(x) * SCALE  # comment

        def neighbour(x):
            return x
        ''',
    "parts/unused": "def other(x):\n    return x\n",
    "lazy": "def late(x):\n    return x\n\n\ndef never(x):\n    return x\n",
    "types": "class Shape:\n    size = 1\n",
    "registry": """
        TABLE = {}

        def register(function):
            TABLE[function.__name__] = function
            return function

        class Base:
            pass
        """,
    "plugins": """
        from house.registry import Base, register

        @register
        def named(x):
            return x

        class Known(Base):
            def run(self):
                return 1

        class Plain:
            def run(self):
                return 1

        def start():
            return open("run.py"), open("data.c"), open("absent.c")
        """,
    "run": "def main():\n    return 1\n",
    "main": """
        from __future__ import annotations

        import functools
        from typing import TYPE_CHECKING

        from house import plugins
        from house.parts import helper

        if TYPE_CHECKING:
            from house.types import Shape

        try:
            import scipy
        except ImportError:
            scipy = None

        @functools.cache
        def entry(x: Shape):
            from house.lazy import late

            return helper(late(x)), plugins.start()
        """,
}


@pytest.fixture
def house(tmp_path):
    """A package; `house(module, old, new)` writes other code into one module and returns what is reached now."""
    folder = tmp_path / "house"
    for name, code in HOUSE.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code).lstrip())
    data = tmp_path / "data"
    data.mkdir()
    (data / "data.c").write_text('#include "data.h"\nint x;\n')
    (data / "data.h").write_text("int y;\n")

    def changed(module="main", old="", new="", start=("house.main", "entry")):
        path = data / module if "." in module else folder / f"{module}.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        return Sources(folder, [data]).closure([start])

    return changed


def test_what_is_reached(house):
    found = house()
    assert sorted(found.modules) == [
        "house.lazy",
        "house.main",
        "house.parts.used",
        "house.plugins",
        "house.registry",
        "house.run",
    ]
    assert found.libraries == {"numpy", "scipy"}
    assert sorted(found.files) == ["data/data.c", "data/data.h"]


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("main", "helper(late(x))", "late(helper(x))"),
        ("main", "@functools.cache", "@functools.lru_cache"),
        ("main", "import scipy", "import scipy as scipy"),
        ("main", "x: Shape", "x: Shape = None"),
        ("parts/used", "* SCALE", "/ SCALE"),
        ("parts/used", "SCALE = 2", "SCALE = 3"),
        ("parts/used", '"imported"', '"again"'),
        ("lazy", "return x", "return -x"),
        ("registry", "return function", "return None"),
        ("registry", "TABLE = {}", "TABLE = dict()"),
        ("plugins", "def named(x):\n    return x", "def named(x):\n    return -x"),
        ("plugins", "return 1", "return 2"),
        ("run", "return 1", "return 2"),
        ("data.c", "int x", "long x"),
        ("data.h", "int y", "long y"),
        ("parts/__init__", "from house.parts.used import helper", "from house.parts.used import neighbour as helper"),
    ],
)
def test_an_edit_of_reached_code_shows(module, old, new, house):
    assert house() != house(module, old, new)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("main", "", "# a comment\n"),
        ("main", "    return helper", "\n\n    return  helper"),
        ("parts/used", '"""Docstring."""', '"""Another."""'),
        ("parts/used", '"""Help."""\n    ', ""),
        ("parts/used", "What the constant means", "Another meaning"),
        ("parts/used", "  # comment", ""),
        ("parts/used", "UNUSED = 3", "UNUSED = 4"),
        ("parts/used", "    return x\n", "    return -x\n"),
        ("parts/unused", "return x", "return -x"),
        ("parts/__init__", '__all__ = ["helper", "other"]', '__all__ = ["helper"]'),
        ("lazy", "def never(x):\n    return x", "def never(x):\n    return -x"),
        ("types", "size = 1", "size = 2"),
        ("plugins", "class Plain:\n    def run(self):\n        return 1", "class Plain:\n    pass"),
        ("main", "from house.types import Shape", "from house.no_such_module import Shape"),
    ],
)
def test_an_edit_of_anything_else_does_not(module, old, new, house):
    assert house() == house(module, old, new)


def test_names_that_change_places_show(house):
    swapped = "from house.lazy import never as late"
    assert house().modules["house.main"] != house("main", "from house.lazy import late", swapped).modules["house.main"]


def test_a_module_that_is_passed_on_counts_as_a_whole(house):
    before = house("main", "helper(late(x))", "helper(plugins)")
    after = house("plugins", "class Plain:\n    def run(self):\n        return 1", "class Plain:\n    pass")
    assert before != after


@pytest.mark.parametrize(
    ("module", "old", "new", "error", "said"),
    [
        ("main", "from house.lazy", "from house.gone", ModuleNotFoundError, r"house\.gone: no such module"),
        ("main", "import late", "import gone", AttributeError, r"house\.lazy .* defines no 'gone'"),
        ("parts/used", "def helper(x):", "def helper(x:", SyntaxError, "never closed"),
        ("lazy", "def late(x):", "from house.types import *\n\n\ndef late(x):", SyntaxError, "name it"),
    ],
)
def test_what_cannot_be_read_is_an_error(module, old, new, error, said, house):
    with pytest.raises(error, match=said):
        house(module, old, new)


def test_relative_imports_and_whole_modules(house):
    found = house("lazy", "return x", "from .parts.unused import other\n    return other(x)", ("house.lazy", None))
    assert sorted(found.modules) == ["house.lazy", "house.parts.unused"]
    other = house("lazy", "def never(x):\n    return x", "def never(x):\n    return -x", ("house.lazy", None))
    assert found != other


@pytest.mark.parametrize("use", ["np", "np.sum(x)"])
def test_a_library_by_way_of_another_module(use, house):
    found = house("lazy", "return x", f"from house.parts.used import np\n    return {use}", ("house.lazy", "late"))
    assert (sorted(found.modules), found.libraries) == (["house.lazy"], {"numpy"})


def test_modules_that_are_left_out_are_not_followed(house, tmp_path):
    house()
    found = Sources(tmp_path / "house", without=["house.plugins", "house.parts.used"]).closure(
        [("house.main", "entry")]
    )
    assert sorted(found.modules) == ["house.lazy", "house.main"]


def test_files_that_changed_are_read_again(house, tmp_path):
    house()
    sources = Sources(tmp_path / "house")
    before = sources.closure([("house.lazy", "late")])
    (tmp_path / "house" / "lazy.py").write_text("def late(x):\n    return -x\n")
    assert sources.closure([("house.lazy", "late")]) == before
    sources.forget()
    assert sources.closure([("house.lazy", "late")]) != before
    (tmp_path / "house" / "lazy.py").unlink()
    sources.forget()
    with pytest.raises(ModuleNotFoundError):
        sources.closure([("house.lazy", "late")])


def test_what_a_c_file_includes_is_found_through_headers_and_circles(tmp_path):
    (tmp_path / "a.c").write_text('#include <stdio.h>\n#include "b.h"\n# include "missing.h"\nint a;\n')
    (tmp_path / "b.h").write_text('#include "c.h"\n#include "b.h"\n')
    (tmp_path / "c.h").write_text('/* #include in a comment */\n#include "b.h"\n')
    assert set(included_files(tmp_path / "a.c")) == {tmp_path / "b.h", tmp_path / "c.h"}
    assert included_files(tmp_path / "c.h")[0] == tmp_path / "b.h"


def test_the_programs_of_the_emulator_and_the_board_share_one_system():
    for name in ("harness.c", "bench.c", "bench_system.c"):
        assert data_folder("qemu") / "system.h" in included_files(data_folder("qemu") / name)
