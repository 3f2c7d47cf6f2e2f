-- What agents had models do. A request is open from before it is sent until it is known what came of it:
-- its row reserves the most that it can use, so that requests that go on at once cannot exceed a budget
-- together. Then it is counted in the row of its day, and is gone. No row refers to a session or an agent:
-- what was used stays used when they are gone.
CREATE TABLE usage_open (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  day            TEXT    NOT NULL CHECK (day <> ''),
  agent_group_id TEXT    NOT NULL,
  session_id     TEXT    NOT NULL,
  upstream       TEXT    NOT NULL,
  model          TEXT    NOT NULL,
  tokens         INTEGER NOT NULL CHECK (tokens >= 0),
  nano_usd       INTEGER CHECK (nano_usd >= 0),
  opened_at_ms   INTEGER NOT NULL
) STRICT;
CREATE INDEX usage_open_by_day ON usage_open (day);

-- Days are those of the host's clock, as YYYY-MM-DD. Money is in billionths of a USD, and is that of the
-- requests with a price: the others are counted in `unpriced`. Of requests that nobody knows the end of,
-- `unknown` in number, the most that they can have used is kept apart.
CREATE TABLE usage_days (
  day              TEXT    NOT NULL,
  agent_group_id   TEXT    NOT NULL,
  session_id       TEXT    NOT NULL,
  upstream         TEXT    NOT NULL,
  model            TEXT    NOT NULL,
  requests         INTEGER NOT NULL DEFAULT 0,
  input            INTEGER NOT NULL DEFAULT 0,
  cache_read       INTEGER NOT NULL DEFAULT 0,
  cache_write      INTEGER NOT NULL DEFAULT 0,
  output           INTEGER NOT NULL DEFAULT 0,
  nano_usd         INTEGER NOT NULL DEFAULT 0,
  unpriced         INTEGER NOT NULL DEFAULT 0,
  failed           INTEGER NOT NULL DEFAULT 0,
  unknown          INTEGER NOT NULL DEFAULT 0,
  unknown_tokens   INTEGER NOT NULL DEFAULT 0,
  unknown_nano_usd INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (day, agent_group_id, session_id, upstream, model)
) STRICT, WITHOUT ROWID;
