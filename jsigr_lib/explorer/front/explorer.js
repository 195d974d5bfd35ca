// The saliency explorer: one renderer for two sources of scenes, a live Jupyter kernel and states baked into a page.
// A *scene* is all that one choice of settings shows. Its pictures are [offset, length] into `scene.bytes`.

const PATIENCE = 30_000; // ms that the kernel may take to answer
const BUSY_AFTER = 250; // ms; faster answers show no hint, which would only flicker
const LARGEST_UPLOAD = 20e6; // bytes
const STATES = ["clean", "attacked"];

// ---- Nodes: made once, then updated in place, so that nothing flickers or loses the focus.

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const hidden = (text) => make("span", { class: "hidden" }, text);
const percent = (chance) => `${Math.round(100 * chance)}\u202f%`;
const largest = (numbers) => numbers.indexOf(Math.max(...numbers));

// ---- Colours: a perceptually uniform map for saliency, blue - white - red for the signed change.

const MAGMA = ["#000004", "#1d1147", "#51127c", "#832681", "#b73779", "#e75263", "#fc8961", "#fec488", "#fcfdbf"];
const DIVERGING = ["#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b"];

function palette(anchors) {
  const rgb = anchors.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return Array.from({ length: 256 }, (_, level) => {
    const place = (level / 255) * (rgb.length - 1);
    const low = Math.min(Math.floor(place), rgb.length - 2);
    return [...rgb[low].map((c, k) => c + (place - low) * (rgb[low + 1][k] - c)), 255];
  });
}

const [HEAT, SIGNED] = [palette(MAGMA), palette(DIVERGING)];

// ---- Pixels: each picture is a function from pixel number to [red, green, blue, opacity], painted at native size.

function paint(canvas, pixel, label) {
  const context = canvas.getContext("2d", { willReadFrequently: true }); // on the CPU, where the pixels come from
  const picture = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < canvas.width * canvas.height; i++) picture.data.set(pixel(i), 4 * i);
  context.putImageData(picture, 0, 0);
  canvas.setAttribute("aria-label", label);
}

const photo = (bytes, channels) => (i) =>
  channels === 1 ? [bytes[i], bytes[i], bytes[i], 255] : [...bytes.subarray(3 * i, 3 * i + 3), 255];

const heat = (map) => (i) => HEAT[map[i]];

function selected(picture, map, share) {
  const chosen = topShare(map, share);
  return (i) => [...picture(i).slice(0, 3), chosen.has(i) ? 255 : 32];
}

function change(clean, attacked, channels, eps) {
  const scale = 127.5 / (255 * Math.max(eps, 1 / 255) * channels);
  return (i) => {
    let sum = 0;
    for (let k = channels * i; k < channels * (i + 1); k++) sum += attacked[k] - clean[k];
    return SIGNED[Math.max(0, Math.min(255, Math.round(127.5 + scale * sum)))];
  };
}

/** The pixels of the map's top share: exactly round(share * pixels) of them, ties by pixel order. */
function topShare(map, share) {
  const order = Array.from(map.keys()).sort((a, b) => map[b] - map[a] || a - b);
  return new Set(order.slice(0, Math.round(share * map.length)));
}

// ---- Controls: each is { node, read, set, text }; it calls `changed` when the reader moves it.

const helped = (tag, text, help) => make(tag, { class: help ? "name helped" : "name", title: help }, text);

function labelled(control, input, ...beside) {
  const { name, label, kind, help } = control;
  input.dataset.control = name;
  input.title = help ?? "";
  input.setAttribute("aria-label", label);
  return make("label", { class: `control ${kind}` }, helped("span", label, help), ...beside, input);
}

function range(control, changed) {
  const { values, digits } = control;
  const input = make("input", { type: "range", min: 0, max: values.length - 1, step: 1 });
  const output = make("output", { "aria-live": "off" });
  const read = () => values[input.valueAsNumber];
  const text = () => (digits == null ? String(read()) : read().toFixed(digits));
  const show = () => {
    say(output, text());
    input.setAttribute("aria-valuetext", text());
  };
  const set = (value) => {
    input.value = Math.max(0, values.indexOf(value));
    show();
  };
  input.disabled = values.length < 2;
  input.addEventListener("input", () => { show(); changed(); });
  set(control.value);
  return { node: labelled(control, input, output), read, set, text };
}

