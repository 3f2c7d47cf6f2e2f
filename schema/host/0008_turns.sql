-- Whose turn it is among the schedules that have runs waiting is asked before each start: the oldest run
-- of each, and when one of its runs was started last.
CREATE INDEX runs_waiting ON runs (schedule_id, due_ms, id) WHERE status = 'queued';
CREATE INDEX runs_started ON runs (schedule_id, started_at_ms) WHERE started_at_ms IS NOT NULL;
DROP INDEX runs_queued;
