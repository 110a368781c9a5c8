"use strict";
/* The graph: modules open and close, and each is laid out on its own, so that no layout ever sees more than some dozen boxes. */

const BOX = { width: 184, height: 46 };
const FRAME = { side: 16, head: 30, foot: 14 };
const PORT = 14; // a line into a module needs less room than one between two boxes
const MOST_BOXES = 400;

function cut(text, most) {
  return text.length <= most ? text : "…" + text.slice(text.length - most + 1);
}

const NAME = "600 12.5px ", DETAIL = "11px "; // as .box .name and .box .detail in style.css
const pen = document.createElement("canvas").getContext("2d"), family = getComputedStyle(document.body).fontFamily;

function widthOf(text, font) {
  pen.font = font + family;
  return pen.measureText(text).width;
}

/* The end of a text that fits into so many pixels; nothing where not even some letters do. */
function fitting(text, room, font) {
  const least = Math.min(4, text.length);
  for (let most = text.length; most && most >= least; most--) if (widthOf(cut(text, most), font) <= room) return cut(text, most);
  return "";
}

class GraphView {
  constructor(slot, model, small = false) {
    this.model = model;
    this.small = small; // one of two beside each other: the address is not about it
    this.modules = new Modules(model);
    this.opened = new Set(model.data.open);
    if (small) for (const row of Object.keys(model.data.change || {}).slice(0, 60)) for (const g of this.modules.path.get(model.data.rows.group[row]) || []) this.opened.add(g);
    this.layouts = new Map();
    this.view = { x: 0, y: 0, k: 1 };
    this.chosen = null;
    this.scene = svg("g");
    this.svg = svg("svg", { role: "group", tabindex: "-1", "aria-label": "Graph of " + model.data.path + ". Arrow keys move, Enter opens or closes a stacked box, plus and minus zoom." }, this.scene);
    this.about = new About(this);
    const tool = (label, name, action) => el("button", { type: "button", title: name, "aria-label": name, on: { click: action } }, label);
    const tools = el("div", { class: "tools", role: "toolbar", "aria-label": "Graph" },
      tool("Open all", "Open boxes, as many as can be looked at", () => this.openAll()), tool("Close all", "Close all boxes", () => this.closeAll()),
      tool("Fit", "Show the whole graph", () => this.fit(true)), tool("−", "Zoom out", () => this.zoom(0.8)), tool("+", "Zoom in", () => this.zoom(1.25)));
    this.shade = "";
    const shades = [["", "Colour: verdict"], ["macs", "Colour: MACs"], ["bytes", "Colour: activations"], ["params", "Colour: parameters"]];
    const shader = el("select", { "aria-label": "Colour of the boxes", on: { change: () => { this.shade = shader.value; this.draw(); } } }, ...shades.map(([value, words]) => el("option", { value }, words)));
    this.finder = el("input", { type: "search", placeholder: "Find node, operator, module …", "aria-label": "Find in the graph", title: "Press / to get here", autocomplete: "off", spellcheck: "false",
      on: { input: () => this.about.matches(this.finder.value), keydown: (event) => this.findFirst(event) } });
    this.canvas = el("div", { class: "canvas" }, el("div", { class: "bench" }, el("div", { class: "tools find", role: "search" }, this.finder, small ? "" : shader), tools), this.svg);
    slot.append(el("div", { class: small ? "graph small" : "graph" }, this.canvas, this.about.element));
    this.listen();
    this.draw();
    this.fit();
    this.about.nothing();
  }

  /* layout */

