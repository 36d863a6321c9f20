// Language models: texts A and B.
import { $, bars, choosable, count, mark, on, option, optionAt, percent, put, settled, shown, trying, typedIn } from "./dom.js"

const TOP = { top: 10 }
const bits = (p) => -Math.log2(Math.max(p, 1e-12))

async function textOf(letter, part, model) {
	const { view } = part, root = $("text-template").content.firstElementChild.cloneNode(true), name = `Text ${letter}`
	const [title, field, write, one, clear, speed, list] = root.querySelectorAll("h2, textarea, button, .note, .tokens")
	const tokens = [], gates = [], labels = [] // tokens: events, with `as`, what was typed
	const text = { tokens, gates, labels, name, root, field, list, running: false, read, close, cut, copy, continue: goOn }
	const session = await part.page.backend.session(model)
	let seen = "" // what of the field was read
	let ends = 0 // changes when what runs is to end
	let busy = Promise.resolve()

	title.textContent = name
	field.ariaLabel = `Beginning of ${name}`
	list.ariaLabel = `Tokens of ${name}`
	list.id = letter
	write.onclick = () => (text.running ? stop() : trying(() => goOn()))
	one.onclick = () => trying(() => goOn(1))
	clear.onclick = () => {
		field.value = ""
		trying(read)
	}
	on(field, "input", settled(read))
	on(root, "keydown", ({ key, ctrlKey, metaKey, target }) => {
		if (key !== "Enter") return
		if (ctrlKey || metaKey) write.click()
		else if (target === list && view.cursor.t >= 0) trying(() => cut(view.cursor.t + 1))
	})
	const mine = (f) => (...given) => {
		part.current = text
		f(...given)
	}
	choosable(list, mine((t) => view.point(t, view.cursor.u, true)), mine((a, b) => view.record === text && view.select(a, b)))

	function close() {
		stop()
		session.close()
		root.remove()
	}
	function stop() {
		++ends
		if (text.running) session.stop()
	}
	/** Do f when what runs has ended. */
	const alone = (f) => (busy = busy.catch(() => {}).then(f))

	function read() {
		const typed = typedIn(field)
		if (typed === seen) return busy
		stop()
		return alone(async () => {
			seen = typed
			await session.reset()
			keep(0)
			const pieces = model.level === "word" ? typed.match(/\n|\S+/g) ?? [] : [] // what was typed for each token
			if (typed.trim() || (typed && model.level === "character")) await session.feed({ text: typed, ...TOP }, (event) => add(event, pieces[tokens.length]))
			part.finished(text)
		})
	}

	/** Add an event: of a token that was typed, as `piece` where that is known, or (null) that was written. */
	function add(event, piece) {
		const { text, probability } = event, written = piece === null, apart = text[0] === " " && text[1] ? " " : "", as = piece ? apart + piece : text, label = shown(as)
		const name = `token${written ? " written" : ""}${text.includes("<unk>") ? " unknown" : ""}`
		list.append(apart, option(list, tokens.length, name, `${label}, ${percent(probability)}`, Math.min(bits(probability) / 24, 0.5), label), as === "\n" ? "\n" : "")
		tokens.push({ ...event, as, written })
		gates.push(event.gates)
		labels.push(label)
		view.grown(written && list)
	}

	async function goOn(steps) {
		const options = { ...part.options(), ...TOP }
		if (steps) options.max_tokens = steps
		await read()
		await alone(async () => {
			const ending = ends, began = performance.now(), before = tokens.length
			runs(true)
			try {
				await session.generate(options, (event) => ending === ends && add(event, null))
				text.rate = (1000 * (tokens.length - before)) / (performance.now() - began)
				speed.textContent = steps ? "" : `${Math.round(text.rate)} tokens a second, with gates`
			} finally {
				runs(false)
				part.finished(text)
			}
			if (ending !== ends) await restore(tokens.length) // the session may have written more
		})
	}
	function runs(running) {
		text.running = running
		write.textContent = running ? "Stop" : "Continue"
		root.ariaBusy = running
	}

	async function restore(length) {
		await session.reset()
		if (length) await session.feed({ tokens: tokens.slice(0, length).map(({ token }) => token) })
	}
	/** Forget all tokens but the first; of the field, what has no token any more. */
	function keep(length) {
		const typed = tokens.slice(length).some(({ written }) => !written), last = optionAt(list, length)
		while (last?.nextSibling) last.nextSibling.remove()
		last?.remove()
		tokens.length = gates.length = labels.length = length
		if (length && typed) seen = field.value = tokens.map(({ as }) => as).join("")
	}
	/** Keep the first `length` tokens, read `more`, and write on. */
	async function cut(length, more) {
		stop()
		await alone(async () => {
			await restore(length)
			keep(length)
			if (more) await session.feed({ text: more, ...TOP }, (event) => add(event, null))
		})
		await goOn()
	}
	/** Become what another text was after its first `length` tokens. */
	async function copy(other, length) {
		stop()
		await alone(async () => {
			keep(0)
			seen = field.value = other.field.value
			other.tokens.forEach((one) => add(one, one.written ? null : one.as.trim() || one.as))
			await restore(length)
			keep(length)
			part.finished(text)
		})
	}
	return text
}

