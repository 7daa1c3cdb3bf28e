(() => {
  const about = JSON.parse(document.getElementById("about").textContent);
  const names = ["w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma", "iterations"];
  const get = (id) => document.getElementById(id);
  const [wipe, status] = [document.querySelector(".wipe"), get("state")];
  const [preset, label, width] = ["preset", "label", "width"].map(get);
  const [left, right] = wipe.querySelectorAll("select");
  const images = Object.fromEntries(
    [...document.querySelectorAll("[data-wipe] img")].map((image) => [image.alt, image]));
  const REST = 80;  // ms after which a slider counts as resting
  const setting = { ...about.start };
  let step = null;  // of the iterations the one that is shown; null: the last

  // --- the setting, in the controls and in the address

  const shownStep = () => Math.min(step ?? setting.iterations, setting.iterations);
  const isRight = (name, value) => Number.isFinite(value) && value <= 1e6 &&
    (name.startsWith("sigma") ? value > 0 : value >= 0) &&
    (name !== "iterations" || (Number.isInteger(value) && value <= 100));

  function fillControls(except) {
    for (const name of names) {
      get(name).value = setting[name];
      get(name).setAttribute("aria-valuetext", setting[name]);
      const number = get(`${name}-number`);
      if (number !== except) number.value = setting[name];
      number.setCustomValidity("");
    }
    const found = about.presets.findIndex(
      (each) => names.every((name) => each[name] === setting[name]));
    preset.selectedIndex = found + 1;
  }

  function fillAddress() {
    const state = new URLSearchParams({ ...setting, label: label.value, width: width.value,
      left: left.value, right: right.value });
    if (step !== null) state.set("step", step);
    history.replaceState(null, "", `#${state}`);
  }

  function readAddress() {
    const state = new URLSearchParams(location.hash.slice(1));
    const choose = (select, value) => {
      if ([...select.options].some((each) => each.value === value)) select.value = value;
    };
    for (const name of names) {
      const value = Number(state.get(name) ?? NaN);
      if (isRight(name, value)) setting[name] = value;
    }
    step = /^\d{1,3}$/.test(state.get("step") ?? "") ? Number(state.get("step")) : null;
    for (const [select, name] of [[label, "label"], [left, "left"], [right, "right"]]) {
      choose(select, state.get(name));
    }
    if (isWidth(Number(state.get("width")))) width.value = state.get("width");
  }

  const isWidth = (value) => Number.isInteger(value) && value >= 1 && value <= 1000;

  // --- asking the server: the newest number counts, others are answered "overtaken"

  let number = 0, shown = 0, isPreviewing = false, previewAgain = false, resting;

  async function ask(what, mine, small) {
    const query = new URLSearchParams({ number: mine, small: small ? 1 : 0, ...setting,
      step: shownStep(), label: label.value, width: isWidth(Number(width.value)) ? width.value : 3 });
    try {
      const answer = await fetch(`${what}?${query}`);
      if (!answer.ok) throw new Error(answer.status);
      return await answer.json();
    } catch (_) {
      say("The server has ended: start deeplab-repro tune again.", true);
      return {};
    }
  }

  const next = () => number = Math.max(number + 1, Date.now());

  async function preview() {
    previewAgain = true;
    if (isPreviewing) return;
    isPreviewing = true;
    while (previewAgain) {
      previewAgain = false;
      const mine = next();
      const found = await ask("result", mine, true);
      if (found.labels && mine > shown) show(found, mine);
    }
    isPreviewing = false;
  }

  async function refine() {
    clearTimeout(resting);
    previewAgain = false;  // a later preview would be newer, and this be given up for it
    fillAddress();
    const mine = next(), start = performance.now();
    const found = await ask("result", mine, false);
    if (found.overtaken && mine === number) {  // by another tab
      number = found.overtaken;
      resting = setTimeout(refine, REST);
    }
    if (found.error && mine === number) say(found.error, true);
    if (!found.labels || mine < shown) return;
    show(found, mine);
    showMore(found);
    const took = (performance.now() - start) / 1000;
    say(`${found.told}: labels after ${countOf(shownStep())}, in ${took.toFixed(2)} s`);
    wipe.dataset.shown = mine;
    await showSteps();
  }

  function moved() {
    preview();
    clearTimeout(resting);
    resting = setTimeout(refine, REST);
  }

  // --- showing what came

  const countOf = (count) =>
    count === 1 ? "1 iteration" : count ? `${count} iterations` : "no iteration (the net)";
  const png = (text) => `data:image/png;base64,${text}`;

  function say(text, isFailure = false) {
    status.textContent = text;
    status.classList.toggle("failed", isFailure);
  }

  function refreshWipe() {
    right.dispatchEvent(new CustomEvent("change", { detail: "redrawn" }));
  }

  function show(found, mine) {
    shown = mine;
    images.CRF.src = png(found.labels);
    images.CRF.alt = `CRF: ${found.told}`;
    images.belief.src = png(found.belief);
    images.belief.alt = `belief of ${label.selectedOptions[0].text}`;
    refreshWipe();
    showClasses(new Set([...about.net, ...found.classes]));
  }

  function showClasses(labels) {
    const items = [...labels].sort((a, b) => a - b).map((each) => {
      const item = document.createElement("li"), swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = `rgb(${about.classes[each].colour})`;
      item.append(swatch, about.classes[each].name);
      return item;
    });
    get("classes").replaceChildren(...items);
  }

  function showMore(found) {
    for (const [kind, text] of Object.entries(found.copies)) get(kind).textContent = text;
    if (!about.hasTruth) return;
    images.errors.src = png(found.errors);
    images.errors.alt = "errors of the net and of the CRF";
    refreshWipe();
    const kinds = ["mean_iou", "pixel_accuracy", "trimap_mean_iou", "trimap_pixel_accuracy"];
    kinds.forEach((kind, row) => {
      const cells = get("scores").tBodies[0].rows[row].cells;
      const values = [found.scores.net[kind], found.scores.crf[kind]];
      const texts = values.map((value) => value === null ? "-" : value.toFixed(2));
      const gain = values.includes(null) ? "-" : (values[1] - values[0]).toFixed(2);
      [...texts, gain > 0 ? `+${gain}` : gain].forEach((text, column) => {
        cells[column + 1].textContent = text;
      });
    });
  }

  async function showSteps() {
    const mine = next();
    const found = await ask("steps", mine, true);
    if (!found.steps || mine < number) return;
    const picture = (text, alt) => Object.assign(document.createElement("img"), { src: png(text), alt });
    const focused = [...get("steps").querySelectorAll("button")].indexOf(document.activeElement);
    const items = found.steps.map((each, index) => {
      const item = document.createElement("li"), button = document.createElement("button");
      const photo = document.createElement("i");
      button.type = "button";
      button.setAttribute("aria-pressed", index === shownStep());
      photo.append(picture(each.labels, "labels"));
      button.append(photo, picture(each.belief, "belief"), index ? `iteration ${index}` : "net");
      button.addEventListener("click", () => {
        step = index === setting.iterations ? null : index;
        pressStep();
        refine();
      });
      item.append(button);
      return item;
    });
    get("steps").replaceChildren(...items);
    if (focused >= 0) get("steps").querySelectorAll("button")[focused]?.focus();
    pressStep();
  }

  function pressStep() {
    [...get("steps").querySelectorAll("button")].forEach((button, index) =>
      button.setAttribute("aria-pressed", index === shownStep()));
    get("step-told").textContent = step === null
      ? "Press one to see it large above."
      : `The picture above shows ${countOf(shownStep())} of ${setting.iterations}.`;
  }

  function showLegends() {
    const isShown = (name) => [left.value, right.value].includes(name);
    get("ramp").hidden = !isShown("belief");
    get("verdicts").hidden = !isShown("errors");
    get("classes").hidden = ![left.value, right.value].some((each) => /net|CRF|truth/.test(each));
    get("believed").textContent = `belief of ${label.selectedOptions[0].text}, from 0 to 1`;
  }

  // --- what the user does

  for (const name of names) {
    const slider = get(name), field = get(`${name}-number`);
    const set = (value, from) => {
      if (!isRight(name, value)) return;
      setting[name] = value;
      if (name === "iterations") step = null;
      fillControls(from);
      moved();
    };
    slider.addEventListener("input", () => set(Number(slider.value)));
    field.addEventListener("input", () => set(field.value === "" ? NaN : Number(field.value), field));
    field.addEventListener("change", () => fillControls());
  }
  const take = (values) => {
    for (const name of names) setting[name] = values[name];
    step = null;
    fillControls();
    refine();
  };
  preset.addEventListener("change", () => {
    if (preset.selectedIndex) take(about.presets[preset.selectedIndex - 1]);
  });
  get("reset").addEventListener("click", () => take(about.start));
  get("reset").form.addEventListener("submit", (event) => event.preventDefault());
  label.addEventListener("change", () => { showLegends(); refine(); });
  width.addEventListener("change", () => refine());
  for (const select of [left, right]) {
    select.addEventListener("change", (event) => {
      showLegends();
      if (!event.detail) fillAddress();
    });
  }

  for (const button of document.querySelectorAll("[data-copies]")) {
    const text = get(button.dataset.copies), told = button.nextElementSibling;
    button.addEventListener("click", async () => {
      getSelection().selectAllChildren(text);
      try {
        await navigator.clipboard.writeText(text.textContent);
        told.textContent = "copied";
      } catch (_) {  // the browser does not allow it
        told.textContent = "selected: press Ctrl+C";
      }
      setTimeout(() => { told.textContent = ""; }, 4000);
    });
  }

  readAddress();
  addEventListener("hashchange", () => { readAddress(); fillControls(); refine(); });
  fillControls();
  showLegends();
  refine();
})();
