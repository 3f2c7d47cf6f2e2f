-- To which chat the answers of a schedule's runs go, where each run has a session of its own. A run keeps
-- what its schedule said when it was made, as it does the prompt.
ALTER TABLE schedules ADD COLUMN to_channel_type TEXT
  CHECK (session_id IS NULL OR to_channel_type IS NULL);
ALTER TABLE schedules ADD COLUMN to_platform_id TEXT
  CHECK ((to_platform_id IS NULL) = (to_channel_type IS NULL));
ALTER TABLE schedules ADD COLUMN to_thread_id TEXT
  CHECK (to_thread_id IS NULL OR to_channel_type IS NOT NULL);
ALTER TABLE runs ADD COLUMN to_channel_type TEXT;
ALTER TABLE runs ADD COLUMN to_platform_id TEXT
  CHECK ((to_platform_id IS NULL) = (to_channel_type IS NULL));
ALTER TABLE runs ADD COLUMN to_thread_id TEXT
  CHECK (to_thread_id IS NULL OR to_channel_type IS NOT NULL);
