"use strict";
/* What the reader does, and the address after #: model, tab, node and rule. A link to any of them can be sent to a colleague. */

const DATA = JSON.parse(document.getElementById("data").textContent);
const TABS = [...(DATA.changes ? ["comparison"] : []), "overview", "findings", "graph", "layers", "device", "rules"];
const MOST_OUTPUTS = 100;
const WHOLE = ["rules", "comparison"]; // tabs about all models
const FIRST = TABS[0];
const PRINTED_LAYERS = 400;
const RANK = { error: 3, undecided: 2, warning: 1, note: 0, suppressed: -1 };
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/* One model: its columns, its section of the page, and its tables and graph, made when they are first shown. */
class Model {
  constructor(data, index) {
    this.data = data;
    this.index = index;
    this.article = document.getElementById("model-" + index);
    this.link = DATA.models.length > 1 ? "model=" + (index + 1) + "&" : "";
    const t = (n) => data.texts[n];
    this.findings = data.findings.map(([rule, kind, row, node, module, message, measured, allowed, limit, source, fn, share, reason, forms, pair, option]) => ({
      rule: t(rule), kind: t(kind), row, node: t(node), module: t(module), message: t(message), measured: t(measured), allowed: t(allowed),
      limit: t(limit), source: t(source), fn: t(fn), share, reason: t(reason), forms: t(forms).split(", ").filter(Boolean), pair: DATA.pairs[t(pair)], option: t(option), fixable: forms ? (option ? "with " + t(option) : "yes") : "" }));
    this.findingsOf = new Map();
    this.findings.forEach((f) => { if (f.row >= 0) this.findingsOf.set(f.row, [...(this.findingsOf.get(f.row) || []), f]); });
    this.numbers = new Map(); // of the layers that the page counts, in order of execution
    data.rows.node.forEach((_, i) => { if (this.runs(i)) this.numbers.set(i, this.numbers.size + 1); });
    this.names = new Map();
    data.rows.node.forEach((name, i) => this.names.set(name, this.names.has(name) ? -1 : i));
  }

  /* The number of the change that a row belongs to, 0 for none. */
  change(i) { return (this.data.change || {})[i] || 0; }
  changed(number) { return Object.entries(this.data.change || {}).filter(([, n]) => n === number).map(([row]) => Number(row)); }

  /* Outputs of the model: a box each, below all others. */
  get outputs() {
    return (this.made ||= Object.entries(this.data.rows.results).flatMap(([row, names]) => names.map((name) => ({ row: Number(row), name }))).slice(0, MOST_OUTPUTS));
  }

  /* Operands of a row: [{formal, name, type, constant}]. */
  operands(column, i) {
    const t = this.data.texts, flat = this.data.rows[column][i], found = [];
    for (let at = 0; at < flat.length; at += 3) found.push({ formal: t[flat[at]], name: t[flat[at + 1]], type: t[flat[at + 2] < 0 ? -1 - flat[at + 2] : flat[at + 2]], constant: flat[at + 2] < 0 });
    return found;
  }

  attributes(i) { return this.data.rows.sets[this.data.rows.attributes[i]].map(([name, value, standard]) => ({ name: this.data.texts[name], value: this.data.texts[value], standard })); }

  /* The row that makes a tensor of this name, undefined for weights and what is folded away. */
  maker(name) {
    if (!this.makers) {
      this.makers = new Map();
      this.data.rows.makes.forEach((flat, i) => { for (let at = 1; at < flat.length; at += 3) this.makers.set(this.data.texts[flat[at]], i); });
      this.data.rows.node.forEach((node, i) => { if (this.text("op", i) === "graph input") this.makers.set(node, i); });
    }
    return this.makers.get(name);
  }

