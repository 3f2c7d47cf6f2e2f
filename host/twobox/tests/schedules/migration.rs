//! Bringing a file of the version before up to date.

use rusqlite::Connection;
use twobox_store::Store;

use super::world::{at, dump, world};

#[test]
fn a_file_of_the_version_before_keeps_what_it_has_and_gains_the_tables() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.db");
    let old = Connection::open(&path).unwrap();
    for migration in &twobox_schema::HOST[..2] {
        old.execute_batch(migration).unwrap();
    }
    old.pragma_update(None, "user_version", 2).unwrap();
    old.execute_batch(
        "INSERT INTO install VALUES (1, '01890000-0000-7000-8000-000000000001', 1);
         INSERT INTO agent_groups VALUES ('a', 'ann', 'ann', 1, NULL), ('b', 'bob', 'bob', 2, 3);
         INSERT INTO messaging_groups VALUES ('m', 'terminal', 'ann', 'terminal', 1);
         INSERT INTO wirings VALUES ('m', 'a', 'shared', 1);
         INSERT INTO users VALUES ('u', 'Ann', 1);
         INSERT INTO user_roles VALUES ('u', 'owner', NULL, 1);
         INSERT INTO sessions (id, agent_group_id, messaging_group_id, next_due_at_ms,
           created_at_ms, last_active_at_ms) VALUES ('s', 'a', 'm', 0, 1, 2);
         INSERT INTO notices (session_id, cause, channel_type, platform_id, text, created_at_ms,
           dropped_at_ms) VALUES ('s', 'c', 'terminal', 'ann', 't', 1, 2);
         INSERT INTO applied VALUES ('s', 'r', 'd', 'done', 1);
         INSERT INTO audit VALUES (1, 1, 'ann', 'did', 'it', NULL);",
    )
    .unwrap();
    let had = dump(&old);
    assert_eq!(had.len(), 11, "a row in each table: {had:#?}");
    drop(old);

    let migrated = Store::create(&path).unwrap();
    let has = dump(&migrated.raw());
    assert_eq!(has.len(), had.len(), "{has:#?}");
    for (new, old) in has.iter().zip(&had) {
        assert!(new.starts_with(old.trim_end_matches(']')), "{new}: as {old}, perhaps with more");
    }
    let fresh = world();
    assert_eq!(schema(&migrated.raw()), schema(&fresh.db.raw()));
    let version: i64 =
        migrated.raw().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert!(version >= 3);
    assert_eq!(migrated.schedules().next_due().wait().unwrap(), None);
    assert_eq!(migrated.schedules().due(at(1), 1).wait().unwrap().rows, []);
}

fn schema(db: &Connection) -> Vec<String> {
    db.prepare("SELECT type || ' ' || name || ' ' || ifnull(sql, '') FROM sqlite_schema ORDER BY 1")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}
