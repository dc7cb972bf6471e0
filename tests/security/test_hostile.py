"""Models, data, boards and studies that somebody made to do harm: each is one line, soon, and with little memory."""

from __future__ import annotations

import io
import json
import logging
import os
import zipfile

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from lrfdse.base.border import reading
from lrfdse.base.machine import memory_bytes
from lrfdse.cli import run
from lrfdse.errors import InputError, ToolError
from lrfdse.formats.limits import MOST_NODES
from lrfdse.formats.onnx import read_model, serialized
from lrfdse.model.data import RANDOM_BYTES, load_data, random_data
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.model.shapes import Port
from lrfdse.program.fold import folded
from lrfdse.search.study.opening import join_study, open_study
from lrfdse.search.study.storage import storage_errors

W = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
PORT = Port("x", "float32", (None, 8), ("N", "8"))
CHAIN = 2000
"""Nodes of a chain: twice as many as Python lets functions call each other."""


def refused(path, loads=load_model):
    with pytest.raises(InputError) as caught:
        loads(path)
    text = str(caught.value)
    assert text.isprintable()
    assert str(path) in text
    return text


@pytest.fixture
def model(tmp_path):
    """Return a function that writes a model of one product whose parts are given."""

    def write(nodes=(), weight="w", source="x", sizes=("N", 8), more=(), functions=(), initializers=None, out=None):
        product = helper.make_node("MatMul", [source, weight], ["y"])
        graph = helper.make_graph(
            [*nodes, product, *more],
            "g",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, sizes)],
            [helper.make_tensor_value_info(out or "y", onnx.TensorProto.FLOAT, ("a", "b"))],
            initializers or [numpy_helper.from_array(W, "w")],
        )
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        made = helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions)
        path = tmp_path / "m.onnx"
        path.write_bytes(made.SerializeToString())
        return path

    return write


def outside(location, dims=(8, 6), **entries):
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=dims)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return [tensor]


@pytest.mark.parametrize("op", ["Identity", "Cast", "Transpose"])
def test_a_long_chain_before_a_weight_is_followed(op, model, kit):
    more = {"Cast": {"to": 1}, "Transpose": {"perm": [1, 0]}}.get(op, {})
    nodes = [helper.make_node(op, [f"w{i}" if i else "w"], [f"w{i + 1}"], **more) for i in range(CHAIN)]
    found = load_model(model(nodes, weight=f"w{CHAIN}"))
    assert np.array_equal(found.weight("w"), W.T)
    version = rewrite(found, {"w": kit.svd_factors(found.weight("w"), 2)})
    assert len(list(version.graph)) < 5, "what nothing reads any more is removed"


def test_a_long_chain_before_a_table_is_followed(model):
    table = [numpy_helper.from_array(W, "w"), numpy_helper.from_array(np.ones((5, 8), np.float32), "t")]
    nodes = [helper.make_node("Cast", ["x"], ["i0"], to=7)]
    nodes += [helper.make_node("Identity", [f"i{i}"], [f"i{i + 1}"]) for i in range(CHAIN)]
    nodes.append(helper.make_node("Gather", ["t", f"i{CHAIN}"], ["e"]))
    found = load_model(model(nodes, source="e", sizes=(1, 2), initializers=table))
    assert found.inputs[0].limit == 5


@pytest.mark.parametrize("axis", [-3, 2, 99])
def test_an_axis_that_a_table_lacks_is_one_line(axis, model):
    table = [numpy_helper.from_array(W, "w"), numpy_helper.from_array(np.ones((5, 8), np.float32), "t")]
    nodes = [helper.make_node("Cast", ["x"], ["i"], to=7), helper.make_node("Gather", ["t", "i"], ["e"], axis=axis)]
    refused(model(nodes, source="e", sizes=(1, 2), initializers=table))


@pytest.mark.parametrize("kind", [92, 255, 999, -1])
def test_a_type_that_there_is_not_is_one_line(kind, model):
    refused(model([helper.make_node("Cast", ["w"], ["c"], to=kind)], weight="c"))


@pytest.mark.parametrize(("count", "deep"), [(25, "more than 200,000 nodes"), (80, "more than 64 deep")])
def test_functions_that_multiply_are_counted_first(count, deep, model):
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = [helper.make_function("own", "f0", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], imports)]
    for level in range(1, count):
        inner = [
            helper.make_node(f"f{level - 1}", ["a"], ["c"], domain="own"),
            helper.make_node(f"f{level - 1}", ["c"], ["b"], domain="own"),
        ]
        functions.append(helper.make_function("own", f"f{level}", ["a"], ["b"], inner, imports))
    nodes = [helper.make_node(f"f{count - 1}", ["x"], ["h"], domain="own")]
    assert 2 ** (count - 1) > MOST_NODES
    assert deep in refused(model(nodes, source="h", functions=functions))


def test_functions_that_call_themselves_are_refused(model):
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    body = [helper.make_node("f", ["a"], ["b"], domain="own")]
    functions = [helper.make_function("own", "f", ["a"], ["b"], body, imports)]
    nodes = [helper.make_node("f", ["x"], ["h"], domain="own")]
    assert "call each other" in refused(model(nodes, source="h", functions=functions))