function choice(control, changed) {
  const { values } = control;
  const select = make("select", {}, ...values.map(([, label]) => make("option", {}, label)));
  const set = (wanted) => { select.selectedIndex = Math.max(0, values.findIndex(([value]) => value === wanted)); };
  set(control.value);
  select.disabled = values.length < 2;
  select.addEventListener("change", changed);
  const [read, text] = [0, 1].map((part) => () => values[select.selectedIndex][part]);
  return { node: labelled(control, select), read, set, text };
}

function several(control, changed, { complain }) {
  const { name, label, values, help } = control;
  const boxes = values.map(([value]) => make("input", { type: "checkbox", value, "data-control": name }));
  const read = () => values.map(([value]) => value).filter((_, k) => boxes[k].checked);
  const set = (chosen) => { for (const box of boxes) box.checked = chosen.includes(box.value); };
  set(control.value);
  for (const box of boxes) {
    box.addEventListener("change", () => {
      if (read().length) return changed();
      box.checked = true;
      complain(`At least one of the ${label} must stay chosen.`);
    });
  }
  const chips = boxes.map((box, k) => make("label", { class: "chip" }, box, values[k][1]));
  return { node: make("fieldset", { class: "control several" }, helped("legend", label, help), ...chips), read, set };
}

let groups = 0; // of radio buttons: several explorers share a page

/** Thumbnails to choose from. `mark` says which of them the attack flips, and offers to show no others. */
function album(control, changed, { size: [height, width], channels }) {
  const bytes = fromBase64(control.pictures);
  const [group, length] = [`jsigr-pictures-${++groups}`, height * width * channels];
  const thumbs = control.values.map((value) => {
    const input = make("input", { type: "radio", name: group, value, "data-control": control.name });
    const canvas = make("canvas", { width, height, "aria-hidden": "true" });
    paint(canvas, photo(bytes.subarray(value * length, (value + 1) * length), channels), "");
    input.addEventListener("change", changed);
    return { value, input, node: make("label", { class: "thumb", title: `image ${value + 1}` }, input, canvas) };
  });
  const only = make("input", { type: "checkbox", "data-control": "flipped" });
  const count = make("span");
  const filter = make("label", { class: "only" }, only, count);
  const read = () => thumbs.find(({ input }) => input.checked)?.value ?? control.value;
  const set = (value) => { for (const thumb of thumbs) thumb.input.checked = thumb.value === value; };
  const lay = () => {
    for (const { input, node } of thumbs) node.hidden = only.checked && !node.matches(".flipped") && !input.checked;
  };
  const mark = (flipped) => {
    for (const { value, input, node } of thumbs) {
      node.classList.toggle("flipped", flipped.includes(value));
      input.setAttribute("aria-label", `image ${value + 1}${flipped.includes(value) ? ", flipped by the attack" : ""}`);
    }
    filter.hidden = !flipped.length;
    only.checked &&= Boolean(flipped.length);
    say(count, `only the ${flipped.length} that the attack flips`);
    lay();
  };
  only.addEventListener("change", lay);
  set(control.value);
  mark([]);
  const shelf = make("div", { class: "thumbs" }, ...thumbs.map(({ node }) => node));
  const name = helped("legend", control.label, control.help);
  return { node: make("fieldset", { class: "control pictures-of" }, name, filter, shelf), read, set, mark };
}

const KINDS = { range, choice, several, pictures: album };

/** A picture of the reader's own, in place of one of the data set. `take` also serves drag and drop, and paste. */
function upload({ size, channels }, changed, complain) {
  const help = "Its centred square, shrunk to the size of the data set. A picture may also be dropped or pasted here.";
  const input = make("input", { type: "file", accept: "image/*" });
  const remove = make("button", { type: "button" }, "remove");
  const invert = make("input", { type: "checkbox" });
  const chip = make("label", { class: "chip", title: "For a dark thing on a light ground." }, invert, "invert");
  let picture = null;
  const set = (bytes) => {
    picture = bytes;
    remove.disabled = chip.hidden = !bytes;
    if (!bytes) input.value = "";
  };
  const take = async (file) => {
    try {
      set(await readPicture(file, size, channels));
      await changed();
    } catch (error) {
      set(null); // or the old picture would stand beside the message about another
      await changed();
      complain(error.message);
    }
  };
  set(null);
  input.addEventListener("change", () => input.files.length && take(input.files[0]));
  remove.addEventListener("click", () => { set(null); input.focus(); changed(); });
  const label = labelled({ name: "upload", label: "your picture", kind: "file", help }, input);
  const node = make("div", { class: "control upload" }, label, chip, remove);
  const read = () => picture && toBase64(invert.checked ? picture.map((level) => 255 - level) : picture);
  invert.addEventListener("change", changed);
  return { node, read, clear: () => set(null), take };
}

