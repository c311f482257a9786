// All that is to be seen.

import { bytes, draw, ring } from "./picture.js";
import { Plot } from "./plot.js";

const element = (id) => document.getElementById(id);
const signed = (number) => (Math.abs(number) < 0.05 ? 0 : number).toFixed(1);

export class View {
  constructor(about) {
    this.about = about;
    element("of").textContent = `${about.game}, world model after ${about.update.toLocaleString("en")} updates`;
    this.bars = about.actions.map((name) => this.actionButton(name));
    this.gallery = about.starts.map((start, number) => this.galleryButton(start, number));
    const plots = element("plots");
    this.plots = {
      reward: new Plot(plots, "reward"),
      discount: new Plot(plots, "discount"),
      value: new Plot(plots, "value", { most: 2 }),
      entropy: new Plot(plots, "entropy of the prior", { unit: " nats", most: 8 }),
    };
  }

  actionButton(name) {
    const button = element("actions").appendChild(document.createElement("button"));
    const bar = button.appendChild(document.createElement("i"));
    button.appendChild(document.createElement("span")).textContent = name.toLowerCase();
    const says = button.appendChild(document.createElement("span"));
    return { button, bar, says };
  }

  galleryButton(start, number) {
    const button = element("gallery").appendChild(document.createElement("button"));
    button.setAttribute("aria-label", `Begin from real moment ${number + 1}`);
    draw(button.appendChild(document.createElement("canvas")), bytes(start.picture), this.about.shape);
    return button;
  }

  trouble(text) {
    element("trouble").textContent = text;
    element("trouble").hidden = !text;
  }

  mode(text) {
    element("mode").textContent = text;
  }

  begin(start, frame) {
    this.score = 0;
    Object.values(this.plots).forEach((plot) => plot.clear());
    this.gallery.forEach((button, n) => button.setAttribute("aria-pressed", n === start));
    this.show(frame, null, {});
    document.body.dataset.start = start;
  }

  show(frame, action, { over = false }) {
    draw(element("dream"), frame.pixels ?? bytes(frame.picture), this.about.shape);
    if (frame.steps > 0) this.score += frame.reward;
    const since = frame.steps === 1 ? "1 step" : `${frame.steps} steps`;
    element("dream-says").textContent =
      frame.steps === 0
        ? "as the model sees the last real picture"
        : `${since} since reality, score ${signed(this.score)} (predicted)`;
    if (over) this.event(`${this.about.over}, says the dream`);
    frame.policy.forEach((share, n) => {
      this.bars[n].bar.style.transform = `scaleX(${share})`;
      this.bars[n].says.textContent = `${Math.round(100 * share)} %`;
      this.bars[n].button.classList.toggle("done", n === action);
    });
    for (const [name, plot] of Object.entries(this.plots)) {
      if (name in frame) plot.push(frame[name]);
    }
    this.showReal(frame.real);
    document.body.dataset.steps = frame.steps;
  }

  // Without an emulator there is no reality; one that is over stays as it was.
  showReal(real) {
    if (!real) return;
    const { shape } = this.about;
    element("real-side").hidden = false;
    draw(element("real"), bytes(real.picture), shape);
    const told = real.over ? ", game over" : real.life_lost ? ", a life is lost" : "";
    element("real-says").textContent = `score ${real.score}${told}`;
    if (!("distance" in real)) return;
    ring(element("real-ball"), real.real_ball, shape);
    ring(element("dream-ball"), real.dream_ball, shape);
    this.plots.distance ??= new Plot(element("plots"), "distance of the balls", { unit: " px", most: 10, colour: "--real" });
    this.plots.distance.push(real.distance);
    element("distance").textContent = distance(real);
  }

  // A few words over the picture, which fade.
  event(text) {
    const place = element("event");
    place.textContent = text;
    place.classList.add("now");
    setTimeout(() => place.classList.remove("now"), 600);
  }
}

function distance(real) {
  if (real.distance !== null) return `The balls are ${real.distance.toFixed(1)} pixels apart.`;
  if (real.real_ball) return "Only reality shows a ball.";
  return real.dream_ball ? "Only the dream shows a ball." : "Neither shows a ball.";
}
