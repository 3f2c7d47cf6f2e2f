//! `PROTOCOL.md` says what the tables and the statements are: every table, every column, and each SQL
//! block word for word.
use rusqlite::Connection;

const TEXT: &str = include_str!("../../schema/PROTOCOL.md");
const STATEMENTS: &str = include_str!("../src/outbox/writer.rs");

/// The part of the text under the heading of `table`.
fn section(table: &str) -> &'static str {
    let heading = format!("\n### `{table}`");
    let start = TEXT.find(&heading).unwrap_or_else(|| panic!("no section for table {table}"));
    let rest = &TEXT[start + 1..];
    rest.find("\n#").map_or(rest, |end| &rest[..end])
}

#[test]
fn every_table_and_column_is_explained_and_none_that_does_not_exist() {
    for (database, schema) in
        [("inbound.db", twobox_schema::INBOUND), ("outbound.db", twobox_schema::OUTBOUND)]
    {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(schema).unwrap();
        let mut tables =
            conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
        let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
        for table in tables.map(Result::unwrap) {
            let mut columns = conn.prepare("SELECT name FROM pragma_table_info(?1)").unwrap();
            let columns: Vec<String> = columns
                .query_map([&table], |row| row.get(0))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            let explained: Vec<&str> = section(&table)
                .lines()
                .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
                .collect();
            assert_eq!(explained, columns, "{database}: {table}");
        }
    }
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_statement_is_the_one_that_the_code_runs() {
    let code = words(STATEMENTS);
    let mut found = 0;
    for block in TEXT.split("```sql\n").skip(1) {
        let statement = words(block.split("```").next().unwrap());
        assert!(code.contains(&statement), "not in the code: {statement}");
        found += 1;
    }
    assert!(found >= 5, "claim, fence, ack, row and already sent");
}

#[test]
fn limits_are_the_ones_in_the_code() {
    use twobox_shared::{claim, content, ids, outbox, seq};
    let cases = [
        ("leap", "1,000,000 above", seq::SEQ_LEAP_MAX == 1_000_000),
        ("largest seq", "2^53", seq::SEQ_MAX == 1 << 53),
        ("content", "`content` above 1 MiB", content::CONTENT_MAX == 1 << 20),
        ("other text", "above 4096 bytes", outbox::FIELD_MAX == 4096),
        ("ids", "1 to 255 bytes", ids::MESSAGE_ID_MAX == 255),
        ("batch", "up to 10 in all", claim::BATCH_MAX == 10),
        ("context", "newest 50 rows", claim::CONTEXT_MAX == 50),
        (
            "versions",
            "Version 3 of the inbox and version 1 of the outbox",
            (twobox_schema::INBOUND_VERSION, twobox_schema::OUTBOUND_VERSION) == (3, 1),
        ),
    ];
    for (case, text, holds) in cases {
        assert!(words(TEXT).contains(text) && holds, "{case}");
    }
}
