-- Whose host.db this is: one row for each installation that works on it, the life of its host that is
-- the present one. A host that starts takes over, which raises the epoch: nothing that an earlier life
-- still does is taken from then on. The lease says until when others take the owner for alive.
CREATE TABLE owner (
  install_id     TEXT    PRIMARY KEY NOT NULL,
  owner          TEXT    NOT NULL UNIQUE CHECK (owner <> ''),
  epoch          INTEGER NOT NULL CHECK (epoch >= 1),
  taken_at_ms    INTEGER NOT NULL,
  lease_until_ms INTEGER NOT NULL
) STRICT;
