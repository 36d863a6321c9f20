// What the tests of the browser's module run in Node: reads questions from standard input, prints answers, as JSON.
import fs from "node:fs";
import { load, Sampler } from "../../examples/web/gatewise.js";

const { wasm, questions } = JSON.parse(fs.readFileSync(0, "utf8"));
const compiled = await WebAssembly.compile(fs.readFileSync(wasm));
const open = (path) => load(fs.readFileSync(path), { wasm: compiled });
const plain = (_, x) => (ArrayBuffer.isView(x) ? Array.from(x) : x);

const asked = {
  info: (model) => ({ ...model.info, tokens_listed: model.tokens, labels_listed: model.labels, cell_described: model.description.runtime.cell }),
  encode: (model, text) => model.encode(text),
  run: (model, sequences, overTime) => model.run(sequences, { overTime }),
  tag: (model, sentences) => model.tag(sentences),
  tagProbabilities: (model, sentences) => model.tagProbabilities(sentences),
  score: (model, sequences) => model.score(sequences),
  generate: (model, prompt, options) => [...model.generate(prompt, options)].map(({ text }) => text).join(""),
  // The outputs of two rows step by step: with states that were copied and saved, and of all steps traced.
  step(model, inputs) {
    let [first, second] = [model.state(), model.state()];
    return inputs.map((input) => {
      const traced = first.copy(), { outputs, trace } = model.trace(input, traced);
      const [alone] = model.step([input], [first.copy()]);
      const found = model.step([input, input], [first, second]);
      const restored = model.loadState(second.save());
      second.free();
      second = restored;
      const kept = model.outputs([first, second]);
      return { found, kept, alone, outputs, h: trace.map((layer) => layer.h), saved: first.save().length };
    });
  },
  loadState: (model, bytes) => void model.loadState(Uint8Array.from(bytes)),
  freed(model) {
    const state = model.state();
    state.free();
    model.step([0], [state]);
  },
  another: (model, path, other) => void other.step([0], [model.state()]),
  // Seconds of a step, the best of several times as many steps.
  speed(model, count) {
    const state = model.state(), times = [];
    for (let repeat = 0; repeat < 5; ++repeat) {
      const began = performance.now();
      for (let k = 0; k < count; ++k) model.step([k % 10], [state]);
      times.push((performance.now() - began) / 1000 / count);
    }
    return Math.min(...times);
  },
};

const answers = [];
for (const { path, ask, args } of questions) {
  try {
    if (ask === "draw") {
      const sampler = new Sampler(args[0]);
      answers.push({ value: args[1].map((logits) => sampler.draw(Float32Array.from(logits)).id) });
    } else {
      const other = ask === "another" ? [await open(args[0])] : [];
      answers.push({ value: asked[ask](await open(path), ...args, ...other) });
    }
  } catch (problem) {
    answers.push({ name: problem.name, code: problem.code, message: problem.message });
  }
}
process.stdout.write(JSON.stringify(answers, plain));
