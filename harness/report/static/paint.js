// SPDX-License-Identifier: GPL-2.0-or-later
// Painting the cluster map: everything that is on the canvas.
"use strict";

lockstep.Paint = class {
  static FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";
  static MONO = "ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', monospace";

  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  begin(width, height) {
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.colours = {};
    for (const name of ["paper", "panel", "ink", "muted", "line", "accent", "accent-soft", "bad",
      "bad-soft", "source", "target", "nowhere", "nowhere-mark", "frozen", "copying"]) {
      this.colours[name] = lockstep.colour(name);
    }
    this.context.textBaseline = "middle";
    this.fill("paper", 0, 0, width, height);
  }

  fill(colour, x, y, width, height) {
    this.context.fillStyle = this.colours[colour] || colour;
    this.context.fillRect(x, y, width, height);
  }

  text(words, x, y, { colour = "ink", size = 12, mono = false, bold = false, right = false,
    most = Infinity } = {}) {
    const context = this.context;
    context.font = `${bold ? "600 " : ""}${size}px ${mono ? lockstep.Paint.MONO
      : lockstep.Paint.FONT}`;
    context.fillStyle = this.colours[colour];
    context.textAlign = right ? "right" : "left";
    if (most !== Infinity && context.measureText(words).width > most) {
      while (words && context.measureText(`${words}…`).width > most) words = words.slice(0, -1);
      words += "…";
    }
    context.fillText(words, x, y);
  }

  measured(words, size, mono = false) {
    this.context.font = `${size}px ${mono ? lockstep.Paint.MONO : lockstep.Paint.FONT}`;
    return this.context.measureText(words).width;
  }

  // One cluster of a filter: where its point in time is, and the three bits.
  cell(x, y, width, height, bits, changed) {
    const [access, done] = bits;
    const gap = width >= 8 ? 1 : 0;
    this.fill(!access ? "nowhere" : done ? "target" : "source", x, y, width - gap, height);
    if (!access && width >= 6) this.hatch("nowhere-mark", x, y, width - gap, height, 1);
    if (width >= 20 && height >= 16) {
      const side = width >= 40 ? 6 : 4;
      const left = x + (width - gap - 3 * side - 8) / 2;
      bits.forEach((bit, index) => {
        const at = left + index * (side + 4);
        const now = changed[index];
        if (bit) this.fill(now ? "accent" : "ink", at, y + height - side - 3, side, side);
        else {
          this.context.strokeStyle = this.colours[now ? "accent" : "muted"];
          this.context.lineWidth = now ? 1.4 : 0.7;
          this.context.strokeRect(at + 0.5, y + height - side - 2.5, side - 1, side - 1);
        }
      });
    } else if (changed.some(Boolean)) {
      this.fill("accent", x, y + height - 2, width - gap, 2);
    }
  }

  // One cluster of an image: whose data it holds.
  data(x, y, width, height, stamp, changed) {
    const gap = width >= 8 ? 1 : 0;
    if (stamp === 0) {
      this.fill("nowhere", x, y, width - gap, height);
    } else if (stamp < 0) {
      this.fill("source", x, y, width - gap, height);
    } else if (stamp === lockstep.MIXED) {
      this.fill("panel", x, y, width - gap, height);
      this.hatch("muted", x, y, width - gap, height, 1);
    } else {
      const hue = (stamp * 137.508) % 360;
      const dark = document.documentElement.dataset.theme === "dark";
      this.fill(`hsl(${hue} ${dark ? "35% 35%" : "55% 82%"})`, x, y, width - gap, height);
      if (width >= 20) {
        this.text(`${stamp}`, x + 4, y + height / 2, { size: 10, most: width - 6 });
      }
    }
    if (changed) this.fill("accent", x, y + height - 2, width - gap, 2);
  }

  hatch(colour, x, y, width, height, direction) {
    const context = this.context;
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.strokeStyle = this.colours[colour];
    context.lineWidth = 1;
    context.beginPath();
    for (let at = -height; at < width + height; at += 5) {
      context.moveTo(x + at, direction > 0 ? y + height : y);
      context.lineTo(x + at + height, direction > 0 ? y : y + height);
    }
    context.stroke();
    context.restore();
  }

  // What an operation is about: a bar above the clusters, exact to the byte.
  bar(manner, x, y, width, colour = "ink") {
    width = Math.max(width, 2);
    if (manner === "look") {
      this.context.strokeStyle = this.colours[colour];
      this.context.lineWidth = 1;
      this.context.strokeRect(x + 0.5, y + 0.5, Math.max(width - 1, 1), 3);
    } else if (manner === "take") {
      for (let at = 0; at < width; at += 5) {
        this.fill(colour, x + at, y, Math.min(3, width - at), 4);
      }
    } else {
      this.fill(colour, x, y, width, 4);
    }
  }

  frame(colour, x, y, width, height) {
    this.context.strokeStyle = this.colours[colour];
    this.context.lineWidth = 2;
    this.context.strokeRect(x, y, width, height);
  }
};
