-- Whether a schedule names a session is asked of each one that is to be deleted.
CREATE INDEX schedules_session ON schedules (session_id) WHERE session_id IS NOT NULL;
