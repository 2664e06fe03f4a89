// SPDX-License-Identifier: GPL-2.0-or-later
// Requests that overlap: a sequence diagram, time going down, a row for each step of the schedule.
"use strict";

lockstep.Sequence = class {
  static ROW = 26;
  static HEAD = 34;
  static SLOT = 22;

  constructor(root, timeline, verdict) {
    this.timeline = timeline;
    this.verdict = verdict;
    this.where = lockstep.part(root, "sequence");
    const { clients, storage } = timeline.sequence;
    this.from = Math.max(0, Math.min(...clients.map((bar) => bar.first)) - 1);
    this.bars = [...clients, ...storage];
    const nodes = timeline.images.filter((node) => storage.some((bar) => bar.lane === node));
    this.lanes = [["guest", "guest"], ["client", "backup client"],
      ["job", "backup job"],
      ...nodes.map((node) => [node, `storage of ${node}`])]
      .filter(([lane]) => this.bars.some((bar) => bar.lane === lane));
    this.draw();
  }

  // Follow the map, which this makes follow in turn: one row is chosen in both.
  follow(map) {
    this.where.addEventListener("keydown", (event) => map.key(event));
    this.where.addEventListener("click", (event) => {
      const y = event.clientY - this.where.firstChild.getBoundingClientRect().top;
      const row = this.from + Math.round((y - this.y(this.from)) / lockstep.Sequence.ROW);
      if (row >= this.from && row < this.timeline.rows.length) map.choose_(row);
    });
  }

  choose(row) {
    this.mark.setAttribute("visibility", row < this.from ? "hidden" : "visible");
    this.mark.setAttribute("y", this.y(row) - lockstep.Sequence.ROW / 2);
    const { where } = this;
    const [top, bottom] = [this.y(row) - lockstep.Sequence.ROW - lockstep.Sequence.HEAD,
      this.y(row) + 2 * lockstep.Sequence.ROW];
    if (top < where.scrollTop) where.scrollTop = Math.max(top, 0);
    else if (bottom > where.scrollTop + where.clientHeight) {
      where.scrollTop = bottom - where.clientHeight;
    }
  }

  y(row) { return lockstep.Sequence.HEAD + (row - this.from) * lockstep.Sequence.ROW + 14; }

  // Bars of a lane that overlap stand side by side.
  slots() {
    this.places = new Map();
    let x = 300;
    this.lefts = [];
    for (const [lane, title] of this.lanes) {
      const ends = [];
      for (const bar of this.bars.filter((each) => each.lane === lane)) {
        let slot = ends.findIndex((end) => end < bar.first);
        if (slot < 0) slot = ends.length;
        ends[slot] = bar.last ?? this.timeline.rows.length;
        this.places.set(bar, slot);
      }
      const wide = Math.max(ends.length * lockstep.Sequence.SLOT + 50, title.length * 7 + 30, 120);
      this.lefts.push([lane, title, x, wide]);
      x += wide;
    }
    for (const [bar, slot] of this.places) {
      const [, , left] = this.lefts.find(([lane]) => lane === bar.lane);
      this.places.set(bar, left + 14 + slot * lockstep.Sequence.SLOT);
    }
    return x;
  }

  draw() {
    const { svg, titled } = lockstep;
    const width = this.slots();
    const rows = this.timeline.rows.length;
    const notes = this.verdict.differences.flatMap((each) => each.storage).length;
    const height = this.y(rows - 1) + 26 + notes * 18;
    this.mark = svg("rect", { x: 0, y: 0, width, height: lockstep.Sequence.ROW,
      class: "chosen", visibility: "hidden" });
    const parts = [];
    const texts = this.timeline.texts;
    for (let row = this.from; row < rows; row++) {
      const [number, , , , , said] = this.timeline.rows[row];
      const wrong = number === this.verdict.number;
      if (wrong) {
        parts.push(svg("rect", { x: 0, y: this.y(row) - 13, width, height: 26, class: "bad-row" }));
      }
      parts.push(svg("line", { x1: 290, x2: width, y1: this.y(row), y2: this.y(row),
        class: "step" }),
      svg("text", { x: 34, y: this.y(row) + 4, class: wrong ? "number bad" : "number" },
        `${number}`));
      const words = texts[said];
      parts.push(titled(svg("text", { x: 42, y: this.y(row) + 4, class: "said" },
        words.length > 36 ? `${words.slice(0, 35)}…` : words), words));
    }
    for (const [, title, left, wide] of this.lefts) {
      parts.push(svg("line", { x1: left, x2: left, y1: 8, y2: height, class: "lane" }),
        svg("text", { x: left + 10, y: 20, class: "title" }, title));
    }
    const clients = new Map(this.timeline.sequence.clients.map((bar) => [bar.number, bar]));
    for (const bar of this.timeline.sequence.storage) {
      const owner = clients.get(bar.owner);
      if (owner) parts.push(...this.arrow(owner, bar));
    }
    for (const bar of this.bars) parts.push(this.bar(bar));
    parts.push(...this.differences());
    this.where.replaceChildren(svg("svg", { width, height, role: "img",
      viewBox: `0 0 ${width} ${height}`,
      "aria-label": "sequence diagram of overlapping requests" }, this.mark, parts));
  }

  arrow(owner, bar) {
    const { svg } = lockstep;
    const from = this.places.get(owner) + 12;
    const to = this.places.get(bar);
    const made = [svg("path", { d: `M${from} ${this.y(bar.first)}H${to - 2}`, class: "ask",
      "marker-end": "url(#head)" })];
    if (bar.last !== null) {
      made.push(svg("path", { d: `M${to - 1} ${this.y(bar.last)}H${from + 2}`, class: "answer",
        "marker-end": "url(#head)" }));
    }
    return made;
  }

  // Storage requests that QEMU made and must not have, or did not make.
  differences() {
    const { svg, titled } = lockstep;
    const row = this.timeline.rows.findIndex(([number]) => number === this.verdict.number);
    if (row < 0) return [];
    const made = [];
    const all = this.verdict.differences.flatMap((each) => each.storage);
    all.forEach((each, index) => {
      const [, , left, wide] = this.lefts.find(([lane]) => lane === each.node) || this.lefts.at(-1);
      const x = left + wide - 26;
      const y = this.y(row) - 8 - (all.length - 1 - index) * 20;
      const words = each.extra ? "QEMU made this request and must not have"
        : "QEMU did not make this request";
      made.push(titled(svg("g", {}, svg("rect", { x, y, width: 12, height: 16, rx: 2,
        class: each.extra ? "extra" : "missing" }), svg("text", { x: x + 12,
        y: this.y(row) + 30 + index * 18, class: "note" },
        `${each.extra ? "found" : "expected"} ${each.text}`)), words));
    });
    return made;
  }

  bar(bar) {
    const { svg, titled } = lockstep;
    const x = this.places.get(bar);
    const top = this.y(bar.first) - 4;
    const open = bar.last === null;
    const bottom = open ? this.y(this.timeline.rows.length - 1) + 14 : this.y(bar.last) + 4;
    const kind = bar.number !== null ? "client" : bar.text.split(" ")[0];
    const failed = bar.result && !["done", "ok"].includes(bar.result)
      && !bar.result.endsWith(" read");
    const waits = bar.waits.map(([row, what]) =>
      `\nfrom operation ${this.timeline.rows[row][0]} on: waits for ${what}`).join("");
    const label = bar.number !== null ? svg("text", { x: x + 6, y: top - 3, class: "label" }, `${bar.number}`) : null;
    const rect = svg("rect", { x, y: top, width: 12, height: Math.max(bottom - top, 8), rx: 2,
      class: `bar ${kind} ${failed ? "failed" : ""} ${open ? "open" : ""}` });
    const waiting = bar.waits.map(([row], index) => {
      const until = index + 1 < bar.waits.length ? this.y(bar.waits[index + 1][0]) : bottom;
      return svg("rect", { x: x + 1, y: this.y(row), width: 10, class: "wait",
        height: Math.max(Math.min(until, bottom) - this.y(row), 0) });
    });
    const name = bar.number !== null ? `request ${bar.number}: ` : `for request ${bar.owner}: `;
    const group = titled(svg("g", { tabindex: 0 }, rect, waiting, label ? [label] : []),
      `${name}${bar.text}\n${open ? "still under way" : bar.result}${waits}`);
    return group;
  }
};
