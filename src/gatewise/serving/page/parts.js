// Taggers, classifiers and forecasters.
import { $, bars, choosable, limited, make, mark, on, option, pause, percent, put, range, ranked, settled, shaded, sized, typedIn } from "./dom.js"
import { css, fresh, lines, styled, table } from "./draw.js"

const { abs, ceil, floor, max, min, round } = Math

class Part {
	#session

	constructor(page, ids, what) {
		Object.assign(this, { page, what, view: page.view })
		this.changed = settled(() => this.model && this.read())
		on(ids, "input", this.changed)
	}

	async open(model) {
		Object.assign(this, { model, record: { labels: [], gates: [] } })
		this.view.onchange = () => this.point(this.view.cursor.t)
		if (model.gates) {
			this.#session = await this.page.backend.session(model)
			this.view.show(model, [this.record], this.what, [20, 44])
		}
		this.ready?.()
		await this.read()
	}

	close() {
		this.#session?.close()
		this.#session = this.model = null
	}

	async follow(inputs, labels, record = this.record) {
		record.labels.length = record.gates.length = 0
		if (!this.#session) return
		await this.#session.reset()
		if (labels.length) await this.#session.feed(inputs, ({ gates }) => {
			record.labels.push(labels[record.gates.length])
			record.gates.push(gates)
		})
		this.view.refresh(true)
	}

	point(t) {
		if (t < 0 || t >= this.steps || t === this.at) return
		this.at = t
		this.look(t)
	}

	choose(list) {
		choosable(list, (t) => (this.#session ? this.view.point(t, this.view.cursor.u, true) : this.point(t)))
	}
}

export class TaggerPart extends Part {
	constructor(page) {
		super(page, "tag-text", "word")
		this.choose($("tagged"))
	}

	async read() {
		const { labels } = this.model, text = typedIn($("tag-text")), list = $("tagged"), sentences = text.trim() ? await this.page.backend.tag(this.model, text) : []
		this.words = sentences.flatMap(({ words, tags, probabilities }) => words.map((word, k) => ({ word, tag: tags[k], scores: probabilities[k] })))
		Object.assign(this, { steps: this.words.length, at: -1 })
		let t = 0
		list.replaceChildren(...sentences.map(({ words }) => make("div", { role: "presentation" }, ...words.map((word) => {
			const { tag, scores } = this.words[t], p = scores[tag]
			return option(list, t++, `word${p < 0.6 ? " unsure" : ""}`, `${word}: ${tag}, ${percent(p)}`, 0, word, shaded(make("small", { className: "tag" }, tag), labels.indexOf(tag)))
		}))))
		const words = this.words.map(({ word }) => word)
		await this.follow({ words }, words)
		put("tag-word")
		put("tag-scores")
		this.point(words.findLastIndex((word) => /\w/.test(word)))
	}

	look(t) {
		const { word, tag, scores } = this.words[t]
		mark($("tagged"), t)
		put("tag-word", `${word}: ${tag}`)
		bars("tag-scores", ranked(scores, 8))
	}
}

export class TextPart extends Part {
	constructor(page) {
		super(page, "class-text", "word")
		this.choose($("class-words"))
		sized("class-chart", () => this.repaint())
	}

	async read() {
		const text = typedIn($("class-text")), list = $("class-words")
		this.steps = 0
		$("class-result").hidden = !text.trim()
		if (!text.trim()) return
		const { words, probabilities: all } = await this.page.backend.classify(this.model, text), [[label, p]] = ranked(all.at(-1))
		Object.assign(this, { words, all, steps: words.length, at: -1 })
		put("class-verdict", `${label}, ${percent(p)}`)
		list.replaceChildren(...words.flatMap((word, t) => {
			const moved = all[t][label] - (t ? all[t - 1][label] : 1 / this.model.labels.length)
			return [option(list, t, moved < 0 ? "token" : "token to", `${word}: ${round(100 * moved)} percent for ${label}`, min(abs(moved), 0.5), word), " "]
		}))
		await this.follow({ words }, words)
		this.point(this.steps - 1)
	}

	look(t) {
		mark($("class-words"), t)
		bars("class-bars", ranked(this.all[t], 6))
		this.repaint()
	}

	repaint() {
		const chart = $("class-chart"), names = this.steps && ranked(this.all.at(-1), 4).map(([name]) => name).sort()
		if (!names || !chart.clientWidth) return
		lines(chart, names.map((name) => ({ name, values: this.all.map((p) => p[name]) })), { low: 0, high: 1, format: (x) => `${round(100 * x)}%`, at: this.at, label: (t) => this.words[t]?.slice(0, 10) ?? "" })
		chart.ariaLabel = `The probabilities of ${names.join(", ")} after each word; at the end ${$("class-verdict").textContent}`
	}
}

// Strokes of the digits: points in a box of 10 by 14, x and y in hexadecimal.
const SHAPES = [
	"50 20 06 08 2d 5e 8d a8 a6 80 50", "24 50 5e", "04 21 50 80 a3 95 68 3b 0e 4e ae", "02 20 60 93 85 46 86 a9 9c 6e 2e 0c", "70 39 08 a8,70 7e",
	"90 10 06 46 87 aa 8d 4e 0d", "80 41 15 09 1d 4e 8d a9 86 46 0a", "00 a0 75 4e", "56 22 40 70 92 56 19 1d 5e 9d 99 56", "95 67 26 03 20 60 92 95 9a 7e",
].map((digit) => digit.split(",").map((one) => one.split(" ").map((pair) => [...pair].map((x) => 14 + (parseInt(x, 16) - 6) * 1.4))))
const FINE = 8 // pictures are drawn so much finer, then averaged

function stroke(to, strokes, lineWidth) {
	Object.assign(to, { lineWidth, lineCap: "round", lineJoin: "round" })
	for (const points of strokes) {
		to.beginPath()
		to.moveTo(...points[0])
		points.slice(1, -1).forEach(([x, y], k) => to.quadraticCurveTo(x, y, (x + points[k + 2][0]) / 2, (y + points[k + 2][1]) / 2))
		to.lineTo(...points.at(-1))
		to.stroke()
	}
}

/** Strokes as size × size numbers, 0 to 1; as MNIST's, 20 of 28 pixels large, the centre of mass in the middle. */
export function picture(strokes, size) {
	const [[left, right], [top, bottom]] = range(2, (k) => strokes.flat().map((point) => point[k])).map((all) => [min(...all), max(...all)])
	const large = size >= 20, pen = max((size * 2.5) / 28, 1), scale = ((large ? (size * 20) / 28 : size) - pen) / max(right - left, bottom - top, 1e-3), wide = size * FINE
	const draw = (x, y) => {
		const to = new OffscreenCanvas(wide, wide).getContext("2d"), found = Array(size * size).fill(0)
		to.setTransform(FINE * scale, 0, 0, FINE * scale, FINE * (x - ((left + right) / 2) * scale), FINE * (y - ((top + bottom) / 2) * scale))
		stroke(to, strokes, pen / scale)
		to.getImageData(0, 0, wide, wide).data.forEach((ink, k) => {
			if (k % 4 === 3) found[floor(k / 4 / wide / FINE) * size + floor(((k >> 2) % wide) / FINE)] += ink / 255 / FINE ** 2
		})
		return found
	}
	const first = draw(size / 2, size / 2), mean = (of) => first.reduce((sum, ink, k) => sum + ink * (of(k) + 0.5), 0) / first.reduce((a, b) => a + b)
	const found = large ? draw(size - mean((k) => k % size), size - mean((k) => floor(k / size))) : first
	return range(size, (t) => found.slice(t * size, (t + 1) * size))
}

export class RowsPart extends Part {
	#strokes = []
	#turn = 0

	constructor(page) {
		super(page, "shape", "row")
		const pad = $("pad"), canvas = $("reading")
		let down = false
		on(pad, "pointerdown pointermove pointerup pointercancel", ({ type, pointerId, clientX, clientY }) => {
			if (type === "pointerdown") {
				pad.setPointerCapture(pointerId)
				this.#strokes = [...this.#strokes, []]
			} else if (!down) return
			down = /down|move/.test(type)
			const { left, top, width } = pad.getBoundingClientRect()
			this.#strokes.at(-1).push([((clientX - left) / width) * 28, ((clientY - top) / width) * 28])
			this.repaint()
			if (!down) this.changed()
		})
		$("pad-clear").onclick = () => this.draw("none")
		$("shape").append(...range(10, (k) => make("option", {}, k)))
		on("shape", "change", () => this.draw($("shape").value))
		on(canvas, "pointermove", ({ offsetY }) => {
			const { length } = this.rows
			if (this.steps === length) this.point(limited(floor(((offsetY - 22) / (canvas.clientHeight - 22)) * length), 0, length - 1))
		})
		sized("reading", () => this.repaint())
	}

	ready() {
		$("shape").value = 3
		this.#strokes = SHAPES[3]
	}
	draw(example) {
		$("shape").value = example
		this.#strokes = SHAPES[example] ?? []
		this.changed()
	}

	async read() {
		const turn = ++this.#turn, { record, view, model } = this, whole = { labels: [], gates: [] }, rows = this.#strokes[0] ? picture(this.#strokes, model.inputs) : []
		record.labels.length = record.gates.length = 0
		Object.assign(this, { rows, steps: 0, at: -1, all: rows[0] ? (await this.page.backend.classify(model, rows)).probabilities : [] })
		await this.follow({ inputs: rows }, rows.map((_, t) => `${t + 1}`), whole)
		put("rows-verdict")
		put("rows-bars")
		this.repaint()
		this.#scan(turn, whole, record, view)
	}

	async #scan(turn, whole, record, view) {
		const still = matchMedia("(prefers-reduced-motion: reduce)").matches, { length } = this.rows
		for (let t = 0; t < length && turn === this.#turn && this.model; ++t) {
			this.steps = t + 1
			if (whole.gates[t]) {
				record.labels.push(whole.labels[t])
				record.gates.push(whole.gates[t])
			}
			if (still && t + 1 < length) continue
			if (whole.gates[t]) view.refresh(t + 1 === length)
			this.point(t)
			await pause(1100 / length)
		}
		if (length && turn === this.#turn) put("said", `Read as ${$("rows-verdict").textContent}`)
	}

	look(t) {
		const [[label, p]] = ranked(this.all[t])
		put("rows-verdict", `${label}, ${percent(p)} `, make("p", { className: "note" }, `after row ${t + 1} of ${this.rows.length}`))
		bars("rows-bars", ranked(this.all[t], 10))
		this.repaint()
	}

	repaint() {
		const canvas = $("reading"), { rows, steps, model, at } = this
		if (!canvas.clientWidth || !rows || !model) return
		const pad = fresh($("pad"))
		pad.to.scale(pad.width / 28, pad.width / 28)
		pad.to.strokeStyle = styled("ink")
		stroke(pad.to, this.#strokes, 2.2)
		const { to, width, height } = fresh(canvas), { inputs, labels } = model, top = 22, row = (height - top) / inputs, colours = table()
		const wide = min(width / 2, inputs * row), right = wide + 26, cell = min((width - right) / labels.length, 44), ink = styled("ink")
		const fill = (colour, ...box) => {
			to.fillStyle = colour
			to.fillRect(...box)
		}
		fill(styled("pad"), 0, top, wide, height)
		rows.forEach((numbers, t) => {
			const y = top + t * row
			numbers.forEach((x, k) => {
				to.globalAlpha = x * (t < steps ? 1 : 0.18)
				fill(ink, (k * wide) / inputs, y, wide / inputs + 0.4, row + 0.4)
			})
			to.globalAlpha = 1
			if (t < steps) labels.forEach((label, k) => fill(css(colours, round(255 * this.all[t][label])), right + k * cell, y, cell - 1, row + 0.2))
		})
		Object.assign(to, { textAlign: "center", fillStyle: styled("dim"), strokeStyle: styled("mark"), lineWidth: 2 })
		labels.forEach((label, k) => to.fillText(label, right + (k + 0.5) * cell, 14, cell))
		if (at >= 0) to.strokeRect(1, top + at * row, min(right + labels.length * cell, width) - 2, row)
		canvas.ariaLabel = `The picture, ${inputs} rows, with the probability of each label after each row. ${$("rows-verdict").textContent}`
	}
}

const number = (x) => (x === null ? "" : `${+x.toPrecision(4)}`)

export class ForecastPart extends Part {
	constructor(page) {
		super(page, "values steps", "step")
		$("values-example").onclick = () => {
			this.#example()
			this.changed()
		}
		sized("forecast-chart", () => this.repaint())
	}

	ready() {
		const { columns, known, horizon, window, target } = this.model, only = columns.length === known.length + 1
		Object.assign($("steps"), { max: only ? 1000 : horizon, value: only ? max(horizon, 12) : horizon })
		put("values-help", `A line for each step, ${window} or more: ${columns.join(", ")}. The first may name the columns.${
			known[0] ? ` For the steps to forecast, go on with ${known.join(", ")}, and leave ${target} empty.` : ""}`)
		this.#example()
	}

	#example() {
		const { columns, window, known, target, horizon } = this.model, length = window + 46, ahead = known[0] ? ceil($("steps").value / horizon) * horizon : 0
		const wave = (t, k) => (t < length || columns[k] !== target ? (55 + 45 * Math.sin((t + 3 * k) / 1.75)).toFixed(1) : "")
		$("values").value = [columns, ...range(length + ahead, (t) => columns.map((_, k) => wave(t, k)))].map((row) => row.join(", ")).join("\n")
	}

	#table() {
		const { columns } = this.model, rows = $("values").value.trimEnd().split("\n").map((row) => row.split(/[,;\t]/).map((one) => one.trim()))
		const named = rows[0].length > columns.length || rows[0].some(isNaN), places = columns.map((name, k) => (named ? rows[0].indexOf(name) : k)), lacking = places.indexOf(-1)
		if (lacking >= 0) throw Error(`Line 1 names no column “${columns[lacking]}”; expected ${columns.join(", ")}.`)
		return rows.slice(named).map((row, line) => places.map((place) => {
			if (!isFinite(row[place] ?? 0)) throw Error(`Line ${line + 1 + named}: “${row[place]}” is not a number.`)
			return row[place] ? +row[place] : null
		}))
	}

	async read() {
		const { model, model: { columns, window, target, horizon, known } } = this
		if (!window) throw Error("This model forecasts no series; the page cannot show it.")
		const rows = this.#table(), history = rows.map((row) => row[columns.indexOf(target)]), last = history.findLastIndex((x) => x !== null) + 1, first = last - window
		const values = await this.page.backend.forecast(model, rows, +$("steps").value)
		Object.assign(this, { first, at: -1, steps: window, series: [{ name: target, values: history.slice(0, last) }, { name: "forecast", values: [history[last - 1], ...values], start: last - 1, dashed: true }] })
		put("forecast-title", `The next ${values.length} of ${target}`)
		put("forecasts", ...values.map((value) => make("li", {}, number(value))))
		const inputs = rows.slice(first, last).map((row, k) => [...row, ...known.map((name) => rows[first + k + horizon]?.[columns.indexOf(name)] ?? null)])
		await this.follow({ inputs }, inputs.flat().includes(null) ? [] : history.slice(first, last).map(number))
		this.repaint()
	}

	look() {
		this.repaint()
	}

	repaint() {
		const chart = $("forecast-chart"), { series, at, first } = this
		if (!series || !chart.clientWidth) return
		lines(chart, series, { format: number, at: at < 0 ? -1 : first + at, label: (t) => t + 1 })
		chart.ariaLabel = series.map(({ name, values }) => `${name}: ${values.length} values, from ${number(values[0])} to ${number(values.at(-1))}`).join("; ")
	}
}