  layout(level) {
    const known = this.layouts.get(level);
    if (known) return known;
    const graph = new dagre.graphlib.Graph();
    graph.setGraph({ rankdir: "TB", nodesep: 22, ranksep: 34, edgesep: 14, marginx: 2, marginy: 2 });
    graph.setDefaultEdgeLabel(() => ({}));
    const boxes = new Map();
    for (const id of this.modules.children.get(level)) {
      const inner = id[0] === "g" && this.opened.has(Number(id.slice(1))) ? this.layout(Number(id.slice(1))) : null;
      const size = inner ? { width: Math.max(BOX.width, inner.width + 2 * FRAME.side), height: inner.height + FRAME.head + FRAME.foot } : { ...BOX };
      boxes.set(id, { id, inner, ...size });
      graph.setNode(id, { ...size });
    }
    const lines = [...this.modules.lines.get(level).values()];
    for (const [a, b] of lines) {
      for (const port of [a, b]) if ((port === "in" || port === "out") && !graph.hasNode(port)) graph.setNode(port, { width: 2, height: 2 });
      graph.setEdge(a, b);
    }
    dagre.layout(graph);
    const bends = lines.map(([a, b]) => graph.edge(a, b).points.slice(1, -1));
    const all = [...bends.flat().map((p) => p.x), ...graph.nodes().flatMap((id) => [graph.node(id).x - graph.node(id).width / 2, graph.node(id).x + graph.node(id).width / 2])];
    const least = all.reduce((a, b) => Math.min(a, b), Infinity), most = all.reduce((a, b) => Math.max(a, b), -Infinity); // dagre leaves bends out of its width
    const up = graph.hasNode("in") ? PORT : 0, down = graph.hasNode("out") ? PORT : 0, port = (id) => (graph.hasNode(id) ? graph.node(id).x - least : null);
    for (const [id, box] of boxes) {
      const { x, y } = graph.node(id);
      Object.assign(box, { x: x - box.width / 2 - least, y: y - box.height / 2 - up });
    }
    const made = { boxes, width: Math.max(most - least, 20), height: Math.max(graph.graph().height - up - down, 20), in: port("in"), out: port("out") };
    made.lines = lines.map(([a, b], i) => ({ a, b, path: this.path(bends[i].map(({ x, y }) => ({ x: x - least, y: y - up })), made, a, b) }));
    this.layouts.set(level, made);
    return made;
  }

  path(bends, level, a, b) {
    const inside = (box, x) => box.x + (box.inner && x !== null ? (box.width - box.inner.width) / 2 + x : box.width / 2);
    const from = level.boxes.get(a), to = level.boxes.get(b);
    const start = from ? [inside(from, from.inner && from.inner.out), from.y + from.height] : [level.in, 0];
    const end = to ? [inside(to, to.inner && to.inner.in), to.y] : [level.out, level.height];
    let [x, y] = start, path = "M" + x.toFixed(1) + " " + y.toFixed(1);
    for (const [nx, ny] of [...bends.map((p) => [p.x, p.y]), end]) {
      const half = (ny - y) / 2;
      path += "C" + [x, y + half, nx, ny - half, nx, ny].map((n) => n.toFixed(1)).join(" ");
      [x, y] = [nx, ny];
    }
    return path;
  }

  /* drawing */

  draw() {
    const all = this.layout(ROOT);
    this.size = { width: all.width, height: all.height };
    this.spots = new Map();
    this.scene.replaceChildren();
    this.drawLevel(ROOT, 0, 0, this.scene);
    if (this.chosen && !this.spots.has(this.chosen)) this.chosen = null;
    this.mark();
  }

  drawLevel(level, left, top, into) {
    const made = this.layout(level);
    const lines = svg("g", { "aria-hidden": "true", transform: "translate(" + left + " " + top + ")" });
    for (const { a, b, path } of made.lines) lines.append(svg("path", { class: b === "out" ? "edge plain-end" : "edge", d: path, "data-a": a, "data-b": b }));
    into.append(lines);
    for (const box of made.boxes.values()) {
      const x = left + box.x, y = top + box.y;
      const drawn = box.id[0] === "o" ? this.outputBox(Number(box.id.slice(1))) : box.id[0] === "r" ? this.rowBox(Number(box.id.slice(1))) : box.inner ? this.frame(box) : this.groupBox(Number(box.id.slice(1)));
      drawn.setAttribute("transform", "translate(" + x.toFixed(1) + " " + y.toFixed(1) + ")");
      drawn.dataset.id = box.id;
      drawn.setAttribute("tabindex", "-1");
      drawn.setAttribute("role", "button");
      into.append(drawn);
      this.spots.set(box.id, { x, y, width: box.width, height: box.inner ? FRAME.head : box.height, drawn });
      if (box.inner) this.drawLevel(Number(box.id.slice(1)), x + (box.width - box.inner.width) / 2, y + FRAME.head, into);
    }
  }

