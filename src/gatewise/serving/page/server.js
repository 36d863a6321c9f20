// The backend that asks a server, `gatewise serve`.
import { pause } from "./dom.js"

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
		for (;;) {
			const headers = body ? { "Content-Type": "application/json" } : {}
			if (this.#key !== null) headers.Authorization = `Bearer ${this.#key}`
			const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) })
			if (answer.status === 401) this.#key = await this.#askKey(this.#key !== null)
			else if (answer.status === 204) return null
			else {
				const found = await answer.json()
				if (answer.ok) return found
				throw Object.assign(new Error(found.error.message), found.error)
			}
		}
	}

	/** A WebSocket of a session; pages cannot send headers with it, so the key is a subprotocol. */
	connect(id) {
		const key = btoa(String.fromCharCode(...new TextEncoder().encode(this.#key ?? ""))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")
		return new WebSocket(new URL(`v1/sessions/${id}/ws`, location.href.replace("http", "ws")), ["gatewise", ...(key ? [`gatewise.key.${key}`] : [])])
	}

	async session({ id }) {
		const session = new Session(this, id)
		await session.open()
		return session
	}
	async tag({ id: model }, text) {
		return (await this.ask("POST", "v1/tag", { model, text, probabilities: true })).sentences
	}
	async classify({ id: model }, input) {
		return (await this.ask("POST", "v1/classify", { model, inputs: [input], over_time: true })).results[0]
	}
	async forecast({ id: model }, values, steps) {
		return (await this.ask("POST", "v1/forecast", { model, values, steps })).values
	}
}

/** A session and its connection, which is made again when it breaks; what was asked then goes on, without loss. */
class Session {
	position = 0
	#socket = null
	#state = "open" // or "mending", "closed"
	#read = [] // the ids that a language model has read
	#now = null // what was asked: { ask, onEvent, start, resolve, reject }

	constructor(backend, model) {
		Object.assign(this, { backend, model })
	}

	async open(tokens = []) {
		this.id = (await this.backend.ask("POST", "v1/sessions", { model: this.model })).id
		if (tokens.length) await this.backend.ask("POST", `v1/sessions/${this.id}/feed`, { tokens })
		await this.#connect()
	}

	#connect() {
		return new Promise((resolve, reject) => {
			const socket = this.backend.connect(this.id)
			socket.onmessage = ({ data }) => this.#hear(JSON.parse(data))
			socket.onopen = () => resolve((this.#socket = socket))
			socket.onclose = () => {
				reject(new Error("refused"))
				if (this.#socket === socket && this.#state === "open") this.#mend()
			}
		})
	}

	async #mend() {
		const { backend } = this, now = this.#now, ask = now?.ask
		this.#state = "mending"
		for (let wait = 250; this.#state === "mending"; wait = Math.min(2 * wait, 8000)) {
			backend.tell(`Connection lost; connecting again${wait > 1000 ? `, every ${wait / 1000} s` : ""}…`, true)
			await pause(wait * (0.75 + Math.random() / 2))
			try {
				const known = await backend.ask("GET", `v1/sessions/${this.id}`).catch((problem) => {
					if (problem.code !== "no_session") throw problem
				})
				const resumes = known?.resumable && ask?.type === "generate", same = known && !now && known.position === this.position
				if (resumes || same) await this.#connect()
				else {
					// What was asked is asked again, in a session that has read what came before; events that were heard are skipped.
					await this.open(ask?.type === "feed" ? this.#read.slice(0, now.start) : this.#read)
					if (ask?.max_tokens) ask.max_tokens -= this.#read.length - now.start
				}
				this.#state = "open"
				backend.tell(`Connected again: ${resumes ? `nothing was lost, it went on after token ${this.position}` : same ? "nothing was lost" : "what the page has was read again"}.`)
				if (ask?.max_tokens === 0) this.#end("resolve")
				else if (now) this.#send(resumes ? { type: "resume", after: this.position } : ask)
			} catch (problem) {
				if (!problem.code || ["draining", "full", "busy"].includes(problem.code)) continue
				this.#state = "open"
				backend.tell(problem.message, true)
				this.#end("reject", problem)
			}
		}
	}

	#send(message) {
		if (this.#state === "open") this.#socket.send(JSON.stringify(message))
	}
	#ask(ask, onEvent) {
		return new Promise((resolve, reject) => {
			this.#now = { ask, onEvent, start: this.#read.length, resolve, reject }
			this.#send(ask)
		})
	}
	#end(how, value) {
		const now = this.#now
		this.#now = null
		now?.[how](value)
	}

	#hear(message) {
		const { type, token, tokens = [], position, gates, error, finish_reason: why } = message, now = this.#now
		if (type === "error") this.#end("reject", Object.assign(new Error(error.message), error))
		else if (type === "done" && why !== "draining") {
			if (!now?.onEvent) this.#read.push(...tokens)
			this.position = position
			this.#end("resolve")
		} else if (now?.onEvent && position > this.position) {
			this.position = position
			if (token !== undefined) this.#read.push(token)
			if (gates) message.gates = Uint8Array.from(atob(gates), (one) => one.charCodeAt(0))
			now.onEvent(message)
		}
	}

	async reset() {
		await this.#ask({ type: "reset" })
		this.#read = []
		this.position = 0
	}
	feed(what, onEvent) {
		return this.#ask({ type: "feed", ...what, stream: !!onEvent, gates: !!onEvent }, onEvent)
	}
	generate(options, onEvent) {
		return this.#ask({ type: "generate", ...options, stream: true, gates: true }, onEvent)
	}
	stop() {
		this.#send({ type: "stop" })
	}
	close() {
		this.#state = "closed"
		this.#socket.close()
		this.backend.ask("DELETE", `v1/sessions/${this.id}`).catch(() => {})
	}
}
