// The dream runs in Python, at the other end of a websocket: one question, one frame.

const FIRST_WAIT = 500; // milliseconds until the first try to connect again; each further one doubles it
const LONGEST_WAIT = 4000;
const PATIENCE = 15000; // milliseconds for an answer

export class NoConnection extends Error {}

export class LiveDream {
  // connected(yes): hears of every change.
  constructor(connected) {
    this.connected = connected;
    this.wait = FIRST_WAIT;
    this.connect();
  }

  connect() {
    const address = new URL("dream", window.location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    address.search = "";
    this.socket = new WebSocket(address);
    this.socket.onopen = () => {
      this.wait = FIRST_WAIT;
      this.connected(true);
    };
    this.socket.onmessage = ({ data }) => this.answer?.(JSON.parse(data));
    this.socket.onclose = () => {
      this.fail?.(new NoConnection("the connection is closed"));
      this.connected(false);
      setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
    };
  }

  ask(question) {
    return new Promise((answer, fail) => {
      if (this.socket.readyState !== WebSocket.OPEN) {
        fail(new NoConnection("there is no connection"));
        return;
      }
      const late = setTimeout(() => this.socket.close(), PATIENCE);
      this.answer = (frame) => {
        clearTimeout(late);
        answer(frame);
      };
      this.fail = (error) => {
        clearTimeout(late);
        fail(error);
      };
      this.socket.send(JSON.stringify(question));
    });
  }

  begin(start) {
    return this.ask({ start });
  }

  act(action, temperature) {
    return this.ask({ action, temperature });
  }
}
