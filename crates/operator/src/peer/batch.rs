//! Envelopes: a version and a list of numbered messages.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tinderbox_commit::message::FORMAT;
use tinderbox_rpc::proto::peer::Envelope;

/// Messages in one envelope at most.
pub(super) const MAX_MESSAGES: usize = 512;
/// Bytes after which an envelope is full. One message alone may be larger.
pub(super) const FULL: usize = 2_000_000;

/// Why an envelope cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Another release, or no operator at all.
    #[error(
        "format {found} is unknown, this release knows {FORMAT}: run compatible releases on all operators"
    )]
    Version {
        /// The version in the envelope.
        found: u32,
    },
    /// Bytes that are not what they should be.
    #[error("the message is damaged: {0}")]
    Damaged(String),
}

/// A message with the number that its answer carries.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) number: u32,
    /// The request that it is for, if there is one.
    pub(super) trace: Option<String>,
    pub(super) body: Vec<u8>,
}

/// The answer to one message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) number: u32,
    /// The encoded answer, or why there is none.
    pub(super) body: Result<Vec<u8>, String>,
}

/// Encodes one message.
pub(super) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, BatchError> {
    postcard::to_allocvec(message).map_err(|error| BatchError::Damaged(error.to_string()))
}

/// Decodes one message.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BatchError> {
    postcard::from_bytes(bytes).map_err(|error| BatchError::Damaged(error.to_string()))
}

/// Puts a list into an envelope.
pub(super) fn seal<T: Serialize>(list: &[T]) -> Result<Envelope, BatchError> {
    Ok(Envelope {
        version: FORMAT,
        body: encode(&list)?,
    })
}

/// Takes a list out of an envelope.
pub(super) fn open<T: DeserializeOwned>(envelope: &Envelope) -> Result<Vec<T>, BatchError> {
    if envelope.version != FORMAT {
        return Err(BatchError::Version {
            found: envelope.version,
        });
    }
    decode(&envelope.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_survives_its_envelope() {
        let items = [
            Item {
                number: 7,
                trace: Some("t".into()),
                body: vec![1, 2],
            },
            Item {
                number: 8,
                trace: None,
                body: Vec::new(),
            },
        ];
        let found: Vec<Item> = open(&seal(&items).unwrap()).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].number, found[0].body.as_slice()),
            (7, &[1, 2][..])
        );
    }

    #[test]
    fn other_release_and_damage_are_told_apart() {
        let mut envelope = seal(&[Answer {
            number: 1,
            body: Err("no".into()),
        }])
        .unwrap();
        envelope.version += 1;
        assert!(matches!(
            open::<Answer>(&envelope).unwrap_err(),
            BatchError::Version { found } if found == FORMAT + 1
        ));
        envelope.version = FORMAT;
        envelope.body.truncate(2);
        assert!(matches!(
            open::<Answer>(&envelope).unwrap_err(),
            BatchError::Damaged(_)
        ));
    }
}
