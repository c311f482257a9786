// What the player wants: keys, buttons, touch.

import { Stick } from "./stick.js";

const SPEEDS = [1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 1.5, 2, 3, 4]; // of the game's own, keys 1 to 9
const HEATS = [0, 0.5, 1, 1.5, 2]; // key T
const PAD = { LEFT: "◀", UP: "▲", FIRE: "●", DOWN: "▼", RIGHT: "▶" };
const WORDS = { LEFT: "left", UP: "up", FIRE: "fire", DOWN: "down", RIGHT: "right" };

const element = (id) => document.getElementById(id);

export class Controls {
  constructor(about, view) {
    this.about = about;
    this.view = view;
    this.stick = new Stick(about.actions);
    this.agentPlays = true;
    this.paused = false;
    this.steps = 0; // single ones that are wanted
    this.start = this.wanted = 0;
    element("heat").value = about.temperature;
    this.listen();
    this.makePad();
    this.tell();
  }

  // --- What is wanted now ---

  takeStart() {
    const start = this.wanted;
    this.wanted = null;
    return start;
  }

  takeStep() {
    if (!this.paused) return true;
    if (this.steps === 0) return false;
    this.steps -= 1;
    return true;
  }

  takeAction() {
    return this.stick.take();
  }

  temperature() {
    return Number(element("heat").value);
  }

  interval() {
    return 1000 / (this.about.rate * SPEEDS[element("speed").value - 1]);
  }

  // --- What can be asked for ---

  restart(start = this.start) {
    this.start = this.wanted = start;
  }

  letAgentPlay(yes) {
    this.agentPlays = yes;
    this.tell();
  }

  pause(yes) {
    this.paused = yes;
    this.steps = 0;
    this.tell();
  }

  oneStep() {
    if (!this.paused) this.pause(true);
    this.steps += 1;
  }

  heat(value) {
    element("heat").value = value;
    this.tell();
  }

  speed(number) {
    element("speed").value = number;
    this.tell();
  }

  // Whoever takes the joystick plays.
  take() {
    if (this.agentPlays) this.letAgentPlay(false);
  }

  tell() {
    element("agent").setAttribute("aria-pressed", this.agentPlays);
    element("pause").setAttribute("aria-pressed", this.paused);
    element("heat-says").textContent = this.temperature().toFixed(1);
    element("speed-says").textContent = `${Math.round(1000 / this.interval())} steps/s`;
    const how = this.stick.knowsArrows() ? "press an arrow" : "hold the button of an action";
    const who = this.agentPlays ? `The agent plays: ${how} to take over` : "You play";
    this.view.mode(this.paused ? "Paused" : who);
  }

  // --- Keys, buttons, touch ---

  listen() {
    document.addEventListener("keydown", (event) => this.keyDown(event));
    document.addEventListener("keyup", (event) => this.stick.key(event.key, false));
    window.addEventListener("blur", () => this.stick.release());
    element("agent").onclick = () => this.letAgentPlay(!this.agentPlays);
    element("pause").onclick = () => this.pause(!this.paused);
    element("step").onclick = () => this.oneStep();
    element("restart").onclick = () => this.restart();
    for (const name of ["heat", "speed"]) {
      element(name).oninput = () => this.tell();
      element(name).onchange = () => this.tell();
      element(name).onpointerup = () => element(name).blur(); // then the arrows are the joystick's again
    }
    this.view.gallery.forEach((button, number) => {
      button.onclick = () => this.restart(number);
    });
    this.view.bars.forEach(({ button }, number) => this.hold(button, (down) => this.stick.choose(down ? number : null)));
    document.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button && event.detail > 0) button.blur(); // clicked, not typed: the next space is meant for the game
    });
  }

  keyDown(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { tagName } = event.target;
    const arrows = event.key.startsWith("Arrow");
    if ((tagName === "INPUT" && arrows) || (tagName === "BUTTON" && [" ", "Enter"].includes(event.key))) return;
    if (this.stick.key(event.key, true)) {
      event.preventDefault(); // the page would scroll
      this.take();
    } else if (!event.repeat) {
      this.press(event.key);
    }
  }

  press(key) {
    if (/^[1-9]$/.test(key)) this.speed(key);
    else if (key === ".") this.oneStep();
    else if (key === "T") this.heat(HEATS.findLast((heat) => heat < this.temperature()) ?? HEATS.at(-1));
    else if (key === "t") this.heat(HEATS.find((heat) => heat > this.temperature()) ?? HEATS[0]);
    else if ("aA".includes(key)) this.letAgentPlay(!this.agentPlays);
    else if ("rR".includes(key)) this.restart();
    else if ("pP".includes(key)) this.pause(!this.paused);
  }

  // A button for each way that the game knows.
  makePad() {
    const pad = document.querySelector(".pad");
    for (const way of Object.keys(PAD).filter((way) => this.about.actions.includes(way))) {
      const button = pad.appendChild(document.createElement("button"));
      button.textContent = PAD[way];
      button.setAttribute("aria-label", WORDS[way]);
      this.hold(button, (down) => this.stick.turn(way, down));
    }
  }

  // change(down) as the button is pressed and let go; a click by the keyboard is a short press.
  hold(button, change) {
    const turn = (down) => {
      if (down) this.take();
      button.classList.toggle("held", down);
      change(down);
    };
    button.addEventListener("pointerdown", (event) => {
      button.setPointerCapture(event.pointerId);
      turn(true);
    });
    button.addEventListener("pointerup", () => turn(false));
    button.addEventListener("pointercancel", () => turn(false));
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    button.addEventListener("click", (event) => {
      if (event.detail > 0) return;
      turn(true);
      setTimeout(() => turn(false), 150);
    });
  }
}
