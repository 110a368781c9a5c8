"""Values that no node can have are said to be wrong, with the line, by `validate` and by whoever uses the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.base.errors import UsageError
from npu_guard.checking import registry
from npu_guard.device.predicate import PREDICATES
from npu_guard.device.vocabulary import METRICS

HEAD = 'name = "mine"\ntitle = "Mine"\nsource = "data sheet"\n'
LIMIT = '[[limit]]\nops = ["Conv"]\n'
DTYPES = "float32, uint8, int8, uint16"


def one(ops: str, body: str) -> str:
    return f'{HEAD}[[limit]]\nops = ["{ops}"]\n{body}\n'


def conv(body: str) -> str:
    return one("Conv", body)


QUANTIZED = HEAD + "[limits.quantization]\n"
WRONG = [
    (conv('when = { depthwise = "yes" }\nmetric = "stride"\nmax = 2'), 6, "'depthwise' is true or false, not 'yes'"),
    (conv('when = { depthwise = 1 }\nmetric = "stride"\nmax = 2'), 6, "'depthwise' is true or false, not 1"),
    (conv('when = { depthwise = { max = 1 } }\nmetric = "stride"\nmax = 2'), 6, "bound it with is, in or not_in, not with max"),
    (conv('when = { kernel = true }\nmetric = "stride"\nmax = 2'), 6, "'kernel' is a whole number, not True"),
    (conv('when = { kernel = "3" }\nmetric = "stride"\nmax = 2'), 6, "'kernel' is a whole number, not '3'"),
    (conv('when = { stride = 1.5 }\nmetric = "kernel"\nmax = 2'), 6, "'stride' is a whole number, not 1.5"),
    (conv('when = { kernel = 0 }\nmetric = "stride"\nmax = 2'), 6, "no value of 'kernel' is 0"),
    (conv('when = { dtype = "flaot32" }\nmetric = "stride"\nmax = 2'), 6, "did you mean 'float32'? It is one of " + DTYPES),
    (conv('when = { attr.auto_pad = "SAME" }\nmetric = "stride"\nmax = 2'), 6, "NOTSET, SAME_LOWER, SAME_UPPER, VALID"),
    (conv('metric = "kernel"\nmax = 7\nmin = 9'), 7, "no value of 'kernel' is at most 7 and at least 9"),
    (conv('metric = "kernel"\nmax = 0'), 7, "no value of 'kernel' is at most 0"),
    (conv('metric = "kernel"\nbelow = 3\nmin = 3'), 7, "no value of 'kernel' is below 3 and at least 3"),
    (conv('metric = "kernel"\nin = []'), 7, "in is empty"),
    (conv('metric = "kernel"\nin = [1, 3]\nmax = 2'), 7, "no value of 'kernel' is 3"),
    (conv('metric = "kernel"\nin = [1, 3]\nnot_in = [3, 1]'), 8, "no value of 'kernel' is left by not_in"),
    (conv('metric = "kernel"\nin = [[3, "3"]]'), 7, "'kernel' is a whole number, not '3'"),
    (conv('metric = "kernel"\nmax = 3\nequal = false'), 8, "equal = false says nothing"),
    (conv('metric = "kernel"\nmax = "dtype"'), 7, "names a metric that is no number"),
    (conv('metric = "depthwise.largest"\nmax = 3'), 6, "has no 'largest': it is yes or no"),
    (conv('metric = "depthwise * kernel"\nmax = 3'), 6, "'depthwise' is no number"),
    (conv('metric = "dtype"\nin = ["float", "int8"]'), 7, "did you mean 'float32'? It is one of " + DTYPES),
    (conv('metric = "dtype"\nmax = 3'), 7, "is a word in quotes; bound it with is, in or not_in"),
    (conv('metric = "attr.group"\nis = "1"'), 7, "'attr.group' is a whole number, not '1'"),
    (one("Resize", 'metric = "attr.mode"\nis = "bilinear"'), 7, "did you mean 'linear'? It is one of cubic, linear, nearest"),
    (one("Resize", 'metric = "scale"\nany_of = [{ scale = "two" }]'), 7, "'scale' is a number, not 'two'"),
    (one("Gemm", 'metric = "attr.alpha"\nis = "1.0"'), 7, "'attr.alpha' is a number, not '1.0'"),
    (one("Clip", 'metric = "value.max"\nis = "6"'), 7, "'value.max' is a number, true or false, not '6'"),
    (HEAD + '[limits.tensor]\ndtypes = { value = ["float"] }\n', 5, "did you mean 'float32'? It is one of " + DTYPES),
    (HEAD + '[limits.pad]\nmodes = { value = ["zeros"] }\n', 5, "it is one of constant, edge, reflect, wrap"),
    (HEAD + '[limits]\nresize = { value = [{ mode = "bilinear", scales = [2] }] }\n', 5, "is one of cubic, linear, nearest"),
    (conv('metric = "kernel"\nmax = 7.5'), 7, "'kernel' is a whole number, and max is 7.5"),
    (conv('when = { stride = { min = 1.5 } }\nmetric = "kernel"\nmax = 7'), 6, "'stride' is a whole number, and min is 1.5"),
    (one("Transpose", 'metric = "perm"\nin = [[0, 1, 2], [0, 2, 2]]'), 7, "[0, 2, 2] is no permutation of 0, 1, 2"),
    (one("Relu", 'metric = "kernel"\nmax = 7'), 6, "Relu has no kernel; 'kernel' says nothing of it"),
    (one("Conv", 'when = { scale = 2 }\nmetric = "kernel"\nmax = 7'), 6, "Conv has no scale; 'scale' says nothing of it"),
    (one("GlobalMaxPool", 'metric = "stride"\nmax = 7'), 6, "GlobalMaxPool has no stride; 'stride' says nothing of it"),
    (one("MaxPool", 'metric = "kernel"\nany_of = [{ kernel = 3, group = 1 }]'), 7, "MaxPool has no group count; 'group' says"),
    (QUANTIZED + 'activation_types = { value = ["int8x"] }\n', 5, "'quantization.activation_types' has no 'int8x'; did you mean"),
    (QUANTIZED + 'weights_symmetric = { value = ["char"] }\n', 5, "'quantization.weights_symmetric' has no 'char'; it is one of"),
    (QUANTIZED + 'forms = { value = ["QDQ"] }\n', 5, "It is one of qdq, qoperator, integer, dynamic, weights"),
    (QUANTIZED + 'weight_scales = { value = ["channels"] }\n', 5, "did you mean 'channel'? It is one of tensor, channel, block"),
    (QUANTIZED + 'same_scale = { value = ["Maxpool"] }\n', 5, "'Maxpool' is no ONNX operator; did you mean 'MaxPool'?"),
    (HEAD + '[unlisted]\nreason = "r"\nconsequence = "cpu"\n', 6, "compile-error, host, decomposed, slow"),
    (HEAD + '[[operators]]\nstatus = "suported"\nnames = []\n', 5, "did you mean 'supported'? It must be one of"),
    (conv('metric = "kernel"\nmax = 3').replace("data sheet", "FILL IN: a document"), 3, "'source' is not filled in"),
]  # fmt: skip

RIGHT = [
    conv('when = { depthwise = false }\nmetric = "stride"\nin = [1, [2, 1]]'),
    conv('metric = "pads"\nmax = 3\nbelow = "kernel"'),
    conv('metric = "attr.auto_pad"\nnot_in = ["SAME_UPPER"]'),
    conv('metric = "kernel.product * channels_in / 16"\nmax = 144'),
    conv('metric = "attr.pads.count"\nis = 0'),
    conv('metric = "kernel"\nmax = 7.0'),
    one("GlobalMaxPool", 'metric = "kernel"\nmax = 7'),
    one("Pad", 'metric = "pads"\nmax = 7'),
    one("Transpose", 'metric = "perm"\nin = [[0, 2, 1], [1, 0]]'),
    one("com.example::Op", 'metric = "kernel"\nmax = 7'),
    one("*", 'when = { kernel = 3 }\nmetric = "extent"\nmax = 7'),
    QUANTIZED + 'forms = { value = ["qdq"] }\nweight_types = { value = ["int4"] }\nfused = { value = ["Relu"] }\n',
    one("Concat", 'metric = "axes"\nin = [-3]'),
    one("Gemm", 'metric = "attr.alpha"\nis = 1.0'),
    one("Gemm", 'metric = "attr.alpha"\nis = 1'),
    one("Upsample", 'metric = "attr.mode"\nis = "nearest"'),
    one("Where", 'metric = "value.condition"\nis = true'),
    one("com.example::Op", 'metric = "attr.anything"\nis = "goes"'),
    one("Softmax", 'metric = "attr.axis"\nin = [-1]'),
]


@pytest.mark.parametrize(("text", "line", "words"), WRONG, ids=lambda v: v if isinstance(v, str) and len(v) < 60 else "")
def test_wrong(program: Callable[..., tuple[int, str, str]], tmp_path: Path, text: str, line: int, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    code, out, _ = program(tmp_path, "profiles", "validate", "mine.toml")
    assert code == 2
    assert out.startswith(f"mine.toml:{line}: ")
    assert words in out
    with pytest.raises(UsageError) as refused:
        registry.profile(str(path))
    assert f"{path}:{out.splitlines()[0].removeprefix('mine.toml:')}" in str(refused.value)


@pytest.mark.parametrize("text", RIGHT)
def test_right(program: Callable[..., tuple[int, str, str]], tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    assert program(tmp_path, "profiles", "validate", "mine.toml")[0] == 0
    assert registry.profile(str(tmp_path / "mine.toml")).name == "mine"


def test_check_says_how_many_more(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(conv('metric = "kernel"\nmax = "x"') + LIMIT + 'metric = "kernl"\nmax = 3\n')
    with pytest.raises(UsageError, match=r"mine.toml:\d+: .* \(and 1 more; 'npu-guard profiles validate .*' lists them\)"):
        registry.profile(str(tmp_path / "mine.toml"))


def test_every_metric_has_a_kind() -> None:
    assert {base.kind for base in METRICS.values()} == {"boolean", "integer", "number", "text", "value"}
    assert set(PREDICATES) == {"max", "min", "below", "in", "not_in", "is", "multiple_of", "equal", "power_of_two", "integer"}
