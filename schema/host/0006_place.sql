-- Where the data directory was when its host last started, so that a copy of it is noticed. Numbers of
-- devices and inodes are the system's, read as signed; times of birth are nanoseconds since 1970.
CREATE TABLE place (
  id             INTEGER PRIMARY KEY CHECK (id = 1),
  path           BLOB    NOT NULL,
  device         INTEGER NOT NULL,
  folder_inode   INTEGER NOT NULL,
  folder_born_ns INTEGER,
  db_inode       INTEGER NOT NULL,
  db_born_ns     INTEGER,
  machine        TEXT,
  recorded_at_ms INTEGER NOT NULL
) STRICT;
