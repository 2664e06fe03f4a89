// SPDX-License-Identifier: GPL-2.0-or-later
// The cluster map over time: a row an operation, a column a cluster (or some that fare alike).
"use strict";

lockstep.Map = class {
  static HEAD = 30;
  static ZOOMS = [3, 5, 8, 12, 16, 22, 30, 44, 64];

  constructor(root, timeline, verdict) {
    this.root = root;
    this.timeline = timeline;
    this.verdict = verdict;
    this.states = timeline.grids.map((grid) => new lockstep.States(grid, timeline.rows.length));
    this.scroller = this.part("scroller");
    this.extent = this.part("extent");
    this.paint = new lockstep.Paint(this.part("canvas"));
    this.tip = this.part("tip");
    this.bad = timeline.rows.findIndex((row) => row[0] === verdict.number);
    this.places = verdict.differences.flatMap((each) => each.places);
    const about = timeline.rows[this.bad]?.[4];
    if (!this.places.length && about) this.places = [about];
    this.grid = 0;
    this.row = this.bad >= 0 ? this.bad : 0;
    this.column = 0;
    this.near = false;
    this.zoom = null;
    this.choose(0);
    this.listen();
    lockstep.redraws.push(() => this.draw());
  }

  part(name) { return lockstep.part(this.root, name); }

  get states_() { return this.states[this.grid]; }

  text(index) { return index === null ? "" : this.timeline.texts[index]; }

  // Which grid, which rows, how big

  choose(grid) {
    this.grid = Math.max(0, Math.min(grid, this.states.length - 1));
    const place = this.places[0]?.[0] ?? this.timeline.rows[this.row]?.[4]?.[0];
    this.column = this.states_.width && place !== undefined ? this.states_.column(place) : 0;
    this.part("grids").querySelectorAll("button").forEach((button, index) => {
      button.setAttribute("aria-selected", index === this.grid);
      button.tabIndex = index === this.grid ? 0 : -1;
    });
    for (const legend of this.root.querySelectorAll("[data-legend]")) {
      legend.hidden = legend.dataset.legend !== this.states_.grid.kind;
    }
    this.part("words").textContent = this.states_.grid.words;
    this.zoom = null;
    this.layOut();
  }

  layOut() {
    const rows = this.timeline.rows.map((_, index) => index);
    this.rows = this.near ? rows.filter((row) => this.isNear(row)) : rows;
    const inner = this.scroller.clientWidth;
    const filter = this.states_.grid.kind === "filter";
    const narrow = inner < 560;
    this.left = Math.min(this.labelWidth(), Math.max(narrow ? 170 : 190, inner * 0.45));
    this.count = narrow ? 42 : 54;
    this.right = filter ? 3 * this.count + 12 : 12;
    const room = inner - this.left - this.right;
    const fit = room / Math.max(this.states_.width, 1);
    if (this.zoom === null) {
      // Where there is no room, clusters that can be told apart are moved through.
      const least = narrow ? 22 : 0;
      this.zoom = lockstep.Map.ZOOMS.reduce(
        (best, size, index) => (size <= Math.max(fit, least) ? index : best), 0);
    }
    this.cell = lockstep.Map.ZOOMS[this.zoom];
    this.high = this.cell >= 8 ? 26 : 18;
    const width = Math.max(this.left + this.states_.width * this.cell + this.right, 0);
    const height = lockstep.Map.HEAD + this.rows.length * this.high + 4;
    this.extent.style.width = `${Math.max(width, inner)}px`;
    this.extent.style.height = `${height}px`;
    this.scroller.style.height = `${Math.min(height, Math.max(innerHeight * 0.7, 260)) + 2}px`;
    this.draw();
    this.tell();
  }

  labelWidth() {
    let most = 0;
    const every = Math.max(1, Math.floor(this.timeline.rows.length / 300));
    for (let row = 0; row < this.timeline.rows.length; row += every) {
      const [, , , , , said] = this.timeline.rows[row];
      most = Math.max(most, this.paint.measured(this.text(said), 12, true)
        + this.paint.measured(this.answer(row), 11) + 84);
    }
    return Math.min(most, 560);
  }

  answer(row) {
    const [, , , , , , expected, found] = this.timeline.rows[row];
    return this.text(found === null ? expected : found);
  }

  isNear(row) {
    const [, , manner, , place] = this.timeline.rows[row];
    if (row === this.bad || row === this.row) return true;
    if (!place) return manner === "";
    const [start, end] = this.states_.bytes(this.column);
    return place[0] < end && start < place[1];
  }

  // Drawing

  draw() {
    const { scroller, paint } = this;
    const printing = this.printing;
    const width = printing ? this.extent.offsetWidth : scroller.clientWidth;
    const height = printing ? this.extent.offsetHeight : scroller.clientHeight;
    paint.begin(width, height);
    const top = printing ? 0 : scroller.scrollTop;
    const across = printing ? 0 : scroller.scrollLeft;
    const first = Math.max(0, Math.floor(top / this.high));
    const last = Math.min(this.rows.length, Math.ceil((top + height) / this.high));
    const shown = this.rows.slice(first, last);
    const y = (index) => lockstep.Map.HEAD + index * this.high - top;
    const x = (column) => this.left + column * this.cell - across;
    shown.forEach((row, index) => {
      const colour = row === this.row ? "accent-soft" : row === this.bad ? "bad-soft" : null;
      if (colour) paint.fill(colour, 0, y(first + index), width, this.high);
    });
    let index = first;
    this.states_.walk(shown, (row, state, changed) => {
      const now = y(index++);
      if (this.states_.alive(row)) this.cells(row, state, changed, x, now, width);
      this.right_(row, state, width, now);
    });
    shown.forEach((row, offset) => this.label(row, y(first + offset)));
    this.head(x, width);
  }

  cells(row, state, changed, x, y, width) {
    const { paint, states_: states, cell, high } = this;
    const filter = states.grid.kind === "filter";
    const first = Math.max(0, Math.floor((this.left - x(0)) / cell));
    const last = Math.min(states.width, Math.ceil((width - this.right - x(0)) / cell));
    const top = y + 8;
    const height = high - 10;
    for (let column = first; column < last; column++) {
      if (filter) {
        const at = [0, 1, 2].map((which) => which * states.width + column);
        paint.cell(x(column), top, cell, height, at.map((place) => state[place]),
          at.map((place) => changed.has(place) && row !== states.grid.born));
      } else {
        paint.data(x(column), top, cell, height, state[column], changed.has(column) && row > 0);
      }
    }
    for (const [when, kind, ranges] of states.grid.flights) {
      if (when !== row) continue;
      for (const range of ranges) {
        const [from, wide] = this.extentOf(range, x);
        paint.hatch(kind, from, top, wide, height, kind === "frozen" ? 1 : -1);
      }
    }
    const [, , manner, , place] = this.timeline.rows[row];
    if (place && place[1] > place[0] && manner) {
      const [from, wide] = this.extentOf(place, x, true);
      paint.bar(manner, from, y + 3, wide, row === this.bad ? "bad" : "ink");
    }
    if (row === this.row) {
      paint.frame("accent", x(this.column) - 1, top - 1, cell + 1, height + 2);
    }
    if (row === this.bad) {
      for (const range of this.places) {
        const [from, wide] = this.extentOf(range, x);
        paint.frame("bad", from - 1, top - 1, wide + 1, height + 2);
      }
    }
  }

  // Where a range of bytes is on the canvas: whole columns, or exact.
  extentOf([start, end], x, exact = false) {
    const { states_: states, cell } = this;
    const { size } = states.grid;
    if (start >= size) return [x(states.width) + 2, cell];
    const place = (offset, up) => {
      if (offset >= size) return x(states.width);
      const column = states.column(offset);
      const [from, until] = states.bytes(column);
      if (!exact) return x(up && offset > from ? column + 1 : column);
      return x(column) + (cell * (offset - from)) / (until - from);
    };
    const from = place(start, false);
    return [from, Math.max(place(end, true) - from - (cell >= 8 ? 1 : 0), 1)];
  }

  label(row, y) {
    const { paint, high } = this;
    const [number, actor, , , , said, expected, found] = this.timeline.rows[row];
    const wrong = row === this.bad;
    const size = high >= 26 ? 12 : 11;
    const middle = y + high / 2 + 1;
    paint.fill(row === this.row ? "accent-soft" : wrong ? "bad-soft" : "paper", 0, y, this.left - 6,
      high);
    if (wrong) paint.fill("bad", 0, y, 4, high);
    paint.text(`${number}`, 46, middle, { colour: wrong ? "bad" : "muted", size: size - 1,
      right: true });
    const differs = found !== null && this.text(found) !== this.text(expected) && wrong;
    const answer = this.answer(row);
    const wide = Math.min(paint.measured(answer, size - 1), this.left * 0.4);
    paint.text(this.text(said), 54, middle, { size, mono: true, bold: wrong,
      colour: actor === "command" || actor === "look" ? "muted" : "ink",
      most: this.left - 54 - wide - 26 });
    paint.text(answer, this.left - 16 - wide, middle, { colour: differs ? "bad" : "muted",
      size: size - 1, most: wide + 1 });
  }

  // Where what stands right of the clusters begins: beside them, or on top of those out of sight.
  edge(width) {
    return Math.min(width - this.right, this.left + this.states_.width * this.cell + 6);
  }

  // How many clusters are set, in the model and, if it says otherwise, in QEMU.
  right_(row, state, width, y) {
    const { paint, states_: states } = this;
    if (states.grid.kind !== "filter") return;
    const from = this.edge(width);
    paint.fill(row === this.row ? "accent-soft" : row === this.bad ? "bad-soft" : "paper", from, y,
      this.right, this.high);
    if (!states.alive(row)) return;
    const counted = states.counted(row);
    lockstep.KINDS.forEach((_, which) => {
      const model = states.set(state, which);
      const other = counted?.[which] ?? model;
      paint.text(model === other ? `${model}` : `${model} ≠ ${other}`,
        from + (which + 1) * this.count, y + this.high / 2 + 1, { size: 11, right: true, bold: model !== other,
          colour: model === other ? "muted" : "bad" });
    });
  }

  head(x, width) {
    const { paint, states_: states, cell } = this;
    const high = lockstep.Map.HEAD;
    paint.fill("panel", 0, 0, width, high);
    let free = this.left;
    for (let column = 0; column < states.width; column++) {
      const at = x(column);
      if (at < free || at > width - this.right - 16) continue;
      const first = states.grid.columns[column];
      const last = states.grid.columns[column + 1] - 1;
      const name = first === last || cell < 44 ? `${first}` : `${first}–${last}`;
      paint.text(name, at + 2, high / 2 + 1, { size: 11, colour: "muted" });
      free = at + paint.measured(name, 11) + 10;
    }
    paint.fill("panel", 0, 0, this.left - 4, high);
    paint.text("operation", 54, high / 2 + 1, { size: 11, colour: "muted" });
    const answer = this.timeline.recorded ? "answer" : "answer (model)";
    paint.text(answer, this.left - 16, high / 2 + 1, { size: 11, colour: "muted", right: true });
    if (states.grid.kind === "filter") {
      const from = this.edge(width);
      paint.fill("panel", from, 0, this.right, high);
      lockstep.KINDS.forEach((kind, which) => paint.text(kind, from + (which + 1) * this.count,
        high / 2 + 1, { size: 11, colour: "muted", right: true }));
    }
    paint.fill("line", 0, high - 1, width, 1);
  }

  // Moving

  select(index, column = this.column) {
    const at = Math.max(0, Math.min(index, this.rows.length - 1));
    this.row = this.rows[at];
    this.column = Math.max(0, Math.min(column, this.states_.width - 1));
    const y = at * this.high;
    const { scroller } = this;
    const room = scroller.clientHeight - lockstep.Map.HEAD - this.high;
    if (y < scroller.scrollTop) scroller.scrollTop = y;
    else if (y > scroller.scrollTop + room) scroller.scrollTop = y - room;
    const left = this.column * this.cell;
    const wide = scroller.clientWidth - this.left - this.right - this.cell;
    if (left < scroller.scrollLeft) scroller.scrollLeft = left;
    else if (left > scroller.scrollLeft + wide) scroller.scrollLeft = left - wide;
    this.draw();
    this.tell();
  }

  toDifference() {
    if (this.bad >= 0) this.select(this.rows.indexOf(this.bad));
  }

  enlarge(by) {
    this.zoom = Math.max(0, Math.min(this.zoom + by, lockstep.Map.ZOOMS.length - 1));
    this.layOut();
    this.select(this.rows.indexOf(this.row));
  }

  onlyNear(near) {
    this.near = near;
    this.part("near").setAttribute("aria-pressed", near);
    this.layOut();
    this.select(this.rows.indexOf(this.row));
  }

  // Choose a row of the trace, also one that is not among those shown.
  choose_(row) {
    if (!this.rows.includes(row)) this.onlyNear(false);
    this.select(this.rows.indexOf(row));
  }

  tell() {
    lockstep.details(this);
    this.sequence?.choose(this.row);
  }
};
