//! Settings of wallets.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

use super::FlowId;
use crate::record::{Row, Table};

/// What a wallet set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privacy {
    /// True: others see no transfers and addresses of this wallet.
    pub private: bool,
    /// A key that may read nevertheless.
    pub master: Option<PublicKey>,
}

impl Privacy {
    /// True if `reader` may read, who is not the owner; none is somebody without a session.
    #[must_use]
    pub fn allows(&self, reader: Option<&PublicKey>) -> bool {
        !self.private || (reader.is_some() && self.master.as_ref() == reader)
    }
}

/// Settings of a wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingRow {
    /// The wallet's identity key.
    pub owner: PublicKey,
    /// What it set.
    pub current: Privacy,
    /// What it is being changed to, and by which flow.
    pub pending: Option<(FlowId, Privacy)>,
}

impl SettingRow {
    /// Settings of a wallet that has set nothing.
    #[must_use]
    pub fn of(owner: PublicKey) -> Self {
        Self {
            owner,
            current: Privacy::default(),
            pending: None,
        }
    }

    /// True if `reader` may read, who is not the owner: under both settings while they change.
    #[must_use]
    pub fn allows(&self, reader: Option<&PublicKey>) -> bool {
        let pending = self.pending.as_ref();
        self.current.allows(reader) && pending.is_none_or(|(_, privacy)| privacy.allows(reader))
    }
}

impl Row for SettingRow {
    const TABLE: Table = Table::Setting;
    const FORMAT: u8 = 2;

    fn id(&self) -> Vec<u8> {
        self.owner.serialize().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::{SECP256K1, SecretKey};

    use super::*;

    fn key(byte: u8) -> PublicKey {
        SecretKey::from_slice(&[byte; 32])
            .unwrap()
            .public_key(SECP256K1)
    }

    #[test]
    fn private_wallet_is_read_by_its_master_only() {
        let open = Privacy::default();
        assert!(open.allows(None) && open.allows(Some(&key(1))));
        let closed = Privacy {
            private: true,
            master: None,
        };
        assert!(!closed.allows(None) && !closed.allows(Some(&key(1))));
        let read = Privacy {
            private: true,
            master: Some(key(2)),
        };
        assert!(read.allows(Some(&key(2))) && !read.allows(Some(&key(1))) && !read.allows(None));
    }

    #[test]
    fn settings_that_change_show_what_both_would_show() {
        let private = Privacy {
            private: true,
            master: None,
        };
        let mut row = SettingRow::of(key(1));
        row.pending = Some((FlowId([1; 16]), private));
        assert!(!row.allows(None));
        row.current = private;
        row.pending = Some((FlowId([1; 16]), Privacy::default()));
        assert!(!row.allows(None));
        row.current = Privacy::default();
        row.pending = None;
        assert!(row.allows(None));
    }
}
