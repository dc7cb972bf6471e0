"""Graphs as exporters write them: names, element types, versions, places of weights, files in a cache."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from lrfdse.errors import InputError
from lrfdse.formats.onnx import file_content
from lrfdse.ir.factorization import Factorization
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from tests.strangers.conftest import FLOAT, FLOAT16, INT64, decaying, node, normal, value


def whole_rank(model):
    """Return factors of full rank for every layer, made by hand: the model must stay the same."""
    from lrfdse.ir.factors import Factors

    found = {}
    for layer in model.layers:
        u, s, v = np.linalg.svd(model.weight(layer.name), full_matrices=False)
        cores = (u * s)[None, :, None, :], v[:, None, :, None]
        shape = Factorization.svd(layer.outputs, layer.inputs, len(s))
        found[layer.name] = Factors(shape, cores, None, 0.0, None)
    return found


def same_after_rewriting(folder, feeds):
    """Check that factors of full rank change no output beyond rounding, and that ONNX's checker takes the file."""
    model = load_model(folder / "model.onnx")
    content = file_content(rewrite(model, whole_rank(model)))
    onnx.checker.check_model(onnx.ModelProto.FromString(content), full_check=True)
    before, after = (
        onnxruntime.InferenceSession(c).run(None, feeds) for c in ((folder / "model.onnx").read_bytes(), content)
    )
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-3 * max(np.abs(one).max(), 1e-6))
    return onnx.ModelProto.FromString(content)


def branch(name, names):
    return helper.make_graph(
        [
            node("Add", ["a", "k"], [names[0]]),
            node("Mul", [names[0], "k"], [names[1]]),
            node("Identity", [names[1]], [name]),
        ],
        name,
        [],
        [value(name, FLOAT, None)],
    )


@pytest.mark.parametrize(
    "names",
    [("val_0", "val_1"), ("lrfdse.w.MatMul", "lrfdse.w.MatMul.2"), ("lrfdse.w.factor0", "lrfdse.v.factor1")],
)
def test_names_of_branches_are_free(write, names):
    """Every subgraph of PyTorch's exporter counts its nameless values from 0; a file of ours may come back, too."""
    folder = write(
        [
            node("Gemm", ["x", "w", "b"], ["a"], transB=1),
            node("ReduceSum", ["x"], ["s"], keepdims=0),
            node("Greater", ["s", "zero"], ["c"]),
            node("If", ["c"], ["i"], then_branch=branch("t", names), else_branch=branch("e", names[::-1])),
            node("MatMul", ["i", "v"], ["y"]),
        ],
        [value("x", FLOAT, ["n", 32])],
        [value("y", FLOAT, ["n", 24])],
        {
            "w": decaying(48, 32, 1),
            "b": normal(48),
            "v": decaying(48, 24, 2),
            "k": np.float32(2),
            "zero": np.float32(0),
        },
    )
    same_after_rewriting(folder, {"x": normal(5, 32)})


def test_names_of_a_body_within_a_body_are_free(write):
    inner = helper.make_graph(
        [node("Add", ["s", "k"], ["lrfdse.w.factor0"]), node("Identity", ["lrfdse.w.factor0"], ["p"])],
        "inner",
        [],
        [value("p", FLOAT, None)],
    )
    other = helper.make_graph([node("Identity", ["s"], ["q"])], "other", [], [value("q", FLOAT, None)])
    body = helper.make_graph(
        [
            node("Identity", ["d"], ["e"]),
            node("If", ["d"], ["lrfdse.w.MatMul"], then_branch=inner, else_branch=other),
            node("Identity", ["lrfdse.w.MatMul"], ["z"]),
        ],
        "body",
        [value("i", INT64, []), value("d", onnx.TensorProto.BOOL, []), value("s", FLOAT, None)],
        [value("e", onnx.TensorProto.BOOL, []), value("z", FLOAT, None)],
    )
    folder = write(
        [
            node("Gemm", ["x", "w", "b"], ["a"], transB=1),
            node("Loop", ["times", "go", "a"], ["l"], body=body),
            node("MatMul", ["l", "v"], ["y"]),
        ],
        [value("x", FLOAT, ["n", 32])],
        [value("y", FLOAT, ["n", 24])],
        {
            **{"w": decaying(48, 32, 1), "b": normal(48), "v": decaying(48, 24, 2), "k": np.float32(2)},
            **{"times": np.int64(3), "go": np.bool_(True)},
        },
    )
    same_after_rewriting(folder, {"x": normal(5, 32)})


