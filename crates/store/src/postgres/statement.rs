//! The statements. Rows travel as arrays, so each statement takes any number of them.

use std::collections::BTreeMap;

use deadpool_postgres::ClientWrapper;
use tinderbox_flows::record::{Key, Stored, Table};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::failure::Failure;
use super::locks;
use crate::group::{Entry, Plan, Put};
use crate::{Found, Scan, StoreError};

/// Statement texts for one schema.
pub(super) struct Sql {
    pub(super) schema: String,
    pub(super) lock: String,
    pub(super) versions: String,
    rows: String,
    write: String,
    scans: [String; 4],
}

impl Sql {
    pub(super) fn new(schema: &str) -> Self {
        let class = locks::class(schema);
        let record = format!("\"{schema}\".record");
        let listing = format!("\"{schema}\".listing");
        let keys = "unnest($1::smallint[], $2::bytea[]) AS k (tbl, id)";
        let scan = |bounded: bool, descending: bool| {
            let bound = if bounded { "AND l.sort < $4" } else { "" };
            let order = if descending { "DESC" } else { "ASC" };
            format!(
                "SELECT l.sort, l.tbl, l.id, r.version, r.body FROM {listing} AS l \
                 JOIN {record} AS r ON r.tbl = l.tbl AND r.id = l.id \
                 WHERE l.idx = $1 AND l.sort >= $2 {bound} \
                 ORDER BY l.sort {order}, l.tbl {order}, l.id {order} LIMIT $3"
            )
        };
        Self {
            schema: schema.into(),
            lock: format!(
                "SELECT pg_advisory_xact_lock({class}, k) FROM unnest($1::integer[]) AS k"
            ),
            versions: format!(
                "SELECT r.tbl, r.id, r.version FROM {keys} \
                 JOIN {record} AS r ON r.tbl = k.tbl AND r.id = k.id \
                 ORDER BY r.tbl, r.id FOR UPDATE OF r"
            ),
            rows: format!(
                "SELECT r.tbl, r.id, r.version, r.body FROM {keys} \
                 JOIN {record} AS r ON r.tbl = k.tbl AND r.id = k.id"
            ),
            write: write(&record, &listing),
            scans: [
                scan(false, false),
                scan(false, true),
                scan(true, false),
                scan(true, true),
            ],
        }
    }

    /// The scan, as text.
    fn scan(&self, bounded: bool, descending: bool) -> &str {
        let [open, open_down, closed, closed_down] = &self.scans;
        match (bounded, descending) {
            (false, false) => open,
            (false, true) => open_down,
            (true, false) => closed,
            (true, true) => closed_down,
        }
    }
}

/// A whole plan in one statement. No row and no entry is in two parts of a plan, so it does not
/// matter that the parts do not see each other. Plain `INSERT`: a row that is there after all must
/// fail, and not be overwritten.
fn write(record: &str, listing: &str) -> String {
    format!(
        "WITH inserted AS ( \
           INSERT INTO {record} (tbl, id, version, body) \
           SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bigint[], $4::bytea[]) \
           RETURNING 1 \
         ), updated AS ( \
           UPDATE {record} AS r SET version = n.version, body = n.body \
           FROM unnest($5::smallint[], $6::bytea[], $7::bigint[], $8::bytea[]) \
             AS n (tbl, id, version, body) \
           WHERE r.tbl = n.tbl AND r.id = n.id \
           RETURNING 1 \
         ), deleted AS ( \
           DELETE FROM {record} AS r \
           USING unnest($9::smallint[], $10::bytea[]) AS k (tbl, id) \
           WHERE r.tbl = k.tbl AND r.id = k.id \
           RETURNING 1 \
         ), unlisted AS ( \
           DELETE FROM {listing} AS l \
           USING unnest($11::smallint[], $12::bytea[], $13::smallint[], $14::bytea[]) \
             AS e (idx, sort, tbl, id) \
           WHERE l.idx = e.idx AND l.sort = e.sort AND l.tbl = e.tbl AND l.id = e.id \
         ), listed AS ( \
           INSERT INTO {listing} (idx, sort, tbl, id) \
           SELECT * FROM unnest($15::smallint[], $16::bytea[], $17::smallint[], $18::bytea[]) \
           ON CONFLICT DO NOTHING \
         ) \
         SELECT (SELECT count(*) FROM inserted), (SELECT count(*) FROM updated), \
                (SELECT count(*) FROM deleted)"
    )
}

fn number(key: &Key) -> i16 {
    key.table.number().into()
}

/// Tables and ids of keys, as two arrays.
pub(super) struct Keys<'a> {
    pub(super) tables: Vec<i16>,
    pub(super) ids: Vec<&'a [u8]>,
}

pub(super) fn keys<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Keys<'a> {
    let named = keys.into_iter().map(|key| (number(key), key.id.as_slice()));
    let (tables, ids) = named.unzip();
    Keys { tables, ids }
}

struct Puts<'a> {
    tables: Vec<i16>,
    ids: Vec<&'a [u8]>,
    versions: Vec<i64>,
    bodies: Vec<&'a [u8]>,
}

fn puts<'a>(puts: &[Put<'a>]) -> Puts<'a> {
    let Keys { tables, ids } = keys(puts.iter().map(|put| put.key));
    let version = |put: &Put<'_>| i64::try_from(put.version).unwrap_or(i64::MAX);
    Puts {
        tables,
        ids,
        versions: puts.iter().map(version).collect(),
        bodies: puts.iter().map(|put| put.body).collect(),
    }
}

