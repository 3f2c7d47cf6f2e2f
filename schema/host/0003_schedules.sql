-- Schedules, their runs, and what each run cost. A slot is one nominal firing time of a schedule.

-- A paused schedule, and one that has had its last run, has no next slot. next_due_ms is when
-- somebody has to look: the slot and its jitter, or later when chat came first.
CREATE TABLE schedules (
  id                 TEXT    PRIMARY KEY NOT NULL,
  agent_group_id     TEXT    NOT NULL REFERENCES agent_groups (id),
  name               TEXT    NOT NULL CHECK (name <> ''),
  prompt             TEXT    NOT NULL CHECK (prompt <> ''),
  cadence_kind       TEXT    NOT NULL CHECK (cadence_kind <> ''),
  cadence_value      TEXT    NOT NULL,
  time_zone          TEXT    NOT NULL CHECK (time_zone <> ''),
  anchor_ms          INTEGER NOT NULL,
  -- NULL: each run has a session of its own.
  session_id         TEXT    REFERENCES sessions (id),
  max_turns          INTEGER CHECK (max_turns > 0),
  max_run_ms         INTEGER CHECK (max_run_ms > 0),
  missed             TEXT    NOT NULL CHECK (missed IN ('skip', 'latest', 'all')),
  missed_window_ms   INTEGER NOT NULL CHECK (missed_window_ms >= 0),
  overlap            TEXT    NOT NULL CHECK (overlap IN ('skip', 'queue', 'replace', 'allow')),
  jitter_ms          INTEGER NOT NULL CHECK (jitter_ms >= 0),
  not_before_ms      INTEGER,
  not_after_ms       INTEGER,
  max_runs           INTEGER CHECK (max_runs > 0),
  fired              INTEGER NOT NULL DEFAULT 0 CHECK (fired >= 0),
  enabled            INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
  pause_reason       TEXT    CHECK (pause_reason <> ''),
  revision           INTEGER NOT NULL DEFAULT 1 CHECK (revision >= 1),
  next_slot_ms       INTEGER,
  next_due_ms        INTEGER,
  breach_streak      INTEGER NOT NULL DEFAULT 0 CHECK (breach_streak >= 0),
  failure_streak     INTEGER NOT NULL DEFAULT 0 CHECK (failure_streak >= 0),
  turns_edited_at_ms INTEGER,
  created_at_ms      INTEGER NOT NULL,
  updated_at_ms      INTEGER NOT NULL,
  removed_at_ms      INTEGER,
  CHECK (not_before_ms <= not_after_ms),
  CHECK ((enabled = 0) = (pause_reason IS NOT NULL)),
  CHECK (removed_at_ms IS NULL OR enabled = 0),
  CHECK (enabled = 1 OR next_slot_ms IS NULL),
  CHECK ((next_slot_ms IS NULL) = (next_due_ms IS NULL)),
  CHECK (next_slot_ms <= next_due_ms),
  CHECK (next_slot_ms >= not_before_ms),
  CHECK (next_slot_ms <= not_after_ms),
  CHECK (max_runs IS NULL OR fired < max_runs OR next_slot_ms IS NULL)
) STRICT;

CREATE UNIQUE INDEX schedules_name ON schedules (name) WHERE removed_at_ms IS NULL;

-- A tick is one look at this index, in which only enabled schedules with a next slot stand.
CREATE INDEX schedules_due ON schedules (next_due_ms) WHERE next_due_ms IS NOT NULL;

CREATE INDEX schedules_agent ON schedules (agent_group_id) WHERE removed_at_ms IS NULL;

-- reason is a word that the host knows, without a CHECK: a new one must not rebuild the table.
-- session_id and message_id are chosen when the run starts, before the session exists, so they
-- refer to nothing. A missed row may stand for slot_count slots, from slot_ms to last_slot_ms.
CREATE TABLE runs (
  id                     TEXT    PRIMARY KEY NOT NULL,
  schedule_id            TEXT    NOT NULL REFERENCES schedules (id),
  slot_ms                INTEGER,
  due_ms                 INTEGER NOT NULL,
  trigger                TEXT    NOT NULL CHECK (trigger IN ('scheduled', 'manual', 'backfill')),
  status                 TEXT    NOT NULL CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled', 'skipped', 'missed')),
  reason                 TEXT    CHECK (reason <> ''),
  error                  TEXT,
  phase                  TEXT    CHECK (phase IN ('claimed', 'prepared', 'executing')),
  owner                  TEXT,
  lease_until_ms         INTEGER,
  session_id             TEXT,
  message_id             TEXT,
  prompt                 TEXT    NOT NULL,
  max_turns              INTEGER,
  max_run_ms             INTEGER,
  turns                  INTEGER CHECK (turns >= 0),
  output                 TEXT,
  cancel_requested_at_ms INTEGER,
  slot_count             INTEGER NOT NULL DEFAULT 1 CHECK (slot_count >= 1),
  last_slot_ms           INTEGER,
  created_at_ms          INTEGER NOT NULL,
  started_at_ms          INTEGER,
  ended_at_ms            INTEGER,
  UNIQUE (schedule_id, slot_ms),
  CHECK ((slot_ms IS NULL) = (trigger = 'manual')),
  CHECK ((slot_count > 1) = (last_slot_ms IS NOT NULL)),
  CHECK (slot_count = 1 OR (status = 'missed' AND slot_ms < last_slot_ms)),
  CHECK ((ended_at_ms IS NULL) = (status IN ('queued', 'running'))),
  CHECK ((reason IS NOT NULL) = (status IN ('failed', 'cancelled', 'skipped', 'missed'))),
  CHECK ((started_at_ms IS NULL) = (phase IS NULL)),
  CHECK ((started_at_ms IS NULL) = (owner IS NULL)),
  CHECK ((started_at_ms IS NULL) = (lease_until_ms IS NULL)),
  CHECK ((started_at_ms IS NULL) = (session_id IS NULL)),
  CHECK ((started_at_ms IS NULL) = (message_id IS NULL)),
  CHECK (status NOT IN ('queued', 'skipped', 'missed') OR started_at_ms IS NULL),
  CHECK (status NOT IN ('running', 'completed', 'failed') OR started_at_ms IS NOT NULL)
) STRICT;

CREATE INDEX runs_queued ON runs (due_ms, id) WHERE status = 'queued';
CREATE INDEX runs_running ON runs (schedule_id) WHERE status = 'running';
CREATE INDEX runs_open ON runs (schedule_id, id) WHERE ended_at_ms IS NULL;
CREATE INDEX runs_listed ON runs (schedule_id, id);
CREATE INDEX runs_ended ON runs (ended_at_ms) WHERE ended_at_ms IS NOT NULL;

-- Kept for a time of its own, so a row may outlive its run.
CREATE TABLE run_metrics (
  run_id                      TEXT    PRIMARY KEY NOT NULL,
  schedule_id                 TEXT    NOT NULL REFERENCES schedules (id),
  at_ms                       INTEGER NOT NULL,
  slot_wait_ms                INTEGER NOT NULL CHECK (slot_wait_ms >= 0),
  duration_ms                 INTEGER NOT NULL CHECK (duration_ms >= 0),
  turns                       INTEGER,
  max_turns                   INTEGER,
  host_loop_lag_ms            INTEGER NOT NULL,
  chat_turns_in_flight        INTEGER NOT NULL,
  runs_in_flight              INTEGER NOT NULL,
  reason                      TEXT
) STRICT;

CREATE INDEX run_metrics_at ON run_metrics (at_ms);
