// Language models: texts A and B.
import { $, bars, choosable, mark, on, option, optionAt, percent, put, settled, shown, trying } from "./dom.js"

const TOP = { top: 10 } // how many of the most probable tokens are asked for
const bits = (p) => -Math.log2(Math.max(p, 1e-12))

/** One text: its tokens, and a session that has read them. */
class Text {
	tokens = [] // events, with `as`, what was typed, and whether they were written
	gates = []
	labels = []
	running = false
	#session
	#read = "" // what of the field was read
	#ends = 0 // changes when what runs is to end
	#busy = Promise.resolve()

	constructor(letter, part) {
		const { view } = part, root = $("text-template").content.firstElementChild.cloneNode(true)
		const [title, field, write, one, clear, speed, list] = root.querySelectorAll("h2, textarea, button, .note, .tokens")
		Object.assign(this, { part, root, field, write, speed, list, name: `Text ${letter}` })
		title.textContent = this.name
		field.ariaLabel = `Beginning of ${this.name}`
		list.ariaLabel = `Tokens of ${this.name}`
		list.id = letter
		write.onclick = () => (this.running ? this.stop() : trying(() => this.continue()))
		one.onclick = () => trying(() => this.continue(1))
		clear.onclick = () => {
			field.value = ""
			trying(() => this.read())
		}
		on(field, "input", settled(() => this.read()))
		on(root, "keydown", ({ key, ctrlKey, metaKey, target }) => {
			if (key !== "Enter") return
			if (ctrlKey || metaKey) write.click()
			else if (target === list && view.cursor.t >= 0) trying(() => this.cut(view.cursor.t + 1))
		})
		const mine = (f) => (...given) => ((part.current = this), f(...given))
		choosable(list, mine((t) => view.point(t, view.cursor.u, true)), mine((a, b) => view.record === this && view.select(a, b)))
	}

	async open(model) {
		this.model = model
		this.#session = await this.part.page.backend.session(model)
	}

	close() {
		this.stop()
		this.#session?.close()
		this.root.remove()
	}

	#alone(f) {
		return (this.#busy = this.#busy.catch(() => {}).then(f))
	}

	stop() {
		++this.#ends
		if (this.running) this.#session.stop()
	}

	read() {
		const text = this.field.value
		if (text === this.#read) return this.#busy
		this.stop()
		return this.#alone(async () => {
			this.#read = text
			await this.#session.reset()
			this.#keep(0)
			// What was typed for each token.
			const pieces = this.model.level === "word" ? text.match(/\n|\S+/g) ?? [] : []
			if (text.trim() || (text && this.model.level === "character")) await this.#session.feed({ text, ...TOP }, (event) => this.#add(event, pieces[this.tokens.length]))
			this.part.finished(this)
		})
	}

	#add(event, piece) {
		const { text, probability, gates } = event, written = piece === null, apart = text[0] === " " && text[1] ? " " : "", as = piece ? apart + piece : text, label = shown(as)
		const name = `token${written ? " written" : ""}${text.includes("<unk>") ? " unknown" : ""}`
		this.list.append(apart, option(this.list, this.tokens.length, name, `${label}, ${percent(probability)}`, Math.min(bits(probability) / 24, 0.5), label), as === "\n" ? "\n" : "")
		this.tokens.push({ ...event, as, written })
		this.gates.push(gates)
		this.labels.push(label)
		this.part.view.grown()
	}

	async continue(steps) {
		const options = { ...this.part.options(), ...TOP }
		if (steps) options.max_tokens = steps
		await this.read()
		await this.#alone(async () => {
			const ends = this.#ends, began = performance.now(), before = this.tokens.length
			this.#runs(true)
			try {
				await this.#session.generate(options, (event) => ends === this.#ends && this.#add(event, null))
			} finally {
				this.#runs(false)
				this.rate = (1000 * (this.tokens.length - before)) / (performance.now() - began)
				this.speed.textContent = steps ? "" : `${Math.round(this.rate)} tokens a second, with gates`
				this.part.finished(this)
			}
			if (ends !== this.#ends) await this.#restore(this.tokens.length) // the session may have written more
		})
	}

	#runs(running) {
		this.running = running
		this.write.textContent = running ? "Stop" : "Write on"
		this.root.ariaBusy = running
	}

	async #restore(length) {
		await this.#session.reset()
		if (length) await this.#session.feed({ tokens: this.tokens.slice(0, length).map(({ token }) => token) })
	}

	async cut(length, text) {
		this.stop()
		await this.#alone(async () => {
			await this.#restore(length)
			this.#keep(length)
			if (text) await this.#session.feed({ text, ...TOP }, (event) => this.#add(event, null))
		})
		await this.continue()
	}

	#keep(length) {
		const typed = this.tokens.slice(length).some(({ written }) => !written), last = optionAt(this.list, length)
		while (last?.nextSibling) last.nextSibling.remove()
		last?.remove()
		this.tokens.length = this.gates.length = this.labels.length = length
		if (length && typed) this.#read = this.field.value = this.tokens.map(({ as }) => as).join("")
	}

	async copy(other, length) {
		this.stop()
		await this.#alone(async () => {
			this.#keep(0)
			this.#read = this.field.value = other.#read
			other.tokens.forEach((one) => this.#add(one, one.written ? null : one.as.trim() || one.as))
			await this.#restore(length)
			this.#keep(length)
			this.part.finished(this)
		})
	}

	mark({ span, places, cursor, record }) {
		const inside = (t, place) => record === this && place && t >= place[0] && t <= place[1]
		this.list.querySelectorAll(".token").forEach((token, t) => {
			token.ariaSelected = !!inside(t, span)
			token.classList.toggle("same", places.some((place) => inside(t, place)))
		})
		mark(this.list, cursor.t)
	}
}