struct Entries<'a> {
    indexes: Vec<i16>,
    sorts: Vec<&'a [u8]>,
    tables: Vec<i16>,
    ids: Vec<&'a [u8]>,
}

fn entries<'a>(entries: &[Entry<'a>]) -> Entries<'a> {
    let Keys { tables, ids } = keys(entries.iter().map(|entry| entry.key));
    Entries {
        indexes: entries.iter().map(|entry| entry.index.into()).collect(),
        sorts: entries.iter().map(|entry| entry.sort).collect(),
        tables,
        ids,
    }
}

/// Writes a plan, and makes sure that it did what it says.
pub(super) async fn execute(
    client: &ClientWrapper,
    sql: &Sql,
    plan: &Plan<'_>,
) -> Result<(), Failure> {
    let failed = |error: Error| Failure::of_statement(&error);
    let statement = client.prepare_cached(&sql.write).await.map_err(failed)?;
    let new = puts(&plan.inserts);
    let old = puts(&plan.updates);
    let gone = keys(plan.deletes.iter().copied());
    let off = entries(&plan.unlist);
    let on = entries(&plan.list);
    let parameters: [&(dyn ToSql + Sync); 18] = [
        &new.tables,
        &new.ids,
        &new.versions,
        &new.bodies,
        &old.tables,
        &old.ids,
        &old.versions,
        &old.bodies,
        &gone.tables,
        &gone.ids,
        &off.indexes,
        &off.sorts,
        &off.tables,
        &off.ids,
        &on.indexes,
        &on.sorts,
        &on.tables,
        &on.ids,
    ];
    let row = client
        .query_one(&statement, &parameters)
        .await
        .map_err(failed)?;
    for (column, expected) in [plan.inserts.len(), plan.updates.len(), plan.deletes.len()]
        .into_iter()
        .enumerate()
    {
        let written: i64 = row.try_get(column).map_err(failed)?;
        if usize::try_from(written) != Ok(expected) {
            return Err(Failure::Final(StoreError::Database(format!(
                "{written} rows were written where {expected} are locked: does another program \
                 change this schema?"
            ))));
        }
    }
    Ok(())
}

/// Versions of the rows that a statement found.
pub(super) fn versions(rows: &[Row]) -> Result<BTreeMap<Key, u64>, StoreError> {
    rows.iter()
        .map(|row| Ok((key(row, 0)?, version(row, 2)?)))
        .collect()
}

/// Those rows that exist.
pub(super) async fn rows(
    client: &ClientWrapper,
    sql: &Sql,
    keys: &Keys<'_>,
) -> Result<BTreeMap<Key, Stored>, Failure> {
    let failed = |error: Error| Failure::of_statement(&error);
    let statement = client.prepare_cached(&sql.rows).await.map_err(failed)?;
    let rows = client
        .query(&statement, &[&keys.tables, &keys.ids])
        .await
        .map_err(failed)?;
    rows.iter()
        .map(|row| {
            let stored = Stored {
                version: version(row, 2)?,
                body: row.try_get(3).map_err(unexpected)?,
            };
            Ok((key(row, 0)?, stored))
        })
        .collect::<Result<_, _>>()
        .map_err(Failure::Final)
}

/// One range of an index, in one statement.
pub(super) async fn scan(
    client: &ClientWrapper,
    sql: &Sql,
    scan: &Scan,
) -> Result<Vec<Found>, Failure> {
    let failed = |error: Error| Failure::of_statement(&error);
    let bounded = !scan.to.is_empty();
    let statement = client
        .prepare_cached(sql.scan(bounded, scan.descending))
        .await
        .map_err(failed)?;
    let index = i16::from(scan.index.number());
    let limit = i64::try_from(scan.limit).unwrap_or(i64::MAX);
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&index, &scan.from, &limit];
    if bounded {
        parameters.push(&scan.to);
    }
    let rows = client
        .query(&statement, &parameters)
        .await
        .map_err(failed)?;
    rows.iter()
        .map(|row| {
            Ok(Found {
                listed: row.try_get(0).map_err(unexpected)?,
                key: key(row, 1)?,
                stored: Stored {
                    version: version(row, 3)?,
                    body: row.try_get(4).map_err(unexpected)?,
                },
            })
        })
        .collect::<Result<_, _>>()
        .map_err(Failure::Final)
}

fn key(row: &Row, column: usize) -> Result<Key, StoreError> {
    let table: i16 = row.try_get(column).map_err(unexpected)?;
    let id: Vec<u8> = row.try_get(column + 1).map_err(unexpected)?;
    match u8::try_from(table).ok().and_then(Table::from_number) {
        Some(table) => Ok(Key { table, id }),
        None => Err(StoreError::Database(format!(
            "a row is of table {table}, which this release does not know: run the newer release"
        ))),
    }
}

fn version(row: &Row, column: usize) -> Result<u64, StoreError> {
    let version: i64 = row.try_get(column).map_err(unexpected)?;
    Ok(u64::try_from(version).unwrap_or(0))
}

fn unexpected(error: Error) -> StoreError {
    StoreError::Database(format!("a column is not what was asked for: {error}"))
}
