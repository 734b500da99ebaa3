//! Deposit addresses.

use std::collections::BTreeMap;

use bitcoin::ScriptBuf;
use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::{LeafId, Network, TreeId};

use super::{FlowId, KeyshareId, Millis, owner_prefix};
use crate::record::{Index, IndexKey, Row, Table};

/// What convinces a wallet that the operators know an address and hold its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressProof {
    /// BIP340 signature by the operators' key over the possession message, current form.
    pub possession: Vec<u8>,
    /// The same over the older form of the message.
    pub possession_legacy: Vec<u8>,
    /// ECDSA signature (DER) of each operator over the address.
    pub operators: BTreeMap<OperatorIndex, Vec<u8>>,
}

/// An address that the operators issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRow {
    /// What outputs to it look like on chain; the row's id.
    pub script: ScriptBuf,
    /// The address as text.
    pub address: String,
    /// The wallet's identity key.
    pub owner: PublicKey,
    /// The wallet's half of the key.
    pub owner_signing: PublicKey,
    /// The operators' half.
    pub keyshare: KeyshareId,
    /// Sum of both halves.
    pub verifying_key: PublicKey,
    /// Network.
    pub network: Network,
    /// The leaf id that the wallet chose for the deposit, if it did.
    pub leaf: Option<LeafId>,
    /// True: takes any number of deposits.
    pub is_static: bool,
    /// True: the static address that a wallet is shown now.
    pub is_default: bool,
    /// When it was made.
    pub created: Millis,
    /// The flow that makes it, until it is finished.
    pub pending: Option<FlowId>,
    /// Present once all operators have it.
    pub proof: Option<AddressProof>,
    /// The tree that its deposit became (single-use addresses).
    pub tree: Option<TreeId>,
}

impl AddressRow {
    /// Sort key prefix of the addresses of `owner`, of one kind.
    #[must_use]
    pub fn prefix(owner: &PublicKey, network: Network, is_static: bool) -> Vec<u8> {
        let mut prefix = owner_prefix(owner, network);
        prefix.push(u8::from(is_static));
        prefix
    }
}

impl Row for AddressRow {
    const TABLE: Table = Table::Address;

    fn id(&self) -> Vec<u8> {
        self.script.to_bytes()
    }

    fn listed(&self) -> Vec<IndexKey> {
        // A single-use address leaves the list as soon as a tree is made of it.
        if self.proof.is_none() || (!self.is_static && self.tree.is_some()) {
            return Vec::new();
        }
        vec![IndexKey::new(
            Index::AddressByOwner,
            &[
                &Self::prefix(&self.owner, self.network, self.is_static),
                &self.created.sort(),
                self.script.as_bytes(),
            ],
        )]
    }
}

/// The static address that a wallet is shown: one per wallet and network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultAddressRow {
    /// The wallet's identity key.
    pub owner: PublicKey,
    /// Network.
    pub network: Network,
    /// The address, as the id of its row.
    pub script: ScriptBuf,
}

impl DefaultAddressRow {
    /// Its id: no script of an address begins like this.
    #[must_use]
    pub fn id_of(owner: &PublicKey, network: Network) -> Vec<u8> {
        [b"default/".as_slice(), &owner_prefix(owner, network)].concat()
    }
}

impl Row for DefaultAddressRow {
    const TABLE: Table = Table::Address;

    fn id(&self) -> Vec<u8> {
        Self::id_of(&self.owner, self.network)
    }
}