export class LanguagePart {
	constructor(page) {
		Object.assign(this, { page, view: page.view, texts: [] })
		$("compare").onclick = () => trying(async () => {
			if (!this.texts[1]) return this.#second(this.texts[0])
			this.texts.pop().close()
			this.current = this.texts[0]
			this.#show()
		})
		$("from-here").onclick = () => trying(() => this.current.cut(this.view.cursor.t + 1 || this.current.tokens.length))
		$("from-here-b").onclick = () => trying(async () => {
			await this.#second(this.current, this.view.cursor.t + 1 || undefined)
			await this.texts[1].continue()
		})
	}

	async open(model) {
		Object.assign(this, { model, what: model.level === "character" ? "character" : "token" })
		await this.#make("A")
		this.current = this.texts[0]
		this.current.field.value = model.level === "character" ? "The " : "the value of the"
		await this.current.read()
	}

	close() {
		while (this.texts[0]) this.texts.pop().close()
	}

	async #make(letter) {
		const text = new Text(letter, this)
		await text.open(this.model)
		this.texts.push(text)
		$("texts").append(text.root)
		this.#show()
	}

	#show() {
		const width = this.what === "character" ? 13 : 18, two = this.texts[1]
		this.view.onchange = () => this.#mark()
		this.view.show(this.model, this.texts, this.what, [width, width])
		put("compare", two ? "Remove the second text" : "Compare with a second text")
		$("texts").className = two ? "split two" : ""
	}

	async #second(from, length = from.tokens.length) {
		if (!this.texts[1]) await this.#make("B")
		await this.texts[1].copy(from, length)
	}

	options() {
		const found = {}
		for (const name of ["max_tokens", "temperature", "top_k", "seed"]) {
			if (!$(name).reportValidity()) throw new Error(`${name} is out of its range.`)
			if ($(name).value) found[name] = +$(name).value
		}
		return found
	}

	finished({ name, tokens, labels }) {
		if (this.view.cursor.t >= this.current.tokens.length) this.view.cursor.t = -1
		this.view.refresh(true)
		this.#mark()
		if (tokens[0]) put("said", `${name}: ${tokens.length} ${this.what}s, at the end ${labels.slice(-12).join(" ")}`)
	}

	#mark() {
		this.texts.forEach((text) => text.mark(this.view))
		const { tokens } = this.current, t = tokens[this.view.cursor.t] ? this.view.cursor.t : tokens.length - 1, one = tokens[t]
		$("detail").hidden = !one
		if (!one || one === this.shown) return
		this.shown = one
		const { as, text, probability, top } = one, trimmed = this.what === "character" ? text : text.trim()
		put("detail-token", shown(as))
		put("detail-number", `${percent(probability)}: ${bits(probability).toFixed(1)} bits of surprise${text.includes("<unk>") ? "; read as an unknown word" : ""}`)
		bars("choices", top, (choice) => trying(() => this.current.cut(t, choice === "<eos>" ? "\n" : choice)), text === "\n" ? "<eos>" : trimmed)
	}
}
