// The backend that asks a server, `gatewise serve`.
import { pause } from "./dom.js"

const LOST = "Connection lost; connecting again…"

export class ServerBackend {
	runtime = `the server at ${location.host}`
	models = []
	#key = null
	#askKey

	constructor(askKey, tell) {
		this.#askKey = askKey
		this.tell = tell
	}

	async start() {
		const found = await this.ask("GET", "v1/models").catch((problem) => {
			if (problem.code) throw problem
		})
		this.models = found?.data ?? []
		return !!found
	}

	async ask(method, path, body) {
		for (let lost = false; ; ) {
			const headers = body ? { "Content-Type": "application/json" } : {}
			if (this.#key !== null) headers.Authorization = `Bearer ${this.#key}`
			const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) }).catch((problem) => {
				if (!this.models.length) throw problem
			})
			if (lost !== !answer) this.tell(answer ? "Connected again." : LOST, !answer)
			lost = !answer
			if (lost) await pause(1000)
			else if (answer.status === 401) this.#key = await this.#askKey(this.#key !== null)
			else if (answer.status === 204) return null
			else {
				const found = await answer.json()
				if (answer.ok) return found
				throw Object.assign(Error(), found.error)
			}
		}
	}

	connect(id) {
		const key = btoa(this.#key ?? "").replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")
		return new WebSocket(new URL(`v1/sessions/${id}/ws`, location.href.replace("http", "ws")), ["gatewise", ...(key ? [`gatewise.key.${key}`] : [])])
	}

	session = ({ id }) => sessionOf(this, id)
	tag = async ({ id: model }, text) => (await this.ask("POST", "v1/tag", { model, text, probabilities: true })).sentences
	classify = async ({ id: model }, input) => (await this.ask("POST", "v1/classify", { model, inputs: [input], over_time: true })).results[0]
	forecast = async ({ id: model }, values, steps) => (await this.ask("POST", "v1/forecast", { model, values, steps })).values
}

async function sessionOf(backend, model) {
	let id, socket, position = 0, kept = true, state = "open"
	let read = [] // the ids that a language model has read
	let now = null // what was asked: { ask, onEvent, start, resolve, reject }

	async function open(tokens = []) {
		id = (await backend.ask("POST", "v1/sessions", { model })).id
		if (tokens.length) await backend.ask("POST", `v1/sessions/${id}/feed`, { tokens })
		await connect()
	}

	const connect = () => new Promise((resolve, reject) => {
		const next = backend.connect(id)
		next.onmessage = ({ data }) => hear(JSON.parse(data))
		next.onopen = () => resolve((socket = next))
		next.onclose = () => {
			reject(Error())
			if (socket === next && state === "open") mend()
		}
	})

	async function mend() {
		const { ask, start } = now ?? {}
		state = "mending"
		while (state === "mending") {
			backend.tell(LOST, true)
			await pause(200 + 600 * Math.random())
			try {
				const known = await backend.ask("GET", `v1/sessions/${id}`).catch((problem) => {
					if (problem.code !== "no_session") throw problem
				})
				const resumes = kept && known?.resumable && ask?.type === "generate", same = !ask && known?.position === position
				if (resumes || same) await connect()
				else {
					await open(ask?.type === "feed" ? read.slice(0, start) : read)
					if (ask?.max_tokens) ask.max_tokens -= read.length - start
				}
				if (state === "closed") socket.close()
				else state = "open"
				kept = true
				backend.tell(`Connected again: ${resumes ? `nothing was lost, it went on after token ${position}` : same ? "nothing was lost" : "what the page has was read again"}.`)
				if (ask?.max_tokens === 0) end("resolve")
				else if (ask) send(resumes ? { type: "resume", after: position } : ask)
			} catch (problem) {
				if (!problem.code || ["draining", "full", "busy"].includes(problem.code)) continue
				state = "open"
				backend.tell(problem.message, true)
				end("reject", problem)
			}
		}
	}

	const send = (message) => state === "open" && socket.send(JSON.stringify(message))
	const asked = (ask, onEvent) => new Promise((resolve, reject) => {
		now = { ask, onEvent, start: read.length, resolve, reject }
		send(ask)
	})
	function end(how, value) {
		const { [how]: done } = now ?? {}
		now = null
		done?.(value)
	}

	function hear(message) {
		const { type, token, tokens = [], gates, error, finish_reason: why } = message
		if (error?.code === "no_generation") mend((kept = false))
		else if (type === "error") end("reject", Object.assign(Error(), error))
		else if (type === "done" && why !== "draining") {
			if (!now?.onEvent) read.push(...tokens)
			position = message.position
			end("resolve")
		} else if (now?.onEvent && message.position > position) {
			position = message.position
			if (token !== undefined) read.push(token)
			if (gates) message.gates = Uint8Array.from(atob(gates), (one) => one.charCodeAt(0))
			now.onEvent(message)
		}
	}

	await open()
	return {
		async reset() {
			await asked({ type: "reset" })
			read = []
			position = 0
		},
		feed: (what, onEvent) => asked({ type: "feed", ...what, stream: !!onEvent, gates: !!onEvent }, onEvent),
		generate: (options, onEvent) => asked({ type: "generate", ...options, stream: true, gates: true }, onEvent),
		stop: () => send({ type: "stop" }),
		close() {
			state = "closed"
			socket.close()
			backend.ask("DELETE", `v1/sessions/${id}`).catch(() => {})
		},
	}
}
