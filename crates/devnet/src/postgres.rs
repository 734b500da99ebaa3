//! Schemas of local networks in a PostgreSQL database.

use crate::{Error, Result};

/// Name of an operator's schema.
pub(crate) fn schema(tag: &str, index: u16) -> String {
    format!("tinderbox_{tag}_{index}")
}

/// Removes an operator's schema, if it is there.
pub(crate) async fn drop_schema(url: &str, schema: &str) -> Result<()> {
    let failed = |error: tokio_postgres::Error| Error::Postgres(error.to_string());
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .map_err(failed)?;
    let driver = tokio::spawn(connection);
    let quoted = schema.replace('"', "\"\"");
    let dropped = client
        .batch_execute(&format!("DROP SCHEMA IF EXISTS \"{quoted}\" CASCADE"))
        .await;
    drop(client);
    let _ = driver.await;
    dropped.map_err(failed)
}