@pytest.mark.parametrize("handed", ["Identity", "Relu"])
def test_what_a_body_is_given_is_a_weight_where_it_is_handed_on_as_it_is(write, handed):
    body = helper.make_graph(
        [node("Identity", ["d"], ["e"]), node("MatMul", ["s", "m"], ["z"])],
        "body",
        [
            value("i", INT64, []),
            value("d", onnx.TensorProto.BOOL, []),
            value("s", FLOAT, [8, 48]),
            value("m", FLOAT, [48, 48]),
        ],
        [value("e", onnx.TensorProto.BOOL, []), value("z", FLOAT, [8, 48])],
    )
    body.node.append(node(handed, ["m"], ["m2"]))
    body.output.append(value("m2", FLOAT, [48, 48]))
    folder = write(
        [
            node("MatMul", ["x", "w"], ["a"]),
            node("Loop", ["n", "go", "a", "u"], ["y", "last"], body=body, name="while"),
        ],
        [value("x", FLOAT, [8, 32])],
        [value("y", FLOAT, [8, 48])],
        {"w": decaying(32, 48, 1), "u": decaying(48, 48, 2), "n": np.int64(2), "go": np.bool_(True)},
    )
    model = load_model(folder / "model.onnx")
    if handed == "Identity":
        assert [layer.name for layer in model.layers] == ["w", "u"] and not model.untouched
    else:
        (part,) = [part for part in model.untouched if part.op == "MatMul"]
        assert part.reason == "its weight 'm' is handed to the body of Loop 'while'"


def test_a_product_of_two_activations_is_no_weight_of_the_model(write):
    folder = write(
        [node("MatMul", ["x", "w"], ["q"]), node("MatMul", ["q", "memory"], ["y"])],
        [value("x", FLOAT, [1, 5, 32]), value("memory", FLOAT, [1, 48, 7])],
        [value("y", FLOAT, [1, 5, 7])],
        {"w": decaying(32, 48, 1)},
    )
    assert load_model(folder / "model.onnx").untouched == ()


def test_layers_are_called_as_pytorch_calls_their_modules(write):
    nodes = [
        node("MatMul", ["x", "val_3"], ["a"], name="node_MatMul_65"),
        node("Relu", ["a"], ["r"]),
        node("MatMul", ["r", "val_4"], ["y"], name="node_MatMul_66"),
    ]
    scopes = ["['', 'encoder', 'encoder.layer.0.attention.self.query', 'matmul']", "no list"]
    for each, text in zip((nodes[0], nodes[2]), scopes, strict=True):
        each.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=text)
    folder = write(
        nodes,
        [value("x", FLOAT, ["n", 32])],
        [value("y", FLOAT, ["n", 24])],
        {"val_3": decaying(32, 48, 1), "val_4": decaying(48, 24, 2)},
        ir=10,
    )
    names = [layer.name for layer in load_model(folder / "model.onnx").layers]
    assert names == ["encoder.layer.0.attention.self.query", "fc"]


def chain(write, dtype=FLOAT, kind=np.float32, ir=9, opset=17, stored_as_inputs=False, data=True):
    arrays = {"w": decaying(48, 32, 1), "b": normal(48), "v": decaying(48, 24, 2)}
    more = [value(name, dtype, a.shape) for name, a in arrays.items()] if stored_as_inputs else []
    given = {role: {"x": normal(96, 32)} for role in ("calib", "eval")} if data else None
    return write(
        [node("Gemm", ["x", "w", "b"], ["a"], transB=1), node("Relu", ["a"], ["r"]), node("MatMul", ["r", "v"], ["y"])],
        [value("x", dtype, ["n", 32]), *more],
        [value("y", dtype, ["n", 24])],
        {name: a.astype(kind) for name, a in arrays.items()},
        opset=opset,
        ir=ir,
        data=given,
    )


def test_ir_version_3_gives_what_4_gives(write, way):
    found = {}
    for ir in (3, 4):
        came = way(chain(write, ir=ir, opset=8, stored_as_inputs=ir == 3))
        assert set(came.fits.weightings) == {"w", "v"}
        found[ir] = came.scores.fidelity, came.scores.output_error
    assert found[3] == pytest.approx(found[4], rel=1e-4)


def test_float16_through_every_stage(write, way):
    found = way(chain(write, FLOAT16, np.float16))
    assert set(found.fits.weightings) == {"w", "v"}
    assert found.scores.fidelity > 0.5
    made = onnx.ModelProto.FromString(file_content(found.outputs()))
    assert {tensor.data_type for tensor in made.graph.initializer} == {FLOAT16}
    wanted = way(chain(write)).scores
    assert found.scores.output_error == pytest.approx(wanted.output_error, rel=0.3)


