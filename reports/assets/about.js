"use strict";
/* What is known of the chosen box, beside the graph. */

const MOST_MATCHES = 50;

class About {
  constructor(view) {
    this.view = view;
    this.model = view.model;
    this.modules = view.modules;
    this.element = el("div", { class: "aside", role: "region", "aria-label": "About the chosen box", tabindex: "0" });
  }

  nothing() {
    const s = this.modules.sums.get(ROOT), modules = this.model.data.groups.filter(([, , part]) => !part).length, n = (x, word) => x.toLocaleString("en") + " " + word + (x === 1 ? "" : "s");
    this.element.replaceChildren(el("h3", {}, "The model"), el("p", { class: "muted" }, n(s.count, "layer") + (modules ? " in " + n(modules, "module") : "") + "."),
      el("p", {}, "Choose a box to see its numbers and findings; a stacked box holds several layers, and opens and closes."),
      el("p", { class: "muted" }, "Drag or scroll to move, Ctrl and scroll to zoom. With the keyboard: arrow keys, Enter, + − 0; / finds a node."));
  }

  crumbs(path) {
    const parts = path.flatMap((g, i) => [i ? " / " : "", el("button", { type: "button", class: "plainlink", on: { click: () => this.view.focusGroup(g) } }, this.modules.label(g))]);
    return el("div", { class: "crumbs" }, ...parts);
  }