async function readPicture(file, [height, width], channels) {
  if (file.size > LARGEST_UPLOAD) throw new Error("That file is larger than 20 MB: choose a smaller picture.");
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error("That file is not a picture that this browser can read.");
  });
  const side = Math.min(bitmap.width, bitmap.height);
  const context = make("canvas", { width, height }).getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // behind what is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, width, height);
  const rgba = context.getImageData(0, 0, width, height).data;
  const bytes = new Uint8Array(channels * width * height);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = rgba.subarray(4 * i, 4 * i + 3);
    bytes.set(channels === 1 ? [Math.round(0.299 * r + 0.587 * g + 0.114 * b)] : [r, g, b], channels * i);
  }
  return bytes;
}

const toBase64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

function acceptFiles(root, take) {
  const offer = (event, { files }) => {
    if (!files.length) return;
    event.preventDefault();
    take(files[0]);
  };
  root.addEventListener("dragover", (event) => event.preventDefault());
  root.addEventListener("drop", (event) => offer(event, event.dataTransfer));
  root.addEventListener("paste", (event) => offer(event, event.clipboardData));
}

// ---- A card: what one defence makes of the image. Each part is { node, draw }.

function card(defence, about) {
  const title = make("h3");
  const [verdict, pictures] = [verdictLine(about), pictureGrid(about)];
  const [chances, measures] = [chanceTable(about), measureTable()];
  const parts = [verdict, pictures, chances, measures];
  const node = make("article", { class: "card", "data-defence": defence }, title, ...parts.map((part) => part.node));
  const draw = (scene, own, share, mapName) => {
    say(title, own.label);
    verdict.draw(own.chances, scene.truth);
    pictures.draw(scene, own, share, mapName);
    chances.draw(own.chances, scene);
    measures.draw(own.measures);
  };
  return { node, draw };
}

function verdictLine({ classes }) {
  const [signs, texts] = [0, 1].map(() => STATES.map(() => make("span")));
  const arrow = make("span", { class: "arrow", role: "img", "aria-label": "under attack" }, "→");
  const node = make("p", { class: "verdict" }, signs[0], texts[0], arrow, signs[1], texts[1]);
  const draw = (chances, truth) => STATES.forEach((state, s) => {
    const said = largest(chances[state]);
    const judged = truth == null ? "" : said === truth ? "right" : "wrong";
    signs[s].className = judged;
    signs[s].replaceChildren({ right: "✓ ", wrong: "✗ " }[judged] ?? "", hidden(judged));
    say(texts[s], `${classes[said]} ${percent(chances[state][said])}`);
  });
  return { node, draw };
}

function pictureGrid({ size: [height, width], classes, channels }) {
  const canvases = {};
  const cell = (name) => (canvases[name] = make("canvas", { width, height, role: "img", "data-picture": name }));
  const row = (state) => [
    make("span", { class: `state ${state}`, "aria-hidden": "true" }, state),
    ...["image", "map", "selection"].map((kind) => cell(`${state}-${kind}`)),
  ];
  const titles = ["", "image", "map", "selection", ""].map((text) => make("span", { class: "column" }, text));
  const rows = [...row("clean"), key(), ...row("attacked"), cell("change")];
  const node = make("div", { class: "pictures" }, ...titles, ...rows);

  function draw(scene, { label, attacked, maps, chances }, share, mapName) {
    const picked = ([offset, length]) => scene.bytes.subarray(offset, offset + length);
    const images = { clean: picked(scene.image), attacked: picked(attacked) };
    for (const state of STATES) {
      const [picture, map] = [photo(images[state], channels), picked(maps[state])];
      const image = `${state} image, predicted ${classes[largest(chances[state])]}`;
      const named = `${mapName} map about ${classes[scene.about]}, ${image}`;
      paint(canvases[`${state}-image`], picture, `${label}: ${image}`);
      paint(canvases[`${state}-map`], heat(map), `${label}: ${named}`);
      const top = `${label}: top ${percent(share)} of the ${named}`;
      paint(canvases[`${state}-selection`], selected(picture, map, share), top);
    }
    const eps = Number(scene.eps.toPrecision(3));
    const scale = `from −${eps} (blue) to +${eps} (red)`;
    const changed = change(images.clean, images.attacked, channels, scene.eps);
    paint(canvases.change, changed, `${label}: attacked minus clean image, ${scale}`);
  }
  return { node, draw };
}

