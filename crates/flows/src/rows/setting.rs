//! Settings of wallets.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

use crate::record::{Row, Table};

/// What a wallet set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingRow {
    /// The wallet's identity key.
    pub owner: PublicKey,
    /// True: others see no transfers and addresses of this wallet.
    pub private: bool,
    /// A key that may read nevertheless.
    pub master: Option<PublicKey>,
}

impl Row for SettingRow {
    const TABLE: Table = Table::Setting;

    fn id(&self) -> Vec<u8> {
        self.owner.serialize().to_vec()
    }
}
