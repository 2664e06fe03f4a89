// SPDX-License-Identifier: GPL-2.0-or-later
// What all parts of a page share: data, words, elements, themes, copy buttons.
"use strict";

const lockstep = {};

lockstep.data = JSON.parse(document.getElementById("data").textContent);

// Words: the sizes are those of QEMU's tools, as everywhere in this project.

lockstep.size = (count) => {
  const whole = (bytes) => {
    for (const [unit, letter] of [[2 ** 40, "T"], [2 ** 30, "G"], [2 ** 20, "M"], [1024, "k"]]) {
      if (bytes && bytes % unit === 0) return `${bytes / unit}${letter}`;
    }
    return `${bytes}`;
  };
  const rest = count % 1024;
  if (rest === 0 || count < 960) return whole(count);
  if (rest >= 960) return `${whole(count - rest + 1024)}-${1024 - rest}`;
  return `${whole(count - rest)}+${rest}`;
};

lockstep.span = (start, end) => `${lockstep.size(start)}..${lockstep.size(end)}`;

lockstep.number = (count) => count.toLocaleString("en");

// Elements

lockstep.element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
};

lockstep.svg = (tag, attributes = {}, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.flat());
  return made;
};

// An SVG's own tool tip, which every browser shows.
lockstep.titled = (element, text) => {
  element.append(lockstep.svg("title", {}, text));
  return element;
};

lockstep.colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Themes: the system's, unless the button has been used on this page.

lockstep.redraws = [];

lockstep.redraw = () => lockstep.redraws.forEach((draw) => draw());

lockstep.themes = () => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const show = (theme) => {
    root.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light" : "Dark";
    lockstep.redraw();
  };
  show(dark.matches ? "dark" : "light");
  button.addEventListener("click", () => show(root.dataset.theme === "dark" ? "light" : "dark"));
  dark.addEventListener("change", () => show(dark.matches ? "dark" : "light"));
  // Paper is white.
  let before = root.dataset.theme;
  addEventListener("beforeprint", () => { before = root.dataset.theme; show("light"); });
  addEventListener("afterprint", () => show(before));
};

// On paper nothing can be unfolded.
lockstep.unfolding = () => {
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((each) => { each.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((each) => { each.open = false; }));
};

// The part of a section that is called so: a page may have several sections of a kind.
lockstep.part = (root, name) => root.querySelector(`[data-part="${name}"]`);

// Copy buttons: <button data-copy="part"> in the same section.

lockstep.copying = () => {
  for (const button of document.querySelectorAll("button[data-copy]")) {
    const label = button.textContent;
    button.addEventListener("click", async () => {
      const source = lockstep.part(button.closest("article"), button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
      } catch {
        // A file that was opened from disk may not write the clipboard by itself.
        const range = document.createRange();
        range.selectNodeContents(source);
        const selection = getSelection();
        selection.removeAllRanges();
        selection.addRange(range);
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = label; }, 1500);
    });
  }
};
