// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0
//
// The page of `profile/formats/html.py`: draws the trees of `trees.js` on a canvas.
// Everything a user chooses is in `state`, and in the URL behind `#`.
"use strict";

const ROW = 19;             // height of a frame, CSS pixels
const MIN_WIDTH = 0.5;      // narrower frames are drawn as one grey stripe
const TABLE_ROWS = 1000;    // more rows make a page slow and nobody reads them

// [hue, saturation, text of the legend]
const KINDS = {
  process: [220, 9, "process"],
  kernel: [16, 78, "kernel"],
  native: [132, 38, "native"],
  cpython: [212, 68, "Python"],
  go: [184, 58, "Go"],
  jit: [282, 46, "JIT"], off_cpu: [240, 60, "off CPU"],
  "abort-marker": [352, 80, "unwinding error"],
};

// --------------------------------------------------------------------- colours

const MIDDLE = [0.5, 0.5];     // the tint that stands for all in the legend
const isDark = () => document.documentElement.dataset.theme === "dark";

/** A small stable number for a text: neighbours get different shades. */
function shade(text) {
  let hash = 2166136261;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 16777619);
  return ((hash >>> 8) % 1000) / 1000;
}

/** The hue tells the kind and, a little, the module; the lightness tells functions apart. */
function kindColour(kind, resolved, [module, name]) {
  const [hue, saturation] = KINDS[kind] || KINDS.jit;
  const s = resolved ? saturation : saturation * 0.25;
  const lightness = isDark() ? 33 + name * 9 : 70 + name * 11;
  return `hsl(${hue + (module - 0.5) * 36} ${s}% ${lightness}%)`;
}

/** Red: more than before; blue: less; both shares of their totals. */
function diffColour(after, before) {
  const change = after + before > 0 ? (after - before) / (after + before) : 0;
  const strength = Math.min(1, Math.abs(change) * 1.4);
  const lightness = isDark() ? 30 + strength * 14 : 90 - strength * 28;
  return `hsl(${change > 0 ? 8 : 214} ${strength * 82}% ${lightness}%)`;
}

let hatchOf = { theme: null, pattern: null };
function hatch(context) {
  const theme = document.documentElement.dataset.theme;
  if (hatchOf.theme !== theme) {
    const tile = el("canvas", { width: 6, height: 6 });
    const pen = tile.getContext("2d");
    pen.strokeStyle = isDark() ? "rgba(255,255,255,.22)" : "rgba(0,0,0,.2)";
    pen.beginPath();
    pen.moveTo(-1, 7);
    pen.lineTo(7, -1);
    pen.stroke();
    hatchOf = { theme, pattern: context.createPattern(tile, "repeat") };
  }
  return hatchOf.pattern;
}

// ---------------------------------------------------------------------- helpers

function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made && key !== "list") {
      made[key] = value;
    } else {
      made.setAttribute(key, value);
    }
  }
  made.append(...children);
  return made;
}

const percent = (part, whole) => `${(whole ? (100 * part) / whole : 0).toFixed(whole && part && part / whole < 0.001 ? 3 : 1)}%`;
const grouped = (number) => Math.round(number).toLocaleString("en-US");

function seconds(ns) {
  const s = ns / 1e9;
  return s >= 100 ? `${s.toFixed(0)} s` : s >= 1 ? `${s.toFixed(2)} s` : `${(s * 1e3).toFixed(1)} ms`;
}

function amount(profile, value) {
  const { period_ns: period, period_type: period_type, sample_type: type } = profile.info;
  if (!profile.isCount) return type[1] === "nanoseconds" ? seconds(value) : `${grouped(value)} ${type[1]}`;
  const time = period && period_type[1] === "nanoseconds" ? ` (${seconds(value * period)})` : "";
  return `${grouped(value)} sample${value === 1 ? "" : "s"}${time}`;
}

function whereOf(profile, label, line) {
  if (!profile.resolved[label] && profile.isRow(label)) return "(without names)";
  const file = profile.file[label];
  const module = profile.module[label];
  const place = file ? (line ? `${file}:${line}` : file) : "";
  return module && module !== file ? (place ? `${place} · ${module}` : module) : place;
}

// ------------------------------------------------------------------- the chart

