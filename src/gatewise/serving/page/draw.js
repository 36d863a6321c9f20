// Colours and charts. Amounts are shown in cividis, signed numbers from purple to orange, with the page's ground in the middle.
import { limited } from "./dom.js";

const AMOUNT = "00224e1a386f434e6c61656f7d7c789b9476bcae6cdec958fee838";
const SIGNED = { light: "2d004b5f3a919990bfcfcfe5f7f7f6fed59fee9b39bd61097f3b08", dark: "d6c9ffa48ee86f58b53f327215171c5c3510a3601ae8963cffd9a0" };
const LINES = { light: ["#0072b2", "#d55e00", "#008a64", "#b0568a"], dark: ["#56b4e9", "#ff8a3d", "#2cc79b", "#e3a0c8"] };
const theme = () => document.documentElement.dataset.theme;

/** A table of n colours, (n, 4) bytes, of which no two are the same. */
export function table(signed, n = 256) {
	const code = signed ? SIGNED[theme()] : AMOUNT, part = (k) => parseInt(code.slice(2 * k, 2 * k + 2), 16);
	const found = new Uint8ClampedArray(4 * n).fill(255), seen = new Set();
	for (let k = 0; k < n; ++k) {
		const place = (k / (n - 1)) * 8, from = Math.min(Math.floor(place), 7);
		const colour = [0, 1, 2].map((c) => Math.round(part(3 * from + c) + (place - from) * (part(3 * from + 3 + c) - part(3 * from + c))));
		while (seen.has(`${colour}`)) colour[2] += colour[2] < 128 ? 1 : -1;
		seen.add(`${colour}`);
		found.set(colour, 4 * k);
	}
	return found;
}
export const css = (colours, k) => `rgb(${colours.slice(4 * k, 4 * k + 3).join()})`;
/** A colour of the style sheet. */
export const styled = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);

/** A cleared canvas as large as on the screen; lengths are those of the style sheet. */
export function fresh(canvas) {
	const { clientWidth: width, clientHeight: height } = canvas, scale = devicePixelRatio;
	Object.assign(canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
	const to = canvas.getContext("2d");
	to.scale(scale, scale);
	to.font = "12px system-ui, sans-serif";
	return { to, width, height };
}

function ticks(low, high, n) {
	const raw = (high - low) / n || 1, power = 10 ** Math.floor(Math.log10(raw)), step = power * [1, 2, 5, 10].find((k) => k * power >= raw);
	const first = Math.ceil(low / step);
	return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, k) => Number(((first + k) * step).toPrecision(9)));
}

/** Draw lines: series of { name, values, start, dashed }, the last step of each with its name; `at` is a step to mark. */
export function lines(canvas, series, { low, high, format, at, label }) {
	const { to, width, height } = fresh(canvas), all = series.flatMap(({ values }) => values).filter((x) => x !== null);
	low ??= Math.min(...all);
	high ??= Math.max(...all, low + 1e-9);
	const steps = Math.max(...series.map(({ values, start = 0 }) => start + values.length)), left = 46, right = width - Math.min(110, width / 4), bottom = height - 26;
	const x = (t) => left + (t / Math.max(steps - 1, 1)) * (right - left), y = (value) => bottom - ((value - low) / (high - low)) * (bottom - 12);
	const path = (points, colour, dash = []) => {
		to.strokeStyle = to.fillStyle = colour;
		to.setLineDash(dash);
		to.beginPath();
		points.forEach(([a, b]) => to.lineTo(a, b));
		to.stroke();
	};
	to.textBaseline = "middle";
	for (const value of ticks(low, high, 5)) {
		path([[left, y(value)], [right, y(value)]], styled("line"));
		to.fillStyle = styled("dim");
		to.textAlign = "right";
		to.fillText(format(value), left - 8, y(value));
	}
	to.textAlign = "center";
	for (const t of ticks(0, steps - 1, Math.min(8, width / 80))) if (Number.isInteger(t)) to.fillText(label(t), x(t), bottom + 15);
	if (at >= 0) path([[x(at), 12], [x(at), bottom]], styled("dim"), [3, 3]);
	to.lineWidth = 2.25;
	to.textAlign = "left";
	let above = -1e9;
	const ends = series.map(({ name, values, start = 0, dashed }, k) => {
		const colour = LINES[theme()][k % 4], points = values.map((value, t) => [x(start + t), value === null ? NaN : y(value)]);
		path(points, colour, dashed ? [7, 4] : []);
		if (points.length < 60) for (const [a, b] of points) {
			to.beginPath();
			to.arc(a, b, 3.2, 0, 7);
			to.fill();
		}
		return { name, colour, end: points.at(-1) };
	});
	for (const { name, colour, end } of ends.filter(({ end }) => end[0] > right - 1).sort((a, b) => a.end[1] - b.end[1])) {
		to.fillStyle = colour;
		to.fillText(name, right + 9, (above = limited(end[1], above + 15, height)), width - right - 12);
	}
}
