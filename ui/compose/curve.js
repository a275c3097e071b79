// Curves over the layers, drawn by hand. Values come from Python as `data`; what is drawn goes back as cells
// [part, layer, value] with a number, and is laid over the values until Python has heard that number.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 260, LEFT = 46, RIGHT = 14, TOP = 12, BOTTOM = 40;
const ALL = "all parts";
// Keys come in runs: what they change is handed over when they rest.
const REST_MILLISECONDS = 500;
// Steps of the value, each a hundredth of the axis or less: arrows, with Shift, page keys.
const COARSE = 5, FINE = 1, PAGE = 20;

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  parentElement.drawing ??= new Drawing(parentElement.querySelector(".curve"));
  parentElement.drawing.show(data, (stroke) => setTriggerValue("drawn", stroke));
  return () => parentElement.drawing.end();
}

class Drawing {
  constructor(root) {
    this.root = root;
    this.parts = root.querySelector(".parts");
    this.plot = root.querySelector("svg");
    this.says = root.querySelector("output");
    this.wider = root.querySelector(".wider");
    this.fitted = root.querySelector(".fitted");
    this.chosen = ALL;
    this.layer = 0;
    this.fresh = new Map();
    this.observer = new ResizeObserver(() => this.data && this.draw());
    this.observer.observe(this.plot);
    this.listen();
  }

  listen() {
    this.plot.addEventListener("pointerdown", (event) => this.begin(event));
    this.plot.addEventListener("pointermove", (event) => this.move(event));
    this.plot.addEventListener("pointerup", () => this.release());
    this.plot.addEventListener("pointercancel", () => this.revert());
    this.plot.addEventListener("pointerleave", () => this.stroke || this.tell());
    this.plot.addEventListener("keydown", (event) => this.key(event));
    // Not of the plot: Chromium gives the focus to a plot that listens for it.
    this.root.addEventListener("focusout", () => this.send());
    this.wider.addEventListener("click", () => this.widen());
    this.fitted.addEventListener("click", () => this.fit());
  }

  end() {
    this.observer.disconnect();
    this.send();
  }

  show(data, tell) {
    const other = data.target !== this.data?.target;
    this.data = data;
    this.give = tell;
    for (const [cell, each] of this.fresh) if (other || each.number <= data.heard) this.fresh.delete(cell);
    this.number = Math.max(this.number ?? 0, data.heard + 1);
    this.values = new Map(data.parts.map((part) => [part.name, new Map(part.values)]));
    this.layers = [...new Set(data.parts.flatMap((part) => part.values.map(([layer]) => layer)))].sort((a, b) => a - b);
    if (!this.values.has(this.chosen)) this.chosen = ALL;
    if (!this.layers.includes(this.layer)) this.layer = this.layers[0];
    other ? this.fit() : this.stretch();
    this.choices();
    this.draw();
  }

  // The chips that say which curve is drawn.
  choices() {
    const names = this.values.size > 1 ? [ALL, ...this.values.keys()] : [...this.values.keys()];
    if (this.values.size === 1) this.chosen = names[0];
    const written = names.join("\n");
    if (this.parts.dataset.names !== written) {
      this.parts.dataset.names = written;
      this.parts.replaceChildren(...names.map((name) => this.chip(name)));
    }
    for (const input of this.parts.querySelectorAll("input")) input.checked = input.value === this.chosen;
  }