/** One tree on one canvas. `up`: the root is at the bottom. */
class Chart {
  constructor(app, name) {
    this.app = app;
    this.canvas = el("canvas");
    this.space = el("div");
    this.box = el("div", { className: "chart", tabIndex: 0, "aria-label": name, role: "application" }, this.canvas, this.space);
    this.pen = this.canvas.getContext("2d");
    this.tree = null;
    this.rows = [];
    this.selected = -1;
    this.box.addEventListener("scroll", () => this.paint());
    this.canvas.addEventListener("mousemove", (event) => this.hover(event));
    this.canvas.addEventListener("mouseleave", () => app.showTip(null));
    this.canvas.addEventListener("click", (event) => this.click(event));
    this.canvas.addEventListener("dblclick", () => this.openSandwich());
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /** Show a tree from the cache; the zoom stays if it is the one that is shown. */
  update({ made }, up, hideRoot) {
    if (made === this.tree && up === this.up) this.paint();
    else this.show(made, up, hideRoot);
  }

  show(tree, up, hideRoot) {
    this.tree = tree;
    this.up = up;
    this.first = hideRoot ? 1 : 0;      // rows that are not drawn
    this.zoom = ROOT;
    this.selected = -1;
    this.draw();
    this.box.scrollTop = up ? this.box.scrollHeight : 0;
  }

  zoomTo(node) {
    this.zoom = node;
    this.draw();
    const y = (this.tree.depth[node] - 2) * ROW;
    this.box.scrollTop = this.up ? this.box.scrollHeight - this.box.clientHeight - y : y;
  }

  /** Lay out what is wide enough to be seen, then paint. */
  draw() {
    const width = this.box.clientWidth;
    if (!this.tree || !width) return;
    const { tree } = this;
    this.rows = [];
    const put = (node, x, w) => {
      const row = tree.depth[node] - this.first;
      if (row >= 0) (this.rows[row] || (this.rows[row] = [])).push([x, w, node]);
    };
    for (let node = tree.parent[this.zoom]; node >= 0; node = tree.parent[node]) put(node, 0, width);
    const whole = tree.width[this.zoom] || 1;
    const work = [[this.zoom, 0]];
    while (work.length) {
      const [node, x] = work.pop();
      put(node, x, (tree.width[node] / whole) * width);
      let at = x;
      const below = tree.childrenOf(node);
      for (let i = 0; i < below.length; i++) {
        const w = (tree.width[below[i]] / whole) * width;
        if (w < MIN_WIDTH) {
          this.rest(node, at, below.subarray(i), whole, width);
          break;
        }
        work.push([below[i], at]);
        at += w;
      }
    }
    for (const row of this.rows) row?.sort((a, b) => a[0] - b[0]);
    this.paint();
  }

  /** Children too narrow to be seen: one stripe as wide as all of them. */
  rest(node, x, children, whole, width) {
    let sum = 0;
    for (const child of children) sum += this.tree.width[child];
    const w = (sum / whole) * width;
    const row = this.tree.depth[node] + 1 - this.first;
    if (w >= MIN_WIDTH && row >= 0) (this.rows[row] || (this.rows[row] = [])).push([x, w, -1]);
  }

  paint() {
    const { canvas, pen, box } = this;
    const width = box.clientWidth;
    const height = box.clientHeight;
    const scale = window.devicePixelRatio || 1;
    this.height = Math.max(this.rows.length * ROW, height);
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    this.space.style.height = `${this.height - height}px`;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.font = "12px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace";
    pen.textBaseline = "middle";
    this.letter = this.letter || pen.measureText("M").width;
    for (let row = 0; row < this.rows.length; row++) {
      const y = (this.up ? this.height - (row + 1) * ROW : row * ROW) - box.scrollTop;
      if (y > -ROW && y < height && this.rows[row]) {
        for (const [x, w, node] of this.rows[row]) this.paintFrame(x, y, w, node);
      }
    }
  }

  paintFrame(x, y, w, node) {
    const { pen, tree, app } = this;
    const inner = Math.max(w - (w > 3 ? 1 : 0), MIN_WIDTH);
    if (node < 0) {
      pen.fillStyle = isDark() ? "#39414e" : "#d4d9e0";
      pen.fillRect(x, y, inner, ROW - 1);
      return;
    }
    const label = tree.label[node];
    const hit = app.hits && app.hits[label];
    const above = tree.depth[node] < tree.depth[this.zoom];
    pen.globalAlpha = above ? 0.55 : 1;
    pen.fillStyle = this.colour(node, label, hit);
    pen.fillRect(x, y, inner, ROW - 1);
    if (tree.guessed[node]) {
      pen.fillStyle = hatch(pen);
      pen.fillRect(x, y, inner, ROW - 1);
    }
    pen.globalAlpha = 1;
    if (node === this.selected) {
      pen.strokeStyle = isDark() ? "#fff" : "#111";
      pen.lineWidth = 2;
      pen.strokeRect(x + 1, y + 1, inner - 2, ROW - 3);
    }
    const room = Math.floor((inner - 8) / this.letter);
    if (room >= 3) {
      const text = app.profile.name[label];
      const dim = app.hits && !hit;
      pen.fillStyle = hit ? "#fff" : isDark() ? (dim ? "#8b94a3" : "#eef1f6") : dim ? "#7c8594" : "#17202c";
      pen.fillText(text.length > room ? `${text.slice(0, room - 1)}…` : text, x + 4, y + ROW / 2);
    }
  }

  colour(node, label, hit) {
    const { app, tree } = this;
    if (hit) return isDark() ? "#d6337c" : "#c2185b";
    if (app.hits) return isDark() ? "#272d38" : "#e6e9ee";
    if (app.profile.isDiff) return diffColour(tree.total[node] / (app.total || 1), tree.base[node] / (app.baseTotal || 1));
    return kindColour(app.profile.kind[label], app.profile.resolved[label], app.tints[label]);
  }

  find(event) {
    const rect = this.canvas.getBoundingClientRect();
    const x = event.clientX - rect.left;
    const y = event.clientY - rect.top + this.box.scrollTop;
    const row = Math.floor((this.up ? this.height - y : y) / ROW);
    const found = (this.rows[row] || []).find(([left, w]) => x >= left && x < left + w);
    return found ? found[2] : -1;
  }

  hover(event) {
    const node = this.find(event);
    this.canvas.style.cursor = node >= 0 ? "pointer" : "default";
    this.app.showTip(node >= 0 ? { tree: this.tree, node, x: event.clientX, y: event.clientY } : null);
  }

  click(event) {
    const node = this.find(event);
    if (node >= 0 && event.detail < 2) {
      this.selected = node;
      this.zoomTo(node);
      this.app.describe(this.tree, node);
    }
  }

  /** Of the frame that the first click of two chose: its zoom has moved the others by now. */
  openSandwich() {
    if (this.selected >= 0) this.app.set({ view: "sandwich", label: this.tree.label[this.selected] });
  }

  select(node) {
    this.selected = node;
    this.app.describe(this.tree, node);
    const row = this.tree.depth[node] - this.first;
    const y = this.up ? this.height - (row + 1) * ROW : row * ROW;
    if (y < this.box.scrollTop || y + ROW > this.box.scrollTop + this.box.clientHeight) {
      this.box.scrollTop = y - this.box.clientHeight / 2;
    }
    this.paint();
  }

  /** Arrow keys follow what is seen: to the side among siblings, up and down the stack. */
  key(key) {
    const { tree } = this;
    if (this.selected < 0) {
      this.select(this.zoom);
      return;
    }
    const node = this.selected;
    const deeper = this.up ? "ArrowUp" : "ArrowDown";
    if (key === "Enter") {
      this.zoomTo(node);
    } else if (key === deeper) {
      const below = tree.childrenOf(node);
      if (below.length) this.select(below[0]);
    } else if (key === "ArrowUp" || key === "ArrowDown") {
      if (tree.depth[node] > this.first) this.select(tree.parent[node]);
    } else if (node !== ROOT) {
      const siblings = tree.childrenOf(tree.parent[node]);
      const next = siblings.indexOf(node) + (key === "ArrowRight" ? 1 : -1);
      if (next >= 0 && next < siblings.length) this.select(siblings[next]);
    }
  }
}

/** How the URL names a process or thread: by its number, or its name where it has none. */
const address = (row, name) => String(row[0] || row[name]);

// -------------------------------------------------------------- list of functions

class FunctionList {
  constructor(app) {
    this.app = app;
    this.order = "self";
    this.box = el("div", { className: "card list" });
  }