/** The legend of both colour scales; it fills the clean row's last cell. */
function key() {
  const strip = (name, colours, ...ends) => make("div", { class: "strip" }, name,
    make("i", { style: `background: linear-gradient(to right, ${colours})` }),
    make("span", { class: "ends" }, ...ends.map((end) => make("span", {}, end))));
  return make("div", { class: "key" }, strip("map", MAGMA, "0", "peak"), strip("change", DIVERGING, "−ε", "+ε"));
}

function table(caption, ...columns) {
  const body = make("tbody");
  const heads = [...columns, ...STATES].map((name) => make("th", { scope: "col", class: name }, name));
  const head = make("thead", {}, make("tr", {}, ...heads));
  return { body, node: make("table", {}, make("caption", { class: "hidden" }, caption), head, body) };
}

function chanceTable({ classes }) {
  const { body, node } = table("Predicted chance of every class", "class", "chance");
  const rows = classes.map((name) => {
    const [bars, numbers] = [STATES.map((state) => make("i", { class: state })), STATES.map(() => make("td"))];
    const tag = make("span", { class: "tag" });
    const heading = make("th", { scope: "row" }, name, tag);
    const chart = make("td", { class: "chance", "aria-hidden": "true" }, ...bars);
    const line = make("tr", {}, heading, chart, ...numbers);
    return { line, tag, bars, numbers };
  });
  body.append(...rows.map(({ line }) => line));
  const draw = (chances, { truth, about }) => rows.forEach(({ line, tag, bars, numbers }, k) => {
    line.classList.toggle("truth", k === truth);
    say(tag, k === truth ? "true" : k === about ? "map" : "");
    STATES.forEach((state, s) => {
      bars[s].style.width = `${100 * chances[state][k]}%`;
      say(numbers[s], percent(chances[state][k]));
    });
  });
  return { node, draw };
}

function measureTable() {
  const { body, node } = table("Measures of this image", "measure");
  let rows = new Map();
  const lay = (measures) => {
    rows = new Map(measures.map(({ name }) => [name, STATES.map(() => make("td"))]));
    body.replaceChildren(...measures.map(({ name, help }) => make("tr", {},
      make("th", { scope: "row" }, helped("span", name, help), hidden(`: ${help}`)), ...rows.get(name))));
  };
  const draw = (measures) => {
    if (measures.map(({ name }) => name).join() !== [...rows.keys()].join()) lay(measures);
    const written = (value) => value?.toFixed(2).replace("-", "−") ?? "–";
    for (const own of measures) STATES.forEach((state, s) => say(rows.get(own.name)[s], written(own[state])));
  };
  return { node, draw };
}

// ---- The explorer: controls, status line and cards, and the loop that asks for the scene of the latest settings.

const ADDRESS = "#explorer:"; // how the part of an address begins that holds settings
const FIRST = ["image", "map", "attack", "eps"]; // the others wait behind a button on a phone

