#!/usr/bin/env bash
# Python's e-mail library breaks the ids that threads hang on, both when it writes and when it reads.
#
# One would guess: In-Reply-To and References hold message ids, so they are never encoded, at most folded
#   between two ids; and a header that was folded reads as its text, without the fold.
# What happens: writing: an id of 78 characters or more is turned into encoded words, in
#   In-Reply-To as in References (Message-ID itself is spared). The receiver sees =?utf-8?q?=3C… and no
#   id. Reading: where the sender put a long id on the next line, as some do, `msg["Message-ID"]` is
#   "\r\n <id>" with the default policy of message_from_bytes, and " <id>" with policy.default.
# Seen with: Python 3.11's `email` (3.11.2 of Debian 12 and 3.11.7 alike).
# Why it matters to a host of agents: the session of a mail is found by these ids. A reply to a mail with
#   an id of 80 characters, as large providers make them, starts a new thread at the other side; an id
#   that was read folded equals no stored one, so each answer begins a new conversation here as well.
#   Write with policy.SMTP.clone(max_line_length=998), and read ids by a pattern <…>, never the whole value.
# Rule: RFC 2047 section 5: an encoded word MUST NOT appear within a message id. RFC 5322 section 2.2.3:
#   unfolding removes the CRLF before anything is made of the value.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "this is about Python 3.11; here is: $(python3 --version)" >&2
    exit 2
}

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

cat >"$dir/finding.py" <<'PY'
import email
import email.policy
from email.message import EmailMessage



def written(policy, header, length):
    long_id = f"<{'0' * (length - 19)}@mail.example.org>"
    assert len(long_id) == length
    message = EmailMessage(policy=policy)
    message[header] = long_id
    message.set_content("hello")
    head = message.as_bytes().partition(b"\r\n\r\n")[0].decode().split("Content-Type")[0]
    if long_id in head:
        return "whole"
    return "encoded" if "=?utf-8?q?=3C0000" in head else "?"


wide = email.policy.SMTP.clone(max_line_length=998)
for header in ("Message-ID", "In-Reply-To", "References"):
    short, long = (written(email.policy.SMTP, header, length) for length in (77, 78))
    print(f"{header} written: 77 characters {short}, 78 {long}; wide lines {written(wide, header, 78)}")

MAIL = b"Message-ID:\r\n <a1@example.org>\r\nSubject: hello\r\n\r\nhello\r\n"
for name, policy in (("compat32, the default", email.policy.compat32), ("default", email.policy.default)):
    print(f"Message-ID read, policy {name}: {email.message_from_bytes(MAIL, policy=policy)['Message-ID']!r}")
PY

expected="Message-ID written: 77 characters whole, 78 whole; wide lines whole
In-Reply-To written: 77 characters whole, 78 encoded; wide lines whole
References written: 77 characters whole, 78 encoded; wide lines whole
Message-ID read, policy compat32, the default: '\r\n <a1@example.org>'
Message-ID read, policy default: ' <a1@example.org>'"

seen=$(python3 "$dir/finding.py")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