  chip(name) {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "part", value: name });
    input.addEventListener("change", () => {
      this.send();
      this.chosen = name;
      this.draw();
      this.tell();
    });
    const dot = document.createElement("i"), text = document.createElement("span");
    dot.style.background = this.colour(name);
    text.textContent = name;
    label.append(input, dot, text);
    return label;
  }

  colour(name) {
    return this.data.parts.find((part) => part.name === name)?.colour ?? "var(--st-text-color)";
  }

  value(name, layer) {
    return this.fresh.get(`${name}\n${layer}`)?.value ?? this.values.get(name).get(layer);
  }

  drawn() {
    return this.chosen === ALL ? [...this.values.keys()] : [this.chosen];
  }

  // Where the handle of a layer is: the mean of what is drawn, undefined where that has no such layer.
  handle(layer) {
    const found = this.drawn().map((name) => this.value(name, layer)).filter((value) => value !== undefined);
    return found.length ? found.reduce((sum, value) => sum + value, 0) / found.length : undefined;
  }

  // The axis: what is there with some air, and never narrower while one draws.
  fit() {
    const { minimum, maximum } = this.data;
    const all = [...this.values.keys()].flatMap((name) => this.layers.map((layer) => this.value(name, layer) ?? 0));
    const most = Math.max(...all), least = Math.min(...all);
    this.high = maximum ?? (most > 0 ? nice(1.2 * most) : least < 0 ? nice(-0.2 * least) : 1);
    this.low = least < 0 ? -nice(-1.2 * least) : Math.max(0, minimum ?? 0);
    this.draw();
  }

  stretch() {
    const all = [...this.values.keys()].flatMap((name) => this.layers.map((layer) => this.value(name, layer) ?? 0));
    if (Math.max(...all) > this.high || Math.min(...all) < this.low) this.fit();
  }

  widen() {
    const { minimum, maximum } = this.data, reach = Math.max(this.high, -this.low);
    this.high = Math.min(maximum ?? Infinity, nice(2 * this.high));
    this.low = Math.max(minimum ?? -Infinity, this.low < 0 ? -nice(-2 * this.low) : -reach);
    this.draw();
  }

  step() {
    return nice((this.high - this.low) / 100, Math.floor);
  }

  snapped(value) {
    return this.bounded(Math.round(value / this.step()) * this.step());
  }

  bounded(value) {
    const { minimum, maximum } = this.data;
    return Number(Math.min(maximum ?? Infinity, Math.max(minimum ?? -Infinity, value)).toPrecision(12)) || 0;
  }

  x(layer) {
    const first = this.layers[0], span = this.layers.at(-1) - first;
    return LEFT + (span ? (layer - first) / span : 0.5) * (this.width - LEFT - RIGHT);
  }

  y(value) {
    return TOP + (1 - (value - this.low) / (this.high - this.low)) * (HEIGHT - TOP - BOTTOM);
  }

  // Layer and value under the pointer.
  under(event) {
    const box = this.plot.getBoundingClientRect(), x = event.clientX - box.left;
    const near = (a, b) => (Math.abs(this.x(b) - x) < Math.abs(this.x(a) - x) ? b : a);
    const height = 1 - (event.clientY - box.top - TOP) / (HEIGHT - TOP - BOTTOM);
    const value = this.low + Math.min(1, Math.max(0, height)) * (this.high - this.low);
    return { layer: this.layers.reduce(near), value: this.snapped(value) };
  }

  begin(event) {
    if (event.button) return;
    event.preventDefault();
    this.send();
    this.plot.setPointerCapture(event.pointerId);
    const at = this.under(event);
    this.stroke = { first: at, last: at };
    this.layer = at.layer;
    this.line(at, at);
    this.plot.querySelector(`[data-layer="${at.layer}"]`)?.focus({ preventScroll: true });
    this.tell(at.layer);
  }

  move(event) {
    const at = this.under(event);
    if (!this.stroke) return this.tell(at.layer);
    if (event.shiftKey) this.takeBack();
    this.line(event.shiftKey ? this.stroke.first : this.stroke.last, at);
    this.stroke.last = at;
    this.layer = at.layer;
    this.draw();
    this.tell(at.layer);
  }

  release() {
    if (!this.stroke) return;
    this.stroke = null;
    this.send();
    this.draw();
  }

  revert() {
    this.takeBack();
    this.stroke = null;
    this.draw();
  }

  takeBack() {
    for (const [cell, each] of this.fresh) if (each.number === this.number) this.fresh.delete(cell);
  }

  // Every layer between two places gets the value of the straight line between them.
  line(from, to) {
    for (const layer of this.layers) {
      if (layer < Math.min(from.layer, to.layer) || layer > Math.max(from.layer, to.layer)) continue;
      const share = from.layer === to.layer ? 1 : (layer - from.layer) / (to.layer - from.layer);
      this.put(layer, this.snapped(from.value + share * (to.value - from.value)));
    }
    this.draw();
  }

  put(layer, value) {
    for (const name of this.drawn()) {
      if (this.values.get(name).has(layer)) this.fresh.set(`${name}\n${layer}`, { value, number: this.number });
    }
  }

  key(event) {
    const at = this.layers.indexOf(this.layer), last = this.layers.length - 1;
    const steps = { ArrowUp: event.shiftKey ? FINE : COARSE, PageUp: PAGE };
    Object.assign(steps, { ArrowDown: -steps.ArrowUp, PageDown: -PAGE });
    const places = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last };
    if (event.key === "Escape") this.revert();
    else if (event.key === "Enter") this.send();
    else if (event.key in places) this.layer = this.layers[Math.min(last, Math.max(0, places[event.key]))];
    else if (event.key in steps) this.nudge(steps[event.key]);
    else return;
    event.preventDefault();
    this.draw();
    this.plot.querySelector(`[data-layer="${this.layer}"]`)?.focus({ preventScroll: true });
    this.tell(this.layer);
  }

  nudge(steps) {
    const held = this.handle(this.layer);
    if (held === undefined) return;
    const value = this.bounded(held + steps * this.step());
    this.put(this.layer, value);
    if (value > this.high || value < this.low) this.widen();
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.send(), REST_MILLISECONDS);
  }

  // Hand over all that Python has not heard of yet: a stroke may come while an earlier one is on its way.
  send() {
    clearTimeout(this.resting);
    if (this.stroke || ![...this.fresh.values()].some((each) => each.number === this.number)) return;
    const cells = [...this.fresh].map(([cell, each]) => [...cell.split("\n"), each.value]);
    this.give({ target: this.data.target, number: this.number++, cells: cells.map(([name, layer, value]) => [name, Number(layer), value]) });
  }

  tell(layer) {
    if (layer === undefined) return (this.says.textContent = "");
    const told = [...this.values.keys()].map((name) => [name, this.value(name, layer)]);
    const same = new Set(told.map(([, value]) => value)).size === 1 && told.length > 1;
    const words = (same ? [[ALL, told[0][1]]] : told.filter(([, value]) => value !== undefined));
    this.says.textContent = `layer ${layer}: ` + words.map(([name, value]) => `${name} ${short(value)}`).join(", ");
  }

  draw() {
    if (!this.data || !this.layers.length) return;
    this.width = Math.max(160, this.plot.clientWidth || 600);
    this.plot.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    const held = this.plot.getRootNode().activeElement?.dataset?.layer;
    const curves = [...this.values.keys()].sort((a, b) => (a === this.chosen) - (b === this.chosen));
    this.plot.replaceChildren(...this.axes(), ...curves.map((name) => this.curve(name)), ...this.handles());
    if (held !== undefined) this.plot.querySelector(`[data-layer="${held}"]`)?.focus({ preventScroll: true });
    const { minimum, maximum } = this.data;
    this.wider.disabled = this.high === maximum && this.low <= (minimum ?? -Infinity);
  }

  axes() {
    const gap = nice((this.high - this.low) / 5), marks = [];
    for (let i = Math.ceil(this.low / gap - 1e-9); i * gap <= this.high + 1e-9; i++) {
      const y = this.y(i * gap);
      marks.push(shape("line", { x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y, class: i ? "grid" : "zero" }));
      marks.push(shape("text", { x: LEFT - 8, y: y + 4, class: "right" }, short(i * gap)));
    }
    const every = Math.ceil(this.layers.length / Math.max(2, Math.floor(this.width / 44)));
    for (const layer of this.layers.filter((_, i) => i % every === 0)) {
      marks.push(shape("text", { x: this.x(layer), y: HEIGHT - BOTTOM + 18, class: "middle" }, layer));
    }
    marks.push(shape("text", { x: (LEFT + this.width - RIGHT) / 2, y: HEIGHT - 4, class: "middle title" }, "layer"));
    const middle = (TOP + HEIGHT - BOTTOM) / 2;
    const turned = { x: 0, y: 0, class: "middle title", transform: `translate(11 ${middle}) rotate(-90)` };
    return [...marks, shape("text", turned, this.data.parameter)];
  }

  curve(name) {
    const points = this.layers.filter((layer) => this.values.get(name).has(layer));
    const path = points.map((layer) => `${this.x(layer)},${this.y(this.value(name, layer))}`).join(" ");
    const faint = this.chosen !== ALL && this.chosen !== name;
    return shape("polyline", { points: path, class: faint ? "faint" : "", stroke: this.colour(name) });
  }

  handles() {
    return this.layers.filter((layer) => this.handle(layer) !== undefined).map((layer) => {
      const value = this.handle(layer);
      return shape("circle", {
        cx: this.x(layer), cy: this.y(value), r: this.layers.length > 60 ? 3 : 5, fill: this.colour(this.chosen),
        role: "slider", tabindex: layer === this.layer ? 0 : -1, "data-layer": layer, "aria-orientation": "vertical",
        "aria-label": `layer ${layer}, ${this.chosen}`, "aria-valuemin": this.low, "aria-valuemax": this.high,
        "aria-valuenow": value, "aria-valuetext": `${short(value)}`,
      });
    });
  }
}

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The nearest 1, 2 or 5 times a power of ten above; below with Math.floor.
function nice(size, rounded = Math.ceil) {
  const power = 10 ** Math.floor(Math.log10(size) + 1e-9), steps = [1, 2, 5, 10], left = size / power;
  const fits = rounded === Math.ceil ? steps.find((step) => step >= left - 1e-9) : steps.findLast((step) => step <= left + 1e-9);
  return Number((fits * power).toPrecision(12));
}

function short(value) {
  return String(Number(value.toPrecision(4)));
}
