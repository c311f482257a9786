// The dream runs here: step.onnx is a step of the world model, all chance comes from outside as Gumbel noise.

import { floats } from "./picture.js";

export class FrozenDream {
  static async open(about) {
    const ort = await import("./ort.js");
    ort.env.wasm.numThreads = 1; // more would need headers that a plain web server does not send
    ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", import.meta.url).href };
    const file = new URL("step.onnx", import.meta.url).href;
    const session = await ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
    return new FrozenDream(ort, session, about);
  }

  constructor(ort, session, about) {
    Object.assign(this, { ort, session, about });
    this.begin(0);
  }

  async begin(start) {
    const { deter, stoch, classes } = this.about.state;
    const { h, z, frame } = this.about.first[start];
    this.h = this.tensor(floats(h), [1, deter]);
    this.z = this.tensor(floats(z), [1, stoch, classes]);
    this.steps = 0;
    return frame;
  }

  async act(action, temperature) {
    const { stoch, classes } = this.about.state;
    const noise = Float32Array.from({ length: stoch * classes }, gumbel);
    const oneHot = new Float32Array(this.about.actions.length);
    oneHot[action] = 1;
    const found = await this.session.run({
      h: this.h,
      z: this.z,
      action: this.tensor(oneHot, [1, oneHot.length]),
      noise: this.tensor(noise, [1, stoch, classes]),
      temperature: this.tensor(Float32Array.of(temperature), []),
    });
    [this.h, this.z] = [found.next_h, found.next_z];
    this.steps += 1;
    const number = (name) => found[name].data[0];
    return {
      steps: this.steps,
      pixels: Uint8ClampedArray.from(found.picture.data),
      policy: Array.from(found.policy.data),
      reward: number("reward"),
      discount: number("discount"),
      value: number("value"),
      entropy: number("entropy"),
    };
  }

  tensor(data, shape) {
    return new this.ort.Tensor("float32", data, shape);
  }
}

// A draw from the standard Gumbel distribution; arg-max of logits + noise is a draw from their softmax.
function gumbel() {
  return -Math.log(-Math.log(Math.max(Math.random(), 1e-20)));
}