  show(sums, narrow) {
    const { app, order } = this;
    const { profile } = app;
    const share = (value) => value / (app.total || 1);
    const change = (after, before) => share(after) - before / (app.baseTotal || 1);
    const keys = {
      self: (i) => sums.self[i],
      total: (i) => sums.total[i],
      "Δ self": (i) => Math.abs(change(sums.self[i], sums.baseSelf[i])),
      "Δ total": (i) => Math.abs(change(sums.total[i], sums.baseTotal[i])),
    };
    let rows = profile.name.map((_, i) => i);
    rows = rows.filter((i) => profile.kind[i] !== "process" && (sums.total[i] || sums.baseTotal[i]));
    // A single address is found by searching for it.
    rows = rows.filter((i) => (app.hits ? app.hits[i] && (profile.isRow(i) || !app.hits[profile.group[i]]) : profile.isRow(i)));
    const byName = (a, b) => (profile.name[a] < profile.name[b] ? -1 : 1);
    rows.sort(keys[order] ? (a, b) => keys[order](b) - keys[order](a) || sums.total[b] - sums.total[a] : byName);
    const numbers = profile.isDiff ? ["self", "Δ self", "total", "Δ total"] : ["self", "total"];
    const cells = (i) => numbers.map((name) => this.number(name, i, sums, change));
    const body = rows.slice(0, TABLE_ROWS).map((i) => {
      const swatch = el("span", { className: "swatch" });
      swatch.style.background = kindColour(profile.kind[i], profile.resolved[i], app.tints[i]);
      const name = el("td", { className: "name", title: profile.name[i] }, swatch, profile.name[i]);
      const where = whereOf(profile, i, 0);
      const row = el("tr", { tabIndex: -1 }, ...cells(i), name, el("td", { className: "where", title: where }, where));
      row.setAttribute("aria-selected", app.state.label === i || profile.group[app.state.label] === i);
      row.addEventListener("click", () => app.set({ view: "sandwich", label: i }));
      return row;
    });
    const head = [...numbers, "function", "where"].map((name) => this.head(name));
    this.box.className = narrow ? "card list narrow" : "card list";
    const scroll = this.box.scrollTop;
    this.box.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body)));
    this.box.scrollTop = scroll;
    return rows;
  }

  head(name) {
    const button = el("button", { textContent: name === this.order ? `${name} ▾` : name });
    button.addEventListener("click", () => {
      this.order = name;
      this.app.render();
    });
    const kind = name === "where" ? "where" : name === "function" ? "name" : "number";
    return el("th", { className: kind }, button);
  }

  number(name, i, sums, change) {
    const { app } = this;
    if (!name.startsWith("Δ")) return el("td", { className: "number" }, percent(sums[name][i], app.total));
    const delta = name === "Δ self" ? change(sums.self[i], sums.baseSelf[i]) : change(sums.total[i], sums.baseTotal[i]);
    const className = delta > 0 ? "number more" : delta < 0 ? "number less" : "number";
    return el("td", { className }, `${delta > 0 ? "+" : ""}${(100 * delta).toFixed(1)}%`);
  }
}

