"""What two models take and give: names, order, types, shapes, open axes; and outputs that are no plain numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Cli, Write

NET = "g (float[N,4,6,6] x, float[N,4,6,6] u) => (float[N,4,6,6] y, float[N,4,6,6] z) { y = Add(x, u)  z = Sub(x, u) }"


def verified(cli: Cli, *options: str) -> tuple[int, dict[str, object]]:
    done = cli("verify", "net.onnx", "other.onnx", "--format", "json", *options)
    return done.code, json.loads(done.out)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (NET.replace("[N,4", "[1,4"), "axis 0 of input 'x' is open (N) before and 1 after"),
        (NET.replace("(float[N,4,6,6] x,", "(float[N,4,H,6] x,"), "axis 2 of input 'x' is 6 before and open (H) after"),
        (NET.replace("float[N,4,6,6] x, float[N,4,6,6] u", "float[N,4,6,6] u, float[N,4,6,6] x"), "inputs are in another order"),
        (NET.replace("float[N,4,6,6] y, float[N,4,6,6] z", "float[N,4,6,6] z, float[N,4,6,6] y"), "outputs are in another order"),
        (NET.replace("float[", "double["), "input 'x' is float32 before and float64 after"),
        (NET.replace("[N,4,6,6]", "[N,4,6,5]"), "axis 3 of input 'x' is 6 before and 5 after"),
        (NET.replace("[N,4,6,6]", "[N,4,36]"), "input 'x' has 4 axes before and 3 after"),
        (NET.replace("float[N,4,6,6] x, ", "float[N,4,6,6] x, float[1] w, "), "input w float32[1] is there after only"),
        (NET.replace(", float[N,4,6,6] z)", ")").replace("z = Sub(x, u)", ""), "output z float32[N,4,6,6] is there before only"),
    ],
)
def test_what_only_one_side_takes_is_a_difference(cli: Cli, write: Write, other: str, said: str) -> None:
    write(NET)
    write(other, "other.onnx")
    code, result = verified(cli)
    assert (code, result["verdict"]) == (5, "differs")
    assert said in str(result["reason"])


def test_another_name_of_an_open_axis_is_none(cli: Cli, write: Write) -> None:
    write(NET)
    write(NET.replace("[N,", "[batch,"), "other.onnx")
    assert verified(cli)[1]["verdict"] == "equal"


def test_a_batch_that_is_written_into_the_graph_is_a_difference(cli: Cli, write: Write) -> None:
    """Both leave the batch open; one reshapes to a batch of 1."""
    graph = "g (float[N,4,6,6] x) => (float[M,144] y) <int64[2] shape = {SHAPE}> { y = Reshape(x, shape) }"
    write(graph.replace("SHAPE", "0,144"))
    write(graph.replace("SHAPE", "1,144"), "other.onnx")
    code, result = verified(cli)
    assert (code, result["verdict"]) == (5, "differs")
    assert "only the first model runs with a batch of 2" in str(result["reason"])
    write(graph.replace("SHAPE", "-1,144"), "other.onnx")
    assert "a batch of 2" in str(verified(cli)[1]["inputs"])


def test_a_size_that_is_written_into_the_graph_is_a_difference(cli: Cli, write: Write) -> None:
    graph = "g (float[1,4,H,W] x) => (float[1,4,P] y) <int64[3] shape = {1,4,PIXELS}> { y = Reshape(x, shape) }"
    write(graph.replace("PIXELS", "-1"))
    write(graph.replace("PIXELS", "36"), "other.onnx")
    code, result = verified(cli, "--input-shape", "x:1,4,6,6")
    assert (code, result["verdict"]) == (5, "differs")
    assert "twice the size" in str(result["reason"])
    # The shape that is given may be written into the interface: then the user has asked for it.
    write(graph.replace("PIXELS", "36").replace("[1,4,H,W]", "[1,4,6,6]"), "other.onnx")
    assert verified(cli, "--input-shape", "x:1,4,6,6")[0] == 0


def test_two_exports_go_together_by_position(cli: Cli, write: Write) -> None:
    write(NET)
    other = (
        "g (float[N,4,6,6] arg0, float[N,4,6,6] arg1) => (float[N,4,6,6] o, float[N,4,6,6] p) { o = Add(arg0, arg1)  p = BODY }"
    )
    write(other.replace("BODY", "Sub(arg0, arg1)"), "other.onnx")
    code, result = verified(cli)
    assert (code, result["verdict"]) == (0, "equal")
    assert "inputs matched by position, as their names differ: x = arg0, u = arg1" in str(result["reason"])
    write(other.replace("BODY", "Sub(arg1, arg0)"), "other.onnx")
    assert verified(cli)[1]["verdict"] == "differs"
    # The user knows better which is which, and is told that they have moved.
    code, result = verified(cli, "--map", "x=arg1", "--map", "u=arg0")
    assert (code, result["verdict"]) == (0, "equal")
    assert "inputs are in another order, as --map says" in str(result["reason"])
    # One pair of two says nothing of the other.
    write(NET.replace("float[N,4,6,6] x, float[N,4,6,6] u", "float[N,4,6,6] u, float[N,4,6,6] x"), "other.onnx")
    code, result = verified(cli, "--map", "x=x")
    assert (code, result["verdict"]) == (5, "differs")
    assert "inputs are in another order (before" in str(result["reason"])


def test_names_that_the_user_pairs(cli: Cli, write: Write) -> None:
    write(NET)
    write(
        "g (float[N,4,6,6] x, float[N,4,6,6] u) => (float[N,4,6,6] d, float[N,4,6,6] s) { d = Sub(x, u)  s = Add(x, u) }",
        "other.onnx",
    )
    assert verified(cli)[1]["verdict"] == "differs"
    code, result = verified(cli, "--map", "y=s", "--map", "z=d")
    assert (code, "outputs are in another order, as --map says" in str(result["reason"])) == (0, True)
    assert verified(cli, "--map", "y=d", "--map", "z=s")[1]["verdict"] == "differs"
    done = cli("verify", "net.onnx", "other.onnx", "--map", "q=s")
    assert (done.code, "the first model has no 'q'; it has u, x, y, z" in done.err) == (2, True)
    assert cli("verify", "net.onnx", "other.onnx", "--map", "q").code == 2


def test_names_that_cannot_be_told_are_listed(cli: Cli, write: Write) -> None:
    write(NET)
    write("g (float[N,4,6,6] a) => (float[N,4,6,6] y) { y = Relu(a) }", "other.onnx")
    done = cli("verify", "net.onnx", "other.onnx")
    assert done.code == 5
    for part in (
        "before: x float32[N,4,6,6]",
        "after: a float32[N,4,6,6]",
        "--map before=after",
        "NOT VERIFIED: their inputs",
    ):
        assert part in done.out


def test_which_model_does_not_run_is_said(cli: Cli, write: Write) -> None:
    graph = "g (float[4,9] x, int64[2] i) => (float[2,9] y) <int64[1] o = {OFF}> { j = Add(i, o)  y = Gather(x, j) }"
    write(graph.replace("OFF", "0"))
    write(graph.replace("OFF", "100"), "other.onnx")
    code, result = verified(cli)
    assert (code, result["verdict"]) == (5, "not_run")
    assert str(result["reason"]).startswith("the second model does not run, where the first does: ")
    write(graph.replace("OFF", "100"))
    write(graph.replace("OFF", "0"), "other.onnx")
    assert str(verified(cli)[1]["reason"]).startswith("the first model does not run: ")


def test_random_numbers_are_said(cli: Cli, write: Write) -> None:
    graph = "g (float[1,4,6,6] x) => (float[1,4,6,6] y) { r = RandomNormalLike(x)  a = Add(x, r)  y = BODY }"
    write(graph.replace("BODY", "Relu(a)"))
    write(graph.replace("BODY", "Relu(a)"), "other.onnx")
    assert "draw random numbers (RandomNormalLike" in str(verified(cli)[1]["reason"])
    write(graph.replace("BODY", "Abs(a)"), "other.onnx")
    code, result = verified(cli)
    assert (code, result["verdict"]) == (5, "not_run")
    assert "differs from run to run" in str(result["reason"])


def test_outputs_whose_shape_depends_on_data(cli: Cli, write: Write) -> None:
    graph = (
        "g (float[1,4,6,6] x) => (int64[4,M] y) { t = Constant<value = float {THRESHOLD}>()  b = Greater(x, t)  y = NonZero(b) }"
    )
    write(graph.replace("THRESHOLD", "0.5"))
    write(graph.replace("THRESHOLD", "0.5"), "other.onnx")
    assert verified(cli)[0] == 0
    write(graph.replace("THRESHOLD", "0.7"), "other.onnx")
    done = cli("verify", "net.onnx", "other.onnx")
    assert done.code == 5
    assert "differs: shape [4, " in done.out
    # A shape that differs has no noise to be measured, and neither does a gather of so many.
    graph = graph.replace("int64[4,M] y", "float[M,5] y").replace(
        "y = NonZero(b)", "n = NonZero(b)  f = Cast<to = 1>(n)  y = FUNCTION(f)"
    )
    write(graph.replace("THRESHOLD", "0.5").replace("FUNCTION", "Sin"))
    write(graph.replace("THRESHOLD", "0.5").replace("FUNCTION", "Cos"), "other.onnx")
    assert verified(cli)[0] == 5
