// SPDX-License-Identifier: GPL-2.0-or-later
// The traces of a page, each drawn when it is first shown.
"use strict";

lockstep.maps = [];

lockstep.showTrace = (index) => {
  const articles = document.querySelectorAll("article[data-trace]");
  articles.forEach((article, at) => { article.hidden = at !== index; });
  document.querySelectorAll("[data-show]").forEach((link) => {
    link.setAttribute("aria-current", Number(link.dataset.show) === index);
  });
  if (lockstep.maps[index]) { lockstep.map = lockstep.maps[index]; lockstep.redraw(); return; }
  const { timeline, verdict } = lockstep.data.traces[index];
  const root = articles[index];
  const sequence = timeline.sequence && new lockstep.Sequence(root, timeline, verdict);
  if (timeline.rows.length && timeline.grids.length) {
    lockstep.map = lockstep.maps[index] = new lockstep.Map(root, timeline, verdict);
    lockstep.map.sequence = sequence;
    sequence?.follow(lockstep.map);
    lockstep.map.toDifference();
  }
};

lockstep.showTraces = () => {
  document.querySelectorAll("[data-show]").forEach((link) => {
    link.addEventListener("click", () => lockstep.showTrace(Number(link.dataset.show)));
  });
  if (lockstep.data.traces.length) lockstep.showTrace(0);
};
