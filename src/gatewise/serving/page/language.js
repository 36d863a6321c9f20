// Language models: texts A and B, whose tokens are read and written with their probabilities and gates.
import { $, bars, choosable, make, mark, on, option, percent, settled, shown, trying } from "./dom.js";

const bits = (p) => Math.max(0, -Math.log2(Math.max(p, 1e-12)));

/** One text: its tokens, and a session that has read them. */
class Text {
	tokens = []; // the events of the backend, with `as`, what was typed for them, and whether they were written
	gates = [];
	labels = [];
	running = false;
	#session = null;
	#read = ""; // what of the field was read
	#ends = 0; // changes when what runs is to end
	#busy = Promise.resolve();

	constructor(letter, part) {
		this.part = part;
		this.root = $("text-template").content.firstElementChild.cloneNode(true);
		[this.title, this.field, this.write, this.one, this.clear, this.speed, this.list] = this.root.querySelectorAll("h2, textarea, button, .note, .tokens");
		this.title.textContent = `Text ${letter}`;
		this.field.ariaLabel = `Beginning of text ${letter}`;
		this.list.ariaLabel = `Tokens of text ${letter}`;
		this.list.id = letter;
		this.write.onclick = () => (this.running ? this.stop() : trying(() => this.continue()));
		this.one.onclick = () => trying(() => this.continue(1));
		this.clear.onclick = () => {
			this.field.value = "";
			trying(() => this.read());
			this.field.focus();
		};
		on(this.field, "input", settled(() => this.read()));
		on(this.root, "keydown", (event) => {
			if (event.key !== "Enter") return;
			if (event.ctrlKey || event.metaKey) this.write.click();
			else if (event.target === this.list && part.view.cursor.t >= 0) trying(() => this.cut(part.view.cursor.t + 1));
		});
		const { view } = part, mine = (f) => (...given) => ((part.current = this), f(...given));
		choosable(this.list, mine((t) => view.point(t, view.cursor.u, true)), mine((a, b) => view.record === this && view.select(a, b)));
	}

	async open(model) {
		this.model = model;
		this.#session = await this.part.page.backend.session(model);
	}

	close() {
		this.stop();
		this.#session?.close();
		this.root.remove();
	}

	/** Do f when what runs has ended. */
	#alone(f) {
		return (this.#busy = this.#busy.catch(() => {}).then(f));
	}

	stop() {
		++this.#ends;
		if (this.running) this.#session.stop();
	}

	/** Read the field, if it has changed. */
	read() {
		const text = this.field.value;
		if (text === this.#read) return this.#busy;
		this.stop();
		return this.#alone(async () => {
			this.#read = text;
			await this.#session.reset();
			this.#keep(0);
			const pieces = this.#pieces(text);
			if (text && (text.trim() || this.model.level === "character")) await this.#session.feed({ text, top: 10 }, (event) => this.#add(event, pieces[this.tokens.length]));
			this.part.finished(this);
		});
	}

	/** What was typed for each token. */
	#pieces(text) {
		if (this.model.level !== "word") return [];
		return text.split("\n").flatMap((line, k) => [...(k ? ["\n"] : []), ...(line.match(/\S+/g) ?? [])]);
	}

	#add(event, piece) {
		const { text, probability, gates } = event, t = this.tokens.length, written = piece === null, apart = /^ /.test(text) ? " " : "";
		const unknown = text.includes("<unk>"), as = piece ? apart + piece.trim() : text, label = shown(as);
		this.tokens.push({ ...event, as, written });
		this.gates.push(gates);
		this.labels.push(label);
		const name = `token s${Math.min(Math.floor(bits(probability) / 1.7), 7)}${written ? " written" : ""}${unknown ? " unknown" : ""}`;
		this.list.append(apart, option(this.list, t, name, `${label}, ${percent(probability)}${unknown ? ", unknown" : ""}`, as.trim() ? as.trim() : label), as === "\n" ? "\n" : "");
		this.part.view.grown();
	}

	/** Write on: `steps` tokens, or as many as the page says. */
	async continue(steps) {
		const options = { ...this.part.options(), top: 10 };
		if (steps) options.max_tokens = steps;
		await this.read();
		await this.#alone(async () => {
			const ends = this.#ends, began = performance.now(), before = this.tokens.length;
			this.#runs(true);
			try {
				await this.#session.generate(options, (event) => ends === this.#ends && this.#add(event, null));
			} finally {
				this.#runs(false);
				const written = this.tokens.length - before;
				this.rate = (1000 * written) / (performance.now() - began);
				if (written > 1) this.speed.textContent = `${Math.round(this.rate)} tokens a second, with gates`;
				this.part.finished(this);
			}
			if (ends !== this.#ends) await this.#restore(this.tokens.length); // the session may have written more
		});
	}

	#runs(running) {
		this.running = running;
		this.write.textContent = running ? "Stop" : "Write on";
		this.root.ariaBusy = running;
	}

	/** Bring the session to where it was after its first `length` tokens. */
	async #restore(length) {
		await this.#session.reset();
		if (length) await this.#session.feed({ tokens: this.tokens.slice(0, length).map(({ token }) => token) });
	}

	/** Keep the first `length` tokens, read `text`, and write on. */
	async cut(length, text) {
		this.stop();
		await this.#alone(async () => {
			await this.#restore(length);
			this.#keep(length);
			if (text) await this.#session.feed({ text, top: 10 }, (event) => this.#add(event, null));
		});
		await this.continue();
	}

	/** Forget all tokens but the first; of the field, what has no token any more. */
	#keep(length) {
		const cut = this.tokens.slice(length).some(({ written }) => !written), last = this.list.querySelector(`[data-t="${length}"]`);
		while (last?.nextSibling) last.nextSibling.remove();
		last?.remove();
		this.tokens.length = this.gates.length = this.labels.length = length;
		if (length && cut) this.#read = this.field.value = this.tokens.map(({ as }) => as).join("");
	}

	/** Become what another text was after its first `length` tokens. */
	async copy(other, length) {
		this.stop();
		await this.#alone(async () => {
			this.#keep(0);
			this.#read = this.field.value = other.#read;
			other.tokens.forEach((one) => this.#add(one, one.written ? null : one.as));
			await this.#restore(length);
			this.#keep(length);
			this.part.finished(this);
		});
	}

	/** Mark the cursor and, where they are of this text, the selection and the places that are like it. */
	mark({ span, places, cursor, record }) {
		const inside = (t, [a, b]) => t >= a && t <= b;
		this.list.querySelectorAll(".token").forEach((token, t) => {
			token.ariaSelected = record === this && span !== null && inside(t, span);
			token.classList.toggle("same", record === this && places.some((place) => inside(t, place)));
		});
		mark(this.list, cursor.t);
	}
}

