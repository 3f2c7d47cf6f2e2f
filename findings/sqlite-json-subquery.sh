#!/usr/bin/env bash
# JSON from a subquery: an array with one SQLite, a string with the next.
#
# One would guess: json_object('m', (SELECT json_group_array(…) …)) nests the array, as it always did,
#   and whatever it does, it does in every version.
# What happens: whether a text is JSON or merely text is a mark on the value that is no part of its
#   type. SQLite 3.40 carries the mark out of a scalar subquery, 3.54 does not: the same statement on
#   the same rows then gives a string that contains JSON. Neither carries it through the rows of a
#   subquery in FROM. json(…) around the subquery is right with both.
# Seen with: Debian 12's SQLite 3.40.1 and apsw 3.54.1.0 (SQLite 3.54.1), PyPI.
# Why it matters to a host of agents: message content and tool results are JSON in a column, and the
#   statement that puts them together runs under several SQLites: the one that is linked into the host,
#   the distribution's in a container, Python's. After an update each message arrives quoted once more.
# Rule: <https://sqlite.org/json1.html>, on VALUE arguments: JSON is only what comes *directly* from
#   another JSON function or from the -> operator.
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check apsw==3.54.1.0

cat >"$dir/rows.sql" <<'SQL'
CREATE TABLE message(id INTEGER PRIMARY KEY, content TEXT);
INSERT INTO message VALUES (1, '{"text":"hello"}'), (2, '{"text":"bye"}');
SELECT 'scalar subquery:   ' || json_object('all', (SELECT json_group_array(json(content)) FROM message))
UNION ALL
SELECT 'json() around it:  ' || json_object('all', json((SELECT json_group_array(json(content)) FROM message)))
UNION ALL
SELECT 'subquery in FROM:  ' || json_group_array(one) FROM (SELECT json(content) AS one FROM message ORDER BY id);
SQL

cat >"$dir/new.py" <<'PY'
import sys

import apsw

print("SQLite", apsw.sqlite_lib_version())
for (line,) in apsw.Connection(":memory:").execute(open(sys.argv[1]).read()):
    print(line)
PY

expected='SQLite 3.40.1
scalar subquery:   {"all":[{"text":"hello"},{"text":"bye"}]}
json() around it:  {"all":[{"text":"hello"},{"text":"bye"}]}
subquery in FROM:  ["{\"text\":\"hello\"}","{\"text\":\"bye\"}"]
SQLite 3.54.1
scalar subquery:   {"all":"[{\"text\":\"hello\"},{\"text\":\"bye\"}]"}
json() around it:  {"all":[{"text":"hello"},{"text":"bye"}]}
subquery in FROM:  ["{\"text\":\"hello\"}","{\"text\":\"bye\"}"]'

seen=$(
    sqlite3 :memory: "SELECT 'SQLite ' || sqlite_version()" ".read $dir/rows.sql"
    "$dir/venv/bin/python" "$dir/new.py" "$dir/rows.sql"
)
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
