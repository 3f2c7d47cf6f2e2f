-- Who somebody is on a channel: an id there is one person's. Whoever has no role is a stranger, also one of whom
-- something is known.
CREATE TABLE identities (
  channel_id    TEXT    NOT NULL CHECK (channel_id <> ''),
  sender_id     TEXT    NOT NULL CHECK (sender_id <> ''),
  user_id       TEXT    NOT NULL REFERENCES users (id),
  created_at_ms INTEGER NOT NULL,
  PRIMARY KEY (channel_id, sender_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX identities_of ON identities (user_id);

-- A blocked person is heard nowhere, whatever their roles.
ALTER TABLE users ADD COLUMN blocked_at_ms INTEGER;

-- Codes that strangers were told. `told_in` is the message that was answered with it last. A row that is over says
-- for a day that its stranger was told, so that they are not told at each word.
CREATE TABLE pairings (
  channel_id    TEXT    NOT NULL CHECK (channel_id <> ''),
  sender_id     TEXT    NOT NULL CHECK (sender_id <> ''),
  name          TEXT,
  code          TEXT    NOT NULL UNIQUE,
  created_at_ms INTEGER NOT NULL,
  due_at_ms     INTEGER NOT NULL,
  told_at_ms    INTEGER NOT NULL,
  told_in       TEXT    NOT NULL,
  user_id       TEXT    REFERENCES users (id),
  PRIMARY KEY (channel_id, sender_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX pairings_told ON pairings (told_at_ms);

-- The code by which somebody becomes an owner: the last that was made, and who has used it. Only its digest is here.
CREATE TABLE claim (
  id            INTEGER PRIMARY KEY CHECK (id = 1),
  digest        TEXT    NOT NULL,
  created_at_ms INTEGER NOT NULL,
  due_at_ms     INTEGER NOT NULL,
  user_id       TEXT    REFERENCES users (id)
) STRICT;

-- Wrong codes, for as long as they count.
CREATE TABLE wrong_codes (
  at_ms      INTEGER NOT NULL,
  channel_id TEXT    NOT NULL,
  sender_id  TEXT    NOT NULL
) STRICT;

CREATE INDEX wrong_codes_at ON wrong_codes (at_ms);

-- What of a chat with several people starts a turn; NULL is what its channel says.
ALTER TABLE wirings ADD COLUMN engage TEXT CHECK (engage IN ('mention', 'always', 'context'));
