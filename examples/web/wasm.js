// The backend that computes in the page: gatewise.js and gatewise.wasm, which lie beside it. See server.js for the interface.
import { load, Sampler } from "./gatewise.js";

const pause = () => new Promise((resolve) => setTimeout(resolve));
/** Words, numbers and marks, each on its own. */
const words = (line) => line.match(/[\p{L}\p{N}]+(?:['’.-][\p{L}\p{N}]+)*|[^\s\p{L}\p{N}]/gu) ?? [];

function softmax(logits) {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const mass = Float64Array.from(logits, (x) => Math.exp(x - largest)), sum = mass.reduce((a, b) => a + b, 0);
  return mass.map((x) => x / sum);
}

const SLICE = 12; // milliseconds of computing, then the page is shown
const NAMES = ["language", "tagger", "text", "digits", "forecast"];

export class WebAssemblyBackend {
  runtime = "WebAssembly, in this page: nothing that you type leaves it";
  models = [];
  #loaded = new Map();

  /** Load the models that lie beside the page. */
  async start() {
    for (const name of NAMES) {
      const answer = await fetch(`${name}.gatewise`).catch(() => null);
      if (answer?.ok) await this.open(new Uint8Array(await answer.arrayBuffer()), name);
    }
  }

  /** Load a model from the bytes of its file, or from a File; return what models says about it. */
  async open(file, name = file.name.replace(/\.gatewise$/, "")) {
    const model = await load(file);
    const about = { ...described(model), id: name, bytes: file.size ?? file.length };
    this.models = [...this.models.filter((one) => one.id !== name), about];
    this.#loaded.set(name, model);
    return about;
  }

  async session(about) {
    return new Session(this.#loaded.get(about.id), about);
  }

  async tag(about, text) {
    const model = this.#loaded.get(about.id);
    const sentences = text.split("\n").map(words).filter((one) => one.length);
    if (!sentences.length) return [];
    const tags = model.tag(sentences), probabilities = model.tagProbabilities(sentences);
    return sentences.map((one, k) => ({ words: one, tags: tags[k], probabilities: probabilities[k].map((row) => named(about.labels, row)) }));
  }

  async classify(about, input) {
    const model = this.#loaded.get(about.id), given = typeof input === "string" ? split(input, about) : input;
    const [found] = model.run([given], { overTime: true });
    return { words: given, probabilities: found.map((row) => named(about.labels, softmax(row))) };
  }

  /** The values of the target that follow: those of the horizon from the last window, then from these, and so on. */
  async forecast(about, rows, steps) {
    const model = this.#loaded.get(about.id), { columns, known, target, horizon, window } = about;
    const place = columns.indexOf(target), ahead = known.map((name) => columns.indexOf(name));
    let last = rows.length;
    while (last && rows[last - 1][place] === null) --last;
    const needed = Math.ceil(steps / horizon) * horizon, future = rows.slice(last, last + needed);
    if (last < window) throw new Error(`${last} rows are too few for a window of ${window}; expected at least ${window}`);
    if (steps > horizon && columns.length > known.length + 1)
      throw new Error(`${steps} steps are beyond the horizon of ${horizon}: the model forecasts only ${target} of its columns`);
    if (ahead.length && (future.length < needed || future.some((row) => ahead.some((k) => row[k] === null))))
      throw new Error(`expected ${needed} rows after the last ${target}, with values of ${known.join(", ")}`);
    const all = rows.slice(last - window, last).map((row) => [...row]);
    for (let k = 0; k < needed; ++k) all.push(ahead.length ? [...future[k]] : columns.map(() => null));
    for (let start = 0; start < needed; start += horizon) {
      const inputs = all.slice(start, start + window).map((row, k) => [...row, ...ahead.map((column) => all[start + k + horizon][column])]);
      model.run([inputs])[0].forEach((value, k) => (all[start + window + k][place] = value));
    }
    return all.slice(window, window + steps).map((row) => row[place]);
  }
}

const named = (labels, p) => Object.fromEntries(labels.map((label, k) => [label, p[k]]));

const TOKEN = new RegExp(
  String.raw`https?:\/\/[^\s<>"]*[\w\/]|[\w.+-]+@\w[\w-]*(?:\.\w+)+|(?:[^\W\d_]\.){2,}|\b(?:mr|mrs|ms|dr|st|jr|sr|vs|etc|inc|ltd|co|corp)\.|\d+(?:[.,:\/]\d+)+|\w+(?:['-]\w+)*|([^\w\s])\1*`
    .replaceAll("[^\\W\\d_]", "\\p{L}").replaceAll("[^\\w\\s]", "[^\\p{L}\\p{N}_\\s]").replaceAll("[\\w", "[\\p{L}\\p{N}_").replaceAll("\\w", "[\\p{L}\\p{N}_]"),
  "gu",
);
const prose = (line) => line.toLowerCase().replace(/[‘’]/g, "'").replace(/[“”]/g, '"').match(TOKEN) ?? [];

/** The inputs of a text: those of a classifier of texts. */
function split(text, { level }) {
  if (level === "character") return Array.from(text);
  return level === "prose" ? prose(text) : text.split(/\s+/).filter(Boolean);
}

/** A model as the server's v1/models describes it. */
function described(model) {
  const { task, cell, weights, layers, hidden, directions, streams, level, tokens, inputs, window, outputs } = model.info;
  const about = { task, cell, weights, layers, hidden, directions, streams, gates: null };
  if (streams) {
    about.gates = { lstm: "ifgoch", gru: "rznh" }[cell]?.split("") ?? ["h"];
    about.gates = about.gates.map((name) => {
      if (name === "c" || cell === "rnn_relu") return { name, low: -1, high: 1, squash: "tanh" };
      return { name, low: "gnh".includes(name) ? -1 : 0, high: 1 };
    });
  }
  if (task === "language-model") return { ...about, level, vocabulary: tokens };
  if (task !== "regressor") return { ...about, labels: model.labels, level, inputs };
  const { columns = [], target = "", known = [] } = model.description.runtime.scaling;
  return { ...about, inputs, horizon: outputs, window, columns, target, known };
}

class Session {
  #model;
  #about;
  #state = null;
  #logits = null; // of a language model: what it expects next
  #apart = false; // whether a space comes before the next token
  #running = false;
  #stopping = false;

  constructor(model, about) {
    this.#model = model;
    this.#about = about;
    this.#restart();
  }

  #restart() {
    this.position = 0;
    this.#apart = false;
    this.#begin();
  }

  #begin() {
    this.#state?.free();
    this.#state = this.#model.state();
    const { eos, bos, task } = this.#model.info;
    if (task === "language-model") [this.#logits] = this.#model.step([bos < 0 ? eos : bos], [this.#state]);
  }

  async #alone(f) {
    if (this.#running) throw new Error("the session is busy");
    this.#running = true;
    this.#stopping = false;
    try {
      await f();
    } finally {
      this.#running = false;
    }
  }

  async reset() {
    await this.#alone(async () => this.#restart());
  }

  /** Read inputs: {text}, {tokens}, {words} or {inputs}; onEvent, if given, is told about each. */
  async feed({ text, tokens, words, inputs, top = 0 }, onEvent) {
    const model = this.#model, { level } = this.#about;
    const ids = () => tokens ?? model.encode(level === "prose" ? text.split("\n").map((line) => prose(line).join(" ")).join("\n") : text);
    const items = model.info.task === "language-model" ? ids() : words ?? inputs;
    await this.#alone(() => this.#each(items.length, (k) => {
      const event = this.#read(items[k], top);
      onEvent?.(event);
    }));
  }

  async generate({ max_tokens, temperature, top_k, seed, top = 0 }, onEvent) {
    const sampler = new Sampler({ temperature, topK: top_k ?? null, seed: seed ?? null }), { bos } = this.#model.info;
    await this.#alone(() => this.#each(max_tokens, () => {
      if (bos >= 0) this.#logits[bos] = -Infinity;
      onEvent(this.#read(sampler.draw(this.#logits).id, top));
    }));
  }

  async #each(steps, f) {
    let until = performance.now() + SLICE;
    for (let k = 0; k < steps && !this.#stopping; ++k) {
      f(k);
      if (performance.now() < until) continue;
      await pause();
      until = performance.now() + SLICE;
    }
  }

  #read(item, top) {
    const { task, eos, bos } = this.#model.info, event = { position: ++this.position };
    if (task === "language-model") {
      const p = softmax(this.#logits), ends = item === eos;
      Object.assign(event, { token: item, probability: p[item], top: best(p, top).map((id) => [this.#model.tokens[id], p[id]]) });
      event.text = ends ? "\n" : (this.#apart ? " " : "") + this.#model.tokens[item];
      this.#apart = !ends && this.#about.level !== "character";
    }
    const { outputs, trace } = this.#model.trace(item, this.#state);
    event.gates = asBytes(trace, this.#about);
    if (task === "language-model") this.#logits = outputs;
    else if (task === "regressor") event.prediction = [...outputs];
    else event.probabilities = named(this.#about.labels, softmax(outputs));
    if (item === eos && bos >= 0 && task === "language-model") this.#begin(); // a model of sentences: the next one
    return event;
  }

  stop() {
    this.#stopping = true;
  }

  close() {
    this.#stopping = true;
    this.#state.free();
  }
}

/** The places of the k largest, the largest first. */
function best(p, k) {
  const found = [];
  for (let id = 0; k > 0 && id < p.length; ++id) {
    if (found.length === k && p[id] <= p[found[k - 1]]) continue;
    let place = found.length === k ? k - 1 : found.length;
    for (; place > 0 && p[found[place - 1]] < p[id]; --place) found[place] = found[place - 1];
    found[place] = id;
  }
  return found;
}

/** Gates and states as bytes, array by array: b stands for low + b/255·(high − low). */
function asBytes(trace, { gates, layers, hidden }) {
  const bytes = new Uint8Array(gates.length * layers * hidden);
  let at = 0;
  for (const { name, low, high, squash } of gates)
    for (const layer of trace)
      for (const x of layer[name]) bytes[at++] = Math.round((255 * ((squash ? Math.tanh(x) : x) - low)) / (high - low));
  return bytes;
}
