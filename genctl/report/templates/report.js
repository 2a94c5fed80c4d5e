"use strict";
// Strips of samples become sliders; without this script they stay strips.
for (const place of document.querySelectorAll("[data-samples]")) {
  const input = place.querySelector("input[type=range]");
  const output = place.querySelector("output");
  const steps = input.dataset.steps.split(" ").map(Number);
  const strips = Array.from(place.querySelectorAll(".strip"), (strip) =>
    Array.from(strip.children, (item) => ({ item, step: Number(item.dataset.step) })));
  const show = () => {
    const step = steps[Number(input.value)];
    const text = "step " + step.toLocaleString("en");
    output.textContent = text;
    input.setAttribute("aria-valuetext", text);
    for (const strip of strips) {
      // Of several runs each shows its latest picture up to this step, else its first.
      const past = strip.filter((entry) => entry.step <= step);
      const shown = past.length ? past[past.length - 1] : strip[0];
      for (const entry of strip) entry.item.classList.toggle("shown", entry === shown);
    }
  };
  input.max = String(steps.length - 1);
  input.value = input.max;
  input.addEventListener("input", show);
  place.classList.add("sliding");
  show();
}
// A table that is wider than the page can be scrolled by keys.
const reach = () => {
  for (const place of document.querySelectorAll(".wide")) {
    if (place.scrollWidth > place.clientWidth) place.tabIndex = 0;
    else place.removeAttribute("tabindex");
  }
};
addEventListener("resize", reach);
addEventListener("toggle", reach, true);
reach();
// What is folded away on the screen is wanted on paper.
let opened = [];
addEventListener("beforeprint", () => {
  opened = Array.from(document.querySelectorAll("details:not([open])"));
  for (const part of opened) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of opened) part.open = false;
});
