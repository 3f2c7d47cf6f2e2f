-- What people are asked: whether an agent may use a tool with these arguments, or which of several things
-- it is to do. `digest` is of all that is shown; a decision names it. Nobody decides a second time, or
-- after `due_at_ms`. What comes of a decision is claimed before it is carried out, and recorded after.
CREATE TABLE approvals (
  id            TEXT    PRIMARY KEY NOT NULL,
  code          TEXT    NOT NULL,
  session_id    TEXT    NOT NULL REFERENCES sessions (id),
  request       TEXT    NOT NULL,
  kind          TEXT    NOT NULL CHECK (kind <> ''),
  what          TEXT    NOT NULL,
  detail        TEXT    NOT NULL,
  choices       TEXT    NOT NULL,
  digest        TEXT    NOT NULL,
  channel_type  TEXT    NOT NULL,
  platform_id   TEXT    NOT NULL,
  thread_id     TEXT,
  wake          INTEGER NOT NULL CHECK (wake IN (0, 1)),
  status        TEXT    NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'denied', 'answered', 'expired')),
  choice        INTEGER CHECK (choice > 0),
  created_at_ms INTEGER NOT NULL,
  due_at_ms     INTEGER NOT NULL,
  decided_at_ms INTEGER,
  decided_by    TEXT,
  decided_in    TEXT,
  claimed_at_ms INTEGER,
  told_at_ms    INTEGER,
  UNIQUE (session_id, request),
  CHECK ((status = 'pending') = (decided_at_ms IS NULL)),
  CHECK (claimed_at_ms IS NULL OR decided_at_ms IS NOT NULL),
  CHECK (told_at_ms IS NULL OR claimed_at_ms IS NOT NULL)
) STRICT;

-- Codes are for people, who have one at hand only while it can be answered.
CREATE UNIQUE INDEX approvals_code ON approvals (code) WHERE status = 'pending';
CREATE INDEX approvals_open ON approvals (session_id) WHERE told_at_ms IS NULL;
