// A number as a line that moves to the left, the newest value in words above it.

const POINTS = 180;

// Asked for once, and again when the light changes: to ask at every step would cost more than to draw.
const colours = new Map();
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => colours.clear());

function colour(name) {
  if (!colours.has(name)) {
    colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(name));
  }
  return colours.get(name);
}

export class Plot {
  constructor(parent, title, { unit = "", least = 0, most = 1, colour = "--dream" } = {}) {
    Object.assign(this, { unit, least, most, colour, values: [], waits: false });
    const figure = parent.appendChild(document.createElement("figure"));
    const caption = figure.appendChild(document.createElement("figcaption"));
    caption.appendChild(document.createElement("span")).textContent = title;
    this.says = caption.appendChild(document.createElement("span"));
    this.canvas = figure.appendChild(document.createElement("canvas"));
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${title}, the last ${POINTS} steps`);
    new ResizeObserver(([{ contentRect }]) => this.resize(contentRect)).observe(this.canvas);
  }

  resize({ width, height }) {
    this.scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * this.scale);
    this.canvas.height = Math.round(height * this.scale);
    this.drawSoon();
  }

  clear() {
    this.values = [];
  }

  // null: there is no such number at this step, and the line has a gap.
  push(value) {
    this.values.push(value);
    if (this.values.length > POINTS) this.values.shift();
    this.drawSoon();
  }

  // At most once for each picture of the screen, however fast the dream runs.
  drawSoon() {
    if (this.waits) return;
    this.waits = true;
    requestAnimationFrame(() => {
      this.waits = false;
      this.draw();
    });
  }

  draw() {
    const { canvas, scale, values } = this;
    if (!scale) return; // not laid out yet
    const [wide, high] = [canvas.width, canvas.height];
    const newest = values.at(-1) ?? null;
    this.says.textContent = newest === null ? "–" : `${newest.toFixed(2)}${this.unit}`;
    const known = values.filter((value) => value !== null);
    const [least, most] = [Math.min(this.least, ...known), Math.max(this.most, ...known)];
    const y = (value) => high - 3 * scale - ((value - least) / (most - least)) * (high - 6 * scale);
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, wide, high);
    if (least < 0) {
      pen.strokeStyle = colour("--line");
      pen.lineWidth = scale;
      pen.beginPath();
      pen.moveTo(0, y(0));
      pen.lineTo(wide, y(0));
      pen.stroke();
    }
    pen.strokeStyle = colour(this.colour);
    pen.lineWidth = 1.75 * scale;
    pen.lineJoin = "round";
    pen.beginPath();
    let broken = true;
    values.forEach((value, n) => {
      if (value !== null) {
        const x = ((n + POINTS - values.length) / (POINTS - 1)) * wide;
        if (broken) pen.moveTo(x, y(value));
        else pen.lineTo(x, y(value));
      }
      broken = value === null;
    });
    pen.stroke();
  }
}