/** Builds the explorer inside `el`; resolves when the first scene is drawn. */
export async function explore(el, source) {
  const { about } = source;
  const status = make("p", { class: "status", "aria-live": "polite" });
  const error = make("p", { class: "error", role: "alert" });
  const shelf = make("div", { class: "cards" });
  const terms = make("dl");
  const cards = new Map();
  const controls = {};
  let [asking, drawn, last, moved] = [false, 0, null, false];

  const complain = (message) => say(error, message);
  for (const control of about.controls) {
    const changed = () => {
      if (control.name === "image") controls.upload?.clear();
      if (control.turns) source.turn(controls[control.name].read()).catch((problem) => complain(problem.message));
      else if (!control.local) refresh();
      else if (last) draw(last);
    };
    controls[control.name] = KINDS[control.kind](control, changed, { ...about, complain });
    controls[control.name].node.classList.toggle("second", !FIRST.includes(control.name));
  }
  if (about.upload && !source.saved) {
    controls.upload = upload(about, refresh, complain);
    controls.upload.node.classList.add("second");
  }
  const more = make("button", { type: "button", class: "more", "aria-expanded": "false" }, "more settings");
  more.addEventListener("click", () => {
    more.setAttribute("aria-expanded", String(fields.classList.toggle("all")));
    say(more, fields.classList.contains("all") ? "fewer settings" : "more settings");
  });
  const reset = make("button", { type: "button", class: "reset" }, "reset");
  reset.addEventListener("click", () => {
    for (const { name, value } of about.controls) controls[name].set(value);
    controls.upload?.clear();
    refresh();
  });

  const legend = make("legend", { class: "hidden" }, "Settings");
  const nodes = Object.values(controls).map(({ node }) => node);
  const fields = make("fieldset", { class: "controls" }, legend, ...nodes, more, reset);
  const said = make("div", { class: "said" }, status, error);
  const glossary = make("details", {}, make("summary", {}, "What the settings and the measures mean"), terms);
  const look = about.only ? "jsigr-explorer compact" : "jsigr-explorer";
  const root = make("section", { class: look, "aria-label": about.title },
    make("h2", {}, about.title), fields, said, shelf, glossary, make("p", { class: "note" }, about.note));
  // Or JupyterLab takes our keys, arrows first: it looks at what has the focus before it looks at what is around that.
  for (const node of root.querySelectorAll("input, select, button, summary")) node.dataset.lmSuppressShortcuts = "true";
  if (controls.upload) acceptFiles(root, controls.upload.take);
  el.replaceChildren(root);

  const idle = ({ maps }) => Boolean(maps && !maps.includes(controls.map.read())); // it would do nothing

  function settings() {
    const read = (control) => (idle(control) ? control.value : controls[control.name].read());
    const asked = about.controls.filter(({ local }) => !local).map((control) => [control.name, read(control)]);
    return { ...Object.fromEntries(asked), upload: controls.upload?.read() ?? null };
  }

  // The address of a page of its own holds what is chosen, so that a link shows the same picture.
  const addressed = source.saved && !about.only && !document.getElementById("jupyter-config-data");

  function follow() {
    if (!addressed || !location.hash.startsWith(ADDRESS)) return;
    const given = new URLSearchParams(location.hash.slice(ADDRESS.length));
    for (const control of about.controls) {
      const values = control.values.map((one) => (Array.isArray(one) ? one[0] : one));
      const wanted = (given.get(control.name) ?? "").split(",");
      const known = values.filter((value) => wanted.includes(String(value)));
      if (known.length) controls[control.name].set(control.kind === "several" ? known : known[0]);
    }
  }

  function address() {
    if (!addressed || !moved) return;
    const chosen = about.controls.map(({ name }) => [name, String(controls[name].read())]);
    history.replaceState(null, "", ADDRESS + new URLSearchParams(chosen));
  }

  /** Asks until the answer is that of the latest settings: one request at a time, so no scene comes out of order. */
  async function refresh() {
    if (asking) return;
    asking = true;
    const hint = setTimeout(() => root.setAttribute("aria-busy", "true"), BUSY_AFTER);
    let wanted;
    do {
      wanted = settings();
      try {
        const scene = await source.ask(wanted);
        if (scene.error) throw new Error(scene.error);
        draw({ settings: wanted, scene });
        complain("");
      } catch (problem) {
        complain(problem.message);
      }
    } while (JSON.stringify(wanted) !== JSON.stringify(settings()));
    clearTimeout(hint);
    root.removeAttribute("aria-busy");
    asking = false;
  }

  function draw(shown) {
    const { settings, scene } = (last = shown);
    for (const control of about.controls) {
      const left = about.only && !about.only.includes(control.name);
      controls[control.name].node.hidden = Boolean(left) || idle(control);
    }
    controls.image?.mark?.([...new Set(settings.defences.flatMap((name) => scene.flipped?.[name] ?? []))]);
    address();
    const chosen = scene.cards.filter(({ defence }) => settings.defences.includes(defence));
    for (const { defence } of chosen) if (!cards.has(defence)) cards.set(defence, card(defence, about));
    const nodes = chosen.map(({ defence }) => cards.get(defence).node);
    const same = nodes.length === shelf.children.length && nodes.every((node, k) => node === shelf.children[k]);
    if (!same) shelf.replaceChildren(...nodes);
    for (const own of chosen) cards.get(own.defence).draw(scene, own, controls.share.read(), controls.map.text());
    explain([...about.controls, ...chosen.slice(0, 1).flatMap(({ measures }) => measures)]);
    say(status, [scene, ...chosen].map(({ summary }) => summary).join(" "));
    root.dataset.drawn = ++drawn;
    root.dispatchEvent(new CustomEvent("jsigr:drawn", { bubbles: true, detail: shown }));
  }

  /** Every help text in one place, for those who have no mouse to hover with. */
  function explain(things) {
    const lines = things.filter(({ help }) => help).map(({ label, name, help }) => [label ?? name, help]);
    if (terms.children.length === 2 * lines.length) return;
    terms.replaceChildren(...lines.flatMap(([term, help]) => [make("dt", {}, term), make("dd", {}, help)]));
  }

  follow();
  if (addressed) addEventListener("hashchange", () => { follow(); refresh(); });
  root.addEventListener("input", () => { moved = true; });
  reset.addEventListener("click", () => { moved = true; });
  await refresh();
  if (addressed && location.hash.startsWith(ADDRESS)) root.scrollIntoView();
}

