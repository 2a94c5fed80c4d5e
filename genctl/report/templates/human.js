"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(get(id).textContent);
  const facts = read("facts"), pictures = read("pictures"), key = read("key");
  const CROSS = 500; // milliseconds before a picture that is shown for a limited time
  const answers = [];
  let began = null; // when the picture of this question appeared; null before
  let saved = false;

  // The bits that mask the key; genctl/report/human.py has the same.
  function* bits(state) {
    while (true) {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      yield (t ^ (t >>> 14)) & 1;
    }
  }
  const truths = () => {
    const stream = bits(parseInt(facts.page.slice(0, 8), 16));
    return Array.from(key, (digit) => ((digit === "1") !== (stream.next().value === 1) ? "real" : "generated"));
  };

  const show = (id) => {
    for (const section of document.querySelectorAll("section")) section.hidden = section.id !== id;
  };
  const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));

  // Not the attribute "disabled", which would take the keyboard's focus away at every question.
  const ready = (yes) => {
    for (const id of ["real", "generated"]) get(id).setAttribute("aria-disabled", String(!yes));
  };

  async function ask() {
    const number = answers.length + 1;
    const picture = get("picture");
    began = null;
    ready(false);
    picture.classList.add("away");
    picture.src = pictures[number - 1];
    picture.alt = "Picture " + number;
    get("counter").textContent = "Picture " + number + " of " + facts.n;
    get("progress").value = number - 1;
    await picture.decode();
    if (facts.shown_seconds !== null) {
      get("cross").classList.add("shown");
      await wait(CROSS);
      get("cross").classList.remove("shown");
    }
    if (get("trial").hidden) return; // stopped meanwhile
    picture.classList.remove("away");
    ready(true);
    await painted();
    began = performance.now();
    if (facts.shown_seconds !== null) {
      await wait(1000 * facts.shown_seconds);
      if (answers.length === number - 1) picture.classList.add("away");
    }
  }

  function answer(text) {
    if (began === null || get("trial").hidden) return;
    const seconds = Math.round(performance.now() - began) / 1000;
    answers.push({ trial: answers.length + 1, answer: text, seconds });
    if (answers.length < facts.n) ask();
    else finish();
  }

  // Wilson's interval of 95 %.
  function wilson(count, n) {
    const z = 1.959963984540054, p = count / n, scale = 1 + (z * z) / n;
    const centre = p + (z * z) / (2 * n);
    const half = z * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n));
    return [(centre - half) / scale, (centre + half) / scale];
  }
  const percent = (share) => (100 * share).toFixed(0) + " %";

  function finish() {
    const known = truths();
    const judged = answers.map((entry, i) => ({ trial: entry.trial, truth: known[i], answer: entry.answer, seconds: entry.seconds }));
    for (const side of ["generated", "real"]) {
      const shown = judged.filter((entry) => entry.truth === side);
      const real = shown.filter((entry) => entry.answer === "real").length;
      get(side + "-shown").textContent = shown.length;
      get(side + "-real").textContent = real;
      get(side + "-share").textContent = shown.length ? percent(real / shown.length) : "–";
      const [low, high] = shown.length ? wilson(real, shown.length) : [0, 1];
      get(side + "-interval").textContent = percent(low) + " to " + percent(high);
    }
    const right = judged.filter((entry) => entry.truth === entry.answer).length;
    get("summary").textContent = judged.length
      ? right + " of your " + judged.length + " answers are right. Guessing gives half."
      : "You answered nothing, so there is nothing to save.";
    const random = crypto.getRandomValues(new Uint8Array(8));
    const sitting = Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
    const content = { format: "genctl-human-answers-1", page: facts.page, sitting, generated: facts.generated, real: facts.real, n: facts.n, shown_seconds: facts.shown_seconds, seed: facts.seed, answers: judged };
    const link = get("save");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1) + "\n"], { type: "application/json" }));
    link.download = "answers-" + facts.page.slice(0, 8) + "-" + sitting.slice(0, 8) + ".json";
    link.hidden = !judged.length;
    link.addEventListener("click", () => { saved = true; });
    show("end");
    get("end-title").focus();
  }

  get("start").addEventListener("click", () => { show("trial"); ask(); });
  get("stop").addEventListener("click", finish);
  get("real").addEventListener("click", () => answer("real"));
  get("generated").addEventListener("click", () => answer("generated"));
  addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    const text = { ArrowLeft: "real", ArrowRight: "generated" }[event.key];
    if (text === undefined || get("trial").hidden) return;
    event.preventDefault();
    answer(text);
  });
  addEventListener("beforeunload", (event) => { if (answers.length && !saved) event.preventDefault(); });
})();