  /* Rows whose node, operator, module or tensor has all of the words. */
  search(text, most) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean), found = [], { rows } = this.data;
    for (let i = 0; words.length && i < rows.node.length && found.length < most; i += 1) {
      const all = [rows.node[i], rows.output[i] || "", this.text("op", i), this.text("module", i)].join(" ").toLowerCase();
      if (rows.group[i] !== -2 && words.every((word) => all.includes(word))) found.push(i);
    }
    return found;
  }

  text(column, i) { return this.data.texts[this.data.rows[column][i]]; }
  name(i) { return this.data.rows.node[i] || "(no name)"; }
  runs(i) { return this.kind(i) !== "folded" && this.text("op", i) !== "graph input"; }
  kind(i) { return VERDICTS[this.data.rows.verdict[i]]; }

  /* Of rows that are in pieces: their numbers, and in words the sides they are on. */
  piecesOf(rows) { const { piece } = this.data.rows; return piece ? [...new Set(rows.map((i) => piece[i]).filter((p) => p >= 0))] : []; }
  side(pieces) { const found = new Set(pieces.map((p) => this.data.sides[p])); return found.size > 1 ? "both" : [...found][0] || ""; }
  pieceWords(i) { const [p] = this.piecesOf([i]); return p === undefined ? "" : p + ", " + this.data.sides[p]; }

  /* The part of the address that means a node: its name where no other has it, else its number. */
  key(i) { const name = this.data.rows.node[i]; return name && !name.startsWith("@") && this.names.get(name) === i ? name : "@" + i; }
  find(key) {
    if (/^@\d+$/.test(key) && Number(key.slice(1)) < this.data.rows.node.length) return Number(key.slice(1));
    const named = this.data.rows.node.indexOf(key);
    return named >= 0 ? named : this.data.rows.output.indexOf(key);
  }
  href(i) { return "#" + this.link + "node=" + encodeURIComponent(this.key(i)); }
  nodeLink(i, words) { return el("a", { href: this.href(i) }, words || this.name(i)); }
  ruleLink(code) { return el("a", { href: "#" + this.link + "rule=" + encodeURIComponent(code) }, code); }

  open(tab) {
    if (tab === "findings" && !this.findingTable && $("[data-table=findings]", this.article)) { this.groupedTable = this.makeGrouped(); this.findingTable = this.makeFindings(); }
    if (tab === "layers" && !this.layerTable && this.data.rows.node.length) this.layerTable = this.makeLayers();
    if (tab === "graph" && !this.graph && this.data.rows.node.length) this.graph = new GraphView($("[data-graph]", this.article), this);
  }

  makeFindings() {
    const all = this.findings;
    const order = all.map((_, i) => i).sort((a, b) => RANK[all[b].kind] - RANK[all[a].kind] || all[b].share - all[a].share || a - b);
    const some = (key) => all.some((f) => f[key]);
    const place = new Map(order.map((i, at) => [i, at]));
    return new DataTable($("[data-table=findings]", this.article), {
      name: "findings", what: "findings", caption: "Findings", none: "No findings.", rows: order, placeholder: "node, message, file …", sort: "kind",
      text: (i) => Object.values(all[i]).join(" "),
      filters: [
        { key: "kind", label: "Severity", value: (i) => all[i].kind, order: (a, b) => RANK[b[0]] - RANK[a[0]] },
        { key: "rule", label: "Rule", value: (i) => all[i].rule },
        { key: "module", label: "Module", value: (i) => all[i].module }],
      columns: [
        { key: "kind", label: "Severity", class: "kind", value: (i) => place.get(i), cell: (i) => [mark(all[i].kind), " " + all[i].kind] },
        { key: "rule", label: "Rule", class: "kind", value: (i) => all[i].rule, cell: (i) => this.ruleLink(all[i].rule) },
        { key: "message", label: "Finding", class: "message", value: (i) => all[i].message, cell: (i) => [all[i].message,
          el("div", { class: "where" }, all[i].row < 0 ? all[i].node : this.nodeLink(all[i].row, all[i].node), ...(all[i].row < 0 ? [] : [" ", ...this.text("shape", all[i].row).split(/(?<=×)/).flatMap((extent) => [el("wbr"), extent])])),
          all[i].reason ? el("div", { class: "where" }, "Suppressed: " + all[i].reason) : ""].filter(Boolean) },
        some("measured") && { key: "measured", label: "Measured", number: true, value: (i) => (all[i].measured === "" ? null : Number(all[i].measured.replace(/,/g, "")) || 0), cell: (i) => all[i].measured },
        some("allowed") && { key: "allowed", label: "Allowed", class: "allowed", cell: (i) => all[i].allowed },
        some("fixable") && { key: "fixable", label: "Fixable", class: "fixable", value: (i) => all[i].fixable || null, cell: (i) => all[i].fixable },
        some("module") && { key: "module", label: "Module", class: "module", value: (i) => all[i].module, cell: (i) => all[i].module },
        some("source") && { key: "source", label: "Source line", class: "source", value: (i) => all[i].source || null, cell: (i) => (all[i].source ? this.sourceButton(all[i]) : "") },
        some("share") && { key: "share", label: "MACs", number: true, value: (i) => all[i].share, cell: (i) => percent(all[i].share) }],
    });
  }

  /* Findings that say the same of several nodes at one line of Python: what has to be changed once. */
  makeGrouped() {
    const all = this.findings, groups = new Map();
    all.forEach((f, i) => {
      if (f.kind === "suppressed") return;
      const key = JSON.stringify([f.rule, f.kind, f.message, f.source]);
      groups.set(key, [...(groups.get(key) || []), i]);
    });
    const causes = [...groups.values()].map((members) => ({ first: all[members[0]], members, share: members.reduce((sum, i) => sum + all[i].share, 0) }));
    causes.sort((a, b) => RANK[b.first.kind] - RANK[a.first.kind] || b.share - a.share);
    const some = (key) => causes.some((c) => c.first[key]), rows = [...causes.keys()];
    const folded = (paths) => { // encoder.stages.*.eca, as in the text; the first one where they have nothing in common
      const parts = paths.map((path) => path.split(".")), same = (at) => parts.every((p) => p[at] === parts[0][at]);
      const alike = paths.length > 1 && parts.every((p) => p.length === parts[0].length) && parts[0].some((_, at) => same(at));
      if (alike) return parts[0].map((part, at) => (same(at) ? part : "*")).join(".");
      return (paths[0] || "") + (paths.length > 1 ? " and " + (paths.length - 1).toLocaleString("en") + " more" : "");
    };
    const fixable = (c) => { // of a part a check knows the least
      const kinds = c.members.map((i) => all[i].fixable), able = kinds.filter((kind) => kind === "yes").length;
      return kinds.every((kind) => kind === kinds[0]) ? kinds[0] : "at least " + (able || kinds.filter(Boolean).length).toLocaleString("en");
    };
    const modules = (c) => [...new Set(c.members.map((i) => all[i].module).filter(Boolean))];
    const brief = (name) => name.split(";", 1)[0]; // of what tf2onnx joins, the name that it keeps
    const nodes = (c, most) => c.members.slice(0, most).flatMap((i, at) => [at ? ", " : "", all[i].row < 0 ? all[i].node : this.nodeLink(all[i].row, brief(all[i].node))]);
    const said = (f) => { // whether the message has what is allowed: its numbers, or its words where it has none
      const told = (f.message.replace(/\[[^\]]*\]/g, "").match(/\w+/g) || []), parts = f.allowed.match(/\b\d+\b/g) || f.allowed.match(/\w+/g) || [];
      return parts.every((part) => told.includes(part));
    };
    // Where no two findings are alike, the list of each says it all; on paper it is the other way round.
    $("[data-table=grouped]", this.article).parentElement.classList.toggle("once", causes.length === all.length);
    return new DataTable($("[data-table=grouped]", this.article), {
      name: "grouped", what: "causes", caption: "Causes", none: "No findings.", rows, placeholder: "node, message, file …", filters: [], bare: true,
      text: (i) => causes[i].members.map((m) => Object.values(all[m]).join(" ")).join(" "),
      columns: [
        { key: "kind", label: "Severity", class: "kind", value: (i) => i, cell: (i) => [mark(causes[i].first.kind), " " + causes[i].first.kind] },
        { key: "rule", label: "Rule", class: "kind", value: (i) => causes[i].first.rule, cell: (i) => this.ruleLink(causes[i].first.rule) },
        { key: "message", label: "Finding", class: "message", value: (i) => causes[i].first.message, cell: (i) => {
          const c = causes[i], most = 3, rest = c.members.length - most;
          return [c.first.message, said(c.first) ? "" : el("span", { class: "printed" }, "; allowed: " + c.first.allowed), el("div", { class: "where" }, ...nodes(c, most), rest > 0 ? " and " + rest.toLocaleString("en") + " more" : "")];
        } },
        { key: "count", label: "Nodes", number: true, value: (i) => causes[i].members.length, cell: (i) => causes[i].members.length.toLocaleString("en") },
        some("allowed") && { key: "allowed", label: "Allowed", class: "allowed", cell: (i) => causes[i].first.allowed },
        all.some((f) => f.fixable) && { key: "fixable", label: "Fixable", class: "fixable", value: (i) => fixable(causes[i]) || null, cell: (i) => fixable(causes[i]) },
        some("module") && { key: "module", label: "Module", class: "module", cell: (i) => folded(modules(causes[i])) },
        some("source") && { key: "source", label: "Source line", class: "source", value: (i) => causes[i].first.source || null, cell: (i) => [causes[i].first.source ? this.sourceButton(causes[i].first) : "", el("div", { class: "where printed" }, folded(modules(causes[i])))] },
        some("share") && { key: "share", label: "MACs", number: true, value: (i) => causes[i].share, cell: (i) => percent(causes[i].share) }],
    });
  }

  /* Everything onto paper: all causes, and the layers as far as somebody would leaf through them. */
  print(printing) {
    this.open("findings");
    this.groupedTable?.draw(printing);
    if (this.numbers.size <= PRINTED_LAYERS) { this.open("layers"); this.layerTable?.draw(printing); }
    else if (!this.layerTable) $("[data-table=layers]", this.article).replaceChildren(...(printing ? [el("p", {}, "On paper there is no table of the " + this.numbers.size.toLocaleString("en") + " layers, as there are more than " + PRINTED_LAYERS + ". For some of them, open the tab Layers, filter it and print again: what the tab shows is printed.")] : []));
  }

  /* A line of Python breaks behind a slash alone; a file's name stays with its number. */
  sourceButton(f) {
    const show = () => { this.findingTable.set("search", f.source); announce(this.findingTable.caption.textContent); this.findingTable.body.scrollIntoView({ block: "nearest" }); };
    return el("button", { type: "button", class: "plainlink", title: "Show the findings of this line" + (f.fn ? ", in " + f.fn : ""), on: { click: show } }, ...f.source.split(/(?<=\/)/).flatMap((part) => [el("wbr"), el("span", { class: part.length < 24 ? "whole" : "" }, part)]));
  }

  makeLayers() {
    const { rows } = this.data, count = rows.node.length;
    const number = (key, label, cell) => ({ key, label, number: true, value: (i) => rows[key][i], cell });
    return new DataTable($("[data-table=layers]", this.article), {
      name: "layers", what: "layers", caption: "Layers in order of execution", none: "No layers.", rows: [...Array(count).keys()], counted: (i) => this.runs(i), beside: "beside what does not run", placeholder: "node, operator, module …",
      text: (i) => [rows.node[i], rows.output[i] || "", this.text("op", i), this.text("module", i), this.text("shape", i), this.text("dtype", i)].join(" "),
      kind: (i) => this.kind(i),
      filters: [
        { key: "verdict", label: "Verdict", value: (i) => this.kind(i), more: { device: "what runs" }, test: (i) => this.runs(i), start: "device" },
        { key: "op", label: "Operator", value: (i) => this.text("op", i) },
        { key: "module", label: "Module", value: (i) => this.text("module", i).split(".")[0] }],
      columns: [
        { key: "index", label: "#", number: true, value: (i) => i, cell: (i) => String(this.numbers.get(i) ?? "–") },
        { key: "verdict", label: "Verdict", class: "kind", value: (i) => [0, 1, 2, 3, -1][rows.verdict[i]], cell: (i) => [mark(this.kind(i)), " " + this.kind(i)] },
        { key: "node", label: "Node", head: true, class: "name", value: (i) => rows.node[i], cell: (i) => this.nodeLink(i) },
        { key: "op", label: "Operator", class: "op", value: (i) => this.text("op", i), cell: (i) => this.text("op", i) },
        { key: "module", label: "Module", class: "module", value: (i) => this.text("module", i), cell: (i) => this.text("module", i).split(/(?<=\.)/).flatMap((part) => [part, el("wbr")]) },
        this.data.sides.length && { key: "piece", label: "Piece", value: (i) => rows.piece[i], cell: (i) => this.pieceWords(i) },
        { key: "shape", label: "Output shape", number: true, value: (i) => rows.bytes[i], cell: (i) => this.text("shape", i) },
        { key: "dtype", label: "Type", class: "dtype", value: (i) => this.text("dtype", i), cell: (i) => this.text("dtype", i) },
        number("macs", "MACs", (i) => (rows.macs[i] === 0 ? "–" : si(rows.macs[i]))),
        number("params", "Params", (i) => (rows.params[i] === 0 ? "–" : si(rows.params[i]))),
        number("bytes", "Output", (i) => si(rows.bytes[i], "B")),
        number("live", "Live", (i) => si(rows.live[i], "B")),
        rows.waste.some((w) => w) && number("waste", "Padding", (i) => percent(rows.waste[i]))],
    });
  }
}

