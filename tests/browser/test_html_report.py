"""The HTML report in Chromium: everything that a reader does with it. No request leaves the page, nothing reaches the console."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import onnx
import pytest
from msgspec.structs import replace
from onnx import NodeProto, TensorProto, helper
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, expect

from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.fixing import catalog
from npu_guard.fixing.report import FixResult
from npu_guard.fleet.matrix import compare_devices
from npu_guard.pipeline.check import check_models
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Evidence
from npu_guard.rewriting.substitution import EXACT

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
Show = Callable[..., Page]
PROFILES = ["aimotive-aiware", "ethos-u85", "rockchip:RK3566"]
NARROW = (
    "[...document.querySelectorAll('th, td')].filter(c => c.innerText.length > 8 && c.clientWidth && c.clientWidth < 44)"
    ".map(c => c.innerText)"
)
"""Cells of a table that are too narrow for a word."""
EXACT_FORMS = [s for s in catalog.substitutions() if s.exactness == EXACT]


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Show]:
    """Open a page with the report of models in a fresh context; at the end, no message, no error and no request may be left."""
    said: list[str] = []
    asked: list[str] = []
    contexts: list[BrowserContext] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.abort()

    def console(message: ConsoleMessage) -> None:
        said.append(message.text)

    def open_page(models: Sequence[Path], address: str = "", text: str = "", **options: object) -> Page:
        target = tmp_path / f"report{len(contexts)}.html"
        if not text:
            report = check_models([str(m) for m in models], Config(), hashes=True, layers=True, remedies=True)
            text = registry.renderer("html")(report, color=False)
        target.write_text(text, encoding="utf-8")
        context = browser.new_context(**({"viewport": {"width": 1300, "height": 900}, "reduced_motion": "reduce"} | options))  # type: ignore[arg-type]
        contexts.append(context)
        context.route(re.compile(r"^(?!file://)"), refuse)
        page = context.new_page()
        page.on("console", console)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(target.as_uri() + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said
    assert not asked


def save(path: Path, nodes: Sequence[NodeProto], channels: int = 12) -> Path:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [channels, channels, 1, 1], bytes(4 * channels**2), raw=True)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, channels, 8, 8]) for n in ("x", nodes[-1].output[0])]
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], [weight])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString())
    return path


def blocks(count: int, prefix: str = "") -> list[NodeProto]:
    """Blocks of a convolution (misaligned), an Erf (not documented), a Relu and an Add around them."""
    nodes, value = [], "x"
    for number in range(count):
        scope = f"/body/body.{number // 8}/block{number % 8}{prefix}"
        start = value
        for op, part in (("Conv", "conv"), ("Erf", "act"), ("Relu", "relu"), ("Add", "")):
            name = "/".join(filter(None, (scope, part, op)))
            inputs = {"Conv": [value, "w"], "Add": [value, start]}.get(op, [value])
            value = f"{name}_output_0"
            node = helper.make_node(op, inputs, [value], name)
            if op == "Conv":
                node.metadata_props.add(
                    key="pkg.torch.onnx.stack_trace", value=f'File "nets/block.py", line {10 + number}, in forward'
                )
            nodes.append(node)
    return nodes


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "net.onnx", [*blocks(16), helper.make_node("Sigmoid", [blocks(16)[-1].output[0]], ["y"], "last")])


def rows(page: Page, table: str) -> list[str]:
    """Lines of a table, which a click may only just have begun to draw."""
    expect(page.locator(f".table-{table} tbody tr")).not_to_have_count(0)
    return page.locator(f".table-{table} tbody tr").all_inner_texts()


def test_first_view_has_the_verdict_and_tabs_lead_everywhere(show: Show, model: Path) -> None:
    page = show([model])
    expect(page.get_by_role("heading", level=1)).to_contain_text("does not run")
    for name in ("Findings", "Graph", "Layers", "Device", "Rules", "Overview"):
        tab = page.get_by_role("tab", name=name)
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")
        panel = page.locator(f"#{tab.get_attribute('aria-controls')}")
        expect(panel).to_be_visible()
        expect(page.locator("[role=tabpanel]:visible")).to_have_count(1)
        assert name.lower() in page.url
    page.go_back()
    expect(page.get_by_role("tab", name="Rules")).to_have_attribute("aria-selected", "true")


def test_findings_filter_search_and_sort(show: Show, model: Path) -> None:
    page = show([model], "#tab=findings")
    caption = page.locator(".table-findings caption")
    expect(caption).to_have_text("Findings: 32")
    page.locator(".filters").get_by_label("Rule").select_option("=NPU101")
    expect(caption).to_have_text("Findings: 16 of 32")
    page.get_by_label("Search").fill("block3 body.1")
    assert len(rows(page, "findings")) == 1
    page.get_by_role("button", name="Show all").click()
    expect(caption).to_have_text("Findings: 32")
    page.get_by_label("Severity").select_option("=error")
    assert all("NPU401" in row for row in rows(page, "findings"))
    page.get_by_label("Search").fill("no such thing")
    assert rows(page, "findings") == ["Nothing matches."]
    page.get_by_role("button", name="Show all").click()
    head = page.locator(".table-findings th", has_text="Module")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    up = page.locator(".table-findings .module").all_inner_texts()[0:]
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    assert [text for text in up if text] != page.locator(".table-findings .module").all_inner_texts()
    assert page.locator(".table-findings td.module").first.inner_text().startswith("body.1.block7")


def test_layers_sort_by_number_and_turn_pages(show: Show, tmp_path: Path) -> None:
    page = show([save(tmp_path / "long.onnx", blocks(40))], "#tab=layers")
    expect(page.locator(".table-layers caption")).to_contain_text("160, showing 1 to 100")
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".table-layers caption")).to_contain_text("showing 101 to 160")
    assert len(rows(page, "layers")) == 60
    head = page.locator(".table-layers th", has_text="MACs")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    assert "Conv" in rows(page, "layers")[0]
    page.locator(".table-layers tbody a").first.click()
    expect(page.locator(".aside h3")).to_contain_text("Conv")


def test_a_finding_leads_to_its_node_its_rule_and_its_line(show: Show, model: Path) -> None:
    page = show([model], "#tab=findings")
    row = page.locator(".table-findings tbody tr", has_text="/body/body.1/block2/conv/Conv")
    row.get_by_role("link", name=re.compile("block2.conv")).click()
    chosen = page.locator(".canvas .box.chosen")
    expect(chosen).to_be_visible()
    expect(chosen).to_be_focused()
    expect(chosen).to_have_attribute("aria-label", re.compile("^Conv, conv, .*NPU401"))
    box, canvas = chosen.bounding_box(), page.locator(".canvas").bounding_box()
    assert box is not None
    assert canvas is not None
    assert canvas["x"] < box["x"] < canvas["x"] + canvas["width"]
    assert canvas["y"] < box["y"] < canvas["y"] + canvas["height"]
    aside = page.locator(".aside")
    expect(aside).to_contain_text("measured 12, allowed: multiple of 8")
    aside.get_by_role("link", name="NPU401").click()
    expect(page.locator("[id='rule=NPU401']")).to_be_in_viewport()
    expect(page.locator("[id='rule=NPU401']")).to_contain_text("Why it matters")
    page.go_back()
    page.go_back()
    expect(page.locator(".table-findings")).to_be_visible()
    row.get_by_role("button", name="nets/block.py:20").click()
    expect(page.locator(".table-findings caption")).to_have_text("Findings: 1 of 32")


def test_the_panel_has_what_a_viewer_of_onnx_has(show: Show, model: Path) -> None:
    page = show([model], "#node=%2Fbody%2Fbody.0%2Fblock0%2Fconv%2FConv")
    aside = page.locator(".aside")
    pairs = dict(
        zip(aside.locator(".attributes dt").all_inner_texts(), aside.locator(".attributes dd").all_inner_texts(), strict=True)
    )
    assert pairs == {
        "auto_pad": "NOTSET default", "dilations": "1, 1 default", "group": "1 default", "kernel_shape": "1, 1 default",
        "pads": "0, 0, 0, 0 default", "strides": "1, 1 default",
    }  # fmt: skip
    texts = [line.replace("\n", " ").replace("\xa0", " ") for line in aside.locator("ul.plain li").all_inner_texts()]
    assert "Xx float32 1×12×8×8" in texts
    assert "Ww float32 12×12×1×1, constant" in texts
    assert "Y/body/body.0/block0/conv/Conv_output_0 float32 1×12×8×8" in texts
    expect(aside).to_contain_text("nets/block.py:10")
    expect(aside).to_contain_text("fix puts there: channels-to-aligned")
    expect(page.locator(".canvas .box[aria-label^='graph input, x,'] .name")).to_have_text("xgraph input")
    aside.get_by_role("link", name="x", exact=True).first.click()
    expect(page.locator(".aside h3")).to_have_text(" graph input")


def test_nodes_are_found_in_the_graph(show: Show, model: Path) -> None:
    page = show([model], "#tab=graph")
    page.get_by_role("button", name="Close all").click()
    find = page.get_by_role("searchbox", name="Find in the graph")
    find.fill("erf block3")
    expect(page.locator(".aside h3")).to_have_text("2 matches")
    find.press("Enter")
    chosen = page.locator(".canvas .box.chosen")
    expect(chosen).to_have_attribute("aria-label", re.compile("^Erf, act"))
    expect(chosen).to_be_in_viewport()
    first, address = page.locator(".aside > .path").inner_text(), page.url
    assert "#node=" in address, "what is found can be passed on as a link"
    find.press("Enter")
    expect(page.locator(".aside > .path")).not_to_have_text(first)
    assert "#node=" in page.url
    assert page.url != address
    expect(find).to_be_focused()
    find.fill("no such thing")
    expect(page.locator(".aside h3")).to_have_text("0 matches")
    page.get_by_role("button", name="Close all").click()
    page.locator(".canvas .box[aria-label^='graph output']").click()
    expect(page.locator(".aside")).to_contain_text("Made by")


def test_a_slash_leads_to_the_search_of_the_graph(show: Show, model: Path) -> None:
    page = show([model])
    page.keyboard.press("/")
    find = page.get_by_role("searchbox", name="Find in the graph")
    expect(find).to_be_focused()
    expect(find).to_have_value("")
    expect(page.get_by_role("tab", name="Graph")).to_have_attribute("aria-selected", "true")
    assert page.url.endswith("#tab=graph")
    first = page.locator(".canvas .box").first
    expect(first).to_be_in_viewport()
    page.keyboard.type("a/b")  # in a field it is a letter
    expect(find).to_have_value("a/b")
    page.go_back()
    expect(page.get_by_role("tab", name="Overview")).to_have_attribute("aria-selected", "true")


def test_boxes_are_coloured_by_what_they_cost(show: Show, model: Path) -> None:
    page = show([model], "#tab=graph")
    page.get_by_role("button", name="Close all").click()
    colour = page.get_by_role("combobox", name="Colour of the boxes")
    expect(page.locator(".canvas .heat")).to_have_count(0)
    colour.select_option("macs")  # which the convolutions of the one module have, and the Sigmoid behind it has not
    expect(page.locator(".canvas .heat")).to_have_count(1)
    body = page.locator(".canvas .box[aria-label^='Module body,']")
    expect(body).to_contain_text("100.0 % of all")
    body.click()
    page.locator(".canvas .box[aria-label^='Module body.0,']").click()
    depths = [float(box.get_attribute("fill-opacity") or 0) for box in page.locator(".canvas .heat").all()]
    assert len(depths) == 9, "eight blocks alike, and a module of eight"
    assert max(depths) > min(depths) > 0
    colour.select_option("")
    expect(page.locator(".canvas .heat")).to_have_count(0)


def test_modules_open_and_close_by_mouse(show: Show, model: Path) -> None:
    page = show([model], "#tab=graph")
    page.get_by_role("button", name="Close all").click()
    expect(page.locator(".canvas .box")).to_have_count(4)  # input, body, Sigmoid, output
    body = page.locator(".canvas .box[aria-label^='Module body,']")
    expect(body).to_have_attribute("aria-expanded", "false")
    body.click()
    expect(body).to_have_attribute("aria-expanded", "true")
    expect(page.locator(".canvas .box")).to_have_count(6)
    page.locator(".canvas .box[aria-label^='Module body.0,']").click()
    expect(page.locator(".canvas .box")).to_have_count(14)
    body.locator("text").click()
    expect(page.locator(".canvas .box")).to_have_count(4)
    page.get_by_role("button", name=re.compile("^Open boxes")).click()
    expect(page.locator(".canvas .box[aria-expanded='false']")).to_have_count(0)
    expect(page.locator(".canvas .box")).to_have_count(64 + 2 + 16 + 4)
    before = page.locator(".canvas > svg > g").get_attribute("transform")
    page.mouse.move(400, 500)
    page.mouse.wheel(0, 300)
    page.mouse.down()
    page.mouse.move(450, 420, steps=4)
    page.mouse.up()
    page.get_by_role("button", name="Zoom in").click()
    assert page.locator(".canvas > svg > g").get_attribute("transform") != before


def test_everything_by_keyboard(show: Show, model: Path) -> None:
    page = show([model])
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the report")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("tab", name="Overview")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Graph")).to_be_focused()
    first = page.locator(".canvas .box[aria-label^='graph input']")
    expect(first).to_be_visible()  # the graph is laid out when its tab is opened
    for _ in range(9):  # theme, then what finds nodes, what colours them, the graph's five buttons, the graph
        page.keyboard.press("Tab")
    expect(first).to_be_focused()
    page.keyboard.press("ArrowDown")
    body = page.locator(".canvas .box[aria-label^='Module body,']")
    expect(body).to_be_focused()
    page.keyboard.press("Enter")
    expect(body).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Enter")
    expect(body).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("End")
    expect(page.locator(".canvas .box[aria-label^='graph output, y']")).to_be_focused()
    page.keyboard.press("ArrowUp")
    last = page.locator(".canvas .box[aria-label^='Sigmoid']")
    expect(last).to_be_focused()
    expect(last).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator(".aside h3")).to_have_text(" Sigmoid")
    assert page.url.endswith("node=last")
    page.keyboard.press("Tab")
    expect(page.locator(".aside")).to_be_focused()


@pytest.mark.parametrize(
    ("address", "visible", "words"),
    [
        ("#tab=layers", ".table-layers", "Layers"),
        ("#node=last", ".aside", "Sigmoid"),
        ("#node=%2Fbody%2Fbody.0%2Fblock0%2Fact%2FErf", ".aside", "NPU101"),
        ("#node=@2", ".aside", "Erf"),
        ("#node=none", ".aside", "No node is called none"),
        ("#rule=NPU201", "[id='rule=NPU201']", "NPU201"),
        ("#rule=NPU999", "#rules-0", "No rule NPU999 in this report"),
        ("#tab=nonsense&model=7", "h1", "does not run"),
        ("#%E0%A4%A", "h1", "does not run"),
    ],
)
def test_addresses_lead_to_a_place(show: Show, model: Path, address: str, visible: str, words: str) -> None:
    page = show([model], address)
    expect(page.locator(visible)).to_be_visible()
    expect(page.locator(visible)).to_contain_text(words)


def test_a_column_of_padding_is_there_where_something_is_padded(show: Show, tmp_path: Path, model: Path) -> None:
    even = save(tmp_path / "even.onnx", blocks(2), 16)
    for shown, number in ((even, 0), (model, 1)):  # 12 channels where 8 are a step
        page = show([shown], "#tab=layers")
        expect(page.locator(".table-layers tbody tr").first).to_be_visible()
        padding = page.locator(".table-layers thead th").filter(has_text="Padding")
        expect(padding).to_have_count(number)


def test_the_overview_sums_up_by_module_and_leads_to_nodes(show: Show, model: Path, tmp_path: Path) -> None:
    page = show([model])
    bars = page.locator(".bars tbody th").all_inner_texts()
    assert bars == [f"body.{i // 8}.block{i % 8}" for i in range(16)]
    page.locator("#tab-findings").click()
    assert [r for r in rows(page, "grouped") if "body.*.*.act" in r]
    page = show([save(tmp_path / "twins.onnx", [helper.make_node(op, [a], [b], "twin") for op, a, b in (
        ("Relu", "x", "a"), ("Sigmoid", "a", "b"), ("Tanh", "b", "y"))])])  # fmt: skip
    page.locator(".alive a").first.click()
    expect(page.locator(".aside")).to_contain_text("twin")
    expect(page.locator(".aside")).not_to_contain_text("No node is called")


def test_several_models(show: Show, model: Path, tmp_path: Path) -> None:
    clean = save(tmp_path / "clean.onnx", [helper.make_node("Relu", ["x"], ["y"], "only")], channels=8)
    page = show([model, clean, tmp_path / "missing.onnx"], "#model=2&node=only")
    expect(page.locator(".aside:visible")).to_contain_text("Relu")
    page.get_by_role("tab", name="Overview").click()
    expect(page.locator("h1:visible")).to_contain_text("Nothing in this model is known")
    page.locator("#model").select_option("3")
    expect(page.locator("h1:visible")).to_have_text("This model could not be checked")
    for hidden in ("Findings", "Graph", "Layers", "Device"):
        expect(page.get_by_role("tab", name=hidden)).to_be_hidden()
    page.pdf()
    page.get_by_role("link", name="net.onnx").click()
    expect(page.locator("h1:visible")).to_contain_text("does not run")


def test_fix_shows_both_graphs_and_what_was_replaced(show: Show, tmp_path: Path, root: Path) -> None:
    done = fix_model(
        str(root / "samples/sample_net.onnx"), registry.profile("aimotive-aiware"), Config(), EXACT_FORMS, layers=True
    )
    text = registry.renderer("html", "fix")(FixResult(done, written=tmp_path / "fixed.onnx"), color=False)
    page = show([], text=text)
    expect(page.get_by_role("heading", level=1).first).to_have_text("6 errors before, none after fix")
    expect(page.locator(".comparison .label")).to_contain_text("proved")
    errors = page.locator(".costs tbody tr").first.inner_text().split("\t")
    assert errors[:3] == ["Errors", "6", "0"]
    replaced = page.locator(".replaced tbody tr")
    assert replaced.count() == len(done.applied)
    before, after = page.locator("[data-side='0']"), page.locator("[data-side='1']")
    expect(before.locator(".changed").first).to_be_attached()
    page.get_by_role("button", name="Show block 2 in both graphs").click()
    expect(before.locator(".chosen")).to_be_in_viewport()
    expect(after.locator(".chosen")).to_be_in_viewport()
    expect(before.locator(".chosen .change-number")).to_have_text("#2")
    expect(after.locator(".aside")).to_contain_text("large-kernel-to-phases")
    before.locator(".find input").fill("gate ReduceMax")
    before.locator(".find input").press("Enter")  # which chooses a box as a click does
    before.locator(".chosen").click()
    number = before.locator(".chosen .change-number").text_content() or "none"
    assert number != "#2"
    expect(after.locator(".chosen .change-number")).to_have_text(number)
    after.locator(".aside p a").first.click()  # its counterpart, in the graph of the model before
    expect(page.get_by_role("tab", name="Graph")).to_have_attribute("aria-selected", "true")
    assert "model=1" in page.url
    page.get_by_role("tab", name="Before and after").click()
    replaced.first.get_by_role("link").last.click()
    assert "model=2&node=" in page.url
    page.pdf()


@pytest.fixture
def fix_page(root: Path) -> str:
    """The page of `fix` about the sample network."""
    path, config = str(root / "samples/sample_net.onnx"), Config()
    done = fix_model(path, registry.profile(config.profile), config, EXACT_FORMS, layers=True)
    return registry.renderer("html", "fix")(FixResult(done, written=Path("fixed.onnx")), color=False)


def test_nothing_is_wider_than_a_phone(show: Show, root: Path, fix_page: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}}
    matrix = registry.renderer("html", "matrix")(compare_devices([str(root / "samples/sample_net.onnx")], PROFILES, Config()))
    for page in (
        show([root / "samples/sample_net.onnx"], **phone),
        show([], text=fix_page, **phone),
        show([], text=matrix, **phone),
    ):
        for tab in [*page.get_by_role("tab").all(), None]:
            if tab is not None and tab.is_visible():
                tab.click()
            assert page.evaluate("document.documentElement.scrollWidth") == 390, tab
            assert page.evaluate(NARROW) == [], tab


def test_many_operators_that_break_the_graph_are_no_wider_than_a_phone(show: Show, root: Path) -> None:
    page = show([root / "samples/sample_net.onnx"], viewport={"width": 390, "height": 844})
    page.locator(".breakers tbody th").first.evaluate(
        "cell => { (cell.querySelector('a') || cell).textContent = 'Squeeze node_unbind__2 and 4 more (Squeeze, MatMul, Softmax, "
        "Transpose, LayerNormalization)' }"
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_outputs_before_and_after_are_not_cut_on_a_desk(show: Show, fix_page: str) -> None:
    """Six columns, whatever the names of the outputs are."""
    page = show([], text=fix_page, viewport={"width": 1280, "height": 900})
    name = page.locator(".outputs tbody th").first
    name.evaluate("cell => { cell.textContent = 'upsample_bicubic2d' }")
    assert page.locator(".scroll:has(> .outputs)").evaluate("part => part.scrollWidth <= part.clientWidth")
    assert name.evaluate("cell => cell.getClientRects().length == 1 && cell.clientHeight < 45")


def test_long_names_are_no_wider_than_a_phone(show: Show, tmp_path: Path) -> None:
    """Modules and the tensor of the peak, as exporters that inline a body name them: no place to break a line at."""
    scope = "branch_with_a_long_name__Inline_0__" * 2
    names = [f"/{scope}/{op}" for op in ("Softplus", "Erf", "Relu")]
    page = show([save(tmp_path / "long.onnx", chain(*names))], viewport={"width": 390, "height": 844})
    for tab in page.get_by_role("tab").all():
        if tab.is_visible():
            tab.click()
        assert page.evaluate("document.documentElement.scrollWidth") == 390, tab
    page.locator("#tab-overview").click()
    beyond = page.locator(".operators td:visible, .operators th:visible")
    assert max(box["x"] + box["width"] for cell in beyond.all() if (box := cell.bounding_box()) is not None) <= 390
    expect(
        page.locator(".operators tr").filter(has_text="Erf is not documented").locator(".fate-warning:visible")
    ).to_have_attribute("data-label", "Warning")


def test_costs_that_are_not_known_are_no_zero(show: Show, tmp_path: Path) -> None:
    path = save(tmp_path / "open.onnx", blocks(1))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    onnx.save(model, path)
    facts = show([path]).locator(".facts div").all_inner_texts()
    assert [text.split("\n")[1] for text in facts if text.startswith("Multiply")] == ["not known"]
    assert all("at least" in text for text in facts if text.startswith("Peak"))


def test_on_a_phone_every_column_of_a_finding_is_on_the_screen(show: Show, root: Path) -> None:
    page = show([root / "samples/sample_net.onnx"], "#tab=findings", viewport={"width": 390, "height": 844})
    cells = page.locator(".table-findings td:visible")
    expect(cells.first).to_be_visible()
    assert max(box["x"] + box["width"] for cell in cells.all() if (box := cell.bounding_box()) is not None) <= 390
    expect(page.locator(".table-findings tr").filter(has_text="kernel 19x1").locator(".allowed")).to_have_attribute(
        "data-label", "Allowed"
    )


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1300, 900), (900, 700)])
def test_the_tools_leave_the_graph_free(show: Show, root: Path, width: int, height: int) -> None:
    page = show([root / "samples/sample_net.onnx"], viewport={"width": width, "height": height})
    page.locator("#tab-graph").click()
    drawing = page.locator(".canvas > svg").bounding_box()
    assert drawing is not None
    assert drawing["height"] > 200
    for tool in page.locator(".canvas .tools > *").all():
        place = tool.bounding_box()
        assert place is not None
        assert place["y"] + place["height"] <= drawing["y"]
        assert place["x"] + place["width"] <= width
    page.locator(".tools button", has_text="Fit").click()
    first = page.locator(".canvas .box").first.bounding_box()
    assert first is not None
    assert first["y"] >= drawing["y"]


def test_the_number_on_a_module_is_explained(show: Show, model: Path) -> None:
    page = show([model])
    page.locator("#tab-graph").click()
    expect(page.locator("[data-panel=graph] .legend:visible")).to_contain_text("its number: layers with findings")
    module = page.locator(".canvas .box[aria-expanded=false]").first
    expect(module.locator("title")).to_have_text(re.compile(r"\d+ with errors"))


def test_lines_of_python_break_behind_a_slash_alone(show: Show, root: Path, fix_page: str) -> None:
    for page in (show([root / "samples/sample_net.onnx"]), show([], text=fix_page)):
        lines = page.locator("td.line:visible").filter(has_text=".py:")
        assert lines.count() > 4
        for cell in lines.all():
            parts = cell.evaluate(
                "cell => { const range = document.createRange(), tops = [];"
                " for (const text of cell.childNodes) if (text.nodeType === 3) {"
                "  range.selectNodeContents(text); tops.push(range.getClientRects().length); } return tops; }"
            )
            assert set(parts) == {1}, cell.inner_text()


def pages(page: Page) -> int:
    """How many sheets of paper it takes."""
    return len(re.findall(rb"/Type */Page\b", page.pdf(prefer_css_page_size=True)))


def test_a_comparison_prints_what_changed_and_both_graphs(show: Show, fix_page: str) -> None:
    page = show([], text=fix_page, color_scheme="dark")
    assert pages(page) <= 4
    page.emulate_media(media="print")
    paper = page.locator("body").inner_text()
    places = [paper.index(words) for words in ("6 errors before", "What was replaced", "Graph: Before", "Graph: After")]
    assert places == sorted(places)
    assert "Layers in order" not in paper
    expect(page.locator(".still svg:visible")).to_have_count(2)
    expect(page.locator("[data-panel=layers]:visible, [data-panel=overview]:visible")).to_have_count(0)


def test_the_panel_says_which_option_a_form_needs(show: Show, root: Path) -> None:
    page = show([root / "samples/sample_net.onnx"], "#node=node_Elu_49")
    expect(page.locator(".aside")).to_contain_text("fix --warnings puts there: elu-to-tanh")
    page = show([root / "samples/sample_net.onnx"], "#node=n0")
    expect(page.locator(".aside")).to_contain_text("fix puts there: wide-reduce-max-to-groups")


def test_light_and_dark(show: Show, model: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    page = show([model], color_scheme="light")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.get_by_role("button", name="Dark", exact=True).click()
    dark = page.evaluate(background)
    assert dark != "rgb(255, 255, 255)"
    there = show([model], color_scheme="dark")
    assert there.evaluate(background) == dark
    for view in (page, there):  # the button says what it leads to
        view.get_by_role("button", name="Light", exact=True).click()
        assert view.evaluate(background) == "rgb(255, 255, 255)"
        expect(view.get_by_role("button", name="Dark", exact=True)).to_be_visible()


def test_printed_pages_have_every_cause_and_no_controls(show: Show, tmp_path: Path) -> None:
    page = show([save(tmp_path / "long.onnx", blocks(80))], color_scheme="dark")
    assert pages(page) <= 18
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    paper = page.locator("body").inner_text()
    assert "multiple of 8" in paper
    assert "Reviewed by" in paper
    assert paper.index("What becomes of each operator type") < paper.index("What makes it fit") < paper.index("Layers in order")
    causes = rows(page, "grouped")
    assert len(causes) == 81
    assert "and 77 more" in causes[-1]
    expect(page.locator(".table-findings")).to_be_hidden()
    expect(page.locator(".table-layers")).to_be_visible()
    wide = "[...document.querySelectorAll('table')].filter(t => t.offsetWidth > document.body.offsetWidth).map(t => t.className)"
    assert page.evaluate(wide) == []
    expect(page.locator(".still svg")).to_be_visible()
    expect(page.locator("button:not(.plainlink):visible, select:visible, input:visible")).to_have_count(0)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_finding_on_paper_has_what_is_allowed_and_its_module_without_narrow_columns(
    show: Show, root: Path, tmp_path: Path
) -> None:
    chosen = [helper.make_node("Greater", ["x", "x"], ["more"]), helper.make_node("Where", ["more", "x", "x"], ["y"])]
    page = show([root / "samples/sample_net.onnx", save(tmp_path / "chosen.onnx", chosen)])
    page.set_viewport_size({"width": 688, "height": 900})  # what an A4 sheet has between its margins
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    heads = [head.inner_text() for head in page.locator("#findings-0 .table-grouped thead th:visible").all()]
    assert [head.split("\n")[-1] for head in heads] == ["Severity", "Rule", "Finding", "Nodes", "Fixable", "Source line", "MACs"]
    kernel = page.locator(".table-grouped tr").filter(has_text="kernel 19x1")
    expect(kernel).not_to_contain_text("allowed")  # the message says 17
    expect(kernel.locator(".source .printed")).to_be_visible()
    truth = page.locator(".table-grouped tr").filter(has_text="elements of bool")
    expect(truth.locator("span.printed")).to_have_text("; allowed: float32, float16, bfloat16, int8, uint8, int16")
    assert page.evaluate(NARROW) == []
    expect(page.get_by_text("limits that the profile does not set; nothing was checked").first).to_be_visible()
    expect(page.get_by_text("Limits that the profile does not set: nothing was checked").first).to_be_hidden()


def test_what_is_fixable_has_a_column(show: Show, root: Path) -> None:
    page = show([root / "samples/sample_net.onnx"])
    page.locator("#tab-findings").click()
    told = page.locator(".table-findings tbody tr").evaluate_all(
        "rows => rows.map(row => [row.querySelector('.message').firstChild.data, row.querySelector('.fixable').textContent])"
    )
    assert ["kernel 19x1 is longer than 17", "yes"] in told
    assert ["Elu is not documented for this device", "with --warnings"] in told
    assert [said for said, fixable in told if not fixable] == ["1 output channel is not a multiple of 8"]  # of the gate


def test_paper_is_not_wasted(show: Show, root: Path) -> None:
    assert pages(show([root / "samples/sample_net.onnx"])) <= 8


def test_paper_says_that_it_has_no_table_of_many_layers(show: Show, tmp_path: Path) -> None:
    page = show([save(tmp_path / "long.onnx", blocks(101))])
    page.emulate_media(media="print")
    told = page.get_by_text("On paper there is no table of the 404 layers")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    expect(told).to_be_visible()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    expect(told).to_have_count(0)
    page.emulate_media(media="screen")
    page.locator("#tab-layers").click()
    expect(page.locator(".table-layers caption")).to_have_text("Layers in order of execution: 404, showing 1 to 100")
    assert [row.split("\t")[0] for row in rows(page, "layers")][:2] == ["1", "2"]
    page.get_by_role("button", name="Show all").last.click()
    expect(page.locator(".table-layers caption")).to_contain_text("404, beside what does not run: 1")


def test_on_a_phone_each_number_of_a_rule_has_its_name(show: Show, root: Path) -> None:
    page = show([root / "samples/sample_net.onnx"], viewport={"width": 390, "height": 844})
    numbers = page.locator(".causes tbody tr").first.locator(".num")
    named = [n.evaluate("cell => getComputedStyle(cell, '::before').content") for n in numbers.all()]
    assert [" ".join(name.replace('"', "").split()[:1]) for name in named] == ["Findings", "Fixable", "MACs"]


def test_both_graphs_begin_at_the_first_change(show: Show, fix_page: str) -> None:
    page = show([], text=fix_page)
    page.locator(".both").scroll_into_view_if_needed()
    for side in (0, 1):
        first = page.locator(f"[data-side='{side}'] .changed").filter(has_text="#1").first
        expect(first).to_be_in_viewport()
    expect(page.locator(".both-graphs .legend")).to_contain_text("on the host")


def chain(*names: str) -> list[NodeProto]:
    """Operators behind each other, by the names of their nodes, which end with the operator."""
    values = ["x", *(f"v{i}" for i in range(len(names)))]
    return [helper.make_node(n.rpartition("/")[2], [values[i]], [values[i + 1]], n) for i, n in enumerate(names)]


def test_paper_has_the_limits_that_findings_name_where_a_device_has_many(show: Show, model: Path) -> None:
    report = check_models([str(model)], replace(Config(), profile="rockchip-rk3588"), layers=True, remedies=True)
    first = report.models[0].findings[0]
    named = replace(first, location=replace(first.location, op_type="MaxPool"), evidence=Evidence("stride.max", 9, 8))
    text = registry.renderer("html")(replace(report, models=(replace(report.models[0], findings=(named,)),)), color=False)
    page = show([], text=text)
    page.locator("#tab-device").click()
    limits = page.locator("[data-panel=device] table").first.locator("tbody tr")
    everything = limits.count()
    assert everything > 100
    page.emulate_media(media="print")
    printed = [limits.nth(i) for i in range(everything) if limits.nth(i).is_visible()]
    assert [(row.locator("th").inner_text(), "MaxPool" in row.inner_text()) for row in printed] == [("stride.max", True)]
    expect(page.get_by_text(f"{everything - 1} others are on the page itself")).to_be_visible()


def test_labels_end_within_their_boxes(show: Show, tmp_path: Path) -> None:
    names = ("/expand_dims_wwwww_1/HardSigmoid", "/MMMMMMMMMMMMMMMM/LeakyRelu", "/a/Softplus", "/reduce_mean_window_2/Erf")
    page = show([save(tmp_path / "wide.onnx", chain(*names))])
    page.locator("#tab-graph").click()
    expect(page.locator(".canvas .box")).to_have_count(6)
    beyond = (
        "[...document.querySelectorAll('.canvas .box')].flatMap(box => { const card = box.querySelector('.card')"
        ".getBoundingClientRect(); return [...box.querySelectorAll('text')].map(t => [t.textContent, "
        "t.getBoundingClientRect().right - card.right]) }).filter(([text, more]) => text && more > 0)"
    )
    assert page.evaluate(beyond) == []
    shown = page.locator(".canvas .box .name").all_text_contents()
    assert any(text.startswith("HardSigmoid") and "…" in text for text in shown)
    assert "Softplusa" in [text.replace(" ", "") for text in shown]


def test_long_names_take_two_lines_on_paper(show: Show, tmp_path: Path) -> None:
    joined = ";".join(f"model/block_{i}/conv2d_transpose/BiasAdd" for i in range(4))
    page = show([save(tmp_path / "joined.onnx", chain(*(f"{joined};model/layer_{i}/Softplus" for i in range(5))))])
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    lines = (
        "[...document.querySelectorAll('.table-layers .name a')]"
        ".map(a => Math.round(a.offsetHeight / parseFloat(getComputedStyle(a).lineHeight)))"
    )
    assert page.evaluate(lines) == [2] * 5


def test_words_of_a_table_are_whole_on_paper(show: Show, root: Path) -> None:
    """An operator's name is on one line, and a file's name stays with the number of its line."""
    page = show([root / "samples/sample_net.onnx"])
    page.set_viewport_size({"width": 688, "height": 900})  # what an A4 sheet has between its margins
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    lines = (
        "(selector) => [...document.querySelectorAll(selector)].filter(e => e.textContent).map(e => {"
        " const range = document.createRange(); range.selectNodeContents(e);"
        " return new Set([...range.getClientRects()].map(r => Math.round(r.top))).size; })"
    )
    operators = page.evaluate(lines, ".table-layers td.op")
    assert len(operators) > 20
    assert set(operators) == {1}
    sources = page.evaluate(lines, ".table-grouped .source .whole:last-child")
    assert len(sources) > 5
    assert set(sources) == {1}


def test_texts_of_the_still_picture_end_within_their_boxes(show: Show, tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", [f"W{'WM' * 15}{i}" if i else "x"], [f"W{'WM' * 15}{i + 1}"], "M" * 30) for i in range(3)]
    page = show([save(tmp_path / "wide.onnx", nodes)], java_script_enabled=False)
    ends = page.evaluate("[...document.querySelectorAll('.still .box text')].map(t => t.getBBox().x + t.getBBox().width)")
    assert len(ends) > 6
    assert max(ends) <= 178


def test_without_scripts_all_that_matters_is_there(show: Show, model: Path) -> None:
    page = show([model], java_script_enabled=False)
    expect(page.locator("h1")).to_contain_text("does not run")
    expect(page.locator(".still svg")).to_be_visible()
    assert page.locator(".still .box").count() > 10
    findings = page.locator("#findings-0 table")
    expect(findings).to_be_visible()
    assert "12 output channels are not a multiple of 8" in findings.inner_text()
    assert "nets/block.py:10" in findings.inner_text()
    expect(page.locator("[role=tab]").first).to_be_hidden()


def test_hostile_names_stay_text(show: Show, tmp_path: Path) -> None:
    nodes = [
        *blocks(2, HOSTILE.replace("/", "\\")),
        helper.make_node("Erf", [blocks(2, HOSTILE.replace("/", "\\"))[-1].output[0]], ["y"], HOSTILE),
    ]
    page = show([save(tmp_path / "hostile.onnx", nodes)])
    for tab in ("Findings", "Graph", "Layers", "Overview"):
        page.get_by_role("tab", name=tab).click()
    page.get_by_role("tab", name="Findings").click()
    page.locator(".table-findings").get_by_role("link", name=f"Erf {printable(HOSTILE, 160)}").click()
    expect(page.locator(".aside > .path")).to_have_text(printable(HOSTILE, 160))
    assert page.title() == "hostile.onnx: fail - npu-guard report"
    assert page.locator("img").count() == 0


def test_five_thousand_operators_stay_usable(show: Show, tmp_path: Path) -> None:
    page = show([save(tmp_path / "large.onnx", blocks(1250))], "#tab=graph")
    expect(page.locator(".aside")).to_contain_text("5,000 layers")
    page.get_by_role("button", name=re.compile("^Open boxes")).click()
    assert 200 < page.locator(".canvas .box").count() <= 520
    page.get_by_role("tab", name="Findings").click()
    page.get_by_label("Search").fill("body.150/block3/act")
    page.locator(".table-findings tbody a", has_text="Erf").click()
    expect(page.locator(".canvas .box.chosen")).to_be_in_viewport()


def test_operators_without_names_or_modules_are_drawn_in_parts(show: Show, tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", [f"v{i}" if i else "x"], [f"v{i + 1}"], "same" if i % 2 else "") for i in range(300)]
    page = show([save(tmp_path / "flat.onnx", nodes, channels=8)], "#tab=graph")
    expect(page.locator(".canvas .box").first).to_have_attribute("aria-label", re.compile("Part layers 1–49"))
    page.goto(page.url.split("#")[0] + "#node=@250")
    expect(page.locator(".canvas .box.chosen")).to_be_in_viewport()
    expect(page.locator(".aside > .path")).to_have_text("same")


def test_pieces_on_the_npu_and_on_the_host(show: Show, tmp_path: Path) -> None:
    """A convolution, a Transpose that the device lacks, and a convolution: what runs where in tables, graph and layers."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "/first/conv/Conv"),
        helper.make_node("Transpose", ["a"], ["b"], "/second/Transpose", perm=[0, 1, 3, 2]),
        helper.make_node("Conv", ["b", "w"], ["y"], "/second/conv/Conv"),
    ]
    page = show([save(tmp_path / "net.onnx", nodes, 64)])
    block = page.locator(".pieces")
    expect(block).to_contain_text("2 pieces on the NPU, 1 piece on the host, 2 tensors crossing (32.8 kB)")
    first, second, third = (table.locator("tbody tr").all_inner_texts() for table in block.locator("table").all())
    assert [line.strip().split("\t")[:2] for line in first] == [["0 npu", "1"], ["1 host", "1"], ["2 npu", "1"]]
    assert [line.split("\t") for line in second] == [
        ["a", "1×64×8×8", "16.4 kB", "0", "1"],
        ["b", "1×64×8×8", "16.4 kB", "1", "2"],
    ]
    assert third == ["Transpose /second/Transpose\tsecond\t–\tleaves 1 piece of 3"]

    page.get_by_role("tab", name="Graph").click()
    page.get_by_role("button", name="Open boxes").click()
    expect(page.locator(".canvas .on-npu")).to_have_count(2)
    expect(page.locator(".canvas .on-host")).to_have_count(1)
    page.locator(".canvas .on-host").click()
    expect(page.locator(".aside")).to_contain_text("1, host")
    page.get_by_role("tab", name="Layers").click()
    assert [row.split("\t")[5] for row in rows(page, "layers")] == ["0, npu", "1, host", "2, npu"]


