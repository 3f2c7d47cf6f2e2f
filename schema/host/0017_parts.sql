-- What was handed to platforms that do not honour keys, by the key of the message and the name of its part.
-- 'begun' is written before a part leaves. What was certainly not sent is 'unsent': it says that its message
-- is not whole, so that what was taken of that is still known when a person has it sent once more.
CREATE TABLE sent_parts (
  key         TEXT    NOT NULL,
  part        TEXT    NOT NULL,
  state       TEXT    NOT NULL CHECK (state IN ('begun', 'unsent', 'taken')),
  platform_id TEXT    CHECK (platform_id IS NULL OR state = 'taken'),
  at_ms       INTEGER NOT NULL,
  PRIMARY KEY (key, part)
) STRICT, WITHOUT ROWID;
CREATE INDEX sent_parts_at ON sent_parts (at_ms);
