// Finds what computes, a server or WebAssembly, and shows the model that is chosen.
import { $, count, make, on, put, settled, trying } from "./dom.js"
import { gateView } from "./gates.js"
import { LanguagePart } from "./language.js"
import { ForecastPart, RowsPart, TaggerPart, TextPart } from "./parts.js"
import { ServerBackend } from "./server.js"

const TASKS = { "language-model": LanguagePart, tagger: TaggerPart, "text-classifier": TextPart, classifier: RowsPart, regressor: ForecastPart }
const page = { backend: null, view: gateView(), part: null, model: null }
const parts = {}
window.gatewise = page

function about({ cell, layers, hidden, directions, vocabulary, level, labels, weights, bytes, task }) {
	return [
		`${cell.replace("_", " ").toUpperCase()}, ${count(layers, "layer")} of ${hidden} units${directions > 1 ? " each way" : ""}`,
		vocabulary && count(vocabulary, level === "character" ? "character" : "word"),
		labels && count(labels.length, task === "tagger" ? "tag" : "label"),
		weights,
		bytes && `${(bytes / 1e6).toFixed(1)} MB`,
	].filter(Boolean).join(" · ")
}

function list(chosen) {
	put("model", ...Object.keys(TASKS).map((task) => {
		const models = page.backend.models.filter((one) => one.task === task)
		return models.length ? make("optgroup", { label: task }, ...models.map(({ id }) => make("option", {}, id))) : ""
	}))
	if (chosen) $("model").value = chosen
}

async function show() {
	const model = page.backend.models.find(({ id }) => id === $("model").value)
	put("about", `${model ? `${about(model)}. ` : "Open a model file. "}Computed by ${page.backend.runtime}.`)
	page.part?.close()
	page.part = page.model = null
	for (const task in TASKS) $(task).hidden = task !== model?.task
	$("gates").hidden = !model?.gates
	$("no-gates").hidden = !model || !!model.gates
	if (!model) return
	page.part = parts[model.task] ??= new TASKS[model.task](page)
	await page.part.open(model)
	page.model = model
}

function askKey(wrong) {
	$("key-wrong").hidden = !wrong
	$("key").value = ""
	$("key-dialog").showModal()
	return new Promise((resolve) => ($("key-dialog").onclose = () => resolve($("key").value)))
}
on("key-form", "submit", (event) => (event.preventDefault(), $("key-dialog").close()))

const dark = matchMedia("(prefers-color-scheme: dark)")
function paint() {
	const chosen = $("theme").value
	document.documentElement.dataset.theme = chosen || (dark.matches ? "dark" : "light")
	page.view.refresh()
	page.part?.repaint?.()
}
on("theme", "change", paint)
on(dark, "change", paint)
paint()

on("model", "change", settled(show))
on("file", "change", ({ target: { files: [file] } }) => file && trying(async () => {
	list((await page.backend.open(file)).id)
	await show()
}))

await trying(async () => {
	const server = new ServerBackend(askKey, (text, broken) => {
		Object.assign($("connection"), { className: broken ? "" : "good", textContent: text, hidden: false })
	})
	page.backend = (await server.start()) ? server : new (await import("./wasm.js")).WebAssemblyBackend()
	if (page.backend !== server) await page.backend.start()
	$("open").hidden = page.backend === server
	list()
	await show()
})