  /* What a box has of the sum over the model that the colour stands for, in words and as a depth of colour. */
  part(box) {
    const all = this.modules.sums.get(ROOT)[this.shade], has = box[0] === "g" ? this.modules.sums.get(Number(box.slice(1)))[this.shade] : this.model.data.rows[this.shade][Number(box.slice(1))];
    return all && has ? has / all : 0;
  }

  card(kind, title, extra, detail, many, pieces, box = "") {
    const share = this.shade && box ? this.part(box) : 0;
    if (this.shade && box) detail = share ? percent(100 * share) + " of all" : "–";
    const { width, height } = BOX, name = svg("text", { class: "name", x: 17, y: 19 }, title);
    if (extra) name.append(svg("tspan", { class: "detail", dx: 6, "font-weight": 400 }, extra));
    const side = this.model.side(pieces), drawn = svg("g", { class: "box v-" + kind + (side ? " on-" + side : "") });
    if (many) drawn.append(svg("rect", { class: "card under", x: 3, y: 3, width, height, rx: 5 }));
    drawn.append(svg("rect", { class: "card", width, height, rx: 5 }));
    if (share) drawn.append(svg("rect", { class: "heat", width, height, rx: 5, "fill-opacity": (0.7 * Math.sqrt(share)).toFixed(3) }));
    drawn.append(svg("rect", { x: 5, y: 6, width: 4, height: height - 12, rx: 2, fill: "url(#fill-" + kind + ")" }),
      name, svg("text", { class: "detail", x: 17, y: 35 }, detail));
    if (kind !== "ok") drawn.append(svg("use", { href: "#mark-" + kind, x: width - 20, y: 6, width: 14, height: 14 }));
    return drawn;
  }

  rowBox(i) {
    const kind = this.model.kind(i), pieces = this.model.piecesOf([i]), op = this.model.text("op", i), shape = this.model.text("shape", i);
    const input = op === "graph input", label = input ? op : this.model.text("label", i);
    const room = BOX.width - (kind === "ok" ? 24 : 42), name = fitting(input ? this.model.name(i) : op, room, NAME);
    const drawn = this.card(kind, name, fitting(label, room - 6 - widthOf(name, NAME), DETAIL), fitting(shape, BOX.width - 24, DETAIL), false, pieces, "r" + i);
    const change = this.model.change(i);
    if (change) {
      drawn.classList.add("changed");
      drawn.append(svg("text", { class: "change-number", x: BOX.width - 8, y: BOX.height - 9, "text-anchor": "end" }, "#" + change));
    }
    const found = (this.model.findingsOf.get(i) || []).filter((f) => f.kind !== "suppressed");
    drawn.setAttribute("aria-label", [op, input ? this.model.name(i) : label || this.model.name(i), shape, found.length ? kind + ": " + found.map((f) => f.rule).join(", ") : "no finding", ...(pieces.length ? ["piece " + this.model.pieceWords(i)] : [])].join(", "));
    return drawn;
  }

  outputBox(o) {
    const { row, name } = this.model.outputs[o], shape = this.model.text("shape", row);
    const title = fitting(name, BOX.width - 24, NAME), detail = fitting("graph output", BOX.width - 30 - widthOf(title, NAME), DETAIL);
    const drawn = this.card("ok", title, detail, fitting(shape, BOX.width - 24, DETAIL), false, []);
    drawn.setAttribute("aria-label", "graph output, " + name + ", " + shape);
    return drawn;
  }

