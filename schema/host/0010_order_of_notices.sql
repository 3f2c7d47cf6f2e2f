-- Where a notice stands in its chat: behind the rows of its session's outbox up to this number. NULL
-- if whoever wrote it did not know the outbox: then it stands behind what its session has seen.
ALTER TABLE notices ADD COLUMN behind_seq INTEGER;
