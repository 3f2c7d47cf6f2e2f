-- host.db: what the host knows beyond the sessions' own files. Times are integer milliseconds.

CREATE TABLE install (
  id            INTEGER PRIMARY KEY CHECK (id = 1),
  install_id    TEXT    NOT NULL,
  created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE agent_groups (
  id            TEXT    PRIMARY KEY NOT NULL,
  name          TEXT    NOT NULL UNIQUE,
  folder        TEXT    NOT NULL UNIQUE,
  created_at_ms INTEGER NOT NULL,
  removed_at_ms INTEGER
) STRICT;

CREATE TABLE messaging_groups (
  id            TEXT    PRIMARY KEY NOT NULL,
  channel_type  TEXT    NOT NULL,
  platform_id   TEXT    NOT NULL,
  name          TEXT    NOT NULL,
  created_at_ms INTEGER NOT NULL,
  UNIQUE (channel_type, platform_id)
) STRICT;

CREATE TABLE wirings (
  messaging_group_id TEXT    NOT NULL REFERENCES messaging_groups (id),
  agent_group_id     TEXT    NOT NULL REFERENCES agent_groups (id),
  session_mode       TEXT    NOT NULL CHECK (session_mode IN ('shared', 'per-thread')),
  created_at_ms      INTEGER NOT NULL,
  PRIMARY KEY (messaging_group_id, agent_group_id)
) STRICT;

CREATE TABLE users (
  id            TEXT    PRIMARY KEY NOT NULL,
  display_name  TEXT,
  created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE user_roles (
  user_id        TEXT    NOT NULL REFERENCES users (id),
  role           TEXT    NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
  agent_group_id TEXT    REFERENCES agent_groups (id),
  granted_at_ms  INTEGER NOT NULL,
  CHECK (role <> 'owner' OR agent_group_id IS NULL)
) STRICT;

CREATE UNIQUE INDEX user_roles_once ON user_roles (user_id, role, ifnull(agent_group_id, ''));

-- next_due_at_ms is the durable mark that somebody has to look at the session: 0 means now, a
-- later time is a timer, NULL means that nothing is outstanding and no container runs.
CREATE TABLE sessions (
  id                   TEXT    PRIMARY KEY NOT NULL,
  agent_group_id       TEXT    NOT NULL REFERENCES agent_groups (id),
  messaging_group_id   TEXT    NOT NULL REFERENCES messaging_groups (id),
  thread_id            TEXT    NOT NULL DEFAULT '',
  status               TEXT    NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'quarantined', 'closed')),
  quarantine_reason    TEXT,
  next_due_at_ms       INTEGER,
  runner_id            TEXT,
  runner_started_at_ms INTEGER,
  stop_requested       TEXT    CHECK (stop_requested IN ('limit', 'host')),
  failed_starts        INTEGER NOT NULL DEFAULT 0 CHECK (failed_starts >= 0),
  start_after_ms       INTEGER,
  start_error          TEXT,
  created_at_ms        INTEGER NOT NULL,
  last_active_at_ms    INTEGER NOT NULL,
  UNIQUE (agent_group_id, messaging_group_id, thread_id),
  CHECK ((status = 'quarantined') = (quarantine_reason IS NOT NULL))
) STRICT;

-- Start-up and the safety net are one query on this index; sessions at rest are not in it.
CREATE INDEX sessions_due ON sessions (next_due_at_ms) WHERE next_due_at_ms IS NOT NULL;

-- What the host itself has to tell a person, at most once per session and cause.
CREATE TABLE notices (
  session_id         TEXT    NOT NULL REFERENCES sessions (id),
  cause              TEXT    NOT NULL,
  channel_type       TEXT    NOT NULL,
  platform_id        TEXT    NOT NULL,
  thread_id          TEXT,
  text               TEXT    NOT NULL,
  status             TEXT    NOT NULL DEFAULT 'held' CHECK (status IN ('held', 'sending', 'delivered', 'failed', 'uncertain')),
  attempts           INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  next_attempt_at_ms INTEGER,
  error              TEXT,
  created_at_ms      INTEGER NOT NULL,
  PRIMARY KEY (session_id, cause)
) STRICT;

CREATE INDEX notices_open ON notices (session_id) WHERE status IN ('held', 'sending');

-- The effects of system rows, so that each is applied once: written with the effect itself.
CREATE TABLE applied (
  session_id    TEXT    NOT NULL REFERENCES sessions (id),
  row_id        TEXT    NOT NULL,
  digest        TEXT    NOT NULL,
  result        TEXT    NOT NULL,
  applied_at_ms INTEGER NOT NULL,
  PRIMARY KEY (session_id, row_id)
) STRICT;

CREATE TABLE audit (
  id      INTEGER PRIMARY KEY,
  at_ms   INTEGER NOT NULL,
  actor   TEXT    NOT NULL,
  action  TEXT    NOT NULL,
  subject TEXT    NOT NULL,
  detail  TEXT
) STRICT;
