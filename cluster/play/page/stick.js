// Which action the held keys and buttons ask for. Names are the emulator's: NOOP FIRE UP RIGHT UPRIGHTFIRE ...

const KEYS = { ArrowUp: "UP", ArrowDown: "DOWN", ArrowLeft: "LEFT", ArrowRight: "RIGHT", " ": "FIRE" };

export class Stick {
  constructor(names) {
    this.names = names;
    this.held = new Set();
    this.tapped = new Set(); // pressed since the last step: a short tap between two steps counts as well
    this.direct = null; // an action that is held by its own button
    this.tappedDirect = null;
  }

  // Games that do not name their actions are played with the buttons of these.
  knowsArrows() {
    return Object.values(KEYS).some((way) => this.names.includes(way));
  }

  // Whether the key is one of the joystick's.
  key(key, down) {
    if (!(key in KEYS)) return false;
    this.turn(KEYS[key], down);
    return true;
  }

  turn(way, down) {
    if (down) {
      this.held.add(way);
      this.tapped.add(way);
    } else {
      this.held.delete(way);
    }
  }

  // An action by its number; null lets it go.
  choose(number) {
    this.direct = number;
    this.tappedDirect = number ?? this.tappedDirect;
  }

  release() {
    this.held.clear();
    this.direct = null;
  }

  // The action of the next step; where the game has no such combination, the nearest one that it has.
  take() {
    const on = (way) => this.held.has(way) || this.tapped.has(way);
    const either = (one, other) => (on(one) === on(other) ? "" : on(one) ? one : other);
    const [vertical, sideways, fire] = [either("UP", "DOWN"), either("RIGHT", "LEFT"), on("FIRE") ? "FIRE" : ""];
    this.tapped.clear();
    const chosen = this.direct ?? this.tappedDirect;
    this.tappedDirect = null;
    if (chosen !== null) return chosen;
    const wishes = [vertical + sideways + fire, vertical + sideways, sideways + fire, sideways, vertical, fire, "NOOP"];
    const found = wishes.map((wish) => (wish ? this.names.indexOf(wish) : -1)).find((number) => number >= 0);
    return found ?? 0;
  }
}
