// The page: asks the dream for one frame after the other and shows it. Nothing leaves it but numbers.

import { Controls } from "./controls.js";
import { FrozenDream } from "./frozen.js";
import { LiveDream, NoConnection } from "./live.js";
import { View } from "./view.js";

const IDLE = 40; // milliseconds between two looks at what is wanted, while nothing moves
const OVER = 0.5; // of gamma: a discount below it says that the game, or a life, is over

const sleep = (milliseconds) => new Promise((wake) => setTimeout(wake, milliseconds));

async function main() {
  const about = await (await fetch("dream.json")).json();
  const view = new View(about);
  const controls = new Controls(about, view);
  const connection = { open: !about.live };
  view.trouble(about.live ? "" : "The world model is being loaded …");
  const dream = about.live
    ? new LiveDream((yes) => {
        connection.open = yes;
        view.trouble(yes ? "" : "The connection to the dream is gone. Trying again …");
        if (yes) controls.restart();
      })
    : await FrozenDream.open(about);
  if (!about.live) view.trouble("");
  await run(about, dream, view, controls, connection);
}

async function run(about, dream, view, controls, connection) {
  let frame = null;
  let due = performance.now();
  for (;;) {
    await sleep(Math.max(0, due - performance.now()));
    due = performance.now() + IDLE;
    if (!connection.open || document.hidden) continue;
    try {
      const start = controls.takeStart();
      if (start !== null) {
        frame = await dream.begin(start);
        view.begin(start, frame);
      } else if (frame && controls.takeStep()) {
        due = performance.now() + controls.interval();
        const action = choose(about, frame, controls);
        frame = await dream.act(action, controls.temperature());
        view.show(frame, action, { over: isOver(about, frame) });
      }
    } catch (error) {
      // A socket may be closing before it tells; when it is open again the dream begins anew.
      if (!(error instanceof NoConnection)) throw error;
    }
  }
}

function isOver(about, frame) {
  return frame.discount < OVER * about.gamma;
}

// Training serves the ball for the player; so does the page, where the dream says that a life was lost.
function choose(about, frame, controls) {
  const action = controls.takeAction();
  if (about.serve >= 0 && frame.steps > 0 && isOver(about, frame)) return about.serve;
  return controls.agentPlays ? draw(frame.policy) : action;
}

// The number of an action, drawn with these probabilities.
function draw(policy) {
  let left = Math.random();
  const found = policy.findIndex((share) => (left -= share) < 0);
  return found < 0 ? policy.indexOf(Math.max(...policy)) : found;
}

main().catch((error) => {
  const trouble = document.getElementById("trouble");
  trouble.textContent = `The dream cannot be shown: ${error.message}`;
  trouble.hidden = false;
  throw error;
});
