//! The statements. Each takes many rows; their number is rounded up to a power of two with rows
//! of NULL, which match nothing and are not inserted, so that few shapes have to be prepared.

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, Params, params_from_iter};
use tinderbox_flows::record::{Key, Stored, Table};

use crate::group::{Entry, Put};
use crate::{Found, Scan};

/// Rows per statement at most.
pub(super) const CHUNK: usize = 256;

/// A value that borrows.
#[derive(Clone, Copy)]
enum Value<'a> {
    Null,
    Integer(i64),
    Blob(&'a [u8]),
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match *self {
            Self::Null => rusqlite::types::Null.into(),
            Self::Integer(value) => value.into(),
            Self::Blob(value) => ToSqlOutput::Borrowed(rusqlite::types::ValueRef::Blob(value)),
        })
    }
}

/// `(?,?),(?,?)…` with `rows` rows of `width` columns.
fn values(width: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; width].join(","));
    vec![row; rows].join(",")
}

/// Runs `each` on the items in chunks, as the number of rows of the statement and its parameters.
/// Hands back how many statements it took.
fn chunked<'a, T, const WIDTH: usize>(
    items: &'a [T],
    row: impl Fn(&'a T) -> [Value<'a>; WIDTH],
    mut each: impl FnMut(usize, Vec<Value<'a>>) -> rusqlite::Result<()>,
) -> rusqlite::Result<u64> {
    let mut statements = 0;
    for chunk in items.chunks(CHUNK) {
        let rows = chunk.len().next_power_of_two();
        let mut parameters = Vec::with_capacity(rows * WIDTH);
        parameters.extend(chunk.iter().flat_map(&row));
        parameters.resize(rows * WIDTH, Value::Null);
        each(rows, parameters)?;
        statements += 1;
    }
    Ok(statements)
}

fn execute(connection: &Connection, sql: &str, parameters: impl Params) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute(parameters)?;
    Ok(())
}

fn name<'a>(key: &'a Key) -> [Value<'a>; 2] {
    [
        Value::Integer(key.table.number().into()),
        Value::Blob(&key.id),
    ]
}

/// The version column; SQLite counts to 2^63, which no row reaches.
fn version(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(version: i64) -> u64 {
    u64::try_from(version).unwrap_or(0)
}

fn key(table: u8, id: Vec<u8>) -> rusqlite::Result<Key> {
    match Table::from_number(table) {
        Some(table) => Ok(Key { table, id }),
        None => Err(rusqlite::Error::IntegralValueOutOfRange(0, table.into())),
    }
}

pub(super) fn versions_sql(rows: usize) -> String {
    format!(
        "SELECT r.tbl, r.id, r.version FROM (VALUES {}) AS k \
         CROSS JOIN record AS r ON r.tbl = k.column1 AND r.id = k.column2",
        values(2, rows)
    )
}

pub(super) fn rows_sql(rows: usize) -> String {
    format!(
        "SELECT r.tbl, r.id, r.version, r.body FROM (VALUES {}) AS k \
         CROSS JOIN record AS r ON r.tbl = k.column1 AND r.id = k.column2",
        values(2, rows)
    )
}

pub(super) fn put_sql(rows: usize) -> String {
    format!(
        "INSERT INTO record (tbl, id, version, body) \
         SELECT column1, column2, column3, column4 FROM (VALUES {}) WHERE column2 IS NOT NULL \
         ON CONFLICT (tbl, id) DO UPDATE SET version = excluded.version, body = excluded.body",
        values(4, rows)
    )
}

pub(super) fn delete_sql(rows: usize) -> String {
    let rows = values(2, rows);
    format!("DELETE FROM record WHERE (tbl, id) IN (VALUES {rows})")
}

pub(super) fn list_sql(rows: usize) -> String {
    format!(
        "INSERT INTO listing (idx, sort, tbl, id) \
         SELECT column1, column2, column3, column4 FROM (VALUES {}) WHERE column2 IS NOT NULL \
         ON CONFLICT DO NOTHING",
        values(4, rows)
    )
}

pub(super) fn unlist_sql(rows: usize) -> String {
    let rows = values(4, rows);
    format!("DELETE FROM listing WHERE (idx, sort, tbl, id) IN (VALUES {rows})")
}

pub(super) fn scan_sql(bounded: bool, descending: bool) -> String {
    let bound = if bounded { "AND l.sort < ?4" } else { "" };
    let order = if descending { "DESC" } else { "ASC" };
    format!(
        "SELECT l.sort, l.tbl, l.id, r.version, r.body FROM listing AS l \
         CROSS JOIN record AS r ON r.tbl = l.tbl AND r.id = l.id \
         WHERE l.idx = ?1 AND l.sort >= ?2 {bound} \
         ORDER BY l.sort {order}, l.tbl {order}, l.id {order} LIMIT ?3"
    )
}

/// Versions of those rows that exist.
pub(super) fn versions(
    connection: &Connection,
    keys: &[&Key],
    mut each: impl FnMut(Key, u64),
) -> rusqlite::Result<u64> {
    chunked(
        keys,
        |key| name(key),
        |rows, parameters| {
            let mut statement = connection.prepare_cached(&versions_sql(rows))?;
            let mut found = statement.query(params_from_iter(parameters))?;
            while let Some(row) = found.next()? {
                each(key(row.get(0)?, row.get(1)?)?, unsigned(row.get(2)?));
            }
            Ok(())
        },
    )
}

/// Those rows that exist.
pub(super) fn rows(
    connection: &Connection,
    keys: &[&Key],
    mut each: impl FnMut(Key, Stored),
) -> rusqlite::Result<u64> {
    chunked(
        keys,
        |key| name(key),
        |rows, parameters| {
            let mut statement = connection.prepare_cached(&rows_sql(rows))?;
            let mut found = statement.query(params_from_iter(parameters))?;
            while let Some(row) = found.next()? {
                let stored = Stored {
                    version: unsigned(row.get(2)?),
                    body: row.get(3)?,
                };
                each(key(row.get(0)?, row.get(1)?)?, stored);
            }
            Ok(())
        },
    )
}

fn row<'a>(put: &Put<'a>) -> [Value<'a>; 4] {
    let [table, id] = name(put.key);
    [
        table,
        id,
        Value::Integer(version(put.version)),
        Value::Blob(put.body),
    ]
}

