// A number as a line that moves to the left, the newest value in words above it.

const POINTS = 180;

export class Plot {
  constructor(parent, title, { unit = "", least = 0, most = 1, colour = "--dream" } = {}) {
    Object.assign(this, { unit, least, most, colour, values: [] });
    const figure = parent.appendChild(document.createElement("figure"));
    const caption = figure.appendChild(document.createElement("figcaption"));
    caption.appendChild(document.createElement("span")).textContent = title;
    this.says = caption.appendChild(document.createElement("span"));
    this.canvas = figure.appendChild(document.createElement("canvas"));
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${title}, the last ${POINTS} steps`);
  }

  clear() {
    this.values = [];
  }

  // null: there is no such number at this step, and the line has a gap.
  push(value) {
    this.values.push(value);
    if (this.values.length > POINTS) this.values.shift();
    this.says.textContent = value === null ? "–" : `${value.toFixed(2)}${this.unit}`;
    this.draw();
  }

  draw() {
    const { canvas, values } = this;
    const scale = window.devicePixelRatio || 1;
    const [wide, high] = [canvas.clientWidth * scale, canvas.clientHeight * scale].map(Math.round);
    if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, wide, high);
    const known = values.filter((value) => value !== null);
    const [least, most] = [Math.min(this.least, ...known), Math.max(this.most, ...known)];
    const y = (value) => high - 3 * scale - ((value - least) / (most - least)) * (high - 6 * scale);
    const style = getComputedStyle(document.documentElement);
    if (least < 0) {
      pen.strokeStyle = style.getPropertyValue("--line");
      pen.lineWidth = scale;
      pen.beginPath();
      pen.moveTo(0, y(0));
      pen.lineTo(wide, y(0));
      pen.stroke();
    }
    pen.strokeStyle = style.getPropertyValue(this.colour);
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