// --------------------------------------------------------------------- the page

class App {
  constructor(profile) {
    this.profile = profile;
    this.tints = profile.name.map((name, i) => [shade(profile.module[i]), shade(name)]);
    this.state = { view: "flame", reverse: false, up: false, before: false, search: "", process: -1, thread: -1, label: -1 };
    this.root = document.getElementById("app");
    this.charts = ["flame graph", "callers", "callees"].map((name) => new Chart(this, name));
    [this.main, this.callers, this.callees] = this.charts;
    this.list = new FunctionList(this);
    this.cache = {};
    this.build();
    this.readHash();
    document.addEventListener("keydown", (event) => this.onKey(event));
    window.addEventListener("hashchange", () => {
      this.readHash();
      this.render();
    });
  }

  // ---- layout

  build() {
    const { profile } = this;
    this.search = el("input", { type: "search", placeholder: "Search, or /regex/", "aria-label": "search", spellcheck: false });
    this.search.addEventListener("input", () => this.set({ search: this.search.value }));
    this.matchedText = el("output", { className: "matched" });
    this.processes = el("select", { "aria-label": "process" });
    this.threads = el("select", { "aria-label": "thread" });
    this.processes.addEventListener("change", () => this.set({ process: Number(this.processes.value), thread: -1 }));
    this.threads.addEventListener("change", () => this.set({ thread: Number(this.threads.value) }));
    this.buttons = {};
    const button = (name, text, title, action) => {
      this.buttons[name] = el("button", { textContent: text, title });
      this.buttons[name].addEventListener("click", action);
      return this.buttons[name];
    };
    const toggle = (key) => () => this.set({ [key]: !this.state[key] });
    const views = el("span", { className: "group" },
      button("flame", "Flame graph", "f", () => this.set({ view: "flame" })),
      button("sandwich", "Sandwich", "s: callers and callees of a function", () => this.set({ view: "sandwich" })),
      button("table", "Table", "t: hottest functions", () => this.set({ view: "table" })));
    const shape = el("span", { className: "group" },
      button("reverse", "Reverse", "r: from the hot function to its callers", toggle("reverse")),
      button("up", "Flip", "i: roots at the bottom", toggle("up")),
      ...(profile.isDiff ? [button("before", "Width: before", "b: widths of the earlier profile", toggle("before"))] : []));
    const bar = el("div", { className: "bar", role: "toolbar" }, views, shape,
      button("zoom", "Reset zoom", "0", () => this.resetZoom()), this.processes, this.threads,
      el("span", { className: "spring" }), this.search, this.matchedText,
      button("theme", "◐", "d: dark or light", () => this.switchTheme()),
      button("help", "?", "keys", () => this.help.showModal()));
    this.legend = el("div", { className: "legend" });
    this.views = el("div", { className: "views" });
    this.status = el("footer", { role: "status" }, "Click: zoom · double click: callers and callees · ?: keys");
    this.tip = el("div", { className: "tip", hidden: true });
    this.help = this.helpDialog();
    this.root.append(this.header(), bar, this.legend, this.views, this.status, this.tip, this.help);
    this.mainCard = el("div", { className: "card pane" }, this.main.box);
    this.callersTitle = el("h2");
    this.calleesTitle = el("h2");
    this.sandwich = el("div", { className: "stack" },
      el("div", { className: "card pane" }, this.callersTitle, this.callers.box),
      el("div", { className: "card pane" }, this.calleesTitle, this.callees.box));
    this.fillProcesses();
  }

