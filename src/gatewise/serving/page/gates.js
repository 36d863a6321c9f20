// The gates of a record as a picture: a column for each step, a row for each unit of a layer.
// A record is { labels: what was read at each step, gates: the bytes of each step, array by array, layer by layer }.
import { $, count, limited, make, on } from "./dom.js";
import { css, fresh, styled, table } from "./draw.js";

const TITLES = { i: "input gate", f: "forget gate", g: "candidate", o: "output gate", c: "cell, tanh(c)", h: "output h", r: "reset gate", z: "update gate", n: "candidate" };
const LEFT = 58, LONGEST = 500; // the width of the axis; memory beyond this cannot be told from endless

export class GateView {
	onchange = () => {}; // called when the cursor or the selection has changed
	cursor = { t: -1, u: 0 }; // u is a row, a place in `order`
	span = null; // [first, last] of the selected steps
	units = []; // those that are on throughout the span
	places = []; // other spans where they are on
	drawn = null; // what is on the canvas: see draw
	#model = null;
	#from = -1; // where a selection begins
	#follows = true;
	#buffer = document.createElement("canvas");

	constructor() {
		this.box = $("heat-box");
		on("gate layer record order", "change", () => this.refresh(true));
		on("sort", "click", () => this.refresh(true));
		on("threshold share switched", "input", () => this.refresh());
		on("width", "input", () => ((this.fit = null), this.refresh()));
		on(this.box, "scroll", () => {
			this.#follows = this.box.scrollLeft + this.box.clientWidth > this.box.scrollWidth - 5;
			this.changed();
		});
		new ResizeObserver(() => this.#model && this.refresh()).observe(this.box);
		on(this.box, "pointermove pointerdown", (event) => this.#pointed(event));
		on(window, "pointerup", () => (this.#from = -1));
		on(this.box, "keydown", (event) => this.#key(event));
	}

	/** Show records of a model; `what` is one of their steps, `fit` the least and the largest width of a column. */
	show(model, records, what, fit) {
		if (model !== this.#model) {
			this.cursor = { t: -1, u: 0 };
			this.span = null;
			$("gate").replaceChildren(...model.gates.map(({ name }) => make("option", { value: name }, `${name} – ${TITLES[name]}`)));
			if (model.cell === "lstm") $("gate").value = "f";
			$("layer").replaceChildren(...Array.from({ length: model.layers }, (_, k) => make("option", { value: k }, `${k + 1} of ${model.layers}`)));
			$("layer").value = model.layers - 1;
		}
		Object.assign(this, { records, what, fit });
		this.#model = model;
		$("record-label").hidden = records.length < 2;
		if (records.length < 2) $("record").value = 0;
		this.refresh(true);
	}

	get gate() {
		return this.#model.gates[$("gate").selectedIndex];
	}
	get #minus() {
		return $("record").value === "2";
	}
	get record() {
		return this.records[$("record").value % 2];
	}
	get length() {
		return this.#minus ? Math.min(...this.records.map(({ gates }) => gates.length)) : this.record.gates.length;
	}
	/** Where the bytes of an array and the chosen layer begin. */
	#at(name = this.gate.name) {
		const { gates, layers, hidden } = this.#model;
		return (gates.findIndex((gate) => gate.name === name) * layers + Number($("layer").value)) * hidden;
	}
	/** What is drawn in a cell: a byte or, of A − B, 0 to 510. */
	#level(t, place) {
		const [a, b] = this.records;
		return this.#minus ? a.gates[t][place] - b.gates[t][place] + 255 : this.record.gates[t][place];
	}
	/** The number that it stands for. */
	#value(level) {
		const { low, high } = this.gate;
		return this.#minus ? (level / 255 - 1) * (high - low) : low + (level / 255) * (high - low);
	}

	/** How long each unit remembers, in steps: 1/(1 − mean) of the gate that keeps, or the correlation of an RNN with the step before. */
	memory() {
		const { hidden, cell } = this.#model, { gates } = this.record, kept = { lstm: "f", gru: "z" }[cell], at = this.#at(kept ?? "h");
		return Array.from({ length: hidden }, (_, u) => {
			const x = gates.map((bytes) => bytes[at + u] / 255), mean = x.reduce((a, b) => a + b, 0) / x.length;
			const along = (lag) => x.slice(lag).reduce((sum, y, t) => sum + (y - mean) * (x[t] - mean), 1e-9);
			return 1 / limited(1 - (kept ? mean : along(1) / along(0)), 1 / LONGEST, 1) || 1;
		});
	}

	/** Look at everything again; the units keep their order unless they are to be sorted. */
	refresh(sort = false) {
		if (!this.#model) return;
		const { hidden } = this.#model, { labels } = this.record, { box, length } = this;
		this.cells = table(this.#minus || this.gate.low < 0, this.#minus ? 511 : 256);
		if (sort || length < 9) {
			this.times = this.memory();
			this.order = [...this.times.keys()];
			if ($("order").value === "memory") this.order.sort((a, b) => this.times[b] - this.times[a]);
		}
		this.#analyse();
		if (this.fit) $("width").value = limited((box.clientWidth - LEFT - 9) / length, ...this.fit);
		this.column = Number($("width").value);
		this.row = limited(Math.floor((innerHeight > 1000 ? 460 : 384) / hidden), 1, 18);
		this.top = this.column < 9 ? 6 : labels.slice(0, 400).some((one) => one.length > 2) ? 74 : 20;
		const height = this.top + hidden * this.row + 12;
		Object.assign($("heat-size").style, { width: `${LEFT + length * this.column + 8}px`, height: `${height}px` });
		box.style.height = `${height + 16}px`;
		this.changed();
	}

	/** The record has grown. */
	grown() {
		this.refresh();
		if (this.#follows) this.box.scrollLeft = 1e9;
	}

	changed() {
		cancelAnimationFrame(this.asked);
		this.asked = requestAnimationFrame(() => this.draw());
	}

	/** Draw what is in view. `drawn` tells of it, with levels (columns × rows, column by column) and image, their colours row by row. */
	draw() {
		if (!this.#model || !this.box.clientWidth) return;
		const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.box, { column, row, top, cursor, span } = this;
		Object.assign($("heat").style, { width: `${clientWidth}px`, height: `${clientHeight}px` });
		const { to, width, height } = fresh($("heat")), first = Math.floor(scrollLeft / column), from = Math.floor(scrollTop / row);
		const columns = limited(Math.ceil((width - LEFT) / column) + 1, 0, this.length - first), order = this.order.slice(from, from + Math.ceil((height - top) / row) + 1);
		const x = (t) => LEFT + t * column - scrollLeft, y = (u) => top + u * row - scrollTop, bottom = y(this.order.length);
		const clipped = (left, above, f) => {
			to.save();
			to.beginPath();
			to.rect(left, above, width, height);
			to.clip();
			f();
			to.restore();
		};
		this.drawn = { gate: this.gate.name, first, columns, order, x, y };
		// The axis: how long the units remember, on a scale of powers, and which were found.
		clipped(0, top - 1, () => order.forEach((unit, u) => {
			const length = (Math.log(this.times[unit]) / Math.log(LONGEST)) * (LEFT - 14), thick = Math.max(row - (row > 3), 1);
			to.fillStyle = styled(this.units.includes(unit) ? "mark" : "bar");
			to.fillRect(LEFT - 4 - length, y(from + u), length, thick);
			if (this.units.includes(unit)) to.fillRect(0, y(from + u), 5, thick);
		}));
		to.fillStyle = styled("dim");
		if (top > 20) ["how", "long units", "remember"].forEach((text, k) => to.fillText(text, 0, top - 33 + 13 * k, LEFT - 4));
		clipped(LEFT, 0, () => {
			if (columns > 0) this.#drawCells(to, first, columns, order, x(first), y(from));
			this.#drawLabels(to, first, columns, x);
			to.lineWidth = 2;
			const under = ([a, b], colour) => {
				to.strokeStyle = to.fillStyle = styled(colour);
				to.fillRect(x(a), bottom + 3, (b - a + 1) * column, 5);
			};
			this.places.forEach((place) => under(place, "alike"));
			if (span) {
				under(span, "mark");
				to.strokeRect(x(span[0]), y(0) - 1, (span[1] - span[0] + 1) * column, bottom - y(0) + 2);
			}
			to.strokeStyle = styled("ink");
			if (cursor.t < 0 || cursor.t >= this.length) return;
			to.strokeRect(x(cursor.t), y(0), column, bottom - y(0));
			to.strokeRect(x(cursor.t) - 2, y(cursor.u) - 2, column + 4, row + 4);
		});
		this.#describe();
	}

	#drawCells(to, first, columns, order, left, above) {
		const image = new ImageData(columns, order.length), levels = new Uint16Array(columns * order.length), at = this.#at();
		const colours = new Uint32Array(this.cells.buffer), pixels = new Uint32Array(image.data.buffer);
		for (let t = 0; t < columns; ++t)
			order.forEach((unit, u) => (pixels[u * columns + t] = colours[(levels[t * order.length + u] = this.#level(first + t, at + unit))]));
		Object.assign(this.#buffer, { width: columns, height: order.length });
		this.#buffer.getContext("2d").putImageData(image, 0, 0);
		to.imageSmoothingEnabled = false;
		to.drawImage(this.#buffer, left, above, columns * this.column, order.length * this.row);
		Object.assign(this.drawn, { levels, image: image.data });
	}

	#drawLabels(to, first, columns, x) {
		const { top, column, cursor, span } = this, upright = top === 20;
		if (top < 20) return;
		to.font = `${Math.min(column - 1, 13)}px system-ui, sans-serif`;
		to.textBaseline = "middle";
		to.textAlign = upright ? "center" : "left";
		for (let t = first; t < first + columns; ++t) {
			const label = this.record.labels[t];
			to.fillStyle = styled(t === cursor.t || (span && t >= span[0] && t <= span[1]) ? "mark" : "ink");
			to.save();
			to.translate(x(t + 0.5), upright ? 10 : top - 5);
			if (!upright) to.rotate(-Math.PI / 2);
			to.fillText(label.length > 11 ? `${label.slice(0, 10)}…` : label, 0, 0);
			to.restore();
		}
	}

	#describe() {
		const { t, u } = this.cursor, { what, cells, order } = this, unit = order[u], { name } = this.gate, memory = this.times[unit], levels = cells.length / 4;
		$("heat").ariaLabel = `${TITLES[name]}, ${count(this.length, what)} by ${count(order.length, "unit")}`;
		$("cell").textContent = t >= 0 && t < this.length
			? `${what} ${t + 1} “${this.record.labels[t]}”, unit ${unit}: ${name} = ${this.#value(this.#level(t, this.#at() + unit)).toFixed(3)}; it remembers about ${memory.toPrecision(2)} ${what}s${memory < LONGEST ? "" : " or more"}`
			: "Point at a cell, or move with the arrow keys. Select columns by dragging, or with Shift and the arrow keys.";
		const { to, width, height } = fresh($("scale"));
		for (let x = 0; x < width; ++x) {
			to.fillStyle = css(cells, Math.round((x / (width - 1)) * (levels - 1)));
			to.fillRect(x, 0, 2, height);
		}
		$("low").textContent = String(this.#value(0)).replace("-", "−");
		$("high").textContent = this.#value(levels - 1);
	}

	#pointed({ clientX, clientY, type, pointerType, shiftKey }) {
		const { left, top } = $("heat").getBoundingClientRect(), { scrollLeft, scrollTop } = this.box;
		const t = Math.floor((clientX - left - LEFT + scrollLeft) / this.column), u = Math.floor((clientY - top - this.top + scrollTop) / this.row);
		if (clientX - left < LEFT || t >= this.length || u >= this.order.length) return;
		$("cell").ariaLive = "off";
		if (type === "pointerdown") {
			this.select(shiftKey ? this.cursor.t : -1, t);
			if (pointerType === "mouse") this.#from = t;
		} else if (this.#from >= 0 && this.#from !== t) this.select(this.#from, t);
		this.point(t, Math.max(u, 0));
	}

	#key(event) {
		const { t, u } = this.cursor, { key, shiftKey } = event;
		const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-t, 0], End: [1e9, 0], PageUp: [0, -10], PageDown: [0, 10] }[key];
		if (key === "Escape") this.select(-1);
		if (!step || !this.length) return;
		event.preventDefault();
		$("cell").ariaLive = "polite";
		const to = limited(t + step[0], 0, this.length - 1), [a, b] = this.span ?? [Math.max(t, 0), Math.max(t, 0)];
		if (shiftKey && step[0]) this.select(a === t ? b : a, to);
		this.point(to, limited(u + step[1], 0, this.order.length - 1), true);
	}

	/** Move the cursor, and the view to it. */
	point(t, u = this.cursor.u, scroll = false) {
		const { box, column, row } = this, x = t * column, y = u * row;
		this.cursor = { t, u };
		if (scroll) {
			box.scrollLeft = limited(box.scrollLeft, x + LEFT + 2 * column - box.clientWidth, x);
			box.scrollTop = limited(box.scrollTop, y + this.top + 2 * row - box.clientHeight, y);
		}
		this.changed();
		this.onchange();
	}

	/** Select the steps between two, or none (-1). */
	select(a, b) {
		this.span = a < 0 ? null : [Math.min(a, b), Math.max(a, b)];
		this.refresh();
		this.onchange();
	}

	/** Find the units that are on throughout the selection, and other places where they are. */
	#analyse() {
		const { low, high } = this.gate, { order, length } = this, at = this.#at(), threshold = Number($("threshold").value);
		Object.assign($("threshold"), { min: low, max: high });
		$("threshold-value").textContent = threshold.toFixed(2);
		Object.assign(this, { units: [], places: [] });
		if (this.#minus || this.span?.[1] >= length) this.span = null;
		$("found").hidden = !this.span;
		if (!this.span) return;
		const [first, last] = this.span, on = (t, unit) => this.#value(this.#level(t, at + unit)) >= threshold, steps = Array.from({ length }, (_, t) => t);
		this.units = order.filter((unit) => steps.slice(first, last + 1).every((t) => on(t, unit)) && !($("switched").checked && first > 0 && on(first - 1, unit)));
		const needed = Number($("share").value) * this.units.length;
		for (const t of steps) {
			if (!needed || (t >= first && t <= last) || this.units.filter((unit) => on(t, unit)).length < needed) continue;
			const before = this.places.at(-1);
			if (before?.[1] === t - 1) before[1] = t;
			else this.places.push([t, t]);
		}
		const words = ([a, b]) => this.record.labels.slice(a, b + 1).join(this.what === "character" ? "" : " ");
		const chip = (className, text, t, u) => make("button", { type: "button", className: `chip ${className}`, onclick: () => this.point(t, u, true) }, text);
		$("found-title").textContent = `“${words(this.span)}”: ${count(this.units.length, "unit")} of ${order.length} on throughout`;
		$("units").replaceChildren(...this.units.slice(0, 48).map((unit) => chip("", unit, first, order.indexOf(unit))), this.units.length > 48 ? "…" : "");
		$("places-title").textContent = this.units.length ? `${count(this.places.length, "other place")}, the longest first` : "Lower the threshold, or select fewer columns.";
		const longest = [...this.places].sort((a, b) => b[1] - b[0] - a[1] + a[0]).slice(0, 16);
		$("places").replaceChildren(...longest.map((place) => chip("alike", words(place).slice(0, 40), place[0])));
	}
}
