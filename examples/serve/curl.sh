#!/usr/bin/env bash
# The interface with curl and nothing else: bash examples/serve/curl.sh [URL], while `gatewise serve` runs with one model, a
# language model. If it runs with several, add "model": "NAME" to the bodies of /v1/completions and /v1/sessions.
set -euo pipefail
url=${1:-http://127.0.0.1:8000}
options=(--silent --show-error --fail-with-body -H "Authorization: Bearer ${GATEWISE_KEY:-}" -H 'Content-Type: application/json')

echo "== models"
curl "${options[@]}" "$url/v1/models"; echo

echo "== a completion"
curl "${options[@]}" "$url/v1/completions" -d '{"prompt": "the value of", "max_tokens": 10, "seed": 1}'; echo

echo "== a session: read, write token by token, fork"
id=$(curl "${options[@]}" "$url/v1/sessions" -d '{}' | sed 's/.*"id": *"\([^"]*\)".*/\1/')
session=$url/v1/sessions/$id
curl "${options[@]}" "$session/feed" -d '{"text": "the value of"}'; echo
curl "${options[@]}" --no-buffer "$session/generate" -d '{"max_tokens": 3, "seed": 1, "stream": true, "top": 2}'
curl "${options[@]}" -X POST "$session/fork"; echo

echo "== its state, saved and put back"
curl "${options[@]}" "$session/state" --output session.safetensors
curl "${options[@]}" -X PUT "$session/state" -H 'Content-Type: application/octet-stream' --data-binary @session.safetensors; echo
curl "${options[@]}" -X DELETE "$session"
