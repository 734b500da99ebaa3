//! `x-idempotency-key`: a request that is sent again gets the answer that it got, byte for byte.
//!
//! The store is a row per caller, method and key. The first call takes it; one that comes beside it
//! waits; a success is kept for a day; a failure is forgotten, so that the next call tries again.
//! Nothing relies on it: every flow finds out by its own rows whether it has happened. It spares a
//! wallet that lost an answer the search for what became of its request.

use std::future::Future;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use prost::Message;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tinderbox_flows::record::{Index, IndexKey, Key, Row, Table};
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::Millis;
use tinderbox_flows::snapshot::{Changes, Snapshot};

use super::{Api, ApiError};
use crate::convert::field::malformed;
use crate::tables::{TableError, Tables};

/// The metadata entry that names a request.
pub const HEADER: &str = "x-idempotency-key";

/// Bytes that a key may have.
const MAX_KEY: usize = 256;
/// How long an answer is kept, in milliseconds.
const KEPT: u64 = 24 * 60 * 60 * 1000;
/// After this a call that has left no answer is taken for dead, in milliseconds.
const DEAD: u64 = 60_000;
/// How long a second call waits for the first.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);

/// What became of a request. All rows of this table begin with their name and their end, so that
/// one purge finds and removes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AnswerRow {
    name: Vec<u8>,
    expires: Millis,
    /// The call that works on it, or that has answered.
    call: [u8; 16],
    /// The answer, encoded.
    answer: Option<Vec<u8>>,
}

impl Row for AnswerRow {
    const TABLE: Table = Table::Ephemeral;

    fn id(&self) -> Vec<u8> {
        self.name.clone()
    }

    fn listed(&self) -> Vec<IndexKey> {
        vec![IndexKey::new(
            Index::EphemeralByExpiry,
            &[&self.expires.sort(), &self.name],
        )]
    }
}

/// Reads the key of a request; none if it has none.
///
/// # Errors
/// A refusal if it is too long or no text.
pub fn key_of<T>(request: &tonic::Request<T>) -> Result<Option<String>, Refusal> {
    let Some(value) = request.metadata().get(HEADER) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok("") => Ok(None),
        Ok(key) if key.len() <= MAX_KEY => Ok(Some(key.to_owned())),
        Ok(key) => Err(malformed(
            HEADER,
            format!("{} bytes, {MAX_KEY} are the most", key.len()),
        )),
        Err(_) => Err(malformed(HEADER, "not printable ASCII")),
    }
}

/// Which request: of whom, to which method, under which key.
#[derive(Clone, Debug)]
pub struct Once {
    name: Vec<u8>,
}

impl Once {
    /// The request of `caller` to `method` under `key`.
    #[must_use]
    pub fn new(caller: &PublicKey, method: &str, key: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(caller.serialize());
        hash.update([u8::try_from(method.len()).unwrap_or(u8::MAX)]);
        hash.update(method);
        hash.update(key);
        Self {
            name: [b"answer/".as_slice(), &hash.finalize()].concat(),
        }
    }

    /// The stored answer, or that of `work`.
    ///
    /// # Errors
    /// That of `work`, or a refusal if another call of the same name takes too long.
    pub async fn run<A, F>(&self, api: &Api, work: F) -> Result<A, ApiError>
    where
        A: Message + Default,
        F: Future<Output = Result<A, ApiError>>,
    {
        let call: [u8; 16] = api.random();
        if let Some(answer) = self.begin(api, call).await? {
            return A::decode(answer.as_slice()).map_err(|error| {
                tracing::error!(%error, "a stored answer is damaged");
                Refusal::new(Reason::Internal, "a stored answer is damaged").into()
            });
        }
        let result = work.await;
        let kept = match &result {
            Ok(answer) => Some(answer.encode_to_vec()),
            Err(_) => None,
        };
        if let Err(error) = self.end(api, call, kept).await {
            // The call is taken for dead after a while, and its flow knows what has happened.
            tracing::warn!(%error, "an answer could not be kept");
        }
        result
    }