  header() {
    const { info, figures } = this.profile.raw;
    const fact = (name, value, bad = false) => el("span", { className: bad ? "bad" : "" }, `${name} `, el("b", {}, value));
    const facts = [];
    const host = Object.fromEntries(info.host);
    if (host["host.name"]) facts.push(fact("host", host["host.name"]));
    if (info.start_unix_ns) {
      facts.push(fact("start", new Date(info.start_unix_ns / 1e6).toISOString().replace("T", " ").replace(/\.\d+Z/, " UTC")));
    }
    if (info.duration_ns) facts.push(fact("duration", seconds(info.duration_ns)));
    if (info.period_ns && info.period_type[1] === "nanoseconds") {
      facts.push(fact("rate", `${(1e9 / info.period_ns).toFixed(0)} Hz`));
    }
    const of = (value) => `${grouped(value)} (${percent(value, figures.samples)})`;
    facts.push(fact("samples", grouped(figures.samples)));
    facts.push(fact("lost", grouped(figures.lost), figures.lost > 0));
    facts.push(fact("complete stacks", percent(figures.complete, figures.samples)));
    facts.push(fact("with unnamed frames", of(figures.unresolved)));
    if (figures.guessed) facts.push(fact("with guessed frames", of(figures.guessed)));
    if (this.profile.isDiff) facts.push(fact("compared with", this.profile.raw.base_name));
    const box = el("header", {}, el("h1", {}, document.title), el("div", { className: "facts" }, ...facts));
    const told = ([name]) => !(name.replace("fault.", "") in figures.faults);
    const notes = [...Object.entries(info.notes).filter(told), ...Object.entries(figures.faults).map(([k, v]) => [`stacks ended by ${k}`, v])];
    if (notes.length) {
      const rows = notes.map(([name, value]) => el("tr", {}, el("td", {}, grouped(value)), el("td", {}, name)));
      box.append(el("details", { className: "notes" }, el("summary", {}, `Notes on the recording (${notes.length})`), el("table", {}, ...rows)));
    }
    return box;
  }

  helpDialog() {
    const keys = [["/", "search"], ["Esc", "end the search, then the zoom"], ["f s t", "flame graph, sandwich, table"],
      ["r", "reverse: hot functions first, then their callers"], ["i", "flip: roots at the bottom"],
      ["← ↑ → ↓", "move the selection"], ["Enter", "zoom to the selection"], ["c", "callers and callees of the selection"],
      ["0", "reset the zoom"], ["d", "dark or light"]];
    const rows = keys.map(([key, text]) => el("tr", {}, el("td", {}, el("kbd", {}, key)), el("td", {}, text)));
    const close = el("button", { textContent: "Close" });
    const box = el("dialog", {}, el("table", {}, ...rows), el("p", {}, "Hatched: found by the frame pointer, not by unwind tables. Pale: no name."), close);
    close.addEventListener("click", () => box.close());
    return box;
  }

