"use strict";
// Everything that came with the graph is set as text, never as markup. What is chosen stands in the address: #variable/ID.
(() => {
  const nodes = JSON.parse(document.getElementById("data").textContent);
  const byKey = new Map(nodes.map((node) => [node.key, node]));
  const drawing = document.getElementById("drawing");
  const details = document.getElementById("details");
  const list = document.getElementById("list");
  const find = document.getElementById("find");
  const svg = drawing.querySelector("svg");
  const entries = new Map();
  let marked = [];

  function element(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function link(key, text) {
    if (!byKey.has(key)) return element("span", text);
    const made = element("a", text);
    made.href = key;
    return made;
  }

  function pairs(given) {
    const made = element("dl");
    for (const [name, value] of given) {
      const told = element("dd", value);
      told.dir = "auto";
      made.append(element("dt", name), told);
    }
    return made;
  }

  function links(given) {
    const made = element("ul", undefined, "links");
    for (const { label, key, text } of given) {
      const item = element("li");
      item.append(element("span", label), link(key, text));
      made.append(item);
    }
    return made;
  }

  function text(value) {
    if (value === null) return element("p", "failed", "failed");
    if (value === "") return element("p", "(empty)", "none");
    const made = element("pre", value);
    made.dir = "auto";
    made.tabIndex = 0;
    return made;
  }

  function gradient(given) {
    const made = element("section", undefined, "said");
    made.append(given.text ? text(given.text) : element("p", "empty: nothing to say", "none"));
    made.append(pairs(given.facts), links(given.links));
    return made;
  }

  function show(node) {
    const parts = [element("h2", node.title), pairs(node.facts)];
    if (node.texts.length && node.kind !== "operation") parts.push(element("h3", "data"));
    for (const [label, value] of node.texts) {
      if (label) parts.push(element("h3", label));
      parts.push(text(value));
    }
    if (node.links.length) parts.push(element("h3", "on the tape"), links(node.links));
    if (node.gradients.length) parts.push(element("h3", "gradients"), ...node.gradients.map(gradient));
    details.replaceChildren(...parts);
    details.hidden = false;
  }

  // an address may also have been written by hand
  function decoded(hash) {
    try {
      return decodeURIComponent(hash);
    } catch {
      return hash;
    }
  }
  const byAddress = new Map(nodes.map((node) => [decoded(node.key), node]));

  function choose() {
    for (const one of marked) one.classList.remove("chosen");
    for (const [, entry] of entries) entry.removeAttribute("aria-current");
    const node = byKey.get(location.hash) || byAddress.get(decoded(location.hash));
    details.hidden = !node;
    if (!node) return;
    show(node);
    details.firstChild.scrollIntoView({ block: "nearest" });
    entries.get(node.key).setAttribute("aria-current", "true");
    const drawn = document.getElementById(node.node) || row(node.key);
    marked = drawn ? [drawn] : [];
    if (!drawn) return;
    drawn.classList.add("chosen");
    bring(drawn);
  }

  // only the drawing scrolls: on a phone the page shows the details meanwhile
  function bring(drawn) {
    const box = drawn.getBoundingClientRect();
    const view = drawing.getBoundingClientRect();
    if (box.left >= view.left && box.right <= view.right && box.top >= view.top && box.bottom <= view.bottom) return;
    drawing.scrollBy(
      box.left + box.width / 2 - view.left - view.width / 2,
      box.top + box.height / 2 - view.top - view.height / 2,
    );
  }

  function row(key) {
    return [...drawing.querySelectorAll("table a")].find((one) => one.getAttribute("href") === key);
  }

  function entry(node) {
    const made = element("li");
    const to = link(node.key, undefined);
    to.className = node.kind;
    to.append(element("b", node.title), element("small", node.short));
    if (node.gradients.length) to.append(element("em", String(node.gradients.length)));
    made.append(to);
    entries.set(node.key, to);
    return made;
  }

  function filter() {
    const wanted = find.value.toLowerCase();
    for (const node of nodes) {
      const told = [node.title, node.short, ...node.facts.flat()].join("\n").toLowerCase();
      entries.get(node.key).parentElement.hidden = !told.includes(wanted);
    }
  }

  function zoomer() {
    const real = svg.viewBox.baseVal.width * (4 / 3);
    const ratio = svg.viewBox.baseVal.height / svg.viewBox.baseVal.width;
    let scale = 1;
    const fit = () => (drawing.clientWidth - 20) / real;
    const set = (wanted) => {
      scale = Math.min(Math.max(wanted, 0.02), 4);
      svg.setAttribute("width", real * scale);
      svg.setAttribute("height", real * ratio * scale);
    };
    const steps = { out: () => scale / 1.25, in: () => scale * 1.25, one: () => 1, fit };
    for (const button of document.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => set(steps[button.dataset.zoom]()));
    }
    // a drawing that would be too small to read is better scrolled
    set(Math.min(1, Math.max(fit(), 0.8)));
  }

  list.append(...nodes.map(entry));
  find.addEventListener("input", filter);
  window.addEventListener("hashchange", choose);
  if (svg) zoomer();
  else document.querySelector(".zoom").hidden = true;
  choose();
})();
