// SPDX-License-Identifier: GPL-2.0-or-later
// The cluster map under mouse, keyboard and printer.
"use strict";

Object.assign(lockstep.Map.prototype, {
  listen() {
    const { scroller } = this;
    scroller.addEventListener("scroll", () => { this.tip.hidden = true; this.draw(); });
    scroller.addEventListener("keydown", (event) => this.key(event));
    scroller.addEventListener("mousemove", (event) => this.hover(event));
    scroller.addEventListener("mouseleave", () => { this.tip.hidden = true; });
    scroller.addEventListener("click", (event) => {
      const at = this.at(event);
      if (at) this.select(at.index, at.column ?? this.column);
    });
    this.part("grids").querySelectorAll("button").forEach((button, index) => {
      button.addEventListener("click", () => this.choose(index));
    });
    this.part("in").addEventListener("click", () => this.enlarge(1));
    this.part("out").addEventListener("click", () => this.enlarge(-1));
    this.part("near").addEventListener("click", () => this.onlyNear(!this.near));
    this.part("first").addEventListener("click", () => this.toDifference());
    let width = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth === width) return;
      width = innerWidth;
      this.layOut();
    });
    addEventListener("beforeprint", () => this.print(true));
    addEventListener("afterprint", () => this.print(false));
  },

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const index = this.rows.indexOf(this.row);
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.high) - 2);
    const acts = {
      ArrowDown: () => this.select(index + 1),
      ArrowUp: () => this.select(index - 1),
      ArrowRight: () => this.select(index, this.column + 1),
      ArrowLeft: () => this.select(index, this.column - 1),
      PageDown: () => this.select(index + page),
      PageUp: () => this.select(index - page),
      Home: () => this.select(0),
      End: () => this.select(this.rows.length - 1),
      "+": () => this.enlarge(1),
      "=": () => this.enlarge(1),
      "-": () => this.enlarge(-1),
      d: () => this.toDifference(),
      f: () => this.onlyNear(!this.near),
    };
    const act = acts[event.key]
      || (/^[1-9]$/.test(event.key) && event.key <= this.states.length
        ? () => this.choose(event.key - 1) : null);
    if (!act) return;
    event.preventDefault();
    act();
  },

  // Which row and column are under the mouse.
  at(event) {
    const box = this.scroller.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    if (y < lockstep.Map.HEAD || x > this.scroller.clientWidth) return null;
    const index = Math.floor((y - lockstep.Map.HEAD + this.scroller.scrollTop) / this.high);
    if (index < 0 || index >= this.rows.length) return null;
    const column = Math.floor((x - this.left + this.scroller.scrollLeft) / this.cell);
    const onCells = x >= this.left && x < this.scroller.clientWidth - this.right
      && column < this.states_.width;
    return { index, column: onCells ? column : null };
  },

  hover(event) {
    const at = this.at(event);
    if (!at || at.column === null) { this.tip.hidden = true; return; }
    const row = this.rows[at.index];
    this.tip.replaceChildren(
      lockstep.element("b", {}, `after operation ${this.timeline.rows[row][0]}`),
      ...lockstep.clusterLines(this, row, at.column).map(
        ([name, words]) => lockstep.element("div", {}, `${name}: ${words}`)));
    this.tip.hidden = false;
    const left = Math.min(event.clientX + 14, innerWidth - this.tip.offsetWidth - 12);
    const above = event.clientY + 18 + this.tip.offsetHeight > innerHeight;
    this.tip.style.left = `${Math.max(left, 4)}px`;
    this.tip.style.top = `${above ? event.clientY - this.tip.offsetHeight - 10
      : event.clientY + 18}px`;
  },

  // On paper there is no scrolling: up to so many rows around the chosen one, all of them drawn.
  print(begins) {
    const most = 120;
    if (begins) {
      const index = this.rows.indexOf(this.row);
      const first = Math.max(0, Math.min(index - most / 2, this.rows.length - most));
      this.all = this.rows;
      this.rows = this.rows.slice(first, first + most);
      const number = (row) => lockstep.number(this.timeline.rows[row][0]);
      this.part("printed").textContent = this.rows.length === this.all.length ? ""
        : `Printed are operations ${number(this.rows[0])} to ${number(this.rows.at(-1))}, `
          + `${most} of ${lockstep.number(this.all.length)}, around the chosen one.`;
      this.extent.style.height = `${lockstep.Map.HEAD + this.rows.length * this.high + 4}px`;
      this.scroller.style.height = "auto";
    }
    this.printing = begins;
    if (begins) this.draw();
    else this.layOut();
  },
});
