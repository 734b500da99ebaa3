//! What an operator stores.

mod address;
mod chain;
mod exit;
mod flow;
mod hashlock;
mod invoice;
mod kept;
mod keyshare;
mod node;
mod notice;
mod setting;
mod swap;
mod transfer;
mod utxo;
mod utxo_swap;

pub use address::{AddressProof, AddressRow, DefaultAddressRow};
pub use chain::{ChainRow, KnownBlock};
pub use exit::{ExitRow, ExitState};
pub use flow::{FlowRow, FlowState, JobRow, Part};
pub use hashlock::{
    HashLockRow, HashLockState, HashSlotRow, LockRole, PreimageShareRow, UserRefund,
};
pub use invoice::InvoiceRow;
pub use kept::KeptTweaksRow;
pub use keyshare::{KeyshareRow, KeyshareStatus};
pub use node::{NodeRow, NodeStatus, NodeTxs, TreeRow, TreeStatus};
pub use notice::{FreshNotices, Notice, NoticeHead, NoticePage, Role, Subject, Told};
pub use setting::{Privacy, SettingRow};
pub use swap::SwapOfferRow;
pub use transfer::{
    ClaimPhase, Details, LeafRefunds, ReceiverRow, TransferKind, TransferLeafRow, TransferRow,
    TransferStatus,
};
pub use utxo::UtxoRow;
pub use utxo_swap::{SignedSpend, UtxoHoldRow, UtxoSwapKind, UtxoSwapRow, UtxoSwapStatus};

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, as the coordinator of a flow chose them. Equal on all
/// operators.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Millis(pub u64);

impl Millis {
    /// Eight bytes that sort like the time.
    #[must_use]
    pub const fn sort(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Later by `milliseconds`, at most the end of time.
    #[must_use]
    pub const fn plus(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

/// Id of a key share: 16 bytes, from the run that made it and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyshareId(pub [u8; 16]);

/// Id of a flow: 16 bytes, the first six of which are its coordinator's clock in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowId(pub [u8; 16]);

impl FlowId {
    /// A flow id that was made at `now` with these random bytes.
    #[must_use]
    pub fn new(now: Millis, random: [u8; 10]) -> Self {
        let [_, _, a, b, c, d, e, f] = now.0.to_be_bytes();
        let [g, h, i, j, k, l, m, n, o, p] = random;
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// When its coordinator made it, by its own clock.
    #[must_use]
    pub fn made(&self) -> Millis {
        let [a, b, c, d, e, f, ..] = self.0;
        Millis(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}

impl std::fmt::Display for FlowId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Display for KeyshareId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// One byte that stands for a network in sort keys.
#[must_use]
pub fn network_byte(network: tinderbox_protocol::Network) -> u8 {
    use tinderbox_protocol::Network;
    match network {
        Network::Mainnet => 1,
        Network::Regtest | Network::Local => 2,
        Network::Testnet => 3,
        Network::Signet => 4,
    }
}

/// Sort key prefix of rows that belong to `identity` on `network`.
#[must_use]
pub fn owner_prefix(identity: &PublicKey, network: tinderbox_protocol::Network) -> Vec<u8> {
    let mut prefix = identity.serialize().to_vec();
    prefix.push(network_byte(network));
    prefix
}