/// Writes rows, there or not.
pub(super) fn put(connection: &Connection, puts: &[&Put<'_>]) -> rusqlite::Result<u64> {
    chunked(
        puts,
        |put| row(put),
        |rows, parameters| execute(connection, &put_sql(rows), params_from_iter(parameters)),
    )
}

pub(super) fn delete(connection: &Connection, keys: &[&Key]) -> rusqlite::Result<u64> {
    chunked(
        keys,
        |key| name(key),
        |rows, parameters| execute(connection, &delete_sql(rows), params_from_iter(parameters)),
    )
}

fn entry<'a>(entry: &'a Entry<'a>) -> [Value<'a>; 4] {
    let [table, id] = name(entry.key);
    [
        Value::Integer(entry.index.into()),
        Value::Blob(entry.sort),
        table,
        id,
    ]
}

pub(super) fn list(connection: &Connection, entries: &[Entry<'_>]) -> rusqlite::Result<u64> {
    chunked(entries, entry, |rows, parameters| {
        execute(connection, &list_sql(rows), params_from_iter(parameters))
    })
}

pub(super) fn unlist(connection: &Connection, entries: &[Entry<'_>]) -> rusqlite::Result<u64> {
    chunked(entries, entry, |rows, parameters| {
        execute(connection, &unlist_sql(rows), params_from_iter(parameters))
    })
}

/// One range of an index, in one statement.
pub(super) fn scan(connection: &Connection, scan: &Scan) -> rusqlite::Result<Vec<Found>> {
    let bounded = !scan.to.is_empty();
    let mut statement = connection.prepare_cached(&scan_sql(bounded, scan.descending))?;
    let mut parameters = vec![
        Value::Integer(scan.index.number().into()),
        Value::Blob(&scan.from),
        Value::Integer(i64::try_from(scan.limit).unwrap_or(i64::MAX)),
    ];
    if bounded {
        parameters.push(Value::Blob(&scan.to));
    }
    let mut rows = statement.query(params_from_iter(parameters))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Found {
            listed: row.get(0)?,
            key: key(row.get(1)?, row.get(2)?)?,
            stored: Stored {
                version: unsigned(row.get(3)?),
                body: row.get(4)?,
            },
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_statement_reads_a_whole_table() {
        let place = crate::suite::backend::SqlitePlace::new();
        let _lock = super::super::connect::take_lock(&place.path()).unwrap();
        let connection = super::super::connect::writer(&place.path()).unwrap();
        let shapes = [
            versions_sql,
            rows_sql,
            put_sql,
            delete_sql,
            list_sql,
            unlist_sql,
        ];
        let mut statements: Vec<String> = shapes
            .iter()
            .flat_map(|shape| [1, 64, CHUNK].map(shape))
            .collect();
        for bounded in [false, true] {
            statements.extend([false, true].map(|descending| scan_sql(bounded, descending)));
        }
        for sql in statements {
            let plan = format!("EXPLAIN QUERY PLAN {sql}");
            let mut statement = connection.prepare(&plan).unwrap();
            let steps = vec![Value::Null; statement.parameter_count()];
            let steps: Vec<String> = statement
                .query_map(params_from_iter(steps), |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            for step in &steps {
                let whole = [
                    "SCAN r",
                    "SCAN l",
                    "SCAN record",
                    "SCAN listing",
                    "TEMP B-TREE FOR ORDER",
                ];
                let whole = whole
                    .iter()
                    .any(|bad| step.trim() == *bad || step.contains("ORDER BY"));
                assert!(!whole, "{sql:.80}: {steps:?}");
            }
        }
    }

    #[test]
    fn number_of_shapes_is_small() {
        let items: Vec<u32> = (0..1_000).collect();
        let mut shapes = std::collections::BTreeSet::new();
        for count in 1..items.len() {
            let mut seen = 0;
            chunked(
                &items[..count],
                |item| [Value::Integer((*item).into())],
                |rows, parameters| {
                    assert_eq!(rows, parameters.len());
                    shapes.insert(rows);
                    let there = |value: &&Value<'_>| !matches!(value, Value::Null);
                    seen += parameters.iter().filter(there).count();
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(seen, count);
        }
        assert_eq!(shapes.len(), 9);
    }
}
