-- What was asked in a chat, by whichever of the agents that listen there: looked at when somebody says what may
-- be an answer.
CREATE INDEX approvals_at ON approvals (channel_type, platform_id);
