// The gates of a record { labels, gates } as a picture: a column for each step, a row for each unit.
import { $, count, limited, make, on, put, range, sized } from "./dom.js"
import { css, fresh, styled, table } from "./draw.js"

const { ceil, floor, log, max, min, round } = Math
const TITLES = { i: "input gate", f: "forget gate", g: "candidate", o: "output gate", c: "cell, tanh(c)", h: "output h", r: "reset gate", z: "update gate", n: "candidate" }
const LEFT = 58, LONGEST = 500
const ALIKE = 0.75 // of its units are on where it is like the selection

export function gateView() {
	const box = $("heat-box"), buffer = document.createElement("canvas")
	let model, records, what, fit, cells, order, times, column, row, top // order: the units from the top; times: their memory
	let start = -1, follows = true, growing = null, asked
	const view = {
		onchange() {},
		cursor: { t: -1, u: 0 }, // u is a row, a place in `order`
		span: null, // [first, last] of the selected steps
		units: [], // on throughout the span
		places: [], // where they are on, too
		show, refresh, grown, draw, point, select,
		get record() {
			return record()
		},
	}
	on("gate layer record", "change", () => refresh(true))
	on("sort", "click", () => refresh(true))
	on("threshold", "input", () => refresh())
	on("width", "input", () => {
		fit = null
		refresh()
	})
	on(box, "scroll", () => {
		follows = box.scrollLeft + box.clientWidth > box.scrollWidth - 5
		changed()
	})
	sized("heat-box", () => refresh())
	on(box, "pointermove pointerdown", (event) => pointed(event))
	on(box, "keydown", (event) => key(event))

	function show(next, ...given) {
		if (next !== model) {
			model = next
			Object.assign(view, { cursor: { t: -1, u: 0 }, span: null })
			put("gate", ...model.gates.map(({ name }) => make("option", { value: name }, `${name} – ${TITLES[name]}`)))
			if (model.cell === "lstm") $("gate").value = "f"
			put("layer", ...range(model.layers, (k) => make("option", { value: k }, `${k + 1} of ${model.layers}`)))
			$("layer").value = model.layers - 1
		}
		;[records, what, fit] = given
		$("record-label").hidden = !records[1]
		if (!records[1]) $("record").value = 0
		refresh(true)
	}

	const gate = () => model.gates[$("gate").selectedIndex]
	const minus = () => $("record").value === "2"
	const record = () => records[$("record").value % 2]
	const length = () => minus() ? min(...records.map(({ gates }) => gates.length)) : record().gates.length
	function at(name = gate().name) {
		const { gates, layers, hidden } = model
		return (gates.findIndex((gate) => gate.name === name) * layers + +$("layer").value) * hidden
	}
	/** What is drawn in a cell: a byte or, of A − B, 0 to 510. */
	function level(t, place) {
		const [a, b] = records
		return minus() ? a.gates[t][place] - b.gates[t][place] + 255 : record().gates[t][place]
	}
	function value(level) {
		const { low, high } = gate()
		return (level / 255) * (high - low) + (minus() ? low - high : low)
	}

	function memory() {
		const { hidden, cell } = model, { gates } = record(), kept = { lstm: "f", gru: "z" }[cell], place = at(kept ?? "h")
		return range(hidden, (u) => {
			const x = gates.map((bytes) => bytes[place + u] / 255), mean = x.reduce((a, b) => a + b, 0) / x.length
			const along = (lag) => x.slice(lag).reduce((sum, y, t) => sum + (y - mean) * (x[t] - mean), 1e-9)
			return 1 / limited(1 - (kept ? mean : along(1) / along(0)), 1 / LONGEST, 1) || 1
		})
	}

	function refresh(sort) {
		if (!records?.[0]) return
		const { hidden } = model, steps = length()
		cells = table(minus() || gate().low, minus() ? 511 : 256)
		if (sort || steps < 9) {
			times = memory()
			order = [...times.keys()].sort((a, b) => times[b] - times[a])
		}
		analyse()
		if (fit) $("width").value = limited((box.clientWidth - LEFT - 9) / steps, ...fit)
		column = +$("width").value
		row = limited(floor((innerHeight > 1000 ? 460 : 384) / hidden), 1, 18)
		top = column < 9 ? 6 : record().labels.some((one) => one.length > 2) ? 74 : 20
		const height = top + hidden * row + 12
		Object.assign($("heat-size").style, { width: `${LEFT + steps * column + 8}px`, height: `${height}px` })
		box.style.height = `${height + 16}px`
		if (follows) box.scrollLeft = 1e9
		changed()
	}

	function grown(list) {
		growing ??= requestAnimationFrame(() => {
			growing = null
			refresh()
			if (list) list.scrollTop = list.scrollHeight
		})
	}

	function changed() {
		cancelAnimationFrame(asked)
		asked = requestAnimationFrame(() => draw())
	}

	function draw() {
		const { scrollLeft, scrollTop, clientWidth, clientHeight } = box, { cursor, span } = view
		if (!clientWidth || !records?.[0]) return
		Object.assign($("heat").style, { width: `${clientWidth}px`, height: `${clientHeight}px` })
		const { to, width, height } = fresh($("heat")), first = floor(scrollLeft / column), from = floor(scrollTop / row)
		const columns = limited(ceil((width - LEFT) / column) + 1, 0, length() - first), rows = order.slice(from, from + ceil((height - top) / row) + 1)
		const x = (t) => LEFT + t * column - scrollLeft, y = (u) => top + u * row - scrollTop, bottom = y(order.length), levels = new Uint16Array(columns * rows.length)
		view.drawn = { gate: gate().name, first, columns, order: rows, levels, cells, column, row, top, x: x(first), y: y(from) }
		const fill = (colour, ...box) => {
			to.fillStyle = to.strokeStyle = styled(colour)
			to.fillRect(...box)
		}
		rows.forEach((unit, u) => {
			const long = (log(times[unit]) / log(LONGEST)) * (LEFT - 14), thick = max(row - (row > 3), 1), found = view.units.includes(unit)
			fill(found ? "mark" : "bar", LEFT - 4 - long, y(from + u), long, thick)
			if (found) fill("mark", 0, y(from + u), 5, thick)
		})
		to.beginPath()
		to.rect(LEFT, 0, width, height)
		to.clip()
		if (columns) {
			const image = new ImageData(columns, rows.length), colours = new Uint32Array(cells.buffer), pixels = new Uint32Array(image.data.buffer), place = at()
			for (let t = 0; t < columns; ++t) rows.forEach((unit, u) => (pixels[u * columns + t] = colours[(levels[t * rows.length + u] = level(first + t, place + unit))]))
			Object.assign(buffer, { width: columns, height: rows.length })
			buffer.getContext("2d").putImageData(image, 0, 0)
			to.imageSmoothingEnabled = false
			to.drawImage(buffer, x(first), y(from), columns * column, rows.length * row)
		}
		fill("card", 0, 0, width, top - 1)
		if (top > 6) range(columns, (k) => {
			const t = first + k, label = record().labels[t], upright = top < 70
			to.save()
			Object.assign(to, { font: `${min(column - 1, 13)}px system-ui, sans-serif`, textBaseline: "middle", textAlign: upright ? "center" : "left" })
			to.fillStyle = styled(t === cursor.t || (span && t >= span[0] && t <= span[1]) ? "mark" : "ink")
			to.translate(x(t + 0.5), upright ? 10 : top - 5)
			if (!upright) to.rotate(-Math.PI / 2)
			to.fillText(label.length > 11 ? `${label.slice(0, 10)}…` : label, 0, 0, 66)
			to.restore()
		})
		const under = ([a, b], colour) => fill(colour, x(a), bottom + 3, (b - a + 1) * column, 5)
		view.places.forEach((place) => under(place, "alike"))
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
		describe()
	}

	function describe() {
		const { t, u } = view.cursor, unit = order[u], { name } = gate(), memory = times[unit], last = cells.length / 4 - 1
		$("heat").ariaLabel = `${TITLES[name]}, ${count(length(), what)} by ${count(order.length, "unit")}`
		put("cell", t >= 0 && t < length()
			? `${what} ${t + 1} “${record().labels[t]}”, unit ${unit}: ${minus() ? "Δ" : ""}${name} = ${value(level(t, at() + unit)).toFixed(3)}; it remembers about ${memory.toPrecision(2)} ${what}s`
			: "Point at a cell, or use the arrow keys; drag or hold Shift to select columns. The bars on the left show how long each unit remembers.")
		$("scale").style.background = `linear-gradient(90deg, ${range(9, (k) => css(cells, round((k / 8) * last)))})`
		put("low", value(0))
		put("high", value(last))
	}

	function pointed({ clientX, clientY, type, pointerType, buttons, shiftKey }) {
		const { left, top: above } = $("heat").getBoundingClientRect(), { scrollLeft, scrollTop } = box
		const t = floor((clientX - left - LEFT + scrollLeft) / column), u = floor((clientY - above - top + scrollTop) / row)
		if (clientX - left < LEFT || t >= length() || u >= order.length) return
		$("cell").ariaLive = "off"
		if (type === "pointerdown") {
			select(shiftKey ? view.cursor.t : -1, t)
			start = t
		} else if (buttons === 1 && pointerType === "mouse" && start !== t) select(start, t)
		point(t, max(u, 0))
	}

	function key(event) {
		const { t, u } = view.cursor, { key, shiftKey } = event
		const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-t, 0], End: [1e9, 0] }[key]
		if (key === "Escape") select(-1)
		if (!step || !length()) return
		event.preventDefault()
		$("cell").ariaLive = "polite"
		const to = limited(t + step[0], 0, length() - 1), [a, b] = view.span ?? [max(t, 0), max(t, 0)]
		if (shiftKey && step[0]) select(a === t ? b : a, to)
		point(to, limited(u + step[1], 0, order.length - 1), true)
	}

	function point(t, u = view.cursor.u, scroll) {
		const x = t * column, y = u * row
		view.cursor = { t, u }
		if (scroll) {
			box.scrollLeft = limited(box.scrollLeft, x + LEFT + 2 * column - box.clientWidth, x)
			box.scrollTop = limited(box.scrollTop, y + top + 2 * row - box.clientHeight, y)
		}
		changed()
		view.onchange()
	}

	function select(a, b) {
		view.span = a < 0 ? null : [min(a, b), max(a, b)]
		refresh()
		view.onchange()
	}

	function analyse() {
		const place = at(), threshold = +$("threshold").value
		$("threshold").min = gate().low
		put("threshold-value", threshold.toFixed(2))
		Object.assign(view, { units: [], places: [] })
		if (minus() || view.span?.[1] >= length()) view.span = null
		$("found").hidden = !view.span
		if (!view.span) return
		const [first, last] = view.span, on = (t, unit) => value(level(t, place + unit)) >= threshold, steps = range(length(), (t) => t)
		view.units = order.filter((unit) => steps.slice(first, last + 1).every((t) => on(t, unit)))
		for (const t of steps) {
			if (!view.units.length || (t >= first && t <= last) || view.units.filter((unit) => on(t, unit)).length < ALIKE * view.units.length) continue
			const before = view.places.at(-1)
			if (before?.[1] === t - 1) before[1] = t
			else view.places.push([t, t])
		}
		const words = ([a, b]) => record().labels.slice(a, b + 1).join(what === "character" ? "" : " ").slice(0, 40)
		const chip = (className, text, t, u) => make("button", { className: `chip ${className}`, onclick: () => point(t, u, true) }, text)
		put("found-title", `“${words(view.span)}”: ${count(view.units.length, "unit")} of ${order.length} on throughout`)
		put("units", ...view.units.slice(0, 40).map((unit) => chip("", unit, first, order.indexOf(unit))), view.units[40] === undefined ? "" : "…")
		put("places-title", view.units[0] === undefined ? "Lower the threshold, or select fewer columns." : `${count(view.places.length, "other place")} where three quarters of them are on, the longest first`)
		put("places", ...[...view.places].sort((a, b) => b[1] - b[0] - a[1] + a[0]).slice(0, 16).map((place) => chip("alike", words(place), place[0])))
	}
	return view
}
