#!/bin/sh
# Hands messages of a chat platform to Twobox: one JSON object on each line of standard input, with
# chat, id and text. Needs jq. Stops at the first that is not taken; handing in the same ones again
# changes nothing.

while IFS= read -r message; do
    field() { printf '%s' "$message" | jq -r "$1"; }
    field .text | twobox send --channel command --chat "$(field .chat)" --id "$(field .id)" - || exit
done