def test_external_data_of_a_terabyte_are_not_read(model, tmp_path):
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(1 << 40)
    assert "at most 2 GiB" in refused(model(initializers=outside("w.bin")))


@pytest.mark.slow
def test_tensors_that_share_bytes_are_counted_each(model, tmp_path):
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(1 << 29)
    shared = [*outside("w.bin"), *(outside("w.bin", (1 << 27,))[0] for _ in range(5))]
    for index, tensor in enumerate(shared[1:]):
        tensor.name = f"t{index}"
    assert "at most 2 GiB" in refused(model(initializers=shared))


@pytest.mark.parametrize(
    ("location", "said"),
    [("loop", "names no file"), ("a\0b", "names no file"), ("x" * 5000, "names no file"), ("pipe", "is missing")],
)
def test_a_location_that_is_no_file_is_one_line(location, said, model, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    assert said in refused(model(initializers=outside(location)))


@pytest.mark.parametrize("dims", [(-8, -6), (8, -6), (-1,)])
@pytest.mark.parametrize("external", [True, False])
def test_sizes_below_0_of_a_tensor_are_named(external, dims, model, tmp_path):
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    tensor = outside("w.bin", dims)[0]
    if not external:
        tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=dims, raw_data=W.tobytes())
    text = refused(model(initializers=[tensor]))
    assert "below 0" in text
    assert "x".join(map(str, dims)) in text


def test_a_tensor_of_another_size_than_is_stored_is_named(model):
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=(8, 7), raw_data=W.tobytes())
    assert "'w' of 8x7 takes 224 bytes, but 192 are stored" in refused(model(initializers=[tensor]))