def test_float16_between_casts(write, way):
    """As onnxconverter-common keeps inputs and outputs: they are float32, everything else is float16."""
    data = {role: {"x": normal(96, 32)} for role in ("calib", "eval")}
    folder = write(
        [
            *(node("Cast", ["x"], ["x16"], to=FLOAT16), node("MatMul", ["x16", "w"], ["a"])),
            *(node("Relu", ["a"], ["r"]), node("MatMul", ["r", "v"], ["z"]), node("Cast", ["z"], ["y"], to=FLOAT)),
        ],
        [value("x", FLOAT, ["n", 32])],
        [value("y", FLOAT, ["n", 24])],
        {"w": decaying(32, 48, 1).astype(np.float16), "v": decaying(48, 24, 2).astype(np.float16)},
        data=data,
    )
    found = way(folder)
    assert set(found.fits.weightings) == {"w", "v"} and found.scores.fidelity > 0.5


def test_bfloat16_through_every_stage(write, way):
    """Onnxruntime has no kernels for it on a CPU: models run in float32, and what is written is bfloat16."""
    import ml_dtypes

    bfloat16 = onnx.TensorProto.BFLOAT16
    found = way(chain(write, bfloat16, ml_dtypes.bfloat16))
    assert set(found.fits.weightings) == {"w", "v"}
    assert found.scores.fidelity > 0.5
    made = onnx.ModelProto.FromString(file_content(found.outputs()))
    assert {tensor.data_type for tensor in made.graph.initializer} == {bfloat16}
    assert [v.type.tensor_type.elem_type for v in (*made.graph.input, *made.graph.output)] == [bfloat16] * 2
    wanted = way(chain(write)).scores
    assert found.scores.output_error == pytest.approx(wanted.output_error, rel=0.3)


def side_input(write, count=96, varies=False):
    given = {"x": normal(count, 32), "s": normal(count, 24, seed=2) if varies else np.ones((count, 24), np.float32)}
    return write(
        [
            *(node("Gemm", ["x", "w1", "b1"], ["a"], transB=1), node("Gemm", ["s", "ws", "bs"], ["g"], transB=1)),
            *(node("Sigmoid", ["g"], ["sg"]), node("Mul", ["a", "sg"], ["m"]), node("Relu", ["m"], ["r"])),
            node("Gemm", ["r", "w2", "b2"], ["y"], transB=1),
        ],
        [value("x", FLOAT, ["n", 32]), value("s", FLOAT, ["n", 24])],
        [value("y", FLOAT, ["n", 10])],
        {
            **{"w1": decaying(48, 32, 1), "b1": normal(48), "w2": decaying(10, 48, 2), "b2": normal(10)},
            **{"ws": decaying(48, 24, 3), "bs": normal(48)},
        },
        data={"calib": given, "eval": given},
    )


def test_a_layer_whose_input_never_varies(write, way):
    found = way(side_input(write))
    assert found.scores.fidelity > 0.5
    assert "ws" in dict(found.plan.choices)


def test_one_calibration_sample_is_too_few(write, way):
    with pytest.raises(InputError, match="one sample says nothing of what layers read: calibration needs 2 or more"):
        way(side_input(write, count=1))


def test_nothing_to_compress(write, tmp_path):
    import lrfdse

    folder = chain(write, data=False)
    (tmp_path / "large.toml").write_text("min_size = 100\n")
    with pytest.raises(lrfdse.InputError, match=r"nothing to compress: 2 layers: a side below 100 \(min_size\)"):
        lrfdse.explore(folder, "riscv64", space=tmp_path / "large.toml", output=tmp_path / "out")
    assert not (tmp_path / "out" / "front.json").exists()


@pytest.mark.parametrize("plain", [True, False])
def test_links_of_a_models_cache(write, tmp_path, plain):
    """Hugging Face: snapshots/REV/model.onnx and model.onnx_data are links into blobs/."""
    model = onnx.load(chain(write, data=False) / "model.onnx")
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "rev"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    onnx.save(model, blobs / "aaaa", save_as_external_data=True, location="model.onnx_data", size_threshold=16)
    (blobs / "model.onnx_data").rename(blobs / "bbbb")
    (snapshot / "model.onnx_data").symlink_to("../../blobs/bbbb")
    if plain:
        (snapshot / "model.onnx").symlink_to("../../blobs/aaaa")
        np.testing.assert_array_equal(load_model(snapshot / "model.onnx").weight("w"), decaying(48, 32, 1))
        return
    # The model itself is no link: who made the one to its data is not known.
    (snapshot / "model.onnx").write_bytes((blobs / "aaaa").read_bytes())
    with pytest.raises(
        InputError, match=r"outside the model's folder: refused \(it is a link: put the file itself there"
    ):
        load_model(snapshot / "model.onnx")