const models = DATA.models.map((data, i) => new Model(data, i));
let current = models[0];
let currentTab = FIRST;

function showTab(tab) {
  const panels = $$("[data-panel=" + tab + "]").filter((p) => WHOLE.includes(tab) || current.article.contains(p));
  if (!panels.length) tab = FIRST;
  currentTab = tab;
  for (const panel of $$(".panel")) panel.classList.toggle("open", panel.dataset.panel === tab && (WHOLE.includes(tab) || current.article.contains(panel)));
  for (const button of $$("[role=tab]")) {
    const key = button.dataset.tab, chosen = key === tab;
    const panel = WHOLE.includes(key) ? document.getElementById(key + "-0") : document.getElementById(key + "-" + current.index);
    button.hidden = !panel;
    button.setAttribute("aria-selected", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
    if (panel) { button.setAttribute("aria-controls", panel.id); panel.setAttribute("role", "tabpanel"); panel.setAttribute("aria-labelledby", button.id); }
  }
  $(".models")?.toggleAttribute("hidden", tab !== "overview");
  if (tab === "comparison") showBoth();
  else current.open(tab);
}

/* Both graphs beside each other; a box that belongs to a change shows its counterpart in the other one. */
let both = null;
function showBoth() {
  if (both || models.some((model) => !model.data.rows.node.length)) return;
  both = models.slice(0, 2).map((model, side) => new GraphView($("[data-side='" + side + "']"), model, true));
  for (const button of $$("[data-change]")) button.addEventListener("click", () => {
    for (const view of both) view.showChange(Number(button.dataset.change));
    $(".both").scrollIntoView({ block: "nearest" });
  });
  const drawn = DATA.changes.map((_, at) => both.map((view) => view.drawnOf(at + 1).length > 0)), common = drawn.findIndex((sides) => sides.every(Boolean));
  both.forEach((view, side) => view.bring(1 + (common < 0 ? drawn.findIndex((sides) => sides[side]) : common)));
  both.forEach((view, side) => { view.chosenRow = (row) => { const other = both[1 - side], number = models[side].change(row); if (number) other.showChange(number); }; });
}

function showModel(model) {
  current = model;
  for (const other of models) other.article.hidden = other !== model;
  const counts = { findings: model.article.dataset.findings, layers: model.article.dataset.layers };
  for (const button of $$("[role=tab]")) {
    const badge = $(".count", button), value = Number(counts[button.dataset.tab] || 0);
    badge.hidden = !value;
    badge.textContent = value ? value.toLocaleString("en") : "";
  }
  if ($("#model")) $("#model").value = String(model.index + 1);
}

function go(hash, keep) {
  const asked = new URLSearchParams(hash.replace(/^#/, "").replace(/\+/g, "%2B"));
  const model = models[Number(asked.get("model") || 1) - 1] || models[0];
  if (model !== current || keep) showModel(model);
  if (asked.has("node")) {
    const row = model.find(asked.get("node"));
    showTab("graph");
    if (row >= 0 && model.graph) model.graph.focusRow(row);
    else if (model.graph) { model.graph.about.missing(asked.get("node")); announce("No node " + asked.get("node") + " in this model"); }
  } else if (asked.has("rule")) {
    showTab("rules");
    const page = document.getElementById("rule=" + asked.get("rule"));
    $$(".page.chosen").forEach((p) => p.classList.remove("chosen"));
    $$(".no-rule").forEach((p) => p.remove());
    if (!page) {
      const said = "No rule " + asked.get("rule") + " in this report";
      $("[data-panel=rules]").prepend(el("p", { class: "no-rule problem" }, said));
      announce(said);
      window.scrollTo(0, 0);
    }
    if (page) { page.classList.add("chosen"); page.focus({ preventScroll: true }); page.scrollIntoView({ block: "start" }); }
  } else {
    showTab(TABS.includes(asked.get("tab")) ? asked.get("tab") : asked.has("model") ? "overview" : FIRST);
    window.scrollTo(0, 0);
  }
}

/* What a click opens is there when the click ends; a new location.hash is told of later. */
function visit(hash) {
  if (location.hash !== hash) history.pushState(null, "", hash);
  go(hash);
}

function start() {
  document.documentElement.classList.add("js");
  const tabs = $$("[role=tab]");
  tabs.forEach((button) => button.addEventListener("click", () => visit("#" + current.link + "tab=" + button.dataset.tab)));
  $("[role=tablist]").addEventListener("keydown", (event) => {
    const open = tabs.filter((b) => !b.hidden), at = open.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: open.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    const next = open[(to + open.length) % open.length];
    next.click();
    next.focus();
  });
  $("#model")?.addEventListener("change", (event) => visit("#model=" + event.target.value + "&tab=" + currentTab));
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const theme = $("#theme"), tell = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; tell(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
  tell();
  window.addEventListener("hashchange", () => go(location.hash));
  window.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const compared = both && currentTab === "comparison";
    if (!compared && !current.data.rows.node.length) return;
    event.preventDefault();
    if (!compared && currentTab !== "graph") { history.pushState(null, "", "#" + current.link + "tab=graph"); showTab("graph"); }
    const view = compared ? both[0] : current.graph;
    view.finder.focus();
    view.finder.select();
  });
  window.addEventListener("beforeprint", () => models.forEach((m) => m.print(true)));
  window.addEventListener("afterprint", () => models.forEach((m) => m.print(false)));
  go(location.hash, true);
  performance.mark("ready");
}

start();
