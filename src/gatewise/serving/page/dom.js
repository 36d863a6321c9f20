// Helpers; the README says what each file does.
export const $ = (id) => document.getElementById(id)
export const range = (length, f) => Array.from({ length }, (_, k) => f(k))
export const limited = (x, low, high) => Math.max(Math.min(x, high), low)
export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))
export const percent = (p) => (p < 1e-4 ? "<0.01%" : `${(100 * p).toFixed(p < 0.01 ? 2 : 1)}%`)
export const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`
export const ranked = (all, most) => Object.entries(all).sort((a, b) => b[1] - a[1]).slice(0, most)
export const shown = (text) => (text.includes("\n") ? "↵" : text.trim() || "␣")

export function make(tag, set, ...content) {
	const made = Object.assign(document.createElement(tag), set)
	made.append(...content)
	return made
}
export const put = (id, ...content) => $(id).replaceChildren(...content)
export function on(where, events, f) {
	for (const at of where.split?.(" ").map($) ?? [where]) for (const name of events.split(" ")) at.addEventListener(name, f)
}
export const sized = (id, f) => new ResizeObserver(f).observe($(id))

export async function trying(f) {
	$("message").hidden = true
	try {
		await f()
	} catch (problem) {
		put("message", problem.message)
		$("message").hidden = false
	}
}
export function typedIn({ value }) {
	if (value.length > 20_000) throw Error(`The text has ${count(value.length, "character")}; expected at most 20,000.`)
	return value
}
export function settled(f) {
	let timer, last
	return () => {
		clearTimeout(timer)
		timer = setTimeout(async () => {
			await last
			last = trying(f)
		}, 200)
	}
}

export function shaded(made, s) {
	made.style.setProperty("--s", s)
	return made
}
export function option(list, t, className, ariaLabel, s, ...content) {
	const made = shaded(make("span", { role: "option", id: list.id + t, ariaSelected: "false", className, ariaLabel }, ...content), s)
	made.dataset.t = t
	return made
}
export const optionAt = (list, t) => list.querySelector(`[data-t="${t}"]`)
export function mark(list, t) {
	list.querySelector(".here")?.classList.remove("here")
	optionAt(list, t)?.classList.add("here")
	list.setAttribute("aria-activedescendant", list.id + t)
}
export function choosable(list, point, select = () => {}) {
	let from = -1
	on(list, "pointermove pointerdown", ({ target, type, shiftKey, buttons }) => {
		const t = +(target.closest("[role=option]")?.dataset.t ?? -1)
		if (t < 0) return
		if (type === "pointerdown") {
			if (!shiftKey) from = t
			select(shiftKey ? from : -1, t)
		} else if (buttons === 1 && from !== t) select(from, t)
		point(t)
	})
	on(list, "keydown", (event) => {
		const t = +(list.querySelector(".here")?.dataset.t ?? -1), last = list.querySelectorAll("[role=option]").length - 1
		const to = { ArrowLeft: t - 1, ArrowRight: t + 1, ArrowUp: t - 9, ArrowDown: t + 9, Home: 0, End: last }[event.key]
		if (event.key === "Escape") select(-1, t)
		if (to === undefined || last < 0) return
		event.preventDefault()
		const at = limited(to, 0, last)
		if (event.shiftKey) select(from, at)
		else from = at
		point(at)
		optionAt(list, at).scrollIntoView({ block: "nearest" })
	})
}

/** Bars of [name, probability]; with `choose` they are buttons. */
export function bars(id, pairs, choose, chosen) {
	put(id, ...pairs.map(([name, p]) => {
		const set = { className: `bar${name === chosen ? " is" : ""}`, onclick: choose && (() => choose(name)) }
		return make("li", {}, make(choose ? "button" : "div", set, make("span", {}, choose ? shown(name) : name), shaded(make("i"), p), make("b", {}, percent(p))))
	}))
}
