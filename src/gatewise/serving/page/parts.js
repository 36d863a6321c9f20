// Taggers, classifiers and forecasters. Each reads a record anew when its input changes, with gates where the model streams.
import { $, bars, choosable, limited, make, mark, on, option, pause, percent, ranked, settled } from "./dom.js";
import { css, fresh, lines, styled, table } from "./draw.js";

class Part {
	at = -1; // the step that is looked at
	#session = null;

	/** `ids` are the fields to read, `what` is a step, `fit` the width of its column. */
	constructor(page, ids, what, fit = [20, 44]) {
		Object.assign(this, { page, what, fit });
		this.changed = settled(() => this.read());
		on(ids, "input", this.changed);
	}

	async open(model) {
		this.model = model;
		this.record = { labels: [], gates: [] };
		this.page.view.onchange = () => this.point(this.page.view.cursor.t);
		if (model.gates) {
			this.#session = await this.page.backend.session(model);
			this.page.view.show(model, [this.record], this.what, this.fit);
		}
		await this.ready?.();
		await this.read();
	}

	close() {
		this.#session?.close();
		this.#session = null;
		this.model = null;
	}

	/** Read inputs with gates; the events, none where the model does not stream. */
	async follow(inputs, labels, record = this.record) {
		const events = [];
		record.labels.length = record.gates.length = 0;
		if (!this.#session) return events;
		await this.#session.reset();
		if (labels.length) await this.#session.feed(inputs, (event) => {
			record.gates.push(event.gates);
			record.labels.push(labels[events.length]);
			events.push(event);
		});
		this.page.view.refresh(true);
		return events;
	}

	/** Look at a step. */
	point(t) {
		if (t < 0 || t >= this.steps || t === this.at) return;
		this.at = t;
		this.look(t);
	}

	/** Make the steps options of a list. */
	choose(list) {
		choosable(list, (t) => (this.#session ? this.page.view.point(t, this.page.view.cursor.u, true) : this.point(t)));
	}
}

export class TaggerPart extends Part {
	constructor(page) {
		super(page, "tag-text", "word");
		this.choose($("tagged"));
	}

	async read() {
		const { labels } = this.model, text = $("tag-text").value, list = $("tagged");
		const sentences = text.trim() ? await this.page.backend.tag(this.model, text) : [];
		this.words = sentences.flatMap(({ words, tags, probabilities }) => words.map((word, k) => ({ word, tag: tags[k], scores: probabilities?.[k] })));
		this.steps = this.words.length;
		let t = 0;
		list.replaceChildren(...sentences.map(({ words }) => make("div", { role: "presentation" }, ...words.map((word) => {
			const { tag, scores } = this.words[t], p = scores?.[labels.indexOf(tag)];
			return option(list, t++, `word${p < 0.6 ? " unsure" : ""}`, `${word}: ${tag}, ${percent(p)}`, word, make("small", { className: `tag k${labels.indexOf(tag) % 6}` }, tag));
		}))));
		const words = this.words.map(({ word }) => word);
		await this.follow({ words }, words);
		this.at = -1;
		this.point(this.steps - 1);
	}

	look(t) {
		const { word, tag, scores } = this.words[t];
		mark($("tagged"), t);
		$("tag-word").textContent = `${word}: ${tag}`;
		bars($("tag-scores"), this.model.labels.map((label, k) => [label, scores[k]]).sort((a, b) => b[1] - a[1]).slice(0, 8));
	}
}

export class TextPart extends Part {
	constructor(page) {
		super(page, "class-text", "word");
		this.choose($("class-words"));
		new ResizeObserver(() => this.repaint()).observe($("class-chart"));
	}

	async read() {
		const text = $("class-text").value, list = $("class-words");
		this.steps = 0;
		$("class-result").hidden = !text.trim();
		if (!text.trim()) return;
		const { words, probabilities } = await this.page.backend.classify(this.model, text), [[label, p]] = ranked(probabilities.at(-1));
		Object.assign(this, { words, probabilities, steps: words.length, at: -1 });
		$("class-verdict").textContent = `${label}, ${percent(p)}`;
		$("class-note").textContent = `Coloured by how far each word moves the verdict towards ${label}, or away from it.`;
		list.replaceChildren(...words.flatMap((word, t) => {
			const moved = probabilities[t][label] - (t ? probabilities[t - 1][label] : 1 / this.model.labels.length), size = Math.min(3, Math.ceil(Math.abs(moved) * 8 - 0.2));
			return [option(list, t, `token ${moved < 0 ? "away" : "to"}${size}`, `${word}: ${moved < 0 ? "−" : "+"}${percent(Math.abs(moved))} for ${label}`, word), " "];
		}));
		await this.follow({ words }, words);
		this.point(this.steps - 1);
	}

	look(t) {
		const now = ranked(this.probabilities[t]), [label, p] = now[0];
		mark($("class-words"), t);
		$("class-at").textContent = `After “${this.words[t]}”, word ${t + 1} of ${this.steps}: ${label}, ${percent(p)}`;
		bars($("class-bars"), now.slice(0, 6));
		this.repaint();
	}

	repaint() {
		if (!this.steps || !$("class-chart").clientWidth) return;
		const last = ranked(this.probabilities.at(-1)).slice(0, 4).map(([name]) => name).sort();
		lines($("class-chart"), last.map((name) => ({ name, values: this.probabilities.map((p) => p[name]) })), { low: 0, high: 1, format: (x) => `${Math.round(100 * x)}%`, at: this.at, label: (t) => this.words[t].slice(0, 10) });
		$("class-chart").ariaLabel = `The probabilities of ${last.join(", ")} after each word; at the end ${$("class-verdict").textContent}`;
	}
}

// Strokes of the digits: points in a box of 10 by 14, x and y in hexadecimal.
const SHAPES = [
	"50 20 06 08 2d 5e 8d a8 a6 80 50", "24 50 5e", "04 21 50 80 a3 95 68 3b 0e 4e ae", "02 20 60 93 85 46 86 a9 9c 6e 2e 0c", "70 39 08 a8,70 7e",
	"90 10 06 46 87 aa 8d 4e 0d", "80 41 15 09 1d 4e 8d a9 86 46 0a", "00 a0 75 4e", "56 22 40 70 92 56 19 1d 5e 9d 99 56", "95 67 26 03 20 60 92 95 9a 7e",
].map((digit) => digit.split(",").map((one) => one.split(" ").map((pair) => [...pair].map((x) => 14 + (parseInt(x, 16) - 6) * 1.4))));
const FINE = 8; // a picture is drawn so much finer, then averaged

function stroke(to, strokes, lineWidth) {
	Object.assign(to, { lineWidth, lineCap: "round", lineJoin: "round" });
	for (const points of strokes) {
		to.beginPath();
		to.moveTo(...points[0]);
		points.slice(1, -1).forEach(([x, y], k) => to.quadraticCurveTo(x, y, (x + points[k + 2][0]) / 2, (y + points[k + 2][1]) / 2));
		to.lineTo(...points.at(-1));
		to.stroke();
	}
}

/** Strokes as size × size numbers from 0 to 1: as MNIST's, 20 of 28 pixels high or wide, with the centre of mass in the middle. */
export function picture(strokes, size) {
	const [xs, ys] = [0, 1].map((k) => strokes.flat().map((point) => point[k])), [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
	const large = size >= 20, pen = Math.max((size * 2.5) / 28, 1), scale = ((large ? (size * 20) / 28 : size) - pen) / Math.max(right - left, bottom - top, 1e-3);
	const draw = (x, y) => {
		const { width } = Object.assign(document.createElement("canvas"), { width: size * FINE }), canvas = new OffscreenCanvas(width, width), to = canvas.getContext("2d");
		to.setTransform(FINE * scale, 0, 0, FINE * scale, FINE * (x - ((left + right) / 2) * scale), FINE * (y - ((top + bottom) / 2) * scale));
		stroke(to, strokes, pen / scale);
		const found = Array.from({ length: size }, () => Array(size).fill(0)), { data } = to.getImageData(0, 0, width, width);
		for (let k = 0; k < width * width; ++k) found[Math.floor(k / width / FINE)][Math.floor((k % width) / FINE)] += data[4 * k + 3] / 255 / FINE ** 2;
		return found;
	};
	const first = draw(size / 2, size / 2), mass = first.flat().reduce((a, b) => a + b, 0);
	const middle = (of) => first.flat().reduce((sum, ink, k) => sum + ink * (of(k) + 0.5), 0) / mass;
	return large ? draw(size - middle((k) => k % size), size - middle((k) => Math.floor(k / size))) : first;
}

export class RowsPart extends Part {
	#strokes = [];
	#turn = 0; // changes when another picture is read

	constructor(page) {
		super(page, "rows-text", "row");
		const pad = $("pad"), at = ({ clientX, clientY }, { left, top, width } = pad.getBoundingClientRect()) => [((clientX - left) / width) * 28, ((clientY - top) / width) * 28];
		let down = false;
		on(pad, "pointerdown pointermove pointerup pointercancel", (event) => {
			if (event.type === "pointerdown") {
				pad.setPointerCapture(event.pointerId);
				down = this.#strokes.push([]) > 0;
			} else if (!down) return;
			down = /down|move/.test(event.type);
			this.#strokes.at(-1).push(at(event));
			this.repaint();
			if (!down) this.draw(this.#strokes);
		});
		$("pad-clear").onclick = () => this.draw([]);
		$("shape").append(...SHAPES.map((_, k) => make("option", {}, k)));
		on("shape", "change", () => this.draw(SHAPES[$("shape").value] ?? []));
		on("reading", "pointermove pointerleave", ({ clientY, type }) => {
			const { top, height } = $("reading").getBoundingClientRect(), { length } = this.rows;
			if (this.steps === length) this.point(type === "pointerleave" ? length - 1 : limited(Math.floor(((clientY - top - 22) / (height - 22)) * length), 0, length - 1));
		});
		new ResizeObserver(() => this.repaint()).observe($("reading"));
	}

	async ready() {
		const { inputs } = this.model;
		$("pad-part").hidden = inputs < 8;
		$("rows-typed").open = inputs < 8;
		$("rows-label").textContent = `${inputs} in a line, a line for each step`;
		this.#set(inputs < 8 ? [] : SHAPES[3]);
	}

	#set(strokes) {
		this.#strokes = [...strokes];
		$("rows-text").value = (strokes.length ? picture(strokes, this.model.inputs) : []).map((row) => row.map((x) => Number(x.toFixed(2))).join(" ")).join("\n");
	}

	/** Draw strokes, as if by hand. */
	draw(strokes) {
		this.#set(strokes);
		this.changed();
	}

	async read() {
		const turn = ++this.#turn, whole = { labels: [], gates: [] }, { record } = this, text = $("rows-text").value.trim();
		const rows = text ? text.split("\n").map((row) => row.trim().split(/[\s,;]+/).map(Number)) : [];
		if (rows.flat().some(Number.isNaN) || rows.some((row) => row.length !== this.model.inputs)) throw new Error(`Expected lines of ${this.model.inputs} numbers.`);
		record.labels.length = record.gates.length = 0;
		Object.assign(this, { rows, steps: 0, at: -1, probabilities: rows.length ? (await this.page.backend.classify(this.model, rows)).probabilities : [] });
		await this.follow({ inputs: rows }, rows.map((_, t) => `${t + 1}`), whole);
		$("rows-verdict").textContent = $("rows-at").textContent = "";
		$("rows-bars").replaceChildren();
		this.repaint();
		this.#scan(turn, record, whole);
	}

	/** Show the rows one after the other. */
	async #scan(turn, record, { labels, gates }) {
		const still = matchMedia("(prefers-reduced-motion: reduce)").matches, { length } = this.rows;
		for (let t = 0; t < length && turn === this.#turn && this.model; ++t) {
			this.steps = t + 1;
			if (gates.length) {
				record.labels.push(labels[t]);
				record.gates.push(gates[t]);
			}
			if (still && t + 1 < length) continue;
			if (gates.length) this.page.view.refresh(t + 1 === length);
			this.point(t);
			await pause(1100 / length);
		}
		if (turn === this.#turn && length) $("said").textContent = `Read as ${$("rows-verdict").textContent}`;
	}

	look(t) {
		const now = ranked(this.probabilities[t]), [label, p] = now[0];
		$("rows-verdict").textContent = `${label}, ${percent(p)}`;
		$("rows-at").textContent = `after row ${t + 1} of ${this.rows.length}`;
		bars($("rows-bars"), now.slice(0, 10));
		this.repaint();
	}

	/** Draw the field, the rows that were read, and beside each the probabilities after it. */
	repaint() {
		const canvas = $("reading");
		if (!canvas.clientWidth || !this.rows) return;
		const pad = fresh($("pad"));
		pad.to.scale(pad.width / 28, pad.width / 28);
		pad.to.strokeStyle = styled("ink");
		stroke(pad.to, this.#strokes, 2.2);
		const { to, width, height } = fresh(canvas), { rows, steps, model: { inputs, labels } } = this, top = 22, row = (height - top) / Math.max(rows.length, 1);
		const wide = Math.min(width / 2, inputs * row), right = wide + 26, cell = Math.min((width - right) / labels.length, 44), colours = table(false), largest = Math.max(1e-9, ...rows.flat().map(Math.abs));
		to.fillStyle = styled("pad");
		to.fillRect(0, top, wide, height - top);
		rows.forEach((numbers, t) => {
			to.fillStyle = styled("ink");
			numbers.forEach((x, k) => {
				to.globalAlpha = (Math.abs(x) / largest) * (t < steps ? 1 : 0.18);
				to.fillRect((k * wide) / inputs, top + t * row, wide / inputs + 0.4, row + 0.4);
			});
			to.globalAlpha = 1;
			if (t < steps) labels.forEach((label, k) => {
				to.fillStyle = css(colours, Math.round(255 * this.probabilities[t][label]));
				to.fillRect(right + k * cell, top + t * row, cell - 1, row + 0.2);
			});
		});
		to.textAlign = "center";
		to.fillStyle = styled("dim");
		labels.forEach((label, k) => to.fillText(label, right + (k + 0.5) * cell, 14, cell));
		to.strokeStyle = styled("mark");
		to.lineWidth = 2;
		if (this.at >= 0) to.strokeRect(1, top + this.at * row, Math.min(right + labels.length * cell, width) - 2, row);
		canvas.ariaLabel = rows.length ? `The picture, ${rows.length} rows of ${inputs}, with the probability of each label after each row; ${$("rows-verdict").textContent} ${$("rows-at").textContent}` : "No picture yet";
	}
}

const number = (x) => (x === null ? "" : String(Number(x.toPrecision(4))));

/** Forecasts of a series; of a model of other sequences, the prediction after each step. */
export class ForecastPart extends Part {
	constructor(page) {
		super(page, "values steps", "step");
		$("values-example").onclick = () => (this.#example(), this.changed());
		new ResizeObserver(() => this.repaint()).observe($("forecast-chart"));
	}

	ready() {
		const { columns, inputs, known, horizon, window, target } = this.model, only = columns.length === known.length + 1;
		this.names = columns.length ? columns : Array.from({ length: inputs }, (_, k) => `x${k + 1}`);
		$("steps-label").hidden = !window;
		Object.assign($("steps"), { max: only ? 1000 : horizon, value: only && horizon < 12 ? 12 : horizon });
		$("values-help").textContent = `A line for each step${window ? `, ${window} or more` : ""}: ${this.names.join(", ")}. A first line may name the columns.`
			+ (known.length ? ` After the last ${target}, go on with ${known.join(", ")} for the steps to forecast, and leave ${target} empty.` : "");
		this.#example();
	}

	/** Waves, in which a forecast can be seen. */
	#example() {
		const { window, known, target, horizon } = this.model, { names } = this, length = Math.max(window + 40, 66), ahead = known.length && Math.ceil($("steps").value / horizon) * horizon;
		const wave = (t, k) => (t < length || names[k] !== target ? (55 + 45 * Math.sin((t + 3 * k) / 1.75) * (0.75 + 0.25 * Math.sin(t / 9))).toFixed(1) : "");
		$("values").value = [names, ...Array.from({ length: length + ahead }, (_, t) => names.map((_, k) => wave(t, k)))].map((row) => row.join(", ")).join("\n");
	}

	/** The numbers of the field by column, null where there is none. */
	#table() {
		const { names } = this, rows = $("values").value.trimEnd().split("\n").map((row) => row.split(/[,;\t]/).map((one) => one.trim()));
		const named = rows[0].some((one) => one && Number.isNaN(Number(one))), places = names.map((name, k) => (named ? rows[0].indexOf(name) : k));
		const lacking = names.find((_, k) => places[k] < 0);
		if (lacking) throw new Error(`Line 1 names no column “${lacking}”; expected ${names.join(", ")}.`);
		return rows.slice(named).map((row, line) => places.map((place) => {
			const text = row[place] ?? "", x = text === "" ? null : Number(text);
			if (Number.isNaN(x)) throw new Error(`Line ${line + 1 + named}: “${text}” is not a number.`);
			return x;
		}));
	}

	async read() {
		const { model, names } = this, { window, target, horizon, known } = model, rows = this.#table(), place = Math.max(names.indexOf(target), 0);
		let inputs = rows, forecast = null;
		this.first = 0;
		if (window) {
			const history = rows.map((row) => row[place]), last = history.findLastIndex((x) => x !== null) + 1;
			forecast = await this.page.backend.forecast(model, rows, Number($("steps").value));
			this.first = last - window;
			const ahead = (k) => known.map((name) => rows[this.first + k + horizon]?.[names.indexOf(name)] ?? null);
			inputs = rows.slice(this.first, last).map((row, k) => [...row, ...ahead(k)]);
			this.series = [{ name: target, values: history.slice(0, last) }, { name: "forecast", values: [history[last - 1], ...forecast], start: last - 1, dashed: true }];
			$("forecast-title").textContent = `The next ${forecast.length} of ${target}`;
		} else if (!model.gates) throw new Error("This model reads whole sequences and forecasts no series; the page does not show it.");
		const whole = inputs.flat().every((x) => x !== null), events = await this.follow({ inputs }, whole ? inputs.map((row) => number(row[place])) : []);
		if (!window) {
			this.series = [{ name: "prediction", values: events.map(({ prediction: [y] }) => y) }];
			$("forecast-title").textContent = "The prediction after each step";
		}
		$("forecasts").replaceChildren(...(forecast ?? this.series[0].values).map((value) => make("li", {}, number(value))));
		this.steps = events.length;
		this.at = -1;
		this.repaint();
	}

	look() {
		this.repaint();
	}

	repaint() {
		if (!this.series || !$("forecast-chart").clientWidth) return;
		lines($("forecast-chart"), this.series, { format: number, at: this.at < 0 ? -1 : this.first + this.at, label: (t) => t + 1 });
		$("forecast-chart").ariaLabel = this.series.map(({ name, values }) => `${name}: ${values.length} values, from ${number(values[0])} to ${number(values.at(-1))}`).join("; ");
	}
}
