// Gatewise in the browser and in Node: recurrent models, read and run in WebAssembly.
//
//     import { load } from "./gatewise.js";
//     const model = await load("model.gatewise");          // as `gatewise export RUN --to runtime` writes it
//     for (const token of model.generate("the meaning of", { maxTokens: 20 })) console.log(token.text);
//
// Functions throw a GatewiseError, whose code is one of gw_code in gatewise.h. What a model remembers between two steps
// is a State. Results depend on nothing but the model, its state and the input.

const TASKS = ["language-model", "tagger", "text-classifier", "classifier", "regressor"];
const CELLS = ["lstm", "gru", "rnn_tanh", "rnn_relu"];
const WEIGHTS = ["fp32", "bf16", "int8"];
const LEVELS = ["word", "character", "prose"];
const TRACED = { lstm: ["i", "f", "g", "o", "c", "h"], gru: ["r", "z", "n", "h"], rnn_tanh: ["h"], rnn_relu: ["h"] };
const [TOKEN, LABEL, JSON_TEXT] = [0, 1, 2]; // gw_kind
const USAGE = 2, NO_MEMORY = 5; // gw_code
const MESSAGE = 508; // bytes of gw_error's message

export class GatewiseError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "GatewiseError";
    this.code = code;
  }
}

/**
 * Load a model.
 * @param source its file: an address, bytes (ArrayBuffer or Uint8Array), or a Blob such as a File.
 * @param options.wasm gatewise.wasm: an address, bytes, or a WebAssembly.Module; by default beside this file.
 * @returns {Promise<Model>}
 */
export async function load(source, { wasm = new URL("gatewise.wasm", import.meta.url) } = {}) {
  const compiled = wasm instanceof WebAssembly.Module ? wasm : await WebAssembly.compile(await bytesOf(wasm));
  const content = await bytesOf(source);
  const { imports, use } = system();
  const { exports } = await WebAssembly.instantiate(compiled, imports);
  use(exports.memory);
  exports._initialize();
  return new Model(new Library(exports), content);
}

