-- inbound.db, version 3. The host is its only writer. PROTOCOL.md explains every column.
-- A CHECK accepts NULL, so every column that a CHECK guards is NOT NULL too.

CREATE TABLE messages_in (
  id                TEXT    PRIMARY KEY NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
  seq               INTEGER NOT NULL UNIQUE CHECK (typeof(seq) = 'integer' AND seq > 0 AND seq % 2 = 0),
  kind              TEXT    NOT NULL,
  timestamp         TEXT    NOT NULL,
  status            TEXT    NOT NULL DEFAULT 'pending'
                    CHECK (status IN ('pending', 'completed', 'failed', 'paused', 'cancelled')),
  process_after     TEXT,
  recurrence        TEXT,
  series_id         TEXT,
  tries             INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
  forgiven          INTEGER NOT NULL DEFAULT 0 CHECK (forgiven BETWEEN 0 AND tries),
  trigger           INTEGER NOT NULL DEFAULT 1 CHECK (trigger IN (0, 1)),
  platform_id       TEXT,
  channel_type      TEXT,
  thread_id         TEXT,
  content           TEXT    NOT NULL,
  source_session_id TEXT,
  on_wake           INTEGER NOT NULL DEFAULT 0 CHECK (on_wake IN (0, 1)),
  run_id            TEXT,
  failure           TEXT,
  zone              TEXT,
  nominal_at        TEXT,
  generation        INTEGER NOT NULL DEFAULT 0 CHECK (generation >= 0)
) STRICT;

-- Only unfinished rows are looked for by state, so the cost of a sweep does not grow with history. A
-- query has to repeat the condition of an index word for word, or SQLite scans the table instead.
CREATE INDEX messages_in_pending ON messages_in (seq) WHERE status = 'pending';
CREATE INDEX messages_in_paused ON messages_in (seq) WHERE status = 'paused';
CREATE INDEX messages_in_recurring ON messages_in (seq) WHERE recurrence IS NOT NULL;

CREATE TABLE delivered (
  message_out_id      TEXT    PRIMARY KEY NOT NULL,
  platform_message_id TEXT,
  status              TEXT    NOT NULL DEFAULT 'delivered'
                      CHECK (status IN ('held', 'sending', 'delivered', 'failed', 'uncertain')),
  delivered_at        TEXT    NOT NULL,
  attempts            INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  next_attempt_at     TEXT,
  error               TEXT,
  dropped_at          TEXT
) STRICT;

-- What is still to be sent is found without its row: a person may have asked for it anew.
CREATE INDEX delivered_open ON delivered (message_out_id) WHERE status IN ('held', 'sending');

CREATE TABLE destinations (
  name           TEXT PRIMARY KEY NOT NULL,
  display_name   TEXT,
  type           TEXT NOT NULL CHECK (type IN ('channel', 'agent')),
  channel_type   TEXT,
  platform_id    TEXT,
  agent_group_id TEXT
) STRICT;

CREATE TABLE session_routing (
  id           INTEGER PRIMARY KEY CHECK (id = 1),
  channel_type TEXT,
  platform_id  TEXT,
  thread_id    TEXT
) STRICT;

CREATE TABLE outbound_cursor (
  id      INTEGER PRIMARY KEY CHECK (id = 1),
  seq     INTEGER NOT NULL CHECK (seq >= 0),
  seen    INTEGER NOT NULL CHECK (seen >= seq),
  charged INTEGER NOT NULL DEFAULT 0 CHECK (charged >= 0)
) STRICT;

INSERT INTO outbound_cursor (id, seq, seen) VALUES (1, 0, 0);

CREATE TABLE forgotten (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  messages INTEGER NOT NULL CHECK (messages >= 0),
  rows     INTEGER NOT NULL CHECK (rows >= 0)
) STRICT;

INSERT INTO forgotten (id, messages, rows) VALUES (1, 0, 0);
