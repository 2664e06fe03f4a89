// SPDX-License-Identifier: GPL-2.0-or-later
// The state of a grid after any row, from its changes; see harness/report/grids.py.
"use strict";

lockstep.MIXED = 2 ** 31 - 1;
lockstep.KINDS = ["access", "done", "copy"];

lockstep.States = class {
  static EVERY = 64; // rows between two states that are kept

  constructor(grid, rows) {
    this.grid = grid;
    this.width = grid.columns.length - 1;
    this.planes = grid.kind === "filter" ? 3 : 1;
    this.starts = new Int32Array(rows + 1); // of each row, its first event
    let event = 0;
    for (let row = 0; row < rows; row++) {
      this.starts[row] = event;
      while (event < grid.events.length && grid.events[event][0] === row) event++;
    }
    this.starts[rows] = grid.events.length;
    this.kept = [];
    let now = new Int32Array(this.width * this.planes);
    for (let row = 0; row < rows; row++) {
      if (row % lockstep.States.EVERY === 0) this.kept.push(now.slice());
      this.apply(now, row);
    }
  }

  apply(state, row, changed) {
    for (let at = this.starts[row]; at < this.starts[row + 1]; at++) {
      const [, which, first, last, value] = this.grid.events[at];
      state.fill(value, which * this.width + first, which * this.width + last);
      if (changed) for (let column = first; column < last; column++) changed.add(
        which * this.width + column);
    }
  }

  // Calls take(row, state, changed) for rows in ascending order; the state is only lent.
  walk(rows, take) {
    if (!rows.length) return;
    const first = Math.floor(rows[0] / lockstep.States.EVERY);
    const state = this.kept[first].slice();
    let row = first * lockstep.States.EVERY;
    for (const wanted of rows) {
      for (; row < wanted; row++) this.apply(state, row);
      const changed = new Set();
      this.apply(state, row++, changed);
      take(wanted, state, changed);
    }
  }

  at(row) {
    let found = null;
    this.walk([row], (_, state, changed) => { found = { state: state.slice(), changed }; });
    return found;
  }

  alive(row) {
    return row >= this.grid.born && (this.grid.gone === null || row < this.grid.gone);
  }

  // The column that has the byte.
  column(offset) {
    const cluster = Math.floor(offset / this.grid.unit);
    let low = 0;
    let high = this.width - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.grid.columns[middle] <= cluster) low = middle; else high = middle - 1;
    }
    return low;
  }

  // The bytes of a column.
  bytes(column) {
    const { columns, unit, size } = this.grid;
    return [columns[column] * unit, Math.min(columns[column + 1] * unit, size)];
  }

  clusterName(column) {
    const first = this.grid.columns[column];
    const last = this.grid.columns[column + 1] - 1;
    return first === last ? `cluster ${first}` : `clusters ${first}–${last}`;
  }

  // QEMU's counts of set clusters after the row, or null.
  counted(row) {
    let found = null;
    for (const [from, counts] of this.grid.counts) {
      if (from > row) break;
      found = counts;
    }
    return found;
  }

  set(state, which) {
    let count = 0;
    for (let column = 0; column < this.width; column++) {
      if (state[which * this.width + column]) {
        count += this.grid.columns[column + 1] - this.grid.columns[column];
      }
    }
    return count;
  }
};

// What an image's storage holds in a range after a row, as runs [start, end, stamp].
lockstep.holds = (grid, row, start, end) => {
  let runs = [[start, end, 0]];
  for (const [when, from, until, stamp] of grid.data) {
    if (when > row) break;
    if (until <= start || end <= from) continue;
    const next = [];
    for (const [low, high, old] of runs) {
      if (until <= low || high <= from) { next.push([low, high, old]); continue; }
      if (low < from) next.push([low, from, old]);
      next.push([Math.max(low, from), Math.min(high, until), stamp]);
      if (until < high) next.push([until, high, old]);
    }
    runs = next;
  }
  const melted = [];
  for (const run of runs) {
    const last = melted[melted.length - 1];
    if (last && last[2] === run[2] && last[1] === run[0]) last[1] = run[1];
    else melted.push([...run]);
  }
  return melted;
};

lockstep.writer = (timeline, stamp) => {
  if (stamp === 0) return "zeroes";
  if (stamp === lockstep.MIXED) return "data of several";
  if (stamp < 0) return `first data of ${timeline.images[-1 - stamp]}`;
  return `data of operation ${stamp} (${timeline.writers[stamp]})`;
};