  groupBox(g) {
    const kind = this.modules.worst(g), s = this.modules.sums.get(g), bad = s.error + s.undecided + s.warning;
    const drawn = this.card(kind, fitting(this.modules.short(g), BOX.width - (bad ? 74 : 24), NAME), "", this.modules.words(g), true, [...s.pieces], "g" + g);
    if (bad) drawn.append(svg("text", { class: "detail", x: BOX.width - 24, y: 17, "text-anchor": "end" }, bad > 999 ? "999+" : String(bad)), svg("title", {}, this.modules.counts(g)));
    drawn.setAttribute("aria-label", this.modules.sort(g) + " " + this.modules.title(g) + ", " + this.modules.words(g) + ", " + this.modules.counts(g));
    drawn.setAttribute("aria-expanded", "false");
    return drawn;
  }

  frame(box) {
    const g = Number(box.id.slice(1)), kind = this.modules.worst(g);
    const drawn = svg("g", { class: "box frame v-" + kind, "aria-expanded": "true", "aria-label": this.modules.sort(g) + " " + this.modules.title(g) + ", open, " + this.modules.words(g) + ", " + this.modules.counts(g) },
      svg("rect", { class: "card", width: box.width, height: box.height, rx: 7 }),
      svg("text", { class: "name", x: 12, y: 20 }, fitting(this.modules.short(g), box.width - 40, NAME)));
    if (kind !== "ok") drawn.append(svg("use", { href: "#mark-" + kind, x: box.width - 22, y: 8, width: 14, height: 14 }));
    return drawn;
  }

  mark() {
    const first = this.modules.children.get(ROOT)[0];
    for (const [id, { drawn }] of this.spots) {
      drawn.classList.toggle("chosen", id === this.chosen);
      drawn.setAttribute("tabindex", id === (this.chosen || first) ? "0" : "-1");
    }
    for (const line of this.scene.querySelectorAll(".edge")) line.classList.toggle("near", this.chosen !== null && (line.dataset.a === this.chosen || line.dataset.b === this.chosen));
  }

  /* opening and closing */

  toggle(g) {
    const before = this.spots.get("g" + g);
    if (!this.opened.delete(g)) this.opened.add(g);
    for (const level of [ROOT, ...this.modules.path.get(g)]) this.layouts.delete(level);
    this.chosen = "g" + g;
    this.draw();
    const after = this.spots.get("g" + g);
    if (before && after) this.move(this.view.x + (before.x + before.width / 2 - after.x - after.width / 2) * this.view.k, this.view.y + (before.y - after.y) * this.view.k, this.view.k);
    this.about.group(g);
    after.drawn.focus({ preventScroll: true });
    announce(this.modules.title(g) + (this.opened.has(g) ? " is open" : " is closed"));
  }

  closeAll() {
    this.opened.clear();
    this.layouts.clear();
    this.draw();
    this.fit(true);
    announce("All boxes are closed");
  }

  /* Level by level, as long as the picture stays readable. */
  openAll() {
    let left = MOST_BOXES - this.spots.size, level = [ROOT], closed = 0;
    while (level.length) {
      const next = [];
      for (const g of level) {
        for (const id of this.modules.children.get(g)) {
          if (id[0] !== "g") continue;
          const inner = Number(id.slice(1)), boxes = this.modules.children.get(inner).length;
          if (!this.opened.has(inner)) {
            if (boxes > left) { closed += 1; continue; }
            left -= boxes;
            this.opened.add(inner);
          }
          next.push(inner);
        }
      }
      level = next;
    }
    this.layouts.clear();
    this.draw();
    this.fit();
    announce(closed ? "Open as far as " + MOST_BOXES + " boxes allow; " + closed + " of them stay closed" : "All boxes are open");
  }

  /* seeing */

  move(x, y, k, smooth = false) {
    const { clientWidth: w, clientHeight: h } = this.svg, edge = 80;
    const inside = (at, size, room) => Math.min(room - edge, Math.max(edge - size, at));
    this.view = { k, x: inside(x, this.size.width * k, w), y: inside(y, this.size.height * k, h) };
    this.scene.classList.toggle("moved", smooth);
    this.scene.setAttribute("transform", "translate(" + this.view.x.toFixed(1) + " " + this.view.y.toFixed(1) + ") scale(" + k.toFixed(3) + ")");
  }

