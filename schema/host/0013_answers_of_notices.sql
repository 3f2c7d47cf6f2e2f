-- The messages that a notice answers, a list of ids in JSON. NULL if it answers none, or the one that its
-- cause names.
ALTER TABLE notices ADD COLUMN answers TEXT;
