//! Ids. All are UUIDs, spelt in lowercase with dashes: wallets hash the text of a leaf id to find
//! its key, so there is exactly one spelling of each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, Result};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// From its 16 bytes.
            #[must_use]
            pub const fn from_bytes16(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Its 16 bytes, as some signed messages hold them.
            #[must_use]
            pub const fn bytes16(&self) -> [u8; 16] {
                self.0.into_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                dashed($kind, text).map(Self)
            }
        }
    };
}

id!(
    /// A leaf, or any other node of a tree: constant for its life.
    LeafId,
    "leaf"
);
id!(
    /// A tree: what one deposit became.
    TreeId,
    "tree"
);
id!(
    /// A transfer. The sender chooses it.
    TransferId,
    "transfer"
);

/// Parses the dashed form; upper-case digits are understood, other forms of UUIDs are not.
fn dashed(kind: &'static str, text: &str) -> Result<Uuid> {
    let invalid = || Error::InvalidId {
        kind,
        text: text.chars().take(64).collect(),
    };
    if text.len() != 36 {
        return Err(invalid());
    }
    Uuid::try_parse(text).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0195d5ae-1f2b-7c3d-8e4f-5a6b7c8d9e0f";

    #[test]
    fn an_id_has_one_spelling() {
        let id: LeafId = TEXT.to_uppercase().parse().unwrap();
        assert_eq!(id.to_string(), TEXT);
        assert_eq!(LeafId::from_bytes16(id.bytes16()), id);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{TEXT}\""));
        assert_eq!(
            serde_json::from_str::<LeafId>(&format!("\"{TEXT}\"")).unwrap(),
            id
        );
    }

    #[test]
    fn other_forms_of_uuids_are_refused() {
        for text in [
            "",
            "0195d5ae1f2b7c3d8e4f5a6b7c8d9e0f",
            "{0195d5ae-1f2b-7c3d-8e4f-5a6b7c8d9e0f}",
            "urn:uuid:0195d5ae-1f2b-7c3d-8e4f-5a6b7c8d9e0f",
            "0195d5ae-1f2b-7c3d-8e4f-5a6b7c8d9e0g",
            "0195d5ae-1f2b-7c3d-8e4f-5a6b7c8d9e0",
            " 195d5ae-1f2b-7c3d-8e4f-5a6b7c8d9e0f",
        ] {
            assert!(text.parse::<TransferId>().is_err(), "{text}");
        }
    }
}
