//! Connections: configuration, schema, pool.

use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};

use super::{READERS, WRITERS, failure, locks};
use crate::StoreError;

mod embedded {
    #![allow(missing_docs, unreachable_pub)]
    refinery::embed_migrations!("migrations/postgres");
}

/// How long to wait for the server to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long to wait for one of our connections to become free.
const WAIT: Duration = Duration::from_secs(30);

/// Every statement goes through an index whatever the planner believes about sizes, since tables
/// grow faster than statistics; nobody who died in a transaction keeps others waiting for long.
const SESSION: &str = "
    SET synchronous_commit = on;
    SET jit = off;
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET enable_bitmapscan = off;
    SET lock_timeout = '10s';
    SET statement_timeout = '60s';
    SET idle_in_transaction_session_timeout = '30s'";

/// Reads the connection string.
pub(super) fn config(url: &str, schema: &str) -> Result<Config, StoreError> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins_well = schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if !begins_well || !schema.chars().all(good) || schema.len() > 63 || schema.starts_with("pg_") {
        return Err(StoreError::Config(format!(
            "'{schema}' cannot be the name of a schema: use at most 63 of a-z, 0-9 and _, with a \
             letter first and not pg_"
        )));
    }
    let mut config: Config = url
        .parse()
        .map_err(|error: tokio_postgres::Error| StoreError::Config(failure::describe(&error)))?;
    if config.get_ssl_mode() == SslMode::Require {
        return Err(StoreError::Config(
            "sslmode=require is not supported: reach the server through loopback, a private \
             network or a tunnel"
                .into(),
        ));
    }
    config.ssl_mode(SslMode::Disable);
    if config.get_application_name().is_none() {
        config.application_name(format!("tinderbox {schema}"));
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT);
    }
    config.keepalives_idle(Duration::from_secs(30));
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(30));
    }
    Ok(config)
}

/// The pool of connections. They are opened when they are needed.
pub(super) fn pool(config: Config) -> Result<Pool, StoreError> {
    let recycling_method = RecyclingMethod::Fast;
    let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method });
    Pool::builder(manager)
        .max_size(WRITERS + READERS)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(WAIT))
        .create_timeout(Some(CONNECT))
        .recycle_timeout(Some(CONNECT))
        .post_create(Hook::async_fn(|client, _| {
            Box::pin(async move {
                let prepared = client.batch_execute(SESSION).await;
                prepared.map_err(HookError::Backend)
            })
        }))
        .build()
        .map_err(|error| StoreError::Database(error.to_string()))
}

/// Makes the schema and its tables if need be. Processes that do so at once wait for each other.
pub(super) async fn migrate(config: &Config, schema: &str) -> Result<(), StoreError> {
    let (mut client, connection) = config.connect(NoTls).await.map_err(|error| {
        StoreError::Database(format!(
            "PostgreSQL cannot be reached ({}): check that it runs, and the address, user, \
             password and database name in the configuration",
            failure::describe(&error)
        ))
    })?;
    let driver = tokio::spawn(connection);
    let outcome = prepare(&mut client, schema).await;
    drop(client);
    // Ends by itself once the client is gone; its error, if any, was the client's as well.
    let _ended = driver.await;
    outcome
}

async fn prepare(client: &mut tokio_postgres::Client, schema: &str) -> Result<(), StoreError> {
    let failed = |error: tokio_postgres::Error| {
        StoreError::Database(format!(
            "schema {schema} could not be prepared ({}): check the rights of the user",
            failure::describe(&error)
        ))
    };
    // Held until this connection ends.
    let key = locks::migration(schema);
    client
        .execute("SELECT pg_advisory_lock($1)", &[&key])
        .await
        .map_err(failed)?;
    let exists = client
        .query_opt("SELECT 1 FROM pg_namespace WHERE nspname = $1", &[&schema])
        .await
        .map_err(failed)?;
    if exists.is_none() {
        client
            .batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""))
            .await
            .map_err(failed)?;
    }
    client
        .batch_execute(&format!(
            "SET search_path TO \"{schema}\"; SET client_min_messages = warning"
        ))
        .await
        .map_err(failed)?;
    let runner = embedded::migrations::runner();
    let known = runner.get_migrations().iter().map(|one| one.version());
    let known = known.max().unwrap_or(0);
    let found = applied(client, schema).await.map_err(failed)?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    if found < known {
        runner.run_async(client).await.map_err(|error| {
            StoreError::Database(format!(
                "schema {schema} could not be brought to this release ({error}): restore the \
                 backup that was made before the upgrade, or run the release that wrote it"
            ))
        })?;
    }
    Ok(())
}

/// The schema version that is there; 0 if none.
async fn applied(
    client: &tokio_postgres::Client,
    schema: &str,
) -> Result<u32, tokio_postgres::Error> {
    let history = format!("\"{schema}\".refinery_schema_history");
    let there: bool = client
        .query_one("SELECT to_regclass($1::text) IS NOT NULL", &[&history])
        .await?
        .try_get(0)?;
    if !there {
        return Ok(0);
    }
    let latest: i64 = client
        .query_one(
            &format!("SELECT coalesce(max(version), 0)::bigint FROM {history}"),
            &[],
        )
        .await?
        .try_get(0)?;
    Ok(u32::try_from(latest).unwrap_or(0))
}
