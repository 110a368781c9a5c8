"""The HTML report as text: what it holds, what it must never hold. What it does is tested in tests/browser."""

from __future__ import annotations

import base64
import datetime
import hashlib
import html.parser
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from onnx import TensorProto, helper

from npu_guard import cli
from npu_guard.base.clock import report_date
from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config
from npu_guard.reports.blocks import charts, html_data, overview, picture, tree
from npu_guard.results.findings import INPUT, Location, Remedy, Report, Severity
from npu_guard.results.summary import percent

HOSTILE = "</script><script>alert(1)</script>"
NEVER = {"iframe", "object", "embed", "img", "form", "base", "input", "video", "audio", "template"}
MODELS = ("samples/sample_net.onnx", "samples/six_problems.onnxtxt", "samples/no_such_file.onnx")


class Page(html.parser.HTMLParser):
    """Tags, attributes and the text of scripts, as a parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.bodies: dict[str, str] = {}
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = ("data" if dict(attrs).get("type") else "code") if tag == "script" else tag if tag == "style" else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.bodies[self._inside] = self.bodies.get(self._inside, "") + data
        else:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def render(report: Report) -> str:
    return registry.renderer("html")(report, color=False)


def report_of(path: Path) -> Report:
    return check_models([str(path)], Config(), hashes=True, layers=True)


def network(folder: Path, prefix: str = "") -> Path:
    """Two modules, an operator without a module, a finding in each place, and a name of the caller's."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], f"/stem/{prefix}conv/Conv"),
        helper.make_node("Erf", ["a"], ["b"], f"/stem/{prefix}act/Erf"),
        helper.make_node("Conv", ["b", "w"], ["c"], "/head/conv/Conv"),
        helper.make_node("Sigmoid", ["c"], ["d"], "/head/gate/Sigmoid"),
        helper.make_node("Identity", ["d"], ["e"], "noise"),
        helper.make_node("Mul", ["e", "b"], ["y"], f"{prefix}mul"),
    ]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [12, 12, 1, 1], bytes(576), raw=True)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 12, 8, 8]) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight]), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def page(root: Path) -> Page:
    return Page(render(check_models(MODELS, Config(), hashes=True, layers=True)))


def test_nothing_comes_from_elsewhere(page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            value = attributes.get(name) or ""
            assert value.startswith("#") or (tag == "link" and value == "data:,") or not value, (tag, value)
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", page.bodies["style"])
    assert not re.search(
        r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|eval|innerHTML|outerHTML)\b", page.bodies["code"]
    )


