//! The configuration string that names a database.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;

use crate::{Postgres, Sqlite, Store, StoreError};

/// The schema that is used if none is given.
const DEFAULT_SCHEMA: &str = "tinderbox";

/// Where an operator's tables are: `sqlite:PATH`, or
/// `postgres://USER:PASSWORD@HOST:PORT/NAME?schema=SCHEMA`.
///
/// Printing it leaves the password out; [`Database::config_string`] does not.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Database {
    /// One file, for one process.
    Sqlite {
        /// The file; made if there is none.
        path: PathBuf,
    },
    /// One schema of a PostgreSQL database, for any number of processes.
    Postgres {
        /// Connection string without the schema.
        url: String,
        /// Schema; made if there is none.
        schema: String,
    },
}

impl Database {
    /// The same server with another schema; SQLite is left as it is.
    #[must_use]
    pub fn with_schema(self, schema: impl Into<String>) -> Self {
        match self {
            Self::Postgres { url, .. } => Self::Postgres {
                url,
                schema: schema.into(),
            },
            sqlite @ Self::Sqlite { .. } => sqlite,
        }
    }

    /// The string that parses to this, the password included: for configuration files only.
    #[must_use]
    pub fn config_string(&self) -> String {
        match self {
            Self::Sqlite { path } => format!("sqlite:{}", path.display()),
            Self::Postgres { url, schema } => {
                let joint = if url.contains('?') { '&' } else { '?' };
                format!("{url}{joint}schema={schema}")
            }
        }
    }
}

/// Opens the tables, making or migrating them if need be.
///
/// # Errors
/// Whatever the backend says: [`StoreError::Newer`], [`StoreError::Damaged`],
/// [`StoreError::Foreign`], [`StoreError::InUse`], [`StoreError::Config`], [`StoreError::Database`].
pub async fn open(database: &Database) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match database {
        Database::Sqlite { path } => Arc::new(Sqlite::open(path).await?),
        Database::Postgres { url, schema } => Arc::new(Postgres::open(url, schema).await?),
    })
}

impl FromStr for Database {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(StoreError::Config(
                    "the path of the database is empty".into(),
                ));
            }
            return Ok(Self::Sqlite { path: path.into() });
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let (base, query) = text.split_once('?').unwrap_or((text, ""));
            let mut schema = DEFAULT_SCHEMA.to_owned();
            let mut rest = Vec::new();
            for pair in query.split('&').filter(|pair| !pair.is_empty()) {
                match pair.strip_prefix("schema=") {
                    Some(name) => schema = name.to_owned(),
                    None => rest.push(pair),
                }
            }
            let mut url = base.to_owned();
            if !rest.is_empty() {
                url = format!("{url}?{}", rest.join("&"));
            }
            return Ok(Self::Postgres { url, schema });
        }
        // The text may hold a password, so only its scheme is repeated.
        let scheme = text.split(':').next().unwrap_or_default();
        Err(StoreError::Config(format!(
            "the kind of database '{scheme}' is not known"
        )))
    }
}

impl TryFrom<String> for Database {
    type Error = StoreError;

    fn try_from(text: String) -> Result<Self, StoreError> {
        text.parse()
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.config_string();
        match text.split_once("://").zip(text.rsplit_once('@')) {
            Some(((scheme, _), (credentials, place))) if matches!(self, Self::Postgres { .. }) => {
                let user = credentials
                    .split_once("://")
                    .and_then(|(_, credentials)| credentials.split(':').next())
                    .unwrap_or_default();
                write!(f, "{scheme}://{user}@{place}")
            }
            _ => f.write_str(&text),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_not_printed() {
        let text = "postgres://alice:se:cr@et@localhost:5432/spark?sslmode=disable&schema=op1";
        let database: Database = text.parse().unwrap();
        assert_eq!(
            database.to_string(),
            "postgres://alice@localhost:5432/spark?sslmode=disable&schema=op1"
        );
        assert!(!format!("{database:?}").contains("cr@et"));
        assert_eq!(database.config_string(), text);
    }

    #[test]
    fn schema_has_a_default_and_can_be_replaced() {
        let database: Database = "postgresql://localhost/spark".parse().unwrap();
        let Database::Postgres { url, schema } = database.clone() else {
            panic!("not PostgreSQL: {database}")
        };
        assert_eq!(
            (url.as_str(), schema.as_str()),
            ("postgresql://localhost/spark", "tinderbox")
        );
        assert_eq!(
            database.with_schema("op_2").config_string(),
            "postgresql://localhost/spark?schema=op_2"
        );
    }

    #[test]
    fn sqlite_path_is_taken_as_it_is() {
        for text in ["sqlite:data/op.db", "sqlite://data/op.db"] {
            let database: Database = text.parse().unwrap();
            let path = PathBuf::from("data/op.db");
            assert_eq!(database, Database::Sqlite { path });
        }
        let absolute: Database = "sqlite:///var/lib/op.db".parse().unwrap();
        assert_eq!(absolute.to_string(), "sqlite:/var/lib/op.db");
    }

    #[test]
    fn unknown_kind_is_refused_without_repeating_the_password() {
        let error = "mysql://bob:hunter2@localhost/x"
            .parse::<Database>()
            .unwrap_err();
        assert!(error.to_string().contains("mysql"));
        assert!(error.to_string().contains("sqlite:PATH"));
        assert!(!error.to_string().contains("hunter2"));
        assert!("sqlite:".parse::<Database>().is_err());
    }
}
