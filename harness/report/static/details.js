// SPDX-License-Identifier: GPL-2.0-or-later
// Beside the map: the chosen operation and cluster, in exact values, model beside QEMU.
"use strict";

// What is to be said of a cluster after a row, as [name, words].
lockstep.clusterLines = (map, row, column) => {
  const { timeline, states_: states } = map;
  const [start, end] = states.bytes(column);
  const lines = [[states.clusterName(column), lockstep.span(start, end)]];
  if (states.grid.kind === "filter" && states.alive(row)) {
    const { state } = states.at(row);
    const before = row > states.grid.born ? states.at(row - 1).state : state;
    const bits = lockstep.KINDS.map((_, which) => which * states.width + column);
    for (const [which, kind] of lockstep.KINDS.entries()) {
      const [was, is] = [before[bits[which]], state[bits[which]]];
      lines.push([kind, was === is ? `${is}` : `${was} → ${is}`]);
    }
    const where = !state[bits[0]] ? "may not be read"
      : state[bits[1]] ? "is in the temporary image" : "is in the active disk";
    lines.push(["point in time", where]);
    for (const [when, kind, ranges] of states.grid.flights) {
      if (when === row && ranges.some(([low, high]) => low < end && start < high)) {
        lines.push([kind === "frozen" ? "frozen read" : "copy", "under way here"]);
      }
    }
  }
  for (const grid of timeline.grids) {
    if (grid.kind !== "image" || (states.grid.kind === "image" && grid !== states.grid)) continue;
    if (start >= grid.size) continue;
    const runs = lockstep.holds(grid, row, start, Math.min(end, grid.size));
    const words = runs.slice(0, 3).map(([low, high, stamp]) => (runs.length === 1 ? ""
      : `${lockstep.span(low, high)} `) + lockstep.writer(timeline, stamp));
    if (runs.length > 3) words.push(`${runs.length - 3} more`);
    lines.push([grid.name, words.join("; ")]);
  }
  return lines;
};

lockstep.details = (map) => {
  const { element } = lockstep;
  const { timeline, verdict } = map;
  const row = map.row;
  const [number, actor, , , , said, expected, found, rules] = timeline.rows[row];
  const wrong = row === map.bad;
  const names = { guest: "the guest", client: "the backup client", storage: "storage",
    command: "a QMP command", look: "an inspection" };
  const answers = element("table", { class: "pair" },
    element("tr", {}, element("th", {}, "model"), element("td", {}, map.text(expected))),
    element("tr", {}, element("th", {}, "QEMU"), element("td",
      { class: wrong && map.text(found) !== map.text(expected) ? "bad" : null },
      found === null ? (wrong ? verdict.word : "not recorded") : map.text(found))));
  const parts = [
    element("p", { class: "actor" }, names[actor]),
    element("h3", {}, element("span", { class: "number" }, `${number}`), " ", map.text(said)),
    answers,
  ];
  if (wrong) {
    parts.push(element("pre", { class: "difference" }, verdict.differences.length
      ? verdict.differences.flatMap((each) => each.words).join("\n") : verdict.summary));
  }
  if (map.states_.width) {
    parts.push(element("h4", {}, "Cluster"), element("table", { class: "facts" },
      lockstep.clusterLines(map, row, map.column).map(([name, words]) => element("tr", {},
        element("th", {}, name), element("td", {}, words)))));
  }
  parts.push(...lockstep.bitmapTable(map, row));
  if (rules.length) {
    parts.push(element("h4", {}, rules.length > 1 ? `Rules used (${rules.length})` : "Rule used"),
      element("div", { class: "rules" }, rules.map((index) => {
        const [name, text, source] = timeline.rules[index];
        return element("details", {}, element("summary", {}, name), element("p", {}, text),
          element("p", { class: "source" }, source));
      })));
  }
  map.part("details").replaceChildren(...parts);
};

// Bitmaps as query-named-block-nodes shows them, and QEMU's own line where it is another.
lockstep.bitmapTable = (map, row) => {
  const { element } = lockstep;
  const nodes = new Map();
  for (const [when, node, mine, theirs] of map.timeline.bitmaps) {
    if (when > row) break;
    nodes.set(node, [mine, theirs]);
  }
  const lines = [];
  for (const [node, [mine, theirs]] of nodes) {
    const count = Math.max(mine.length, theirs ? theirs.length : 0);
    for (let index = 0; index < count; index++) {
      const model = index < mine.length ? map.text(mine[index]) : "no bitmap";
      const qemu = !theirs ? model : index < theirs.length ? map.text(theirs[index]) : "no bitmap";
      const first = index === 0 ? node : "";
      if (model === qemu) {
        lines.push(element("tr", {}, element("th", {}, first), element("td", {}, model)));
      } else {
        lines.push(element("tr", {}, element("th", {}, first),
          element("td", {}, element("div", {}, `model: ${model}`),
            element("div", { class: "bad" }, `QEMU: ${qemu}`))));
      }
    }
  }
  if (!lines.length) return [];
  return [element("h4", {}, "Bitmaps as QMP shows them"),
    element("table", { class: "facts" }, lines)];
};
