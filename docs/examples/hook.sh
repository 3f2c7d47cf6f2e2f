#!/bin/sh
# Takes one message of an agent to a web hook. For the `command` channel of Twobox.
# Needs jq and curl. The file hooks/CHAT in the data directory holds the address for each chat.

for tool in jq curl; do
    command -v "$tool" >/dev/null || { echo "install $tool" >&2; exit 75; }
done

letter=$(cat)
field() { printf '%s' "$letter" | jq -r "$1"; }
unknown() { kill -s KILL $$; }

hook=$(cat "hooks/$(field .chat)") || exit 1

# This hook takes text only, so files are named at its end. One that takes them finds each at its
# .path while this program runs.
body='{text: ([.text] + [.attachments[]? | "[\(.name)]"] | join("\n"))}'

# Every user of the machine sees the arguments of a program, and the address may be a secret: curl
# reads it, and the text.
status=$(field "$body" | curl --silent --show-error --max-time 20 --config /dev/fd/3 \
    --header 'Content-Type: application/json' --header "Idempotency-Key: $(field .key)" \
    --data-binary @- --output /dev/null --write-out '%{http_code}' 3<<URL
url = "$hook"
URL
)

case $? in
    0) ;;
    5 | 6 | 7) exit 75 ;; # there was no connection: try again
    *) unknown ;;         # it was sent, and no answer came
esac
case $status in
    2??) exit 0 ;;
    429 | 503) exit 75 ;;
    4??)
        echo "the hook answered $status" >&2
        exit 1
        ;;
    *) unknown ;;
esac