  fit(whole = false) {
    const { clientWidth: w, clientHeight: h } = this.svg, { width, height } = this.size;
    const k = Math.min(1.1, Math.max((w - 60) / width && Math.min((w - 60) / width, (h - 48) / height), whole ? 0.05 : 0.85));
    this.move((w - width * k) / 2, Math.max(20, (h - height * k) / 2), k, whole);
  }

  zoom(by, x = this.svg.clientWidth / 2, y = this.svg.clientHeight / 2) {
    const k = Math.min(3, Math.max(0.04, this.view.k * by)), ratio = k / this.view.k;
    this.move(x - (x - this.view.x) * ratio, y - (y - this.view.y) * ratio, k);
  }

  centre(id) {
    const spot = this.spots.get(id), k = Math.max(0.85, this.view.k), { clientWidth: w, clientHeight: h } = this.svg;
    this.move(w / 2 - (spot.x + spot.width / 2) * k, h / 2 - (spot.y + spot.height / 2) * k, k, true);
  }

  keepInSight(id) {
    const { x, y, width, height } = this.spots.get(id), { k } = this.view, { clientWidth: w, clientHeight: h } = this.svg, edge = 24;
    const left = this.view.x + x * k, top = this.view.y + y * k;
    const dx = left < edge ? edge - left : Math.min(0, w - edge - left - width * k), dy = top < edge ? edge - top : Math.min(0, h - edge - top - height * k);
    if (dx || dy) this.move(this.view.x + dx, this.view.y + dy, k);
  }

  choose(id, sight = true) {
    this.chosen = id;
    this.mark();
    if (sight) this.keepInSight(id);
    if (id[0] === "g") this.about.group(Number(id.slice(1)));
    else if (id[0] === "o") this.about.output(Number(id.slice(1)));
    else { this.about.row(Number(id.slice(1))); this.chosenRow?.(Number(id.slice(1))); }
  }

  /* The boxes of a change, the first of them in sight; nobody else's focus moves. */
  showChange(number) {
    const row = this.bring(number);
    if (row === undefined) return;
    this.chosen = "r" + row;
    this.mark();
    this.about.row(row);
  }

  drawnOf(number) { return this.model.changed(number).filter((row) => this.model.data.rows.group[row] !== -2); }

  /* Opens what the boxes of a change are in, puts the first of them in the middle, and says which that is. */
  bring(number) {
    const rows = this.drawnOf(number);
    for (const row of rows) for (const g of this.modules.path.get(this.model.data.rows.group[row])) this.opened.add(g);
    this.layouts.clear();
    this.draw();
    if (rows.length) this.centre("r" + rows[0]);
    return rows[0];
  }

  focusRow(i) {
    const group = this.model.data.rows.group[i];
    if (group === -2) { this.chosen = null; this.mark(); this.about.row(i); return; }
    for (const g of this.modules.path.get(group)) this.opened.add(g);
    this.layouts.clear();
    this.draw();
    this.choose("r" + i, false);
    this.centre("r" + i);
    this.spots.get("r" + i).drawn.focus({ preventScroll: true });
  }

  focusGroup(g) {
    for (const outer of this.modules.path.get(g).slice(0, -1)) this.opened.add(outer);
    this.layouts.clear();
    this.draw();
    this.choose("g" + g, false);
    this.centre("g" + g);
    this.spots.get("g" + g).drawn.focus({ preventScroll: true });
  }

  /* Enter goes to the first match, and from there on to the next ones. */
  findFirst(event) {
    if (event.key !== "Enter") return;
    const found = this.model.search(this.finder.value, 1000), at = this.chosen && this.chosen[0] === "r" ? found.indexOf(Number(this.chosen.slice(1))) : -1;
    if (!found.length) return;
    event.preventDefault();
    const next = found[(at + 1) % found.length];
    this.focusRow(next);
    this.address(next);
    this.finder.focus();
    announce((at + 1) % found.length + 1 + " of " + found.length + " matches");
  }

