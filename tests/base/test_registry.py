import math
import subprocess
import sys
from pathlib import Path

import pytest

from lrfdse.base.registry import Registry
from lrfdse.errors import InputError, ToolError

GROUP = "lrfdse_test.solvers"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put distributions with entry points and modules on Python's path, as pip would."""

    def put(distribution: str, entries: dict[str, str], **modules: str) -> Path:
        folder = tmp_path / distribution
        info = folder / f"{distribution}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
        for name, source in modules.items():
            (folder / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(folder))
        return folder

    return put


def solvers(**builtins: object) -> Registry[object]:
    return Registry(GROUP, "solver", builtins)


def test_a_built_in_object_is_given_as_it_is_or_imported_from_where_it_is():
    registry = solvers(one=1, root="math:sqrt")
    assert registry.get("one") == 1
    assert registry.get("root") is math.sqrt


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(InputError) as caught:
        solvers(one=1, two=2).get("three")
    assert str(caught.value) == "unknown solver 'three': choose from one, two"


def test_what_a_plug_in_offers_stands_beside_the_built_in_ones(install):
    install("alpha_solvers", {"fast": "alpha_code:FAST"}, alpha_code="FAST = 'the fast one'")
    registry = solvers(zero=0)
    assert registry.names() == ("zero", "fast")
    assert registry.get("fast") == "the fast one"
    assert registry.origin("fast") == "alpha_solvers 1.5"
    assert registry.origin("zero") == ""


def test_metadata_are_read_at_the_first_question_and_only_then(install):
    registry = solvers(zero=0)
    install("alpha_solvers", {"fast": "alpha_code:FAST"})
    assert registry.names() == ("zero", "fast")
    install("beta_solvers", {"slow": "beta_code:SLOW"})
    assert registry.names() == ("zero", "fast")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("", "AttributeError: module 'broken_code' has no attribute 'FAST'"),
    ],
)
def test_a_broken_plug_in_is_one_line_with_its_distribution(install, monkeypatch, source, reason):
    install("broken_solvers", {"fast": "broken_code:FAST"}, broken_code=source)
    monkeypatch.delitem(sys.modules, "broken_code", raising=False)
    registry = solvers(zero=0)
    with pytest.raises(ToolError) as caught:
        registry.get("fast")
    expected = f"solver 'fast' of broken_solvers 1.5 cannot be loaded from broken_code:FAST: {reason}"
    assert str(caught.value) == expected
    assert registry.get("zero") == 0


def test_a_name_that_two_offer_is_refused_and_no_other(install):
    install("alpha_solvers", {"zero": "alpha_code:X", "fast": "alpha_code:X"}, alpha_code="X = 1")
    install("beta_solvers", {"fast": "beta_code:X", "slow": "beta_code:X"}, beta_code="X = 2")
    registry = solvers(zero=0, one=1)
    with pytest.raises(InputError, match=r"solver 'zero' is offered by lrfdse and alpha_solvers 1\.5: uninstall"):
        registry.get("zero")
    with pytest.raises(InputError, match=r"'fast' is offered by beta_solvers 1\.5 and alpha_solvers 1\.5: uninstall"):
        registry.get("fast")
    assert registry.get("one") == 1
    assert registry.get("slow") == 2
    assert registry.names() == ("zero", "one", "fast", "slow")


def test_a_registered_object_is_there_until_its_block_ends(install):
    install("alpha_solvers", {"fast": "alpha_code:FAST"})
    registry = solvers(zero=0)
    with registry.register("mine", 7):
        assert registry.names() == ("zero", "fast", "mine")
        assert registry.get("mine") == 7
        assert registry.origin("mine") == "registered in this process"
    with pytest.raises(InputError, match="unknown solver 'mine'"):
        registry.get("mine")


def test_without_a_block_a_registered_object_stays_and_may_be_replaced():
    registry = solvers()
    registry.register("mine", 7)
    registry.register("mine", 8)
    assert registry.get("mine") == 8
    registry.unregister("mine")
    assert registry.names() == ()
    registry.unregister("mine")


def test_what_is_installed_cannot_be_shadowed(install):
    install("alpha_solvers", {"fast": "alpha_code:FAST"})
    registry = solvers(zero=0)
    with pytest.raises(InputError, match="solver 'zero' is there already, from lrfdse"):
        registry.register("zero", 1)
    with pytest.raises(InputError, match=r"solver 'fast' is there already, from alpha_solvers 1\.5"):
        registry.register("fast", 1)


def test_a_plug_ins_identity_changes_with_any_file_of_its_package(install, monkeypatch):
    folder = install("gamma_solvers", {"fast": "gamma_code.core:FAST"})
    (folder / "gamma_code").mkdir()
    (folder / "gamma_code" / "__init__.py").touch()
    (folder / "gamma_code" / "core.py").write_text("from fractions import Fraction\nFAST = Fraction(1, 2)")
    registry = solvers(zero=0)
    before = registry.identity("fast")
    assert before.startswith("fast@gamma_solvers 1.5:")
    assert registry.identity("fast") == before
    (folder / "gamma_code" / "more.py").write_text("X = 1")
    assert registry.identity("fast") != before
    assert registry.identity("zero") == "zero"
    monkeypatch.delitem(sys.modules, "gamma_code")
    monkeypatch.delitem(sys.modules, "gamma_code.core")


def test_a_plug_ins_identity_is_of_the_package_that_offers_it_not_of_its_class(install):
    """An instance of a class of another package: what the plug-in says in it decides results."""
    folder = install("delta_solvers", {"half": "delta_code:HALF"}, delta_code="from fractions import Fraction as F")
    with (folder / "delta_code.py").open("a") as file:
        file.write("\nHALF = F(1, 2)")
    registry = solvers()
    before = registry.identity("half")
    with (folder / "delta_code.py").open("a") as file:
        file.write("\n# F(1, 3)")
    assert registry.identity("half") != before


def test_a_registered_object_is_another_one_with_every_registration():
    registry = solvers()
    with registry.register("mine", 7):
        first = registry.identity("mine")
        assert first.startswith("mine@registered in this process:")
        assert registry.identity("mine") == first
    with registry.register("mine", 7):
        assert registry.identity("mine") != first


def test_a_registry_imports_nothing_until_it_is_asked():
    code = (
        "import sys; from lrfdse.base.registry import Registry\n"
        "Registry('g', 'solver', {'a': 'lrfdse.factorize:fit'})\n"
        "print(sorted({'importlib.metadata', 'lrfdse.factorize', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
