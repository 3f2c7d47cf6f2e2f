-- What models cost in the run that goes on in a conversation: since the host settled the last message that
-- triggers there. Only of agents with a budget for a run. A row is gone when its run is over.
CREATE TABLE usage_runs (
  session_id TEXT    PRIMARY KEY NOT NULL,
  nano_usd   INTEGER NOT NULL CHECK (nano_usd >= 0),
  day        TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- Whether a request counts in the run of its conversation too.
ALTER TABLE usage_open ADD COLUMN of_run INTEGER NOT NULL DEFAULT 0 CHECK (of_run IN (0, 1));
CREATE INDEX usage_open_of_runs ON usage_open (session_id) WHERE of_run = 1;