  /* hands */

  listen() {
    const hands = new Map();
    let moved = false;
    const idOf = (event) => event.target.closest("[data-id]")?.dataset.id;
    this.svg.addEventListener("pointerdown", (event) => { hands.set(event.pointerId, event); moved = hands.size > 1; });
    this.svg.addEventListener("pointermove", (event) => {
      const last = hands.get(event.pointerId);
      if (!last) return;
      const dx = event.clientX - last.clientX, dy = event.clientY - last.clientY;
      if (!moved && Math.hypot(dx, dy) < 4) return;
      if (!moved) { moved = true; this.svg.setPointerCapture(event.pointerId); this.svg.classList.add("moving"); }
      if (hands.size === 2) {
        const other = [...hands.values()].find((h) => h.pointerId !== event.pointerId), frame = this.svg.getBoundingClientRect();
        const reach = (h) => Math.hypot(h.clientX - other.clientX, h.clientY - other.clientY) || 1;
        this.zoom(reach(event) / reach(last), (event.clientX + other.clientX) / 2 - frame.left, (event.clientY + other.clientY) / 2 - frame.top);
      } else this.move(this.view.x + dx, this.view.y + dy, this.view.k);
      hands.set(event.pointerId, event);
    });
    for (const end of ["pointerup", "pointercancel", "pointerleave"]) this.svg.addEventListener(end, (event) => { hands.delete(event.pointerId); this.svg.classList.remove("moving"); });
    this.svg.addEventListener("click", (event) => {
      const id = idOf(event);
      if (moved) moved = false;
      else if (id) this.act(id);
    });
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const frame = this.svg.getBoundingClientRect(), step = event.deltaMode === 1 ? 18 : 1;
      if (event.ctrlKey || event.metaKey) this.zoom(Math.exp(-event.deltaY * step * 0.003), event.clientX - frame.left, event.clientY - frame.top);
      else this.move(this.view.x - event.deltaX * step, this.view.y - event.deltaY * step, this.view.k);
    }, { passive: false });
    this.svg.addEventListener("keydown", (event) => this.key(event, idOf(event)));
    this.svg.addEventListener("focusin", (event) => { const id = idOf(event); if (id && id !== this.chosen && event.target.matches(":focus-visible")) this.choose(id); });
  }

  act(id) {
    if (id[0] === "g") this.toggle(Number(id.slice(1)));
    else {
      this.choose(id);
      this.spots.get(id).drawn.focus({ preventScroll: true });
      this.address(id[0] === "o" ? this.model.outputs[Number(id.slice(1))].row : Number(id.slice(1)));
    }
  }

  /* The page's address leads to the node from now on. */
  address(row) { if (!this.small) history.replaceState(null, "", this.model.href(row)); }

  key(event, id) {
    const turn = { ArrowDown: [0, 1], ArrowUp: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    const action = turn ? () => id && this.step(id, turn) : { "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8), 0: () => this.fit(true),
      Enter: () => id && this.act(id), " ": () => id && this.act(id), Home: () => this.goTo([...this.spots.keys()][0]), End: () => this.goTo([...this.spots.keys()].at(-1)) }[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  }

  goTo(id) {
    this.choose(id);
    this.spots.get(id).drawn.focus({ preventScroll: true });
  }

  /* The nearest box in a direction; what lies aside counts double. */
  step(id, [dx, dy]) {
    const here = this.spots.get(id), middle = (s) => [s.x + s.width / 2, s.y + s.height / 2], [x, y] = middle(here);
    let best = null, least = Infinity;
    for (const [other, spot] of this.spots) {
      const [ox, oy] = middle(spot), along = (ox - x) * dx + (oy - y) * dy, aside = Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx);
      if (other !== id && along > 1 && along + 2 * aside < least) { least = along + 2 * aside; best = other; }
    }
    if (best) this.goTo(best);
  }
}
