-- What the operator is told in a chat of theirs. A trouble has one row from when it is seen until it is over; the
-- same again is another row. What is told, and that it is over, is told once each, however often it is tried.
CREATE TABLE alerts (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  cause           TEXT    NOT NULL CHECK (cause <> ''),
  text            TEXT    NOT NULL,
  raised_at_ms    INTEGER NOT NULL,
  told_at_ms      INTEGER,
  ended_at_ms     INTEGER,
  end_told_at_ms  INTEGER,
  CHECK (end_told_at_ms IS NULL OR ended_at_ms IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX alerts_lasting ON alerts (cause) WHERE ended_at_ms IS NULL;
CREATE INDEX alerts_untold ON alerts (id) WHERE told_at_ms IS NULL OR (ended_at_ms IS NOT NULL AND end_told_at_ms IS NULL);