// ---- Sources of scenes: { about, ask, saved }, where `ask` promises the scene of some settings. With `turn` there are
// other networks to turn to, and then `about` changes.

const SILENCE = "The kernel does not answer: it may be busy or stopped. Move a control to ask again.";
const ABSENT = "This page holds no pictures of that combination; the live notebook computes it.";

let asked = Math.floor(Math.random() * 2 ** 40); // several views and tabs share one kernel: their ids must not meet

/** Scenes computed on demand by the kernel behind an anywidget model. */
export function fromKernel(model) {
  const waiting = new Map();
  const hear = ({ id, scene }, buffers) => {
    const data = buffers?.[0] ?? new ArrayBuffer(0); // or a view of one
    const bytes = new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength);
    waiting.get(id)?.({ ...scene, bytes });
  };
  model.on("msg:custom", hear);
  const send = (question) => new Promise((resolve, reject) => {
    const id = ++asked;
    const timer = setTimeout(() => waiting.delete(id) && reject(new Error(SILENCE)), PATIENCE);
    waiting.set(id, (scene) => { clearTimeout(timer); waiting.delete(id); resolve(scene); });
    model.send({ id, ...question });
  });
  const turn = (name) => send({ turn: name }).then(({ error }) => { if (error) throw new Error(error); });
  const close = () => model.off("msg:custom", hear);
  return { about: model.get("about"), ask: (settings) => send({ settings }), turn, saved: false, close };
}

/** Scenes baked into the page, keyed by the positions of the controls that they depend on. */
export function fromSaved(about, scenes, bytes) {
  const keyed = about.controls.filter(({ kind, local }) => kind !== "several" && !local);
  const position = ({ name, kind, values }, settings) =>
    (kind === "choice" ? values.map(([value]) => value) : values).indexOf(settings[name]);
  const ask = async (settings) => {
    const scene = scenes[keyed.map((control) => position(control, settings)).join()];
    return scene ? { ...scene, bytes } : { error: ABSENT };
  };
  return { about, ask, saved: true };
}

/** The bytes in a base64 text of gzip. */
export async function unpack(base64) {
  const stream = new Blob([fromBase64(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export default {
  render({ model, el }) {
    let source = fromKernel(model);
    explore(el, source);
    const turned = () => {
      source.close();
      explore(el, (source = fromKernel(model)));
      el.querySelector("[data-control=networks]").focus();
    };
    model.on("change:about", turned);
    return () => {
      source.close();
      model.off("change:about", turned);
    };
  },
};
