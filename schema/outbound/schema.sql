-- outbound.db, version 1. The container is its only writer; the host reads it as hostile input.
-- PROTOCOL.md explains every column.

CREATE TABLE messages_out (
  id            TEXT    PRIMARY KEY NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
  seq           INTEGER NOT NULL UNIQUE CHECK (typeof(seq) = 'integer' AND seq > 0 AND seq % 2 = 1),
  in_reply_to   TEXT,
  timestamp     TEXT    NOT NULL,
  deliver_after TEXT,
  recurrence    TEXT,
  kind          TEXT    NOT NULL,
  platform_id   TEXT,
  channel_type  TEXT,
  thread_id     TEXT,
  content       TEXT    NOT NULL,
  attempt       INTEGER,
  runner_id     TEXT
) STRICT;

CREATE TABLE processing_ack (
  message_id     TEXT    PRIMARY KEY NOT NULL,
  status         TEXT    NOT NULL CHECK (status IN ('processing', 'completed', 'failed')),
  status_changed TEXT    NOT NULL,
  attempt        INTEGER CHECK (attempt >= 0),
  runner_id      TEXT,
  failure        TEXT,
  turns          INTEGER CHECK (turns >= 0)
) STRICT;

CREATE TABLE session_state (
  key        TEXT PRIMARY KEY NOT NULL,
  value      TEXT NOT NULL,
  updated_at TEXT NOT NULL
) STRICT;

CREATE TABLE container_state (
  id                       INTEGER PRIMARY KEY CHECK (id = 1),
  current_tool             TEXT,
  tool_declared_timeout_ms INTEGER CHECK (tool_declared_timeout_ms >= 0),
  tool_started_at          TEXT,
  updated_at               TEXT NOT NULL
) STRICT;