@pytest.mark.parametrize("loads", [load_model, read_model, lambda path: load_data(path, [PORT])])
def test_a_device_and_a_pipe_are_no_files(loads, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        refused(tmp_path / name, loads)


@pytest.mark.parametrize("rows", [2**31 - 1, 2**40, 2**62])
def test_an_inference_beyond_the_machines_memory_is_refused_before_it_starts(rows, model):
    assert 32 * rows > memory_bytes()
    text = refused(model(sizes=(rows, 8)))
    assert f"'x' of {rows}x8" in text
    assert "GiB" in text


def test_a_value_inside_beyond_the_machines_memory_is_named(model):
    large = numpy_helper.from_array(np.array([2**30, 2**12], np.int64), "s")
    nodes = [helper.make_node("Expand", ["x", "s"], ["h"])]
    path = model(nodes, sizes=(1, 1), source="x", initializers=[numpy_helper.from_array(W[:1], "w"), large], out="h")
    assert "'h' of 1073741824x4096" in refused(path)


def test_names_that_are_no_text_are_refused(model):
    path = model()
    path.write_bytes(path.read_bytes().replace(b"MatMul", b"M\xff\xfeMul"))
    assert "no UTF-8" in refused(path)


def test_a_model_without_outputs_is_refused(model):
    path = model()
    proto = onnx.load(path)
    del proto.graph.output[:]
    path.write_bytes(proto.SerializeToString())
    refused(path)


@pytest.mark.parametrize("batch", [1, 3, 16, 64, 1000])
def test_random_data_are_64_samples_whatever_the_batch(batch, model):
    found = load_model(model(sizes=(batch, 8)))
    data = random_data(found.inputs, 64, 0)
    assert data.inputs["x"].shape == (64, 8)
    # The numbers do not depend on how many of them one inference takes.
    assert np.array_equal(data.inputs["x"], random_data([fixed(64)], 64, 0).inputs["x"])
    assert Runtime().run(found.original, data)["y"].shape == (64, 6)


def fixed(batch):
    return Port("x", "float32", (batch, 8), (str(batch), "8"), (batch, 8))


def test_random_data_of_large_samples_are_fewer():
    port = Port("x", "float32", (1, 1 << 22), ("1", "4194304"), (1, 1 << 22))
    data = random_data([port], 64, 0)
    assert data.inputs["x"].nbytes == RANDOM_BYTES
    assert data.count == 16


def npy(array=None, header=None):
    content = io.BytesIO()
    if header is None:
        np.lib.format.write_array(content, array)
    else:
        text = (repr(header) if isinstance(header, dict) else header).encode() + b"\n"
        content.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    return content.getvalue()


def header(shape, kind="<f4"):
    return {"descr": kind, "fortran_order": False, "shape": shape}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy(header=header((2**40, 8))), "'x.npy' of 1099511627776x8 is damaged"),
        (npy(header=header((2**62, 2**62))), "is damaged"),
        (npy(header=header((-1, 8))), "is damaged"),
        (npy(header=header((3, 8), "|O")), "holds Python objects"),
        (npy(header="(" * 200), ""),
        (npy(header="[" * 9000), ""),
        (npy(np.ones((3, 8), np.float32))[:-8], "is cut short"),
        (b"", "not a plain .npz file, or damaged"),
        (b"\x93NUMPY\x09\x00", "x.npz"),
        (b"no array", "not a plain .npz file, or damaged"),
    ],
)
@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_a_header_asks_for_is_compared_with_what_is_there(packed, content, said, tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", packed) as file:
        file.writestr("x.npy", content)
    assert said in refused(path, lambda path: load_data(path, [PORT]))


@pytest.mark.slow
def test_an_archive_that_explodes_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w") as member:
        member.write(npy(header=header((2**23, 32))))
        for _ in range(64):
            member.write(bytes(1 << 24))
    assert path.stat().st_size < 2**21
    assert "when they are unpacked: refused" in refused(path, lambda path: load_data(path, [PORT]))


def test_arrays_of_either_order_are_read(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(3, 8)
    for array in (x, np.asfortranarray(x), x[:, ::-1]):
        np.savez(tmp_path / "x.npz", x=array)
        assert np.array_equal(load_data(tmp_path / "x.npz", [PORT]).inputs["x"], array)


def test_defects_inside_stay_visible(tmp_path, caplog):
    path = tmp_path / "x.onnx"
    with caplog.at_level(logging.DEBUG, "lrfdse"), pytest.raises(InputError) as caught, reading(path, "a model"):
        {}["missing"]
    assert isinstance(caught.value.__cause__, KeyError)
    assert "KeyError" in caplog.text
    for error, said in [(MemoryError(), "memory"), (RecursionError("x"), "nested"), (StopIteration(), "StopIteration")]:
        with pytest.raises(InputError, match=said) as caught, reading(path, "a model"):
            raise error
        assert caught.value.__cause__ is error
    with pytest.raises(ToolError), reading(path, "a model"):
        raise ToolError("zig is missing")
    with pytest.raises(KeyboardInterrupt), reading(path, "a model"):
        raise KeyboardInterrupt


def test_a_json_log_says_where_an_error_began(model, capsys):
    path = model([helper.make_node("Cast", ["w"], ["c"], to=255)], weight="c")
    assert run(["explore", str(path), "--target", "riscv64", "--log-format", "json"]) == 2
    event = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert "\n" not in event["text"]
    assert event["cause"].partition(":")[0] and event["where"].count(":") == 1


@pytest.mark.parametrize("more", [[], ["--log-format", "json"]])
def test_an_error_repeats_nothing_that_a_terminal_would_act_on(more, capsys):
    name = "a\x7fb\x1b[31m\nc.onnx"
    assert run(["inspect", name, "--target", "riscv64", *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable() and "onnx" in line


CHOICES = {"fc1": ("dense", "svd:r=8")}


@pytest.mark.parametrize("value", [5, None, "fc1", {"fc1": 1}, [1, 2]])
def test_layers_of_a_study_that_are_no_names_are_refused(value, tmp_path):
    url = str(tmp_path / "study.db")
    study = open_study(url, "demo", CHOICES, identity={})
    study.note("layers", value)
    study.close()
    with pytest.raises(InputError, match="'layers' is no list of names"):
        join_study(url, "demo")


@pytest.mark.parametrize(
    "damage",
    [
        "update study_user_attributes set value_json = '{[' where key = 'layers'",
        "update trials set state = 'BOGUS'",
        "update trial_params set param_value = 99",
        "update trial_params set distribution_json = 'x'",
    ],
)
def test_damaged_records_of_a_study_are_one_line(damage, tmp_path):
    import sqlite3

    url = str(tmp_path / "study.db")
    study = open_study(url, "demo", CHOICES, identity={})
    study.enqueue({"fc1": "svd:r=8"}, "knapsack")
    study.close()
    with sqlite3.connect(url) as database:
        assert database.execute(damage).rowcount > 0
    database.close()
    with pytest.raises(ToolError, match="the study's storage failed: a record of it is damaged"), storage_errors(url):
        join_study(url, "demo").take()


def test_a_defect_of_ours_in_a_study_stays_a_defect(tmp_path):
    with pytest.raises(ZeroDivisionError), storage_errors("x.db"):
        raise ZeroDivisionError
    with pytest.raises(KeyError), storage_errors("x.db"):
        {}["missing"]


def test_serialized_models_are_those_that_were_read(model):
    found = load_model(model())
    assert onnx.load_from_string(serialized(found.original)).graph.node[0].op_type == "MatMul"


@pytest.mark.parametrize(
    "made",
    [
        "c = ConstantOfShape (many)",
        "c = Range (zero, count, one)",
        "o = ConstantOfShape (many)\n c = Neg (o)",
    ],
)
def test_a_library_s_constants_are_counted_before_they_are_computed(make, made, tmp_path):
    """A node of forty bytes would be folded to 8 GiB."""
    text = f"agraph (float[1] x) => (float[n] y) {{ {made}\n r = ReduceSum <keepdims = 0> (c)\n y = Add (x, r) }}"
    size = 1 << 31
    path = make(
        text,
        {"many": np.array([size]), "zero": np.float32(0), "count": np.float32(size), "one": np.float32(1)},
    )
    with pytest.raises(InputError, match=r"constant '[co]' has 8\.0 GiB, but models have at most 2 GiB"):
        folded(ir.from_proto(onnx.load(path)), {}, path)
