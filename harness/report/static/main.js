// SPDX-License-Identifier: GPL-2.0-or-later
// Begins: the last script of every page.
"use strict";

lockstep.themes();
lockstep.copying();
lockstep.unfolding();
lockstep.charts?.();
lockstep.showTraces?.();
document.documentElement.dataset.ready = Math.round(performance.now()); // milliseconds
