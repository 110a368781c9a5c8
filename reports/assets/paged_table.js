"use strict";
/* A table that is paged, sorted, filtered and searched. Everything from the model goes in as text, never as markup. */

const VERDICTS = ["ok", "warning", "undecided", "error", "folded"];
const SVG = "http://www.w3.org/2000/svg";

function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "on") for (const [event, handler] of Object.entries(value)) made.addEventListener(event, handler);
    else if (key === "class") made.className = value;
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) if (value !== null && value !== undefined) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function mark(kind, size = 14) {
  return svg("svg", { class: "mark", width: size, height: size, "aria-hidden": "true" }, svg("use", { href: "#mark-" + kind }));
}

/* `1.82 G`, as the rest of npu-guard writes it. */
function si(value, unit = "") {
  if (value === null || value === undefined) return "unknown";
  let rest = value;
  for (const prefix of ["", "k", "M", "G", "T"]) {
    if (rest < 1000 || prefix === "T") return (rest < 1000 ? String(Number(rest.toPrecision(3))) : rest.toFixed(0)) + " " + prefix + unit;
    rest /= 1000;
  }
}

/* Small is not nothing, and nearly all is not all. */
function percent(value) {
  if (value === 0 || value === null || value === undefined) return "–";
  return value < 0.05 ? "<0.1 %" : value >= 99.95 && value < 100 ? ">99.9 %" : (Math.floor((Math.round(100 * value) + 5) / 10) / 10).toFixed(1) + " %";
}

function announce(text) {
  document.getElementById("status").textContent = text;
}

class DataTable {
  /* spec: name, caption, columns [{key, label, value(i), cell(i), number, head}], filters [{key, label, value(i), words, start}],
     text(i) to search in, rows (indices in their first order), what ("findings"), counted(i) and words for the rest, `beside`. A column without `value` cannot be sorted. */
  constructor(slot, spec) {
    spec.columns = spec.columns.filter((column) => column);
    this.spec = spec;
    this.size = 100;
    this.page = 0;
    this.sorted = { key: spec.sort || null, down: false };
    this.texts = new Map();
    this.body = el("tbody");
    this.caption = el("caption");
    const heads = spec.columns.map((column) => this.head(column));
    this.heads = new Map(spec.columns.map((column, i) => [column.key, heads[i]]));
    const table = el("table", { class: "table-" + spec.name }, this.caption, el("thead", {}, el("tr", {}, ...heads)), this.body);
    this.pager = el("div", { class: "pager" });
    const controls = this.controls(); // of a bare table nobody sees them
    slot.append(spec.bare ? "" : controls, el("div", { class: "scroll" }, table), this.pager);
    this.select();
  }

  head(column) {
    // Chromium leaves buttons out of the table heads that it repeats on printed pages.
    const label = column.value ? [el("button", { type: "button", class: "sort", on: { click: () => this.sort(column.key) } }, column.label), el("span", { class: "printed", "aria-hidden": "true" }, column.label)] : [column.label];
    return el("th", { scope: "col", class: (column.number ? "num " : "") + "of-" + column.key, "aria-sort": column.value ? "none" : null }, ...label);
  }

  controls() {
    const { spec } = this;
    const again = () => { this.page = 0; this.select(); announce(this.caption.textContent); };
    this.search = el("input", { type: "search", placeholder: spec.placeholder, autocomplete: "off", spellcheck: "false", on: { input: again } });
    this.filters = spec.filters.map((filter) => {
      const found = new Map();
      for (const i of spec.rows) { const v = filter.value(i); found.set(v, (found.get(v) || 0) + 1); }
      const options = [...found].sort(filter.order || ((a, b) => String(a[0]).localeCompare(String(b[0]), "en", { numeric: true })));
      const select = el("select", { on: { change: again } }, el("option", { value: "" }, "all"));
      for (const [key, words] of Object.entries(filter.more || {})) select.append(el("option", { value: key }, words));
      for (const [value, count] of options) select.append(el("option", { value: "=" + value }, (filter.words ? filter.words(value) : value || "(top level)") + " (" + count.toLocaleString("en") + ")"));
      if (filter.start) select.value = filter.start;
      return { filter, select };
    });
    const reset = el("button", { type: "button", on: { click: () => { this.search.value = ""; for (const f of this.filters) f.select.value = ""; again(); } } }, "Show all");
    return el("div", { class: "filters", role: "search", "aria-label": "Filter " + spec.what },
      el("label", {}, "Search", this.search), ...this.filters.map(({ filter, select }) => el("label", {}, filter.label, select)), reset);
  }