def test_the_policy_allows_this_script_and_this_style_alone(page: Page) -> None:
    (policy,) = [m["content"] or "" for m in page.named("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    for kind, part in (("script-src", "code"), ("style-src", "style")):
        digest = base64.b64encode(hashlib.sha256(page.bodies[part].encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert not [
        tag for tag, attributes in page.tags if "style" in attributes or any(name.startswith("on") for name in attributes)
    ]


def test_every_id_is_used_once_and_every_label_exists(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    referred = {
        attributes[key] for _, attributes in page.tags for key in ("aria-labelledby", "aria-controls") if key in attributes
    }
    assert referred <= set(ids)
    assert page.named("html")[0]["lang"] == "en"


def test_all_that_a_reader_needs_is_there(page: Page) -> None:
    for words in (
        "aimotive-aiware",
        "This model does not run on AImotive aiWare",
        "What to do",
        "conv.kernel_max",
        "no such file",
    ):
        assert words in page.text
    for words in ("Not checked, because the profile", "Limits that the profile does not set", "user requirement"):
        assert words in page.text
    for rule in registry.rules():
        assert f"{rule.code} {rule.name}" in page.text
        assert any(attributes.get("id") == f"rule={rule.code}" for _, attributes in page.tags)
    data = json.loads(page.bodies["data"])
    assert [model["path"] for model in data["models"]] == list(MODELS)
    assert len(data["models"][0]["findings"]) == 11


def test_data_link_findings_to_rows(tmp_path: Path) -> None:
    data = json.loads(Page(render(report_of(network(tmp_path)))).bodies["data"])["models"][0]
    rows, texts = data["rows"], data["texts"]
    places = {(texts[f[0]], texts[rows["op"][f[2]]], rows["node"][f[2]]) for f in data["findings"]}
    assert places == {
        ("NPU401", "Conv", "/stem/conv/Conv"), ("NPU101", "Erf", "/stem/act/Erf"), ("NPU401", "Conv", "/head/conv/Conv"),
    }  # fmt: skip
    assert rows["inputs"][-1] == [4, 2]  # the Mul reads through the Identity, which is folded
    assert rows["verdict"] == [0, 3, 1, 3, 0, 4, 0]
    assert rows["waste"][1] == 25.0  # 12 channels in 16
    assert [texts[label] for label, _, _ in data["groups"]] == ["stem", "head"]


@pytest.mark.parametrize("name", [HOSTILE, "<img src=x onerror=alert(1)>", "\u2028'\"--><!--", "{{ 7 * 7 }}", "\x1b[31m\u202e"])
def test_names_stay_text(tmp_path: Path, name: str) -> None:
    plain, hostile = (render(report_of(network(tmp_path, prefix))) for prefix in ("", name))
    tags = [[tag for tag, _ in Page(text).tags] for text in (plain, hostile)]
    assert tags[0] == tags[1]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u2028\u2029\u202e]", hostile)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', hostile, re.DOTALL)
    assert data is not None
    assert not set(data.group(1)) & set("<>&\u2028\u2029")
    assert any(printable(name) in node for node in json.loads(data.group(1))["models"][0]["rows"]["node"])


def test_same_input_same_bytes_and_nothing_of_this_machine(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    pages = []
    for folder in (first, second):
        folder.mkdir()
        pages.append(render(report_of(network(folder))))
    assert pages[0] == pages[1]
    assert str(tmp_path) not in pages[0]
    assert datetime.date.today().isoformat() not in pages[0]  # dates of a device's documents are facts


def test_without_layers_the_page_is_still_one(root: Path) -> None:
    """Whoever calls the renderer with a plain report gets verdict and findings, and no graph."""
    text = Page(render(check_models(MODELS[:1], Config()))).text
    assert "This model does not run" in text
    assert "Legend" not in text


def test_a_small_share_of_the_macs_is_not_none(sample: ModuleType) -> None:
    report = sample.many(3)
    model = report.models[0]
    totals = replace(model.totals, macs=1_000_000)
    findings = [replace(f, macs=macs) for f, macs in zip(model.findings, (4, 0, 999_999), strict=True)]
    page = Page(render(replace(report, models=(replace(model, totals=totals, findings=tuple(findings)),))))
    shares = [row[11] for row in json.loads(page.bodies["data"])["models"][0]["findings"]]
    assert 0 < shares[0] < 0.05
    assert shares[1] == 0
    assert 99.95 < shares[2] < 100


def test_the_table_of_rules_says_what_each_run_of_fix_mends(sample: ModuleType) -> None:
    finding = sample.many(1).models[0].findings[0]
    warning = replace(finding, severity=Severity.WARNING)
    exact = Remedy("elu-to-tanh", "exact", "")
    shown = [
        overview.to_do(replace(sample.many(1).models[0], findings=tuple(findings)), str)[0]["mended"]
        for findings in (
            [replace(finding, remedy=None)],
            [replace(finding, remedy=exact)],
            [replace(finding, remedy=replace(exact, option="--warnings"))],
            [replace(finding, remedy=exact), replace(finding, remedy=replace(exact, option="--warnings"))],
        )
    ]
    assert shown == ["–", "1", "1 with --warnings", "1, and 1 with --warnings"]
    titles = [overview.title_of(findings) for findings in ([finding], [finding, warning], [warning])]
    assert len(set(titles)) == 3
    assert "off the device" not in titles[2]


def test_an_error_says_no_more_of_the_disk_than_the_file_name(tmp_path: Path) -> None:
    text = render(report_of(tmp_path / "missing.onnx"))
    assert "missing.onnx" in text
    assert str(tmp_path) not in text


def test_wide_levels_are_divided_and_modules_of_one_operator_are_that_operator(tmp_path: Path) -> None:
    row = report_of(network(tmp_path)).models[0].layers[1]
    flat = [replace(row, index=i, scope=(), inputs=(i - 1,) if i else ()) for i in range(5_000)]
    root, _ = tree.build(flat)
    assert max(len(group.items) for group in (root, *root.below())) <= 100
    assert [r.index for r in root.rows] == list(range(5_000))
    outputs = sum(len(r.results) for r in root.rows)
    assert len(picture.draw(root).boxes) == len(root.items) + min(outputs, 12)
    deep, names = tree.build([replace(row, scope=("a", "b", "c")), replace(row, index=2, scope=("d",))])
    assert [type(item).__name__ for item in deep.items] == ["LayerRow", "LayerRow"]
    assert names == {1: "a.b.c", 2: "d"}
    hostile, _ = tree.build([replace(row, index=i, scope=("m",) * 5_000) for i in range(3)])
    assert len(hostile.rows) == 3


def test_layers_have_the_numbers_that_the_page_counts(tmp_path: Path) -> None:
    """An input, which is no layer, and a constant between any two layers."""
    layers = report_of(network(tmp_path)).models[0].layers
    entry, row = layers[0], layers[1]
    assert entry.location.op_type == INPUT
    rows = [replace(row, index=i, scope=(), verdict="ok" if i % 2 else "folded", inputs=()) for i in range(1, 200)]
    root, _ = tree.build([replace(entry, index=0), *rows])
    assert [item.label for item in root.items if isinstance(item, tree.Group)] == [
        "layers 1–49",
        "layers 50–99",
        "layers 100–100",
    ]
    shown = picture.draw(root)
    assert [box.detail for box in shown.boxes if box.many][:2] == ["49 layers", "50 layers"]
    assert "follow each other" in shown.caption
    assert picture.draw(tree.build([row])[0]).caption == "Every layer has a box of its own."


def test_the_chart_of_work_has_modules_and_not_their_layers(tmp_path: Path) -> None:
    model = report_of(network(tmp_path)).models[0]

    def bars(*modules: str) -> list[str]:
        rows = [replace(model.layers[1], index=i, scope=tuple(m.split(".")), macs=10) for i, m in enumerate(modules)]
        return [bar.label for bar in charts.module_bars(model, tree.build(rows)[0])]

    blocks = [f"layer{i}.{j}" for i in (1, 2, 3) for j in (0, 1)]
    assert bars("stem", *(f"{block}.conv{k}" for block in blocks for k in (1, 2)), "fc") == ["stem", *blocks, "fc"]
    handful = [*(f"features.{i}" for i in range(8)), "classifier.0", "classifier.1"]  # two bars would say too little
    assert bars(*handful) == handful
    assert bars("attention", "attention", "mlp.fc1", "mlp.fc2") == ["attention", "mlp.fc1", "mlp.fc2"]


def test_the_chart_of_memory_leads_to_nodes_that_share_a_name(tmp_path: Path) -> None:
    layers = report_of(network(tmp_path)).models[0].layers
    twins = [replace(row, location=replace(row.location, node="twin")) for row in layers]
    shown = charts.memory(twins, overview.node_keys(twins))
    assert shown is not None
    keys = [shown.key, *(key for _, key, _, _ in shown.tensors)]
    assert all(layers[int(key.removeprefix("@"))].output_bytes for key in keys)


def test_what_a_form_does_is_told_once() -> None:
    told: set[str] = set()
    [(name, words, hint, times)] = overview.said_once(["eca-to-se"], told)
    assert (name, hint, times) == ("eca-to-se", "", "")
    assert overview.said_once(["eca-to-se"], told) == [(name, "", words, "")]


def test_a_form_that_follows_itself_is_named_once() -> None:
    forms = ["eca-to-se", *["channels-to-aligned"] * 9, "x"]
    assert [(name, times) for name, _, _, times in overview.said_once(forms, set())] == [
        ("eca-to-se", ""), ("channels-to-aligned", ", 9 times"), ("x", ""),
    ]  # fmt: skip


def test_a_small_share_reads_alike_everywhere() -> None:
    """Rounded to two decimals first, 0.0497 would be 0.1 %."""
    for share in (0.0, 0.0049, 0.0497, 0.05, 12.345, 99.949, 99.96, 99.996, 100.0):
        assert percent(html_data.rounded(share)) == percent(share)


def test_bodies_are_drawn_inside_their_operator(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]> g (float[1,8,4,4] x, bool c) => (float[1,8,4,4] y) {
        a = Relu(x)
        y = If (c) <
            then_branch = t () => (float[1,8,4,4] p) { q = Erf(a) p = Relu(q) },
            else_branch = e () => (float[1,8,4,4] r) { r = Sigmoid(a) }>
    }"""
    path = tmp_path / "branch.onnxtxt"
    path.write_text(text)
    rows = report_of(path).models[0].layers
    inner = {r.location.op_type: r for r in rows if r.scope}
    assert set(inner) == {"Erf", "Relu", "Sigmoid"}
    assert inner["Erf"].scope[-1].endswith("then_branch")
    branch = next(r for r in rows if r.location.op_type == "If")
    assert {rows[i].location.op_type for i in branch.inputs} == {"graph input", "Relu", "Sigmoid"}
    assert Page(render(report_of(path))).text


def test_suppressed_findings_stay_in_the_table_and_out_of_the_colours(tmp_path: Path) -> None:
    report = report_of(network(tmp_path))
    model = report.models[0]
    findings = tuple(replace(f, suppressed="accepted by the vendor") for f in model.findings)
    page = Page(render(replace(report, models=(replace(model, findings=findings),))))
    assert "accepted by the vendor" in page.bodies["data"]
    assert "What keeps it off the device" not in page.text
    assert any(isinstance(f.location, Location) for f in findings)


@pytest.mark.usefixtures("root")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_file_holds_the_page_stays_one(any_report: st.SearchStrategy[Report], data: st.DataObject) -> None:
    report = data.draw(any_report)
    text = render(report)
    text.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e\ufeff]", text)
    page = Page(text)
    assert len(page.named("article")) == len(report.models) + len(registry.rules())
    assert not {tag for tag, _ in page.tags} & NEVER
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert len(json.loads(page.bodies["data"])["models"]) == len(report.models)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    code: Any = ended.value.code
    assert isinstance(code, int)
    return code


def test_the_command_writes_a_page_and_replaces_only_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, target = str(network(tmp_path)), tmp_path / "report.html"
    assert run("report", model, "-o", str(target)) == 1
    first = target.read_bytes()
    assert b'<meta name="generator" content="npu-guard ' in first[:4096]
    assert run("report", model, "-o", str(target)) == 1
    assert target.read_bytes() == first
    assert run("check", model, "--format", "html", "--output", str(tmp_path / "other.html")) == 1
    assert (tmp_path / "other.html").read_bytes() == first
    target.write_text("my notes")
    assert run("report", model, "-o", str(target)) == 2
    assert "--force" in capsys.readouterr().err
    assert target.read_text() == "my notes"
    assert run("report", model, "-o", str(tmp_path)) == 2
    assert run("report", model, "-o", str(target), "--force") == 1
    assert target.read_bytes() == first


def test_an_unreadable_model_makes_a_page_and_exit_code_3(tmp_path: Path) -> None:
    assert run("report", str(tmp_path / "none.onnx"), "-o", str(tmp_path / "r.html")) == 3
    assert "This model could not be checked" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_the_page_says_what_was_checked_with_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    model, target = str(network(tmp_path)), tmp_path / "r.html"
    run("report", model, "-o", str(target))
    plain = Page(target.read_text(encoding="utf-8")).text
    for words in ("For the record", "Reviewed by", "SHA-256", "user requirement"):
        assert words in plain
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    run("report", model, "-o", str(target))
    assert "1970-01-02" in Page(target.read_text(encoding="utf-8")).text
    for wrong in ("soon", "-5", "1_000", " 5", "9" * 30):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        assert run("report", model, "-o", str(target)) == 2, wrong
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    earliest = report_date(dated=True)
    run("report", model, "-o", str(target), "--dated")
    written = Page(target.read_text(encoding="utf-8")).text
    assert earliest in written or report_date(dated=True) in written  # midnight may pass


def test_the_page_tells_which_device_file_was_asked(tmp_path: Path) -> None:
    """The digest is that of the files as they stand, so that whoever gets the page can compare them."""
    model, target, own = str(network(tmp_path)), tmp_path / "r.html", tmp_path / "own.toml"
    shipped = registry.profile_files()["aimotive-aiware"].read_bytes()
    own.write_text('name = "own"\ntitle = "Own"\nsource = "us"\nextends = "aimotive-aiware"\n', encoding="utf-8")
    for profile, stated in (("aimotive-aiware", shipped), (str(own), shipped + own.read_bytes())):
        run("report", model, "-o", str(target), "--profile", profile, "--force")
        assert f"Profile, SHA-256{hashlib.sha256(stated).hexdigest()}" in Page(target.read_text(encoding="utf-8")).text


def test_what_is_alive_at_the_peak_adds_up(tmp_path: Path) -> None:
    """The tensors that the chart names are those that the engine counted: what runs reads and makes, and what comes later."""
    path = tmp_path / "branches.onnxtxt"
    path.write_text("""<ir_version: 10, opset_import: ["" : 20]> g (float[1,8,4,4] x) => (float[1,8,4,4] y, float[1,8,4,4] z) {
        a = Relu(x) z = Sigmoid(a) b = Tanh(a) c = Add(b, a) y = Neg(c)
    }""")
    layers = report_of(path).models[0].layers
    for row in layers[1:]:
        there = charts.alive_at(layers, row.index)
        assert sum(r.output_bytes or 0 for r in there) == row.live_bytes, row.location
    assert [r.location.node for r in charts.alive_at(layers, layers[4].index)] == ["a", "z", "b", "c"]
