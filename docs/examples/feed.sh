#!/bin/sh
# Hands messages of a chat platform to Twobox: one JSON object on each line of standard input, with
# chat, id and text. Needs jq. Stops at the first that is not taken; handing in the same ones again
# changes nothing. A line without one of the three is told of and left out: a message without an id
# would be another one each time.

while IFS= read -r message; do
    field() { printf '%s' "$message" | jq -r "$1"; }
    whole='[.chat, .id, .text] | all((type == "string" or type == "number") and . != "")'
    if ! printf '%s' "$message" | jq -e "$whole" > /dev/null 2>&1; then
        printf '%s: no chat, id and text, left out: %s\n' "$0" "$message" >&2
        continue
    fi
    field .text | twobox send --channel command --chat "$(field .chat)" --id "$(field .id)" - || exit
done