    /// Takes the row, or returns the answer that is there.
    async fn begin(&self, api: &Api, call: [u8; 16]) -> Result<Option<Vec<u8>>, ApiError> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (rows, found) = self.read(&api.tables).await?;
            let now = api.now();
            match found.filter(|row| row.expires > now) {
                Some(AnswerRow {
                    answer: Some(answer),
                    ..
                }) => return Ok(Some(answer)),
                Some(_) if tokio::time::Instant::now() >= deadline => {
                    return Err(Refusal::new(
                        Reason::LockConflict,
                        "the same request is being worked on: ask again",
                    )
                    .into());
                }
                Some(_) => tokio::time::sleep(LOOK).await,
                None => {
                    let row = AnswerRow {
                        name: self.name.clone(),
                        expires: now.plus(DEAD),
                        call,
                        answer: None,
                    };
                    match put(&api.tables, &rows, &row).await {
                        Ok(()) => return Ok(None),
                        // Somebody else took it in the same moment.
                        Err(TableError::Conflict) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// Keeps the answer, or forgets the call, unless another call has taken over.
    async fn end(
        &self,
        api: &Api,
        call: [u8; 16],
        answer: Option<Vec<u8>>,
    ) -> Result<(), TableError> {
        let (rows, found) = self.read(&api.tables).await?;
        if found.is_none_or(|row| row.call != call) {
            return Ok(());
        }
        if answer.is_some() {
            let row = AnswerRow {
                name: self.name.clone(),
                expires: api.now().plus(KEPT),
                call,
                answer,
            };
            return put(&api.tables, &rows, &row).await;
        }
        let mut changes = Changes::new();
        changes.delete::<AnswerRow>(&rows, self.name.clone())?;
        api.tables.write(&rows, changes).await
    }

    async fn read(&self, tables: &Tables) -> Result<(Snapshot, Option<AnswerRow>), TableError> {
        let mut rows = Snapshot::new();
        tables
            .load(&mut rows, [Key::new(Table::Ephemeral, self.name.clone())])
            .await?;
        let found = rows.get::<AnswerRow>(self.name.clone())?;
        Ok((rows, found))
    }
}

async fn put(tables: &Tables, rows: &Snapshot, row: &AnswerRow) -> Result<(), TableError> {
    let mut changes = Changes::new();
    changes.put(rows, row)?;
    tables.write(rows, changes).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::authn::EphemeralRow;

    #[test]
    fn purge_reads_answers_like_any_other_row_with_a_lifetime() {
        let row = AnswerRow {
            name: b"answer/x".to_vec(),
            expires: Millis(7),
            call: [1; 16],
            answer: Some(vec![1, 2, 3]),
        };
        let read = EphemeralRow::decode(&row.id(), &row.encode().unwrap()).unwrap();
        assert_eq!(
            (read.name.clone(), read.expires),
            (row.name.clone(), row.expires)
        );
        assert_eq!(read.listed(), row.listed());
    }

    #[test]
    fn callers_methods_and_keys_do_not_share_answers() {
        let key = |text: &str| text.parse::<PublicKey>().unwrap();
        let one = key("0322ca18fc489ae25418a0e768273c2c61cabb823edfb14feb891e9bec62016510");
        let two = key("0341727a6c41b168f07eb50865ab8c397a53c7eef628ac1020956b705e43b6cb27");
        let names: std::collections::BTreeSet<Vec<u8>> = [
            Once::new(&one, "renew_leaf", "k"),
            Once::new(&two, "renew_leaf", "k"),
            Once::new(&one, "renew_lea", "fk"),
            Once::new(&one, "renew_leaf", "l"),
        ]
        .into_iter()
        .map(|once| once.name)
        .collect();
        assert_eq!(names.len(), 4);
    }
}
