"use strict";
const ROOT = -1;

/* What never changes: which boxes each module holds, what they sum up to, and the lines on each level. */
class Modules {
  constructor(model) {
    const { groups, rows } = model.data;
    this.model = model;
    this.path = new Map([[ROOT, []]]);
    this.children = new Map([[ROOT, []]]);
    this.sums = new Map();
    const sum = () => ({ first: Infinity, count: 0, macs: 0, params: 0, bytes: 0, pieces: new Set(), error: 0, undecided: 0, warning: 0 });
    this.sums.set(ROOT, sum());
    groups.forEach(([, parent], g) => {
      this.path.set(g, [...this.path.get(parent), g]);
      this.children.set(g, []);
      this.sums.set(g, sum());
      this.children.get(parent).push("g" + g);
    });
    this.lines = new Map([...this.children.keys()].map((level) => [level, new Map()]));
    rows.group.forEach((group, i) => { if (group !== -2) this.add(i, group); });
    model.outputs.forEach(({ row }, o) => { if (rows.group[row] !== -2) this.children.get(ROOT).push("o" + o); });
    for (const [level, items] of this.children) items.sort((a, b) => this.first(a) - this.first(b));
    rows.inputs.forEach((sources, i) => { for (const source of sources) if (rows.group[i] !== -2 && rows.group[source] !== -2) this.connect(source, i); });
    model.outputs.forEach(({ row }, o) => { if (rows.group[row] !== -2) this.wire(this.path.get(rows.group[row]), "r" + row, [], "o" + o); });
  }

  first(id) { return id[0] === "o" ? 1e9 + Number(id.slice(1)) : id[0] === "g" ? this.sums.get(Number(id.slice(1))).first : Number(id.slice(1)); }

  add(i, group) {
    this.children.get(group).push("r" + i);
    const { rows } = this.model.data, kind = this.model.kind(i);
    for (const g of [ROOT, ...this.path.get(group)]) {
      const s = this.sums.get(g);
      s.first = Math.min(s.first, i);
      if (this.model.runs(i)) s.count += 1;
      s.macs += rows.macs[i] || 0;
      s.params += rows.params[i];
      s.bytes += rows.bytes[i] || 0;
      if (rows.piece && rows.piece[i] >= 0) s.pieces.add(rows.piece[i]);
      if (kind in s) s[kind] += 1;
    }
  }

  /* A line between two operators is one line on the level where their ways part, and leads in and out of the modules below. */
  connect(a, b) {
    const { group } = this.model.data.rows;
    this.wire(this.path.get(group[a]), "r" + a, this.path.get(group[b]), "r" + b);
  }

  wire(from, a, to, b) {
    let shared = 0;
    while (shared < from.length && shared < to.length && from[shared] === to[shared]) shared += 1;
    const box = (path, depth, own) => (depth < path.length ? "g" + path[depth] : own);
    const line = (level, x, y) => this.lines.get(level).set(x + ">" + y, [x, y]);
    line(shared ? from[shared - 1] : ROOT, box(from, shared, a), box(to, shared, b));
    for (let d = shared; d < from.length; d += 1) line(from[d], box(from, d + 1, a), "out");
    for (let d = shared; d < to.length; d += 1) line(to[d], "in", box(to, d + 1, b));
  }

  worst(g) {
    const s = this.sums.get(g);
    return s.error ? "error" : s.undecided ? "undecided" : s.warning ? "warning" : "ok";
  }

  /* What the model has no module for is a part of it: layers that follow each other. */
  sort(g) { return this.model.data.groups[g][2] ? "Part" : "Module"; }

  label(g) { return this.model.data.texts[this.model.data.groups[g][0]]; }

  /* What begins with a number, as in a list of blocks, says little without the name before it. */
  short(g) {
    const path = this.path.get(g), label = this.label(g);
    return /^\d/.test(label) && path.length > 1 ? this.label(path.at(-2)).split(".").at(-1) + "." + label : label;
  }

  title(g) { return this.path.get(g).map((inner) => this.label(inner)).join("."); }

  words(g) {
    const s = this.sums.get(g);
    return s.count + " layers" + (s.macs ? ", " + si(s.macs, "MAC") : "");
  }

  counts(g) {
    const s = this.sums.get(g);
    const words = { error: " with errors", undecided: " undecided", warning: " with warnings" };
    return Object.keys(words).filter((kind) => s[kind]).map((kind) => s[kind] + words[kind]).join(", ") || "no finding";
  }
}