@pytest.mark.parametrize(
    ("heading", "below"),
    [
        (".pieces h2", ".pieces tbody tr"),
        (".fit h2", ".fit tbody tr + tr"),
        ("[data-panel=device] h2", "[data-panel=device] p + p"),
    ],
)
def test_on_paper_a_table_begins_on_the_sheet_of_its_heading(show: Show, root: Path, heading: str, below: str) -> None:
    """Wherever on a sheet the heading comes; the sheet of each is read from the PDF, as the target of a link."""
    page = show([root / "samples" / "six_problems.onnxtxt"])
    page.evaluate(
        "([heading, row]) => { const head = document.querySelector(heading), gap = document.createElement('div');"
        " const links = document.createElement('p'), panel = document.querySelector('[data-panel=findings]');"
        " head.id = 'heading'; document.querySelector(row).id = 'row'; gap.id = 'gap'; head.parentElement.before(gap);"
        " panel.querySelector('h2').id = 'findings'; document.querySelector('.sign').id = 'sign';"
        " for (const name of ['heading', 'row', 'sign', 'findings']) { const a = document.createElement('a');"
        " a.href = '#' + name; a.textContent = name; links.append(a); } document.querySelector('main').prepend(links); }",
        [heading, below],
    )
    sheets = []
    for millimetres in range(0, 320, 16):
        page.evaluate(f"document.getElementById('gap').style.height = '{millimetres}mm'")
        printed = page.pdf(prefer_css_page_size=True)
        sheets.append(dict(re.findall(rb"/(heading|row|sign|findings)\s*\[(\d+) 0 R", printed)))
    assert all(at[b"heading"] == at[b"row"] for at in sheets), sheets
    assert len({at[b"row"] for at in sheets}) > 1  # the gaps take it over the end of a sheet
    assert all(at[b"sign"] != at[b"findings"] for at in sheets), "what is signed stands by itself"


def test_a_model_that_fits_has_no_pieces(show: Show, tmp_path: Path) -> None:
    page = show([save(tmp_path / "net.onnx", [helper.make_node("Conv", ["x", "w"], ["y"], "/first/conv/Conv")], 64)])
    expect(page.locator(".hero")).to_contain_text("pass")
    expect(page.locator(".pieces")).to_have_count(0)
    page.get_by_role("tab", name="Graph").click()
    expect(page.locator(".canvas .on-npu")).to_have_count(0)