export class LanguagePart {
	constructor(page) {
		Object.assign(this, { page, view: page.view, texts: [] });
		$("compare").onclick = () => trying(() => (this.texts[1] ? this.#single() : this.#second(this.texts[0])));
		$("from-here").onclick = () => trying(() => this.current.cut(this.view.cursor.t + 1));
		$("from-here-b").onclick = () => trying(async () => {
			await this.#second(this.current, this.view.cursor.t + 1);
			await this.texts[1].continue();
		});
	}

	async open(model) {
		this.model = model;
		await this.#make("A");
		const { field } = (this.current = this.texts[0]);
		field.value = model.level === "character" ? "The " : "the value of the";
		await this.current.read();
	}

	close() {
		while (this.texts.length) this.texts.pop().close();
	}

	async #make(letter) {
		const text = new Text(letter, this);
		await text.open(this.model);
		this.texts.push(text);
		$("texts").append(text.root);
		this.#show();
	}

	#show() {
		const width = this.model.level === "character" ? 13 : 18;
		this.view.onchange = () => this.#mark();
		this.view.show(this.model, this.texts, this.model.level === "character" ? "character" : "token", [width, width]);
		$("compare").textContent = this.texts[1] ? "Remove the second text" : "Compare with a second text";
		$("texts").className = this.texts[1] ? "two" : "";
	}

	/** Make text B the first `length` tokens of a text. */
	async #second(from, length = from.tokens.length) {
		if (!this.texts[1]) await this.#make("B");
		await this.texts[1].copy(from, length);
	}

	#single() {
		this.texts.pop().close();
		this.current = this.texts[0];
		this.#show();
	}

	options() {
		const found = {};
		for (const name of ["max_tokens", "temperature", "top_k", "seed"]) {
			if (!$(name).reportValidity()) throw new Error(`${$(name).value} is not within the range of this field.`);
			if ($(name).value) found[name] = Number($(name).value);
		}
		return found;
	}

	finished(text) {
		if (this.view.cursor.t >= this.current.tokens.length) this.view.cursor.t = -1;
		this.view.refresh(true);
		this.#mark();
		if (text.tokens.length) $("said").textContent = `${text.title.textContent}: ${text.tokens.length} ${this.view.what}s, at the end ${text.labels.slice(-12).join(" ")}`;
	}

	/** Mark the texts, and show what is known about the token at the cursor or the last one. */
	#mark() {
		this.texts.forEach((text) => text.mark(this.view));
		const { tokens } = this.current, t = tokens[this.view.cursor.t] ? this.view.cursor.t : tokens.length - 1, one = tokens[t];
		$("detail").hidden = !one;
		if (!one || one === this.shown) return;
		this.shown = one;
		$("detail-token").textContent = shown(one.as);
		$("detail-number").textContent = `${percent(one.probability)}: ${bits(one.probability).toFixed(1)} bits of surprise${one.text.includes("<unk>") ? "; read as an unknown word" : ""}`;
		const chosen = one.text === "\n" ? "<eos>" : this.model.level === "character" ? one.text : one.text.trim();
		bars($("choices"), one.top, (text) => trying(() => this.current.cut(t, text === "<eos>" ? "\n" : text)), chosen);
	}
}
