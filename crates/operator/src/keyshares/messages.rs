//! What operators say to each other during key generation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tinderbox_flows::refusal::Refusal;
use tinderbox_frost::OperatorIndex;
use tinderbox_frost::dkg::Round1Package;

/// Everybody's first-round packages: by operator, then by key.
pub(super) type Packages = BTreeMap<OperatorIndex, Vec<Round1Package>>;

/// From one operator to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum DkgMessage {
    /// Coordinator: begin.
    Begin {
        /// The run.
        run: [u8; 16],
        /// Keys to make.
        count: u32,
    },
    /// Coordinator: this is what everybody sent; sign it.
    Packages {
        /// The run.
        run: [u8; 16],
        /// First-round packages.
        packages: Packages,
    },
    /// Coordinator: everybody saw the same; send your shares, then store your keys.
    Confirm {
        /// The run.
        run: [u8; 16],
        /// The same packages again: this may reach another process of the operator.
        packages: Packages,
        /// Each operator's signature (DER) over [`seen`].
        signatures: BTreeMap<OperatorIndex, Vec<u8>>,
    },
    /// Peer: my second-round shares for you, one per key.
    Shares(Shares),
}

/// Second-round shares of one operator for another.
#[derive(Clone, Serialize, Deserialize)]
pub struct Shares {
    /// The run.
    pub run: [u8; 16],
    /// 32 bytes per key.
    pub shares: Vec<[u8; 32]>,
}

impl std::fmt::Debug for Shares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shares({} keys)", self.shares.len())
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.shares.zeroize();
    }
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum DkgReply {
    /// My first-round packages.
    Packages(Vec<Round1Package>),
    /// My signature over what I saw.
    Seen(Vec<u8>),
    /// My keys are stored; hash of the public ones.
    Stored([u8; 32]),
    /// Noted.
    Taken,
    /// No.
    Refused(Refusal),
}

/// What an operator signs: the run and every package, in order.
#[must_use]
pub(super) fn seen(run: &[u8; 16], packages: &Packages) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/dkg/1");
    hash.update(run);
    for (operator, packages) in packages {
        hash.update(operator.0.to_be_bytes());
        for package in packages {
            let bytes = postcard::to_allocvec(package).unwrap_or_default();
            hash.update(Sha256::digest(&bytes));
        }
    }
    hash.finalize().into()
}