  facts(pairs) {
    return el("dl", {}, ...pairs.filter(([, value]) => value !== null && value !== "").flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  }

  share(macs) {
    return macs && this.model.data.macs ? si(macs) + " (" + percent((100 * macs) / this.model.data.macs) + ")" : macs === null ? "unknown" : "none";
  }

  row(i) {
    const m = this.model, { rows } = m.data, group = rows.group[i], found = m.findingsOf.get(i) || [];
    const readers = [];
    rows.inputs.forEach((sources, r) => { if (sources.includes(i)) readers.push(r); });
    const list = (title, items) => (items.length ? [el("h4", {}, title), el("ul", { class: "plain" }, ...items.slice(0, 12).map((r) => el("li", {}, m.text("op", r) + " ", m.nodeLink(r))),
      items.length > 12 ? el("li", { class: "muted" }, "and " + (items.length - 12) + " more") : "")] : []);
    const tensor = (o) => {
      const maker = m.maker(o.name), name = maker === undefined || maker === i ? el("span", { class: "path" }, o.name) : m.nodeLink(maker, o.name);
      return el("li", {}, el("span", { class: "formal" }, o.formal), name, el("div", { class: "where shape" }, o.type + (o.constant ? ", constant" : "")));
    };
    const tensors = (title, column) => { const all = m.operands(column, i); return all.length ? [el("h4", {}, title), el("ul", { class: "plain" }, ...all.map(tensor))] : []; };
    const attributes = m.attributes(i), line = m.data.texts[rows.line[i]] || (found.find((f) => f.source) || {}).source;
    this.element.replaceChildren(this.crumbs(group < 0 ? [] : this.modules.path.get(group)), el("h3", {}, mark(m.kind(i), 15), " " + m.text("op", i)), el("div", { class: "path" }, m.name(i)),
      line ? el("div", { class: "where source" }, line) : "",
      m.change(i) ? el("p", {}, el("span", { class: "change" }, String(m.change(i))), " ", DATA.changes[m.change(i) - 1], ...this.counterparts(i)) : "",
      ...(m.kind(i) === "folded" ? [el("p", { class: "muted" }, "Folded: nothing of it is left to run on the device, so it is not drawn.")] : []),
      ...(found.length ? [el("h4", {}, "Findings"), el("ul", { class: "plain" }, ...found.map((f) => this.finding(f)))] : []),
      ...(attributes.length ? [el("h4", {}, "Attributes"), el("dl", { class: "attributes" }, ...attributes.flatMap((a) => [el("dt", {}, a.name), el("dd", { class: a.standard ? "muted" : "" }, a.value, a.standard ? el("span", { class: "default" }, " default") : "")]))] : []),
      ...tensors("Inputs", "reads"), ...tensors("Outputs", "makes"),
      el("h4", {}, "Numbers"),
      this.facts([["Shape", rows.makes[i].length ? "" : m.text("shape", i)], ["Type", rows.makes[i].length ? "" : m.text("dtype", i)], ["MACs", this.share(rows.macs[i])], ["Parameters", rows.params[i] ? rows.params[i].toLocaleString("en") : ""],
        ["Output size", si(rows.bytes[i], "B")], ["Live memory", si(rows.live[i], "B")], ["Alignment padding", rows.waste[i] === null ? "" : percent(rows.waste[i])],
        ["Module", m.text("module", i)], ["Piece", m.pieceWords(i)], ["Graph output", (rows.results[i] || []).join(", ")]]),
      ...list("Reads", rows.inputs[i]), ...list("Read by", readers));
  }

  counterparts(i) {
    const other = models[1 - this.model.index], rows = other.changed(this.model.change(i));
    return rows.length ? [", " + DATA.sides[1 - this.model.index] + ": ", ...rows.slice(0, 8).flatMap((row, at) => [at ? ", " : "", other.nodeLink(row, other.text("op", row))]), rows.length > 8 ? " …" : ""] : [];
  }

  /* What a rule says, what to do about it, and what `fix` would put there. */
  finding(f) {
    const runs = f.forms.reduce((all, name) => (all.length && all[all.length - 1][0] === name ? all[all.length - 1][1]++ : all.push([name, 1]), all), []);
    const advice = DATA.advice[f.rule + " " + this.model.text("op", f.row)] || DATA.advice[f.rule], forms = runs.map(([name, times], at) => el("div", { class: "where" }, at ? "then " : (f.option ? "fix " + f.option : "fix") + " puts there: ", el("code", {}, name), (times > 1 ? ", " + times + " times " : " ") + (this.model.data.forms[name] || "")));
    return el("li", {}, mark(f.kind), " ", this.model.ruleLink(f.rule), " " + f.message,
      f.measured ? el("div", { class: "where" }, "measured " + f.measured + (f.allowed ? ", allowed: " + f.allowed : "")) : "",
      ...(forms.length ? forms : advice ? [el("div", { class: "where" }, advice)] : []),
      f.pair ? el("details", {}, el("summary", {}, "In PyTorch"), el("p", {}, f.pair[0]), el("pre", {}, f.pair[1]), el("p", {}, "Instead:"), el("pre", {}, f.pair[2])) : "",
      f.reason ? el("div", { class: "where" }, "Suppressed: " + f.reason) : "");
  }

  output(o) {
    const { row, name } = this.model.outputs[o];
    this.element.replaceChildren(el("h3", {}, "graph output"), el("div", { class: "path" }, name),
      this.facts([["Shape", this.model.text("shape", row)], ["Type", this.model.text("dtype", row)]]), el("h4", {}, "Made by"), el("p", {}, this.model.text("op", row) + " ", this.model.nodeLink(row)));
  }

  matches(text) {
    if (!text.trim()) { this.nothing(); return; }
    const found = this.model.search(text, MOST_MATCHES + 1);
    this.element.replaceChildren(el("h3", {}, found.length > MOST_MATCHES ? "More than " + MOST_MATCHES + " matches" : found.length === 1 ? "1 match" : found.length + " matches"),
      el("ul", { class: "plain matches" }, ...found.slice(0, MOST_MATCHES).map((i) => el("li", {}, mark(this.model.kind(i)), " " + this.model.text("op", i) + " ", this.model.nodeLink(i)))));
  }

  group(g) {
    const s = this.modules.sums.get(g), title = this.modules.title(g), rules = new Map();
    const { group } = this.model.data.rows;
    for (const f of this.model.findings) if (f.row >= 0 && f.kind !== "suppressed" && group[f.row] !== -2 && (this.modules.path.get(group[f.row]) || []).includes(g)) rules.set(f.rule, (rules.get(f.rule) || 0) + 1);
    this.element.replaceChildren(this.crumbs(this.modules.path.get(g).slice(0, -1)), el("h3", {}, mark(this.modules.worst(g), 15), " " + this.modules.short(g)), el("div", { class: "path" }, title),
      el("p", { class: "muted" }, this.modules.counts(g)),
      ...(rules.size ? [el("h4", {}, "Findings"), el("ul", { class: "plain" }, ...[...rules].sort().map(([rule, count]) => el("li", {}, this.model.ruleLink(rule), ": " + count)))] : []),
      el("h4", {}, "Numbers"), this.facts([["Layers", s.count.toLocaleString("en")], ["MACs", this.share(s.macs)], ["Parameters", s.params.toLocaleString("en")],
        ["Pieces", [...s.pieces].sort((a, b) => a - b).map((p) => p + ", " + this.model.data.sides[p]).join("; ")]]));
  }

  missing(name) {
    this.element.replaceChildren(el("h3", {}, "Not in this model"), el("p", {}, "No node is called ", el("span", { class: "path" }, name), ". It may have been renamed; the table of layers has them all."));
  }
}