  /** Fill a select with the processes or threads of some samples, the busiest first. */
  fill(select, column, wanted, first, name) {
    const { value } = this.profile.samples;
    const sums = new Map();
    column.forEach((key, i) => wanted(i) && sums.set(key, (sums.get(key) || 0) + value[i]));
    const all = [...sums.values()].reduce((a, b) => a + b, 0);
    const sorted = [...sums.entries()].sort((a, b) => b[1] - a[1]).slice(0, TABLE_ROWS);
    const options = sorted.map(([key, sum]) => el("option", { value: key }, `${name(key)} · ${percent(sum, all)}`));
    select.replaceChildren(el("option", { value: -1 }, `All ${first} (${sums.size})`), ...options);
  }

  fillProcesses() {
    const { samples, raw } = this.profile;
    const name = (key) => `${raw.processes[key][6] || "[unknown]"}${raw.processes[key][0] ? ` (${raw.processes[key][0]})` : ""}`;
    this.fill(this.processes, samples.process, () => true, "processes", name);
  }

  fillThreads() {
    const { samples, raw } = this.profile;
    const wanted = (i) => this.state.process < 0 || samples.process[i] === this.state.process;
    this.fill(this.threads, samples.thread, wanted, "threads", (key) => raw.threads[key][2] || "[unknown]");
  }

  // ---- state

  set(changes) {
    Object.assign(this.state, changes);
    this.writeHash();
    this.render();
  }

  readHash() {
    const given = new URLSearchParams(location.hash.slice(1));
    const { state, profile } = this;
    state.view = ["flame", "sandwich", "table"].includes(given.get("view")) ? given.get("view") : "flame";
    state.search = given.get("search") || "";
    for (const key of ["reverse", "up", "before"]) state[key] = given.get(key) === "1";
    state.process = profile.raw.processes.findIndex((row) => address(row, 6) === given.get("process"));
    state.thread = profile.raw.threads.findIndex((row) => address(row, 2) === given.get("thread"));
    state.label = given.has("function") ? profile.name.indexOf(given.get("function")) : -1;
    this.search.value = state.search;
  }

  writeHash() {
    const { state, profile } = this;
    const given = new URLSearchParams();
    const put = (key, wanted, value) => wanted && given.set(key, value());
    put("view", state.view !== "flame", () => state.view);
    put("search", state.search, () => state.search);
    for (const key of ["reverse", "up", "before"]) put(key, state[key], () => "1");
    put("process", state.process >= 0, () => address(profile.raw.processes[state.process], 6));
    put("thread", state.thread >= 0, () => address(profile.raw.threads[state.thread], 2));
    put("function", state.label >= 0 && state.view === "sandwich", () => profile.name[state.label]);
    history.replaceState(null, "", `#${given}`);
  }

  /** Which labels the search finds: null without a search. */
  findHits() {
    const text = this.state.search.trim();
    if (!text) return null;
    let test = (name) => name.toLowerCase().includes(text.toLowerCase());
    const regex = /^\/(.+?)\/?$/.exec(text);
    if (regex) {
      try {
        const pattern = new RegExp(regex[1], "i");
        test = (name) => pattern.test(name);
      } catch {
        // Not a regular expression yet: searched for as it stands.
      }
    }
    const { profile } = this;
    return profile.name.map((name, i) => i !== profile.rootLabel && (test(name) || (profile.file[i] && test(profile.file[i]))));
  }

  /** Trees are built again only when what they are made of has changed. */
  once(name, key, make) {
    if (this.cache[name]?.key !== key) this.cache[name] = { key, made: make() };
    return this.cache[name];
  }

  // ---- drawing

