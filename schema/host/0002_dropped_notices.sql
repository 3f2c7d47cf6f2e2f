-- A person may give up a notice that was not delivered. The row stays: what it was about is not told
-- again.
ALTER TABLE notices ADD COLUMN dropped_at_ms INTEGER;