async function bytesOf(source) {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  const answer = await fetch(source);
  if (!answer.ok) throw new GatewiseError(4, `${source}: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

// What the C library of WebAssembly asks of its system: there are no files and no environment, and it is always midnight.
function system() {
  const NOTHING_THERE = 8; // EBADF
  const zero = (at, size) => new Uint8Array(memory.buffer, at, size).fill(0);
  let memory = null;
  const there = {
    environ_sizes_get: (count, size) => (zero(count, 4), zero(size, 4), 0),
    environ_get: () => 0,
    clock_time_get: (_clock, _precision, time) => (zero(time, 8), 0),
  };
  const functions = new Proxy({}, { get: (_, name) => there[name] ?? (() => NOTHING_THERE) });
  return { imports: { wasi_snapshot_preview1: functions }, use: (found) => (memory = found) };
}

/** The functions of gatewise.h in one instance of the module, called with memory that lasts for the call. */
class Library {
  #exports;
  #taken = [];
  #broken = false;

  constructor(exports) {
    this.#exports = exports;
  }

  view() {
    return new DataView(this.#exports.memory.buffer); // made anew: memory that grows has another buffer
  }
  bytes(at, size) {
    return new Uint8Array(this.#exports.memory.buffer, at, size);
  }
  text(at, size) {
    return new TextDecoder().decode(this.bytes(at, size));
  }

  /** Run f, then free what it took. What throws in WebAssembly itself ends the module. */
  scope(f) {
    if (this.#broken) throw new GatewiseError(NO_MEMORY, "the model was out of memory before; load it again");
    const taken = this.#taken;
    this.#taken = [];
    try {
      return f();
    } catch (problem) {
      if (!(problem instanceof WebAssembly.RuntimeError)) throw problem;
      this.#broken = true;
      throw new GatewiseError(NO_MEMORY, "out of memory; load the model again, and use smaller batches");
    } finally {
      if (!this.#broken) this.#taken.forEach((at) => this.#exports.free(at));
      this.#taken = taken;
    }
  }

  take(size) {
    const at = this.#exports.malloc(Math.max(size, 1)) >>> 0;
    if (!at) throw new GatewiseError(NO_MEMORY, "out of memory; use smaller batches");
    this.#taken.push(at);
    return at;
  }

  /** Take memory for an array, copy it there, and return its address. */
  put(array) {
    const at = this.take(array.byteLength);
    this.bytes(at, array.byteLength).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
    return at;
  }
  get(at, Kind, count) {
    return new Kind(this.bytes(at, count * Kind.BYTES_PER_ELEMENT).slice().buffer);
  }

  /** An array of gw_text. */
  putTexts(texts) {
    const bytes = texts.map((text) => new TextEncoder().encode(text));
    return this.put(new Uint32Array(bytes.flatMap((one) => [this.put(one), one.length])));
  }

  /** Call a function that may fail, its last parameter gw_error. */
  call(name, ...given) {
    const error = this.take(4 + MESSAGE);
    const code = this.#exports[name](...given, error);
    if (code === 0) return;
    const message = this.bytes(error + 4, MESSAGE);
    throw new GatewiseError(code, this.text(error + 4, message.indexOf(0)));
  }

  /** Call a function that returns gw_text. */
  textOf(name, ...given) {
    return this.scope(() => {
      const to = this.take(8);
      this.#exports[name](to, ...given);
      const at = this.view().getUint32(to, true);
      return at ? this.text(at, this.view().getUint32(to + 4, true)) : null;
    });
  }

  /** The address that a function writes, given the address to write to. */
  made(f) {
    const to = this.take(4);
    f(to);
    return this.view().getUint32(to, true);
  }

  free(name, at) {
    if (!this.#broken) this.#exports[name](at);
  }
}

const forgotten = new FinalizationRegistry(({ library, at }) => library.free("gw_state_free", at));

/** What one row has read. Freed when it is no longer referred to, or by free(). */
export class State {
  #library;
  #at;

  constructor(library, at) {
    this.#library = library;
    this.#at = at;
    forgotten.register(this, { library, at }, this);
  }

  static address(state, library) {
    if (!(state instanceof State) || !state.#at) throw new GatewiseError(USAGE, "expected a state that is not freed");
    if (state.#library !== library) throw new GatewiseError(3, "the state belongs to another model");
    return state.#at;
  }

  copy() {
    const library = this.#library;
    return library.scope(() => new State(library, library.made((to) => library.call("gw_state_copy", State.address(this, library), to))));
  }

  /** Return it as a safetensors file, for Model.loadState. */
  save() {
    const library = this.#library;
    return library.scope(() => {
      const at = State.address(this, library), size = library.take(4);
      library.call("gw_state_save", at, 0, 0, size);
      const count = library.view().getUint32(size, true), data = library.take(count);
      library.call("gw_state_save", at, data, count, size);
      return library.get(data, Uint8Array, count);
    });
  }

  free() {
    if (!this.#at) return;
    forgotten.unregister(this);
    this.#library.free("gw_state_free", this.#at);
    this.#at = 0;
  }
}

/** A model; see load. `inputs` are, for each row or step: token ids; words; or arrays of numbers. */
export class Model {
  #library;
  #at;
  #names = {};

  constructor(library, content) {
    this.#library = library;
    this.#at = library.scope(() => library.made((to) => library.call("gw_open_memory", library.put(content), content.length, 0, to)));
    /** As gw_info, with names for its enumerations. */
    this.info = Object.freeze(this.#describe());
  }

  #describe() {
    const library = this.#library;
    return library.scope(() => {
      const at = library.take(128);
      library.view().setUint32(at, 128, true);
      library.call("gw_describe", this.#at, at);
      const view = library.view(), small = (k) => view.getInt32(at + 4 * k, true);
      const large = (k) => Number(view.getBigInt64(at + 32 + 8 * k, true));
      const info = {
        task: TASKS[small(1)], cell: CELLS[small(2)], weights: WEIGHTS[small(3)], level: LEVELS[small(4)],
        streams: small(5) !== 0, crf: small(6) !== 0,
      };
      const sizes = ["inputs", "layers", "directions", "hidden", "outputs", "traced", "tokens", "labels", "eos", "bos", "unk", "window"];
      sizes.forEach((name, k) => (info[name] = large(k)));
      return info;
    });
  }

  #list(kind, count) {
    this.#names[kind] ??= Array.from({ length: count }, (_, k) => this.#library.textOf("gw_name", this.#at, kind, BigInt(k)));
    return this.#names[kind];
  }

  /** All tokens, by id. */
  get tokens() {
    return this.#list(TOKEN, this.info.tokens);
  }
  /** All labels, by the place of their score. */
  get labels() {
    return this.#list(LABEL, this.info.labels);
  }
  /** What the file says about the model. */
  get description() {
    return JSON.parse(this.#library.textOf("gw_name", this.#at, JSON_TEXT, 0n));
  }

  /** Encode text for a language model; see gw_encode. */
  encode(text) {
    const library = this.#library;
    return library.scope(() => {
      const given = new TextEncoder().encode(text), capacity = given.length;
      // gw_text is passed by value, which is by address here.
      const to = library.take(8 * capacity), count = library.take(4);
      const value = library.put(new Uint32Array([library.put(given), given.length]));
      library.call("gw_encode", this.#at, value, to, capacity, count);
      return Array.from(library.get(to, BigInt64Array, library.view().getUint32(count, true)), Number);
    });
  }

  /** Make the state before the first step. */
  state() {
    const library = this.#library;
    return library.scope(() => new State(library, library.made((to) => library.call("gw_state_new", this.#at, to))));
  }

  /** Make a state of what State.save returned. */
  loadState(bytes) {
    const library = this.#library;
    return library.scope(() => new State(library, library.made((to) => library.call("gw_state_load", this.#at, library.put(bytes), bytes.length, to))));
  }

  #put(inputs) {
    const { task, inputs: width } = this.info, library = this.#library;
    if (task === "language-model") return library.put(new BigInt64Array(inputs.map(BigInt)));
    if (task === "tagger" || task === "text-classifier") return library.putTexts(inputs);
    if (inputs.some((row) => row.length !== width)) throw new GatewiseError(3, `expected rows of ${width} numbers`);
    return library.put(new Float64Array(inputs.flatMap((row) => Array.from(row))));
  }

  #putStates(states) {
    return this.#library.put(new Uint32Array(states.map((state) => State.address(state, this.#library))));
  }

  get #Number() {
    return this.info.task === "regressor" ? Float64Array : Float32Array;
  }

  #rows(at, count) {
    const { outputs } = this.info, Kind = this.#Number, size = Kind.BYTES_PER_ELEMENT * outputs;
    return Array.from({ length: count }, (_, k) => this.#library.get(at + k * size, Kind, outputs));
  }

  /** Read one input of each row, and change their states. Returns an array of outputs for each; see gw_step. */
  step(inputs, states) {
    const library = this.#library, rows = inputs.length;
    if (states.length !== rows) throw new GatewiseError(USAGE, `${states.length} states; expected ${rows}`);
    return library.scope(() => {
      const to = library.take(rows * this.info.outputs * this.#Number.BYTES_PER_ELEMENT);
      library.call("gw_step", this.#at, BigInt(rows), this.#put(inputs), this.#putStates(states), to);
      return this.#rows(to, rows);
    });
  }

  /** What each state gives after all that it has read, without changing it; see gw_outputs. */
  outputs(states) {
    const library = this.#library, rows = states.length;
    return library.scope(() => {
      const to = library.take(rows * this.info.outputs * this.#Number.BYTES_PER_ELEMENT);
      library.call("gw_outputs", this.#at, BigInt(rows), this.#putStates(states), to);
      return this.#rows(to, rows);
    });
  }

  /**
   * Read whole sequences. Returns, for each, the outputs after its last input or, over time and for taggers, an array of
   * those after each; see gw_run. Without states, from the first.
   */
  run(sequences, { states = null, overTime = this.info.task === "tagger" } = {}) {
    const library = this.#library, rows = sequences.length, each = overTime || this.info.task === "tagger";
    if (states && states.length !== rows) throw new GatewiseError(USAGE, `${states.length} states; expected ${rows}`);
    return library.scope(() => {
      const lengths = sequences.map((one) => one.length), count = each ? lengths.reduce((a, b) => a + b, 0) : rows;
      const to = library.take(count * this.info.outputs * this.#Number.BYTES_PER_ELEMENT);
      library.call("gw_run", this.#at, BigInt(rows), library.put(new BigInt64Array(lengths.map(BigInt))),
        this.#put(sequences.flat(1)), states ? this.#putStates(states) : 0, each ? 1 : 0, to);
      const found = this.#rows(to, count);
      return each ? lengths.map((length) => found.splice(0, length)) : found;
    });
  }

  /** Return -sum log p of the ids of each sequence after its first, in nats. */
  score(sequences) {
    const library = this.#library, rows = sequences.length;
    return library.scope(() => {
      const to = library.take(8 * rows), lengths = new BigInt64Array(sequences.map((one) => BigInt(one.length)));
      const ids = new BigInt64Array(sequences.flat(1).map(BigInt));
      library.call("gw_score", this.#at, BigInt(rows), library.put(lengths), library.put(ids), 0, to);
      return Array.from(library.get(to, Float64Array, rows));
    });
  }

  /** Tag sentences, arrays of words: the label of each word. */
  tag(sentences) {
    return this.#tag("gw_tag", sentences, BigInt64Array, 1, ([k]) => this.labels[Number(k)]);
  }

  /** The probability of each label for each word of sentences: with a CRF, its marginals. */
  tagProbabilities(sentences) {
    return this.#tag("gw_tag_probabilities", sentences, Float64Array, this.info.outputs, (row) => Array.from(row));
  }

  #tag(name, sentences, Kind, size, each) {
    const library = this.#library, rows = sentences.length, words = sentences.flat(1);
    return library.scope(() => {
      const to = library.take(8 * words.length * size), lengths = new BigInt64Array(sentences.map((one) => BigInt(one.length)));
      library.call(name, this.#at, BigInt(rows), library.put(lengths), library.putTexts(words), to);
      const all = library.get(to, Kind, words.length * size), found = words.map((_, k) => each(all.subarray(k * size, (k + 1) * size)));
      return sentences.map((sentence) => found.splice(0, sentence.length));
    });
  }

  /** One step of one row: its outputs, and for each layer the gates and states by name, such as trace[0].f. */
  trace(input, state) {
    const library = this.#library, { layers, traced, hidden, outputs, cell } = this.info;
    return library.scope(() => {
      const inside = library.take(4 * layers * traced * hidden), to = library.take(outputs * this.#Number.BYTES_PER_ELEMENT);
      library.call("gw_trace", this.#at, this.#put([input]), State.address(state, library), inside, to);
      const part = (layer, k) => library.get(inside + 4 * hidden * (layer * traced + k), Float32Array, hidden);
      const trace = Array.from({ length: layers }, (_, layer) => Object.fromEntries(TRACED[cell].map((name, k) => [name, part(layer, k)])));
      return { outputs: this.#rows(to, 1)[0], trace };
    });
  }

  /**
   * Continue a text: yields { id, text, probability } of each token, text with the space or line break before it. The
   * same seed draws the tokens that `gatewise generate` draws. A model of prose takes a prompt split into its tokens.
   */
  *generate(prompt = "", { maxTokens = 50, temperature = 1, topK = null, topP = null, seed = null } = {}) {
    if (this.info.task !== "language-model") throw new GatewiseError(USAGE, "only a language model generates text");
    const { bos, eos, level } = this.info, start = bos < 0 ? eos : bos, sampler = new Sampler({ temperature, topK, topP, seed });
    let ids = this.encode(prompt);
    if (bos >= 0) ids = ids.slice(ids.lastIndexOf(eos) + 1); // a model of sentences reads the last one
    let state = this.state();
    try {
      let [logits] = this.run([[start, ...ids]], { states: [state] });
      let apart = ids.length > 0 && level !== "character"; // whether a space comes before a token
      for (let k = 0; k < maxTokens; ++k) {
        if (bos >= 0) logits[bos] = -Infinity;
        const { id, probability } = sampler.draw(logits), ends = id === eos;
        yield { id, text: ends ? "\n" : (apart ? " " : "") + this.tokens[id], probability };
        if (k + 1 === maxTokens) return;
        apart = !ends && level !== "character";
        if (ends && bos >= 0) {
          state.free();
          state = this.state();
        }
        [logits] = this.step([ends ? start : id], [state]);
      }
    } finally {
      state.free();
    }
  }
}

/** Draw ids from logits, with the same uniform numbers as PyTorch's generator of the CPU: see gatewise.runtime.sampling. */
export class Sampler {
  #words = new Uint32Array(624);
  #place = 624;

  constructor({ temperature = 1, topK = null, topP = null, seed = null } = {}) {
    if (!(temperature >= 0 && temperature < Infinity)) throw new GatewiseError(USAGE, `temperature is ${temperature}; expected 0 or more`);
    if (topK !== null && !(topK >= 1)) throw new GatewiseError(USAGE, `topK is ${topK}; expected 1 or more`);
    if (topP !== null && !(topP > 0 && topP <= 1)) throw new GatewiseError(USAGE, `topP is ${topP}; expected a number above 0 and at most 1`);
    Object.assign(this, { temperature, topK, topP });
    const words = this.#words;
    words[0] = seed === null ? crypto.getRandomValues(new Uint32Array(1))[0] : Number(BigInt(seed) & 0xffffffffn);
    for (let k = 1; k < 624; ++k) words[k] = Math.imul(1812433253, words[k - 1] ^ (words[k - 1] >>> 30)) + k;
  }

  // 32 bits of MT19937.
  #word() {
    const words = this.#words;
    if (this.#place === 624) {
      for (let k = 0; k < 624; ++k) {
        const y = (words[k] & 0x80000000) | (words[(k + 1) % 624] & 0x7fffffff);
        words[k] = words[(k + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.#place = 0;
    }
    let y = words[this.#place++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** A number from 0 up to 1, a multiple of 2^-53. */
  uniform() {
    const high = this.#word(), low = this.#word();
    return ((high & 0x1fffff) * 2 ** 32 + low) * 2 ** -53;
  }

  draw(logits) {
    let best = 0;
    for (let id = 1; id < logits.length; ++id) if (logits[id] > logits[best]) best = id;
    const largest = logits[best];
    const all = logits.reduce((sum, x) => sum + Math.exp(x - largest), 0);
    const chosen = (id) => ({ id, probability: Math.exp(logits[id] - largest) / all });
    if (this.temperature === 0) return chosen(best);
    const scaled = Float64Array.from(logits, (x) => (x - largest) / this.temperature);
    let ids = null, mass = scaled;
    if (this.topK !== null || this.topP !== null) {
      ids = Uint32Array.from(scaled.keys()).sort((a, b) => scaled[b] - scaled[a] || a - b).subarray(0, this.topK ?? undefined);
      mass = Float64Array.from(ids, (id) => scaled[id]);
    }
    mass = mass.map(Math.exp);
    if (this.topP !== null) {
      const sum = mass.reduce((a, b) => a + b, 0);
      let before = 0;
      mass = mass.map((x) => {
        const kept = before < this.topP ? x : 0;
        before += x / sum;
        return kept;
      });
    }
    let sum = 0;
    mass = mass.map((x) => (sum += x));
    const drawn = (1 - this.uniform()) * sum, place = mass.findIndex((x) => x >= drawn);
    return chosen(ids === null ? place : ids[place]);
  }
}
