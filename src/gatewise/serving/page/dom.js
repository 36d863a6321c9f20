// Helpers for elements, lists and waiting.

export const $ = (id) => document.getElementById(id);
export const make = (tag, set, ...content) => {
	const made = Object.assign(document.createElement(tag), set);
	made.append(...content);
	return made;
};
/** Listen for events at an element, or at those whose ids a text names. */
export function on(where, events, f) {
	for (const at of typeof where === "string" ? where.split(" ").map($) : [where]) for (const name of events.split(" ")) at.addEventListener(name, f);
}
export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
export const limited = (x, low, high) => Math.max(Math.min(x, high), low);
export const percent = (p) => (p < 1e-4 ? "<0.01%" : `${(100 * p).toFixed(p < 0.01 ? 2 : 1)}%`);
export const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
/** A token as people read it. */
export const shown = (text) => (text.includes("\n") ? "↵" : text.trim() || "␣");

/** Say a problem, or clear it. */
export function say(problem = "") {
	$("message").textContent = problem.message ?? problem;
	$("message").hidden = !problem;
}
/** Run f, and say what goes wrong. */
export async function trying(f) {
	try {
		say();
		return await f();
	} catch (problem) {
		say(problem);
	}
}
/** f, called when nothing has asked for it in a while, and not before its last call has ended. */
export function settled(f, milliseconds = 200) {
	let timer = 0, last = Promise.resolve();
	return () => {
		clearTimeout(timer);
		timer = setTimeout(() => (last = last.then(() => trying(f))), milliseconds);
	};
}

/** An option of a list of words. */
export function option(list, t, className, ariaLabel, ...content) {
	const made = make("span", { role: "option", id: list.id + t, ariaSelected: "false", className, ariaLabel }, ...content);
	made.dataset.t = t;
	return made;
}
/** Mark the option that is current. */
export function mark(list, t) {
	list.querySelector(".here")?.classList.remove("here");
	const to = list.querySelector(`[data-t="${t}"]`);
	to?.classList.add("here");
	list.setAttribute("aria-activedescendant", to?.id ?? "");
}
/** Let point(t) choose an option by the mouse and the arrow keys, and select(from, to) several, with Shift or by dragging; from is -1 for none. */
export function choosable(list, point, select = () => {}) {
	let from = -1;
	on(list, "pointermove pointerdown", ({ target, type, shiftKey, buttons }) => {
		const at = target.closest("[role=option]"), t = Number(at?.dataset.t);
		if (!at) return;
		if (type === "pointerdown") {
			if (!shiftKey) from = t;
			select(shiftKey ? from : -1, t);
		} else if (buttons === 1 && from >= 0 && from !== t) select(from, t);
		point(t);
	});
	on(list, "keydown", (event) => {
		const t = Number(list.querySelector(".here")?.dataset.t ?? -1), last = list.querySelectorAll("[role=option]").length - 1;
		const to = { ArrowLeft: t - 1, ArrowRight: t + 1, ArrowUp: t - 9, ArrowDown: t + 9, Home: 0, End: last }[event.key];
		if (event.key === "Escape") select(-1, t);
		if (to === undefined || last < 0) return;
		event.preventDefault();
		const at = limited(to, 0, last);
		if (!event.shiftKey) from = at;
		else select(from < 0 ? (from = Math.max(t, 0)) : from, at);
		point(at);
		list.querySelector(`[data-t="${at}"]`).scrollIntoView({ block: "nearest" });
	});
}

/** Bars of [name, probability]; a bar is a button where `choose` is given. */
export function bars(list, pairs, choose, chosen) {
	list.replaceChildren(...pairs.map(([name, p]) => {
		const bar = make("i", {}), label = make("span", {}, choose ? shown(name) : name);
		bar.style.setProperty("--p", p);
		const one = make(choose ? "button" : "div", { className: `bar${name === chosen ? " is" : ""}`, type: "button" }, label, bar, make("b", {}, percent(p)));
		if (choose) one.onclick = () => choose(name);
		return make("li", {}, one);
	}));
}
/** [label, probability] of {label: probability}, the most probable first. */
export const ranked = (probabilities) => Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
