// The page: a language model and a tagger, from files beside it or files that the reader opens.
import { load } from "./gatewise.js";

const $ = (id) => document.getElementById(id);

/** Load NAME.gatewise, then whatever file is opened; tell `use` about each model of the task. */
function connect(name, task, use) {
  const status = $(`${name}-status`);
  const open = async (source, title) => {
    status.className = "";
    try {
      const model = await load(source);
      const { task: found, cell, layers, hidden, weights } = model.info;
      if (found !== task) throw new Error(`a ${found}; expected a ${task}`);
      status.textContent = `${title}: ${layers} × ${cell} of ${hidden} units, ${weights}`;
      use(model);
    } catch (problem) {
      status.textContent = `${title}: ${problem.message}`;
      status.className = "failed";
    }
  };
  $(`${name}-file`).addEventListener("change", ({ target }) => target.files[0] && open(target.files[0], target.files[0].name));
  open(`${name}.gatewise`, `${name}.gatewise`);
}

const pause = () => new Promise((resolve) => setTimeout(resolve));
const optional = (id) => ($(id).value === "" ? null : Number($(id).value));

let language = null;
let writing = false;

function span(text, name = "") {
  const made = document.createElement("span");
  made.textContent = text;
  made.className = name;
  return made;
}

async function write() {
  const prompt = $("prompt").value, out = $("text");
  const options = {
    maxTokens: Number($("count").value), temperature: Number($("temperature").value), topK: optional("top-k"), seed: optional("seed"),
  };
  out.replaceChildren(prompt);
  let count = 0, computing = 0;
  const tokens = language.generate(prompt, options);
  while (writing) {
    const until = performance.now() + 15; // then the page is shown
    let done = false;
    for (let now = performance.now(); now < until && !done; ) {
      const { value } = tokens.next();
      const then = performance.now();
      computing += then - now;
      now = then;
      done = value === undefined;
      if (done) break;
      const shown = span(value.text, value.probability < 0.01 ? "improbable" : "");
      shown.title = `${(100 * value.probability).toPrecision(2)}%`;
      out.append(shown);
      ++count;
    }
    $("speed").textContent = `${Math.round((1000 * count) / computing)} tokens a second.`;
    if (done) break;
    await pause();
  }
  tokens.return();
}

$("language").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (writing) {
    writing = false;
    return;
  }
  writing = true;
  $("go").textContent = "Stop";
  try {
    await write();
  } catch (problem) {
    $("text").append(span(` ${problem.message}`, "failed"));
  }
  writing = false;
  $("go").textContent = "Generate";
});

connect("language", "language-model", (model) => {
  language = model;
  $("go").disabled = false;
});

let tagger = null;

// Words, numbers and punctuation marks, each on its own.
const split = (line) => line.match(/[\p{L}\p{N}]+(?:['’.-][\p{L}\p{N}]+)*|[^\s\p{L}\p{N}]/gu) ?? [];

function tag() {
  const sentences = $("words").value.split("\n").map(split).filter((words) => words.length);
  let tags = [];
  try {
    tags = sentences.length ? tagger.tag(sentences) : [];
  } catch (problem) {
    $("tagged").replaceChildren(span(problem.message, "failed"));
    return;
  }
  const lines = sentences.map((words, row) => {
    const line = document.createElement("div");
    words.forEach((word, k) => {
      const one = span(word, "word"), label = document.createElement("small");
      label.textContent = tags[row][k];
      one.append(label);
      line.append(one, " ");
    });
    return line;
  });
  $("tagged").replaceChildren(...lines);
}

$("words").addEventListener("input", tag);
connect("tagger", "tagger", (model) => {
  tagger = model;
  $("words").disabled = false;
  tag();
});
