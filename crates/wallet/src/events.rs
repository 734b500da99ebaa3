use bitcoin::secp256k1::PublicKey;
use serde::Serialize;
use tinderbox_protocol::{LeafId, Sats, TransferId};

/// Something that happened in a wallet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum WalletEvent {
    /// The event stream stands.
    Connected,
    /// It broke; the wallet connects again after a while.
    Disconnected {
        /// Why.
        reason: String,
        /// Seconds until the next attempt.
        retry_in: u64,
    },
    /// Money was received: verified, claimed, ours.
    Received {
        /// The transfer.
        id: TransferId,
        /// Who paid.
        sender: PublicKey,
        /// How much.
        amount: Sats,
    },
    /// A transfer to us was not believed. It was not claimed.
    NotBelieved {
        /// The transfer.
        id: TransferId,
        /// Why.
        reason: String,
    },
    /// A claim failed for now; it is tried again.
    ClaimFailed {
        /// The transfer.
        id: TransferId,
        /// Why.
        reason: String,
    },
    /// A deposit is confirmed and can be spent.
    DepositConfirmed {
        /// The leaf.
        leaf: LeafId,
        /// Its value.
        amount: Sats,
    },
    /// A payment of ours changed.
    SentChanged {
        /// The transfer.
        id: TransferId,
        /// Where it stands, in words.
        status: String,
    },
}
