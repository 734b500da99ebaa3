//! Which database a test runs on.
//!
//! | variable | means |
//! |---|---|
//! | `TINDERBOX_TEST_POSTGRES` | the PostgreSQL server of tests; those on PostgreSQL fail without it |
//! | `TINDERBOX_SKIP_POSTGRES=1` | leave them out |
//! | `TINDERBOX_TEST_DATABASE` | run on this one only: `sqlite`, or a PostgreSQL URL |

use std::path::Path;
use std::sync::Arc;

use tinderbox_devnet::DatabaseChoice;
use tinderbox_store::{Database, Store};

const ONLY: &str = "TINDERBOX_TEST_DATABASE";
const SERVER: &str = "TINDERBOX_TEST_POSTGRES";
const SKIP: &str = "TINDERBOX_SKIP_POSTGRES";

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn only() -> Option<DatabaseChoice> {
    variable(ONLY).map(|text| DatabaseChoice::parse(&text).expect(ONLY))
}

/// SQLite, unless tests are to run on another database only.
pub(crate) fn sqlite() -> Option<DatabaseChoice> {
    match only() {
        Some(DatabaseChoice::Postgres(_)) => {
            eprintln!("left out: {ONLY} names another database");
            None
        }
        _ => Some(DatabaseChoice::Sqlite),
    }
}

/// PostgreSQL, unless it is to be left out.
///
/// # Panics
/// If no server is named: tests that nobody ran must not look as if they had passed.
pub(crate) fn postgres() -> Option<DatabaseChoice> {
    match only() {
        Some(DatabaseChoice::Sqlite) => {
            eprintln!("left out: {ONLY} names another database");
            return None;
        }
        Some(named) => return Some(named),
        None => {}
    }
    if variable(SKIP).is_some_and(|value| value == "1") {
        eprintln!("left out: {SKIP} is 1");
        return None;
    }
    match variable(SERVER) {
        Some(url) => Some(DatabaseChoice::Postgres(url)),
        None => panic!(
            "{SERVER} is not set: run `make test`, which starts a private PostgreSQL server; or \
             name a server in it; or set {SKIP}=1 to leave the tests on PostgreSQL out"
        ),
    }
}

/// The database that tests of one network use: the one that is asked for, else SQLite.
pub(crate) fn any() -> DatabaseChoice {
    only().unwrap_or(DatabaseChoice::Sqlite)
}

/// Where operator `index` of a network in `folder` keeps its rows.
fn of_operator(folder: &Path, index: u16) -> Database {
    let path = folder
        .join(format!("operator-{index}"))
        .join("operator.toml");
    let text = std::fs::read_to_string(&path).expect("the operator's configuration");
    let config: toml::Table = text.parse().expect("it is TOML");
    let field = |name: &str| {
        let value = config.get("database")?.get(name)?;
        value.as_str().map(str::to_owned)
    };
    match (field("sqlite"), field("postgres"), field("schema")) {
        (Some(path), None, _) => Database::Sqlite { path: path.into() },
        (None, Some(url), Some(schema)) => Database::Postgres { url, schema },
        other => panic!("{}: no database in it: {other:?}", path.display()),
    }
}

/// Opens the tables of an operator that does not run.
pub(crate) async fn open(folder: &Path, index: u16) -> Arc<dyn Store> {
    let database = of_operator(folder, index);
    tinderbox_store::open(&database)
        .await
        .unwrap_or_else(|error| panic!("{database}: {error}"))
}

/// Removes what the operators of a stopped network left in PostgreSQL.
pub(crate) async fn remove(folder: &Path, operators: u16) {
    for index in 0..operators {
        let Database::Postgres { url, schema } = of_operator(folder, index) else {
            continue;
        };
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .expect("the test server answers");
        let driver = tokio::spawn(connection);
        let drop_it = format!("DROP SCHEMA \"{schema}\" CASCADE");
        let dropped = client.batch_execute(&drop_it).await;
        dropped.expect("the schema of an operator is removed");
        drop(client);
        let _ = driver.await;
    }
}