  render() {
    const begun = performance.now();
    const { profile, state } = this;
    const filter = `${state.process}/${state.thread}`;
    const chosen = this.once("chosen", filter, () => profile.select(state)).made;
    const sum = (column) => chosen.reduce((all, i) => all + column[i], 0);
    this.total = sum(profile.samples.value);
    this.baseTotal = profile.isDiff ? sum(profile.samples.base) : 0;
    this.hits = this.findHits();
    this.matchedText.value = this.hits ? `matched ${percent(profile.matched(chosen, this.hits), this.total)}` : "";
    this.once("threads", `${state.process}`, () => this.fillThreads());
    this.processes.value = state.process;
    this.threads.value = state.thread;
    for (const name of ["flame", "sandwich", "table"]) this.buttons[name].setAttribute("aria-pressed", state.view === name);
    for (const name of ["reverse", "up", ...(profile.isDiff ? ["before"] : [])]) {
      this.buttons[name].setAttribute("aria-pressed", state[name]);
    }
    this.showLegend(filter, chosen);
    ({ flame: () => this.showFlame(filter, chosen), sandwich: () => this.showSandwich(filter, chosen), table: () => this.showTable(filter, chosen) })[state.view]();
    this.root.dataset.renderMs = (performance.now() - begun).toFixed(0);
  }

  place(...boxes) {
    if (boxes.length !== this.views.children.length || boxes.some((box, i) => this.views.children[i] !== box)) {
      this.views.replaceChildren(...boxes);
    }
  }

  showFlame(filter, chosen) {
    const { state, profile } = this;
    this.place(this.mainCard);
    const make = state.reverse ? reverseTree : flameTree;
    const built = this.once("tree", `${filter}/${state.reverse}/${state.before}`, () => make(profile, chosen, state.before));
    this.main.update(built, state.up, false);
  }

  showTable(filter, chosen) {
    this.place(this.list.box);
    this.list.show(this.sums(filter, chosen), false);
  }

  showSandwich(filter, chosen) {
    const { state, profile } = this;
    this.place(this.list.box, this.sandwich);
    const sums = this.sums(filter, chosen);
    if (state.label < 0) {
      const isHotter = (value, i, best) => value > sums.self[best] && profile.isRow(i);
      const hottest = sums.self.reduce((best, value, i) => (isHotter(value, i, best) ? i : best), profile.group[0]);
      state.label = hottest;
    }
    this.list.show(sums, true);
    const name = profile.name[state.label];
    const share = `${percent(sums.total[state.label], this.total)} total, ${percent(sums.self[state.label], this.total)} self`;
    this.callersTitle.textContent = `Callers of ${name}`;
    this.calleesTitle.textContent = `${name} (${share}) and what it calls`;
    const key = `${filter}/${state.label}/${state.before}`;
    const callers = this.once("callers", key, () => sandwichTree(profile, chosen, state.before, state.label, true));
    const callees = this.once("callees", key, () => sandwichTree(profile, chosen, state.before, state.label, false));
    this.callers.update(callers, true, true);
    this.callees.update(callees, false, true);
  }

  sums(filter, chosen) {
    return this.once("sums", filter, () => this.profile.sums(chosen)).made;
  }

  showLegend(filter, chosen) {
    const theme = document.documentElement.dataset.theme;
    if (this.legendKey === `${filter}/${theme}`) return;
    this.legendKey = `${filter}/${theme}`;
    const { profile } = this;
    const sample = (paint, text) => {
      const tile = el("canvas", { width: 14, height: 12 });
      paint(tile.getContext("2d"));
      return el("span", {}, tile, text);
    };
    const fill = (colour, hatched) => (pen) => {
      pen.fillStyle = colour;
      pen.fillRect(0, 0, 14, 12);
      if (hatched) {
        pen.fillStyle = hatch(pen);
        pen.fillRect(0, 0, 14, 12);
      }
    };
    if (profile.isDiff) {
      const shown = [[1, 0, "only now"], [2, 1, "more"], [1, 1, "the same"], [1, 2, "less"], [0, 1, "only before"]];
      this.legend.replaceChildren(...shown.map(([after, before, text]) => sample(fill(diffColour(after, before)), text)));
      return;
    }
    const sums = this.sums(filter, chosen);
    const self = {};
    let unnamed = 0;
    sums.self.forEach((value, i) => {
      if (!profile.isRow(i)) return;
      self[profile.kind[i]] = (self[profile.kind[i]] || 0) + value;
      unnamed += profile.resolved[i] ? 0 : value;
    });
    const kinds = Object.keys(KINDS).filter((kind) => self[kind]);
    this.legend.replaceChildren(
      ...kinds.map((kind) => sample(fill(kindColour(kind, true, MIDDLE)), `${KINDS[kind][2]} ${percent(self[kind], this.total)}`)),
      sample(fill(kindColour("native", false, MIDDLE)), `without a name ${percent(unnamed, this.total)}`),
      sample(fill(kindColour("native", true, MIDDLE), true), "guessed by frame pointer"));
  }

