// Colours and charts: cividis for amounts, purple to orange for signed numbers.
import { limited, range } from "./dom.js"

const { floor, max, min, round } = Math
const root = document.documentElement
const AMOUNT = "00224e1a386f434e6c61656f7d7c789b9476bcae6cdec958fee838"
const SIGNED = { light: "2d004b9990bff7f7f6ee9b397f3b08", dark: "d6c9ff6f58b515171ca3601affd9a0" }
const LINES = { light: ["#0072b2", "#d55e00", "#008a64", "#b0568a"], dark: ["#56b4e9", "#ff8a3d", "#2cc79b", "#e3a0c8"] }
export const styled = (name) => getComputedStyle(root).getPropertyValue(`--${name}`)

/** n different colours, 4 bytes each. */
export function table(signed, n = 256) {
	const code = signed ? SIGNED[root.dataset.theme] : AMOUNT, seen = new Set()
	return new Uint8ClampedArray(range(n, (k) => {
		const last = code.length / 6 - 1, place = (k / (n - 1)) * last, from = min(floor(place), last - 1), part = (at) => parseInt(code.substr(2 * at, 2), 16)
		const colour = range(3, (c) => round(part(3 * from + c) + (place - from) * (part(3 * from + 3 + c) - part(3 * from + c))))
		while (seen.has(`${colour}`)) colour[2] += colour[2] < 128 ? 1 : -1
		seen.add(`${colour}`)
		return [...colour, 255]
	}).flat())
}
export const css = (colours, k) => `rgb(${colours.slice(4 * k, 4 * k + 3)})`

export function fresh(canvas) {
	const { clientWidth: width, clientHeight: height } = canvas, scale = devicePixelRatio, to = canvas.getContext("2d")
	Object.assign(canvas, { width: round(width * scale), height: round(height * scale) })
	to.scale(scale, scale)
	to.font = "12px system-ui, sans-serif"
	return { to, width, height }
}

function ticks(low, high, n) {
	const raw = (high - low) / n, power = 10 ** floor(Math.log10(raw)), step = power * [1, 2, 5, 10].find((k) => k * power >= raw), first = Math.ceil(low / step)
	return range(floor(high / step + 1e-9) - first + 1, (k) => +((first + k) * step).toPrecision(9))
}

export function lines(canvas, series, { low, high, format, at, label }) {
	const { to, width, height } = fresh(canvas), all = series.flatMap(({ values }) => values).filter((x) => x !== null)
	low ??= min(...all)
	high ??= max(...all, low + 1e-9)
	const steps = max(2, ...series.map(({ values, start = 0 }) => start + values.length)), left = 46, right = width - min(110, width / 4), bottom = height - 26
	const x = (t) => left + (t / (steps - 1)) * (right - left), y = (value) => bottom - ((value - low) / (high - low)) * (bottom - 12)
	const path = (colour, points, dash = []) => {
		to.strokeStyle = to.fillStyle = colour
		to.setLineDash(dash)
		to.beginPath()
		points.forEach(([a, b]) => to.lineTo(a, b))
		to.stroke()
	}
	const write = (text, a, b, colour, align) => {
		Object.assign(to, { fillStyle: colour, textAlign: align, textBaseline: "middle" })
		to.fillText(text, a, b, 100)
	}
	const dim = styled("dim")
	for (const value of ticks(low, high, 5)) {
		path(styled("line"), [[left, y(value)], [right, y(value)]])
		write(format(value), left - 8, y(value), dim, "right")
	}
	for (const t of ticks(0, steps - 1, min(8, width / 80))) if (t % 1 === 0) write(label(t), x(t), bottom + 15, dim, "center")
	if (at >= 0) path(dim, [[x(at), 12], [x(at), bottom]], [3, 3])
	to.lineWidth = 2.25
	const ends = series.map(({ name, values, start = 0, dashed }, k) => {
		const colour = LINES[root.dataset.theme][k], points = values.map((value, t) => [x(start + t), value === null ? NaN : y(value)])
		path(colour, points, dashed ? [7, 4] : [])
		if (points.length < 60) points.forEach(([a, b]) => to.fillRect(a - 3, b - 3, 6, 6))
		return [name, points.at(-1), colour]
	})
	let above = -99
	for (const [name, [a, b], colour] of ends.sort((one, two) => one[1][1] - two[1][1])) if (a > right - 1) write(name, right + 9, (above = limited(b, above + 15, height)), colour, "left")
}