export class LanguagePart {
	texts = []

	constructor(page) {
		const { view } = Object.assign(this, { page, view: page.view })
		$("compare").onclick = () => trying(async () => {
			if (!this.texts[1]) return this.#second(this.texts[0])
			this.texts.pop().close()
			this.current = this.texts[0]
			this.#show()
		})
		$("from-here").onclick = () => trying(() => this.current.cut(view.cursor.t + 1 || this.current.tokens.length))
		$("from-here-b").onclick = () => trying(async () => {
			await this.#second(this.current, view.cursor.t + 1 || undefined)
			await this.texts[1].continue()
		})
	}

	async open(model) {
		Object.assign(this, { model, what: model.level === "character" ? "character" : "token" })
		await this.#make("A")
		this.current = this.texts[0]
		this.current.field.value = this.what === "character" ? "The " : "the value of the"
		await this.current.read()
	}

	close() {
		while (this.texts[0]) this.texts.pop().close()
	}

	async #make(letter) {
		const text = await textOf(letter, this, this.model)
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
			if (!$(name).reportValidity()) throw Error(`${name}: ${$(name).validationMessage}`)
			if ($(name).value) found[name] = +$(name).value
		}
		return found
	}

	finished({ name, tokens, labels }) {
		if (this.view.cursor.t >= this.current.tokens.length) this.view.cursor.t = -1
		this.view.refresh(true)
		this.#mark()
		if (tokens[0]) put("said", `${name}: ${count(tokens.length, this.what)}, at the end ${labels.slice(-12).join(" ")}`)
	}

	#mark() {
		const { span, places, cursor, record } = this.view, inside = (t, place) => place && t >= place[0] && t <= place[1]
		for (const text of this.texts) {
			text.list.querySelectorAll(".token").forEach((token, t) => {
				token.ariaSelected = record === text && !!inside(t, span)
				token.classList.toggle("same", record === text && places.some((place) => inside(t, place)))
			})
			mark(text.list, cursor.t)
		}
		const { tokens } = this.current, t = tokens[cursor.t] ? cursor.t : tokens.length - 1, one = tokens[t]
		$("detail").hidden = !one
		if (!one || one === this.shown) return
		this.shown = one
		const { as, text, probability, top } = one
		put("detail-token", shown(as))
		put("detail-number", `${percent(probability)}: ${bits(probability).toFixed(1)} bits of surprise${text.includes("<unk>") ? "; read as an unknown word" : ""}`)
		bars("choices", top, (choice) => trying(() => this.current.cut(t, choice === "<eos>" ? "\n" : choice)), text === "\n" ? "<eos>" : this.what === "character" ? text : text.trim())
	}
}