  describe(tree, node) {
    const { profile } = this;
    const label = tree.label[node];
    const where = whereOf(profile, label, tree.line[node]);
    this.status.textContent = `${profile.name[label]} — ${amount(profile, tree.total[node])}, ${percent(tree.total[node], this.total)}${where ? ` — ${where}` : ""}`;
  }

  showTip(at) {
    this.tip.hidden = !at;
    if (!at) return;
    const { profile } = this;
    const { tree, node } = at;
    const label = tree.label[node];
    const value = tree.total[node];
    const rows = [["total", `${percent(value, this.total)} · ${amount(profile, value)}`]];
    if (!this.state.reverse && this.state.view === "flame") {
      rows.push(["self", `${percent(tree.self[node], this.total)} · ${amount(profile, tree.self[node])}`]);
    }
    if (profile.isDiff) {
      rows.push(["before", `${percent(tree.base[node], this.baseTotal)} · ${amount(profile, tree.base[node])}`]);
    }
    rows.push(["kind", (KINDS[profile.kind[label]] || [0, 0, profile.kind[label]])[2]]);
    const frame = tree.frame[node];
    const flags = [];
    if (tree.guessed[node]) flags.push("found by the frame pointer, not by unwind tables");
    if (frame >= 0 && profile.reason[frame]) flags.push(profile.reason[frame]);
    this.tip.replaceChildren(
      el("div", { className: "name" }, profile.name[label]),
      el("div", { className: "where" }, whereOf(profile, label, tree.line[node])),
      el("table", {}, ...rows.map(([name, text]) => el("tr", {}, el("td", {}, name), el("td", {}, text)))),
      ...flags.map((text) => el("div", { className: "flag" }, text)));
    const box = this.tip.getBoundingClientRect();
    const x = Math.min(at.x + 14, window.innerWidth - box.width - 8);
    const y = at.y + 18 + box.height > window.innerHeight ? at.y - box.height - 10 : at.y + 18;
    this.tip.style.left = `${Math.max(8, x)}px`;
    this.tip.style.top = `${Math.max(8, y)}px`;
  }

  // ---- actions

  chart() {
    return this.state.view === "flame" ? this.main : this.callers.box.contains(document.activeElement) ? this.callers : this.callees;
  }

  resetZoom() {
    for (const chart of this.charts.filter((one) => one.tree)) chart.zoomTo(ROOT);
  }

  switchTheme() {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    this.render();
    for (const chart of this.charts.filter((one) => one.tree)) chart.paint();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.help.open) return;
    if (event.key === "Escape") {
      if (this.state.search) {
        this.search.value = "";
        this.search.blur();
        this.set({ search: "" });
      } else {
        this.resetZoom();
      }
      return;
    }
    if (["INPUT", "SELECT"].includes(event.target.tagName)) return;
    const keys = {
      f: () => this.set({ view: "flame" }),
      s: () => this.set({ view: "sandwich" }),
      t: () => this.set({ view: "table" }),
      r: () => this.set({ reverse: !this.state.reverse }),
      i: () => this.set({ up: !this.state.up }),
      b: () => this.profile.isDiff && this.set({ before: !this.state.before }),
      d: () => this.switchTheme(),
      c: () => this.chart().selected > 0 && this.set({ view: "sandwich", label: this.chart().tree.label[this.chart().selected] }),
      0: () => this.resetZoom(),
      "/": () => this.search.focus(),
      "?": () => this.help.showModal(),
    };
    const isButton = event.target.tagName === "BUTTON";
    if (keys[event.key]) {
      keys[event.key]();
      event.preventDefault();
    } else if ((event.key.startsWith("Arrow") || (event.key === "Enter" && !isButton)) && this.state.view !== "table") {
      this.chart().key(event.key);
      event.preventDefault();
    }
  }
}

async function start() {
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const profile = new Profile(await loadPayload());
  document.getElementById("app").hidden = false;
  document.getElementById("plain").hidden = true;
  const app = new App(profile);
  app.render();
  window.otelagent = app;     // for tests, and for the curious
  document.body.dataset.ready = "1";
}

start().catch((error) => {
  document.getElementById("app").hidden = true;
  document.getElementById("plain").hidden = false;
  document.getElementById("plain").prepend(el("p", {}, `The flame graph could not be shown: ${error.message}`));
  throw error;
});