  set(key, value) {
    for (const { filter, select } of this.filters) select.value = filter.key === key ? value : "";
    this.search.value = key === "search" ? value : "";
    this.page = 0;
    this.select();
  }

  sort(key) {
    const down = this.sorted.key === key ? !this.sorted.down : Boolean(this.spec.columns.find((c) => c.key === key).number);
    this.sorted = { key, down };
    this.page = 0;
    this.select();
    announce("Sorted by " + this.spec.columns.find((c) => c.key === key).label + (down ? ", descending" : ", ascending"));
  }

  textOf(i) {
    let text = this.texts.get(i);
    if (text === undefined) this.texts.set(i, (text = this.spec.text(i).toLowerCase()));
    return text;
  }

  select() {
    const { spec } = this;
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const active = this.filters.filter((f) => f.select.value !== "");
    this.shown = spec.rows.filter((i) =>
      active.every(({ filter, select }) => (filter.test && !select.value.startsWith("=") ? filter.test(i, select.value) : "=" + filter.value(i) === select.value)) &&
      (words.length === 0 || words.every((word) => this.textOf(i).includes(word))));
    const column = spec.columns.find((c) => c.key === this.sorted.key);
    if (column) {
      const sign = this.sorted.down ? -1 : 1;
      const values = new Map(this.shown.map((i) => [i, column.value(i)]));
      this.shown.sort((a, b) => {
        const x = values.get(a), y = values.get(b);
        if (x === null || x === undefined || y === null || y === undefined) return (x === null || x === undefined) - (y === null || y === undefined);
        return sign * (typeof x === "number" ? x - y : x < y ? -1 : x > y ? 1 : 0) || a - b;
      });
    }
    for (const [key, head] of this.heads) if (head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", key !== this.sorted.key ? "none" : this.sorted.down ? "descending" : "ascending");
    this.draw();
  }

  /* The page of the table that is turned to; printing takes everything. */
  draw(everything = false) {
    const total = this.shown.length, pages = Math.max(1, Math.ceil(total / this.size));
    const first = everything ? 0 : this.page * this.size, last = everything ? total : Math.min(total, first + this.size);
    this.body.replaceChildren(...this.shown.slice(first, last).map((i) => this.row(i)));
    if (total === 0) this.body.append(el("tr", {}, el("td", { colspan: this.spec.columns.length, class: "muted" }, this.spec.rows.length ? "Nothing matches." : this.spec.none)));
    const counted = this.spec.counted || (() => true), of = this.spec.rows.filter(counted).length, found = this.shown.filter(counted).length, n = (x) => x.toLocaleString("en");
    this.caption.textContent = this.spec.caption + ": " + (found === of ? n(of) : n(found) + " of " + n(of)) + (total > found ? ", " + this.spec.beside + ": " + n(total - found) : "") + (pages > 1 && !everything ? ", showing " + n(first + 1) + " to " + n(last) : "");
    const turn = (by) => { this.page += by; this.draw(); announce(this.caption.textContent); this.pager.querySelector(by < 0 ? "button" : "button:last-of-type").focus(); };
    this.pager.replaceChildren(...(pages > 1 ? [
      el("button", { type: "button", disabled: this.page === 0, on: { click: () => turn(-1) } }, "Previous"),
      el("span", {}, "Page " + n(this.page + 1) + " of " + n(pages)),
      el("button", { type: "button", disabled: this.page >= pages - 1, on: { click: () => turn(1) } }, "Next")] : []));
  }

  row(i) {
    return el("tr", { class: this.spec.kind ? this.spec.kind(i) : "" }, ...this.spec.columns.map((column) => {
      const content = column.cell(i);
      const attributes = { class: [column.number ? "num" : "", column.class || ""].join(" ").trim(), "data-label": column.label };
      return column.head ? el("th", { scope: "row", ...attributes }, content) : el("td", attributes, ...(Array.isArray(content) ? content : [content]));
    }));
  }
}
