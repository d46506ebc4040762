#!/bin/sh
# The routes with curl, a prompt file to and fro: sh docs/examples/curl.sh [adapter_model.safetensors]
# SOFTPROMPT_URL names another server than the one of `make serve`; needs curl 7.87 or newer for --url-query.
set -eu
url=${SOFTPROMPT_URL:-http://127.0.0.1:8000}
key=${SOFTPROMPT_ADMIN_KEY:-a server without keys takes any}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Every answer on a line of its own behind what it is; an error ends the script.
ask() {
  said=$1
  shift
  printf '%s: ' "$said"
  curl --silent --show-error --fail-with-body --header "Authorization: Bearer $key" "$@"
  printf '\n'
}
json='content-type: application/json'

# Ask: one, several tasks in one batch, token by token, labels, what would be sent.
ask generate "$url/generate" -H "$json" -d '{"task": "intent", "inputs": "play some jazz"}'
ask several "$url/generate" -H "$json" -d '{"requests": [
  {"task": "intent", "inputs": "will it rain in paris tomorrow"},
  {"task": "sentiment", "inputs": "a warm , funny and moving film"}]}'
ask stream -N "$url/generate_stream" -H "$json" -d '{"task": "intent", "inputs": "play some jazz"}'
ask classify "$url/classify" -H "$json" -d '{"task": "intent", "inputs": "play some jazz"}'
ask render "$url/render" -H "$json" -d '{"task": "intent", "inputs": "play some jazz"}'

# Look: tasks by kind and by how ids begin, one task, its history, its nearest tokens.
ask list "$url/tasks" --url-query kind=embeddings --url-query search=in --url-query limit=1
ask task "$url/tasks/intent"
ask versions "$url/tasks/intent/versions"
ask version "$url/tasks/intent/versions/1"
ask nearest "$url/tasks/intent/nearest" --url-query k=1
ask info "$url/info"

# A prompt file comes and goes byte for byte: -T puts a file.
ask download "$url/tasks/intent/versions/1/prompt" -o "$work/intent.safetensors"
ask publish -T "$work/intent.safetensors" "$url/tasks/curl-intent"
# A bare PEFT file says nothing about text, so the query does. In a plain URL curl takes braces for a pattern and asks
# for "name" where {name} is meant: --url-query encodes them.
if [ $# -gt 0 ]; then
  ask peft -T "$1" "$url/tasks/curl-peft" --url-query 'template={text} Mood:' --url-query labels=good,bad
  ask delete "$url/tasks/curl-peft" -X DELETE
fi
# A text task is JSON.
ask text "$url/tasks/curl-story" -X PUT -H "$json" -d '{"template": "Once upon a time there was a {who}."}'

# Change, roll back, delete; each is a new version. The key of an operation makes sending it twice safe.
ask patch "$url/tasks/curl-story" -X PATCH -H "$json" -H "Idempotency-Key: curl-$$-$(date +%s)" -d '{"description": "a teller"}'
ask rollback "$url/tasks/curl-story/rollback" -H "$json" -d '{"version": 1}'
ask delete "$url/tasks/curl-story" -X DELETE
ask delete "$url/tasks/curl-intent" -X DELETE
