-- How many sessions a chat has made within the last hour is asked before each new one.
CREATE INDEX sessions_made ON sessions (messaging_group_id, agent_group_id, created_at_ms);
