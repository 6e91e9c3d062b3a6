// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0
//
// The page of `profile/formats/html.py`: reads the payload inside it (tables
// described in `payload.py`) and merges stacks into trees. Nothing is drawn here.
"use strict";

const COLUMNS = ["parent", "label", "depth", "line", "frame", "total", "base", "guessed"];
const ROOT = 0;     // node of every tree that stands for all samples

async function loadPayload() {
  const text = atob(document.getElementById("profile").textContent);
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

/** The payload with labels in columns, and the sums that do not depend on a view. */
class Profile {
  constructor(raw) {
    const { strings, labels, samples } = raw;
    this.raw = raw;
    this.info = raw.info;
    this.samples = samples;
    this.parents = Int32Array.from(raw.parents);
    this.frameOf = Int32Array.from(raw.frames_of);
    this.name = labels.map((row) => strings[row[0]]);
    this.kind = labels.map((row) => raw.kinds[row[1]]);
    this.module = labels.map((row) => strings[row[2]]);
    this.file = labels.map((row) => strings[row[3]]);
    this.resolved = labels.map((row) => row[4]);
    this.group = raw.groups;
    this.frameLabels = raw.frames.map((row) => row[6]);
    this.guessed = raw.frames.map((row) => row[4]);
    this.reason = raw.frames.map((row) => strings[row[5]]);
    this.isDiff = samples.base.length > 0;
    const byName = new Map();
    this.processLabel = raw.processes.map((row) => {
      const shown = row[6] || "[unknown]";
      if (!byName.has(shown)) byName.set(shown, this.addLabel(shown, "process"));
      return byName.get(shown);
    });
    this.rootLabel = this.addLabel("all", "process");
    this.isCount = raw.info.sample_type[1] === "count";
  }

  /** Whether a label stands for itself: an address without a name does not. */
  isRow = (label) => this.group[label] === label;

  addLabel(name, kind) {
    const row = { kind, module: "", file: "", resolved: true, group: this.name.length };
    for (const [column, value] of Object.entries(row)) this[column].push(value);
    return this.name.push(name) - 1;
  }

  /** Samples that the filter lets through: indices into the columns. */
  select(filter) {
    const { process, thread } = this.samples;
    const fits = (wanted, column, i) => wanted < 0 || column[i] === wanted;
    return process.map((_, i) => i).filter((i) => fits(filter.process, process, i) && fits(filter.thread, thread, i));
  }

  /** Labels of a sample, root first, inlined functions included; `each(label, line, frame)`. */
  walk(sample, each) {
    const chain = [];
    for (let node = this.samples.node[sample]; node >= 0; node = this.parents[node]) chain.push(this.frameOf[node]);
    each(this.processLabel[this.samples.process[sample]], 0, -1);
    for (let i = chain.length - 1; i >= 0; i--) {
      for (const [label, line] of this.frameLabels[chain[i]]) each(label, line, chain[i]);
    }
  }

  /** Self and total per label and per group, each once per stack. */
  sums(chosen) {
    const n = this.name.length;
    const sums = { self: new Float64Array(n), total: new Float64Array(n), baseSelf: new Float64Array(n), baseTotal: new Float64Array(n) };
    const seen = new Int32Array(n).fill(-1);
    const { value, base } = this.samples;
    for (const sample of chosen) {
      const before = this.isDiff ? base[sample] : 0;
      let leaf = -1;
      const count = (label) => {
        if (seen[label] === sample) return;
        seen[label] = sample;
        sums.total[label] += value[sample];
        sums.baseTotal[label] += before;
      };
      this.walk(sample, (label) => {
        leaf = label;
        count(label);
        count(this.group[label]);
      });
      for (const label of new Set([leaf, this.group[leaf]])) {
        sums.self[label] += value[sample];
        sums.baseSelf[label] += before;
      }
    }
    return sums;
  }

  /** The values of the samples that have a matching label somewhere. */
  matched(chosen, hits) {
    const hit = new Uint8Array(this.parents.length);
    const frameHit = this.frameLabels.map((labels) => labels.some(([label]) => hits[label]));
    for (let node = 0; node < hit.length; node++) {
      const parent = this.parents[node];
      hit[node] = frameHit[this.frameOf[node]] || (parent >= 0 && hit[parent]) ? 1 : 0;
    }
    let sum = 0;
    for (const i of chosen) {
      const node = this.samples.node[i];
      if ((node >= 0 && hit[node]) || hits[this.processLabel[this.samples.process[i]]]) sum += this.samples.value[i];
    }
    return sum;
  }
}

// ------------------------------------------------------------------ the trees

/** Stacks merged by label. Node 0 is all samples; a parent comes before its children. */
class Tree {
  constructor(profile) {
    this.profile = profile;
    for (const column of COLUMNS) this[column] = [];
    this.index = new Map();
    this.add(-1, profile.rootLabel, 0, 0, -1);
  }

  /** One value for each of `COLUMNS`, the sums still 0. */
  add(...row) {
    for (let i = 0; i < COLUMNS.length; i++) this[COLUMNS[i]].push(row[i] || 0);
    return this.parent.length - 1;
  }

  child(parent, label, line, frame) {
    const key = parent * this.profile.name.length + label;
    let node = this.index.get(key);
    if (node === undefined) {
      node = this.add(parent, label, this.depth[parent] + 1, line, frame);
      this.index.set(key, node);
    } else if (this.line[node] !== line) {
      this.line[node] = 0;
    }
    return node;
  }

  /** A sample ends here: its value counts for the node and all above it. */
  end(node, sample) {
    const { value, base } = this.profile.samples;
    this.total[node] += value[sample];
    if (this.profile.isDiff) this.base[node] += base[sample];
  }

  /** Add up towards the root and sort children, the widest first. */
  finish(byBase) {
    const { parent, total, base } = this;
    const count = parent.length;
    this.self = Float64Array.from(total);
    for (let node = count - 1; node > 0; node--) {
      total[parent[node]] += total[node];
      base[parent[node]] += base[node];
    }
    this.width = byBase ? base : total;
    const offsets = new Int32Array(count + 1);
    for (let node = 1; node < count; node++) offsets[parent[node] + 1]++;
    for (let node = 0; node < count; node++) offsets[node + 1] += offsets[node];
    const next = offsets.slice();
    const children = new Int32Array(count - 1);
    for (let node = 1; node < count; node++) children[next[parent[node]]++] = node;
    const { width, label } = this;
    for (let node = 0; node < count; node++) {
      if (offsets[node + 1] - offsets[node] > 1) {
        children.subarray(offsets[node], offsets[node + 1]).sort((a, b) => width[b] - width[a] || label[a] - label[b]);
      }
    }
    this.index = null;
    this.offsets = offsets;
    this.children = children;
    return this;
  }

  childrenOf(node) {
    return this.children.subarray(this.offsets[node], this.offsets[node + 1]);
  }
}

/** Root to leaf below the process's name. */
function flameTree(profile, chosen, byBase) {
  const tree = new Tree(profile);
  const { node, process } = profile.samples;
  const known = new Map();    // process label → tree node of each stack node
  for (const sample of chosen) {
    const label = profile.processLabel[process[sample]];
    const top = tree.child(ROOT, label, 0, -1);
    if (!known.has(label)) known.set(label, new Int32Array(profile.parents.length));
    const places = known.get(label);
    const missing = [];
    let at = node[sample];
    while (at >= 0 && places[at] === 0) {
      missing.push(at);
      at = profile.parents[at];
    }
    let place = at < 0 ? top : places[at];
    while (missing.length) {
      at = missing.pop();
      const frame = profile.frameOf[at];
      for (const [shown, line] of profile.frameLabels[frame]) place = tree.child(place, shown, line, frame);
      tree.guessed[place] |= profile.guessed[frame];
      places[at] = place;
    }
    tree.end(place, sample);
  }
  return tree.finish(byBase);
}

/** Adds one path, given as [label, line, frame] entries in the order of the tree. */
function addPath(tree, path, sample) {
  let place = ROOT;
  for (const [label, line, frame] of path) {
    place = tree.child(place, label, line, frame);
    tree.guessed[place] |= frame >= 0 && tree.profile.guessed[frame];
  }
  tree.end(place, sample);
}

function pathOf(profile, sample) {
  const path = [];
  profile.walk(sample, (label, line, frame) => path.push([label, line, frame]));
  return path;
}

/** Leaf to root: who calls the functions that are hot themselves. */
function reverseTree(profile, chosen, byBase) {
  const tree = new Tree(profile);
  for (const sample of chosen) addPath(tree, pathOf(profile, sample).reverse(), sample);
  return tree.finish(byBase);
}

/** Callers of a function (upwards) or what it calls (downwards), from its outermost occurrence. */
function sandwichTree(profile, chosen, byBase, label, upwards) {
  const tree = new Tree(profile);
  for (const sample of chosen) {
    const path = pathOf(profile, sample);
    const at = path.findIndex(([shown]) => shown === label || profile.group[shown] === label);
    if (at < 0) continue;
    path[at] = [label, ...path[at].slice(1)];
    addPath(tree, upwards ? path.slice(0, at + 1).reverse() : path.slice(at), sample);
  }
  return tree.finish(byBase);
}
