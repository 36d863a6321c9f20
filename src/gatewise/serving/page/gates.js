// The gates of a record { labels, gates: the bytes of each step } as a picture: a column for each step, a row for each unit.
import { $, count, limited, make, on, put, range, sized } from "./dom.js"
import { css, fresh, styled, table } from "./draw.js"

const { ceil, floor, log, max, min, round } = Math
const TITLES = { i: "input gate", f: "forget gate", g: "candidate", o: "output gate", c: "cell, tanh(c)", h: "output h", r: "reset gate", z: "update gate", n: "candidate" }
const LEFT = 58, LONGEST = 500
const ALIKE = 0.75 // the part of the units that are on in a place that is like the selection

export class GateView {
	onchange = () => {}
	cursor = { t: -1, u: 0 } // u is a row, a place in `order`
	span = null // [first, last] of the selected steps
	units = [] // those that are on throughout the span
	places = [] // other spans where they are on
	#model = null
	#from = -1
	#follows = true
	#buffer = document.createElement("canvas")

	constructor() {
		const { box } = Object.assign(this, { box: $("heat-box") })
		on("gate layer record", "change", () => this.refresh(true))
		on("sort", "click", () => this.refresh(true))
		on("threshold switched", "input", () => this.refresh())
		on("width", "input", () => {
			this.fit = null
			this.refresh()
		})
		on(box, "scroll", () => {
			this.#follows = box.scrollLeft + box.clientWidth > box.scrollWidth - 5
			this.changed()
		})
		sized("heat-box", () => this.refresh())
		on(box, "pointermove pointerdown", (event) => this.#pointed(event))
		on(box, "keydown", (event) => this.#key(event))
	}

	show(model, records, what, fit) {
		if (model !== this.#model) {
			Object.assign(this, { cursor: { t: -1, u: 0 }, span: null })
			put("gate", ...model.gates.map(({ name }) => make("option", { value: name }, `${name} – ${TITLES[name]}`)))
			if (model.cell === "lstm") $("gate").value = "f"
			put("layer", ...range(model.layers, (k) => make("option", { value: k }, `${k + 1} of ${model.layers}`)))
			$("layer").value = model.layers - 1
		}
		Object.assign(this, { records, what, fit })
		this.#model = model
		$("record-label").hidden = !records[1]
		if (!records[1]) $("record").value = 0
		this.refresh(true)
	}

	get gate() {
		return this.#model.gates[$("gate").selectedIndex]
	}
	get #minus() {
		return $("record").value === "2"
	}
	get record() {
		return this.records[$("record").value % 2]
	}
	get length() {
		return this.#minus ? min(...this.records.map(({ gates }) => gates.length)) : this.record.gates.length
	}
	#at(name = this.gate.name) {
		const { gates, layers, hidden } = this.#model
		return (gates.findIndex((gate) => gate.name === name) * layers + +$("layer").value) * hidden
	}
	/** What is drawn in a cell: a byte or, of A − B, 0 to 510. */
	#level(t, place) {
		const [a, b] = this.records
		return this.#minus ? a.gates[t][place] - b.gates[t][place] + 255 : this.record.gates[t][place]
	}
	#value(level) {
		const { low, high } = this.gate
		return (level / 255) * (high - low) + (this.#minus ? low - high : low)
	}

	memory() {
		const { hidden, cell } = this.#model, { gates } = this.record, kept = { lstm: "f", gru: "z" }[cell], at = this.#at(kept ?? "h")
		return range(hidden, (u) => {
			const x = gates.map((bytes) => bytes[at + u] / 255), mean = x.reduce((a, b) => a + b, 0) / x.length
			const along = (lag) => x.slice(lag).reduce((sum, y, t) => sum + (y - mean) * (x[t] - mean), 1e-9)
			return 1 / limited(1 - (kept ? mean : along(1) / along(0)), 1 / LONGEST, 1) || 1
		})
	}

	refresh(sort) {
		if (!this.#model) return
		const { hidden } = this.#model, { box, length } = this
		this.cells = table(this.#minus || this.gate.low, this.#minus ? 511 : 256)
		if (sort || length < 9) {
			this.times = this.memory()
			this.order = [...this.times.keys()].sort((a, b) => this.times[b] - this.times[a])
		}
		this.#analyse()
		if (this.fit) $("width").value = limited((box.clientWidth - LEFT - 9) / length, ...this.fit)
		this.column = +$("width").value
		this.row = limited(floor((innerHeight > 1000 ? 460 : 384) / hidden), 1, 18)
		this.top = this.column < 9 ? 6 : this.record.labels.some((one) => one.length > 2) ? 74 : 20
		const height = this.top + hidden * this.row + 12
		Object.assign($("heat-size").style, { width: `${LEFT + length * this.column + 8}px`, height: `${height}px` })
		box.style.height = `${height + 16}px`
		if (this.#follows) box.scrollLeft = 1e9
		this.changed()
	}

	grown() {
		this.growing ??= requestAnimationFrame(() => {
			this.growing = null
			this.refresh()
		})
	}

	changed() {
		cancelAnimationFrame(this.asked)
		this.asked = requestAnimationFrame(() => this.draw())
	}

	/** Draw what is in view. `drawn` tells of it, with levels: columns × rows, column by column. */
	draw() {
		const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.box, { column, row, top, cursor, span } = this
		if (!clientWidth) return
		Object.assign($("heat").style, { width: `${clientWidth}px`, height: `${clientHeight}px` })
		const { to, width, height } = fresh($("heat")), first = floor(scrollLeft / column), from = floor(scrollTop / row)
		const columns = limited(ceil((width - LEFT) / column) + 1, 0, this.length - first), order = this.order.slice(from, from + ceil((height - top) / row) + 1)
		const x = (t) => LEFT + t * column - scrollLeft, y = (u) => top + u * row - scrollTop, bottom = y(this.order.length), levels = new Uint16Array(columns * order.length)
		this.drawn = { gate: this.gate.name, first, columns, order, levels, x: x(first), y: y(from) }
		const fill = (colour, ...box) => {
			to.fillStyle = to.strokeStyle = styled(colour)
			to.fillRect(...box)
		}
		order.forEach((unit, u) => {
			const length = (log(this.times[unit]) / log(LONGEST)) * (LEFT - 14), thick = max(row - (row > 3), 1), found = this.units.includes(unit)
			fill(found ? "mark" : "bar", LEFT - 4 - length, y(from + u), length, thick)
			if (found) fill("mark", 0, y(from + u), 5, thick)
		})
		to.beginPath()
		to.rect(LEFT, 0, width, height)
		to.clip()
		if (columns) {
			const image = new ImageData(columns, order.length), colours = new Uint32Array(this.cells.buffer), pixels = new Uint32Array(image.data.buffer), at = this.#at(), rows = order.length
			for (let t = 0; t < columns; ++t) order.forEach((unit, u) => (pixels[u * columns + t] = colours[(levels[t * rows + u] = this.#level(first + t, at + unit))]))
			Object.assign(this.#buffer, { width: columns, height: rows })
			this.#buffer.getContext("2d").putImageData(image, 0, 0)
			to.imageSmoothingEnabled = false
			to.drawImage(this.#buffer, x(first), y(from), columns * column, rows * row)
		}
		fill("card", 0, 0, width, top - 1)
		if (top > 6) range(columns, (k) => {
			const t = first + k, label = this.record.labels[t], upright = top < 70
			to.save()
			Object.assign(to, { font: `${min(column - 1, 13)}px system-ui, sans-serif`, textBaseline: "middle", textAlign: upright ? "center" : "left" })
			to.fillStyle = styled(t === cursor.t || (span && t >= span[0] && t <= span[1]) ? "mark" : "ink")
			to.translate(x(t + 0.5), upright ? 10 : top - 5)
			if (!upright) to.rotate(-Math.PI / 2)
			to.fillText(label.length > 11 ? `${label.slice(0, 10)}…` : label, 0, 0)
			to.restore()
		})
		const under = ([a, b], colour) => fill(colour, x(a), bottom + 3, (b - a + 1) * column, 5)
		this.places.forEach((place) => under(place, "alike"))
		to.lineWidth = 2
		if (span) {
			under(span, "mark")
			to.strokeRect(x(span[0]), y(0) - 1, (span[1] - span[0] + 1) * column, bottom - y(0) + 2)
		}
		to.strokeStyle = styled("ink")
		if (cursor.t >= 0) {
			to.strokeRect(x(cursor.t), y(0), column, bottom - y(0))
			to.strokeRect(x(cursor.t) - 2, y(cursor.u) - 2, column + 4, row + 4)
		}
		this.#describe()
	}

	#describe() {
		const { cursor: { t, u }, what, cells, order } = this, unit = order[u], { name } = this.gate, memory = this.times[unit], last = cells.length / 4 - 1
		$("heat").ariaLabel = `${TITLES[name]}, ${count(this.length, what)} by ${count(order.length, "unit")}`
		put("cell", t >= 0 && t < this.length
			? `${what} ${t + 1} “${this.record.labels[t]}”, unit ${unit}: ${name} = ${this.#value(this.#level(t, this.#at() + unit)).toFixed(3)}; it remembers about ${memory.toPrecision(2)} ${what}s`
			: "Point at a cell, or move with the arrow keys. Select columns by dragging, or with Shift and the arrow keys. The bars on the left show how long each unit remembers.")
		$("scale").style.background = `linear-gradient(90deg, ${range(9, (k) => css(cells, round((k / 8) * last)))})`
		put("low", this.#value(0))
		put("high", this.#value(last))
	}

	#pointed({ clientX, clientY, type, pointerType, buttons, shiftKey }) {
		const { left, top } = $("heat").getBoundingClientRect(), { scrollLeft, scrollTop } = this.box
		const t = floor((clientX - left - LEFT + scrollLeft) / this.column), u = floor((clientY - top - this.top + scrollTop) / this.row)
		if (clientX - left < LEFT || t >= this.length || u >= this.order.length) return
		$("cell").ariaLive = "off"
		if (type === "pointerdown") {
			this.select(shiftKey ? this.cursor.t : -1, t)
			this.#from = t
		} else if (buttons === 1 && pointerType === "mouse" && this.#from !== t) this.select(this.#from, t)
		this.point(t, max(u, 0))
	}

	#key(event) {
		const { t, u } = this.cursor, { key, shiftKey } = event
		const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-t, 0], End: [1e9, 0], PageUp: [0, -9], PageDown: [0, 9] }[key]
		if (key === "Escape") this.select(-1)
		if (!step || !this.length) return
		event.preventDefault()
		$("cell").ariaLive = "polite"
		const to = limited(t + step[0], 0, this.length - 1), [a, b] = this.span ?? [max(t, 0), max(t, 0)]
		if (shiftKey && step[0]) this.select(a === t ? b : a, to)
		this.point(to, limited(u + step[1], 0, this.order.length - 1), true)
	}

	point(t, u = this.cursor.u, scroll) {
		const { box, column, row } = this, x = t * column, y = u * row
		this.cursor = { t, u }
		if (scroll) {
			box.scrollLeft = limited(box.scrollLeft, x + LEFT + 2 * column - box.clientWidth, x)
			box.scrollTop = limited(box.scrollTop, y + this.top + 2 * row - box.clientHeight, y)
		}
		this.changed()
		this.onchange()
	}

	select(a, b) {
		this.span = a < 0 ? null : [min(a, b), max(a, b)]
		this.refresh()
		this.onchange()
	}

	/** Find the units that are on throughout the selection, and other places where they are. */
	#analyse() {
		const { order, length } = this, at = this.#at(), threshold = +$("threshold").value
		$("threshold").min = this.gate.low
		put("threshold-value", threshold.toFixed(2))
		Object.assign(this, { units: [], places: [] })
		if (this.#minus || this.span?.[1] >= length) this.span = null
		$("found").hidden = !this.span
		if (!this.span) return
		const [first, last] = this.span, on = (t, unit) => this.#value(this.#level(t, at + unit)) >= threshold, steps = range(length, (t) => t)
		this.units = order.filter((unit) => steps.slice(first, last + 1).every((t) => on(t, unit)) && !($("switched").checked && first && on(first - 1, unit)))
		for (const t of steps) {
			if (!this.units.length || (t >= first && t <= last) || this.units.filter((unit) => on(t, unit)).length < ALIKE * this.units.length) continue
			const before = this.places.at(-1)
			if (before?.[1] === t - 1) before[1] = t
			else this.places.push([t, t])
		}
		const words = ([a, b]) => this.record.labels.slice(a, b + 1).join(this.what === "character" ? "" : " ").slice(0, 40)
		const chip = (className, text, t, u) => make("button", { className: `chip ${className}`, onclick: () => this.point(t, u, true) }, text)
		put("found-title", `“${words(this.span)}”: ${count(this.units.length, "unit")} of ${order.length} on throughout`)
		put("units", ...this.units.slice(0, 40).map((unit) => chip("", unit, first, order.indexOf(unit))), this.units[40] === undefined ? "" : "…")
		put("places-title", this.units[0] === undefined ? "Lower the threshold, or select fewer columns." : `${count(this.places.length, "other place")} where three quarters of them are on, the longest first`)
		put("places", ...[...this.places].sort((a, b) => b[1] - b[0] - a[1] + a[0]).slice(0, 16).map((place) => chip("alike", words(place), place[0])))
	}
}
