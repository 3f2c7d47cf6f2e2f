-- What agents asked or sent, was refused, and is only counted: one row for each hour in which that was
-- so. Rows of the outbox with such numbers need no record of their own.
CREATE TABLE refused (
  session_id  TEXT    NOT NULL REFERENCES sessions (id),
  first_seq   INTEGER NOT NULL CHECK (first_seq > 0),
  last_seq    INTEGER NOT NULL CHECK (last_seq >= first_seq),
  count       INTEGER NOT NULL CHECK (count > 0),
  error       TEXT    NOT NULL,
  first_at_ms INTEGER NOT NULL,
  last_at_ms  INTEGER NOT NULL,
  PRIMARY KEY (session_id, first_seq)
) STRICT;
