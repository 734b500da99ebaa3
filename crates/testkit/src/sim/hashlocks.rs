//! Hash locks in a calm network.

use tinderbox_flows::htlc::lock::{HashLockRequest, LockMode};
use tinderbox_flows::htlc::settle::PreimageRequest;
use tinderbox_flows::htlc::store::StorePreimageRequest;
use tinderbox_flows::rows::{HashLockRow, NodeRow, PreimageShareRow};
use tinderbox_flows::secret::Preimage;
use tinderbox_protocol::{LeafId, TransferId};

use super::run;
use super::scene::Scene;
use crate::hashlocks::{Lock, Refunds, invoice};

/// How long a lock of a scene lasts, in milliseconds.
pub const LASTS_MS: u64 = 120_000;

impl Scene {
    /// The deposit of a preimage, for an invoice over `sats`, in shares of `secret`: of the preimage
    /// itself, if the wallet is honest.
    pub fn deposit_preimage(
        &mut self,
        owner: usize,
        preimage: &Preimage,
        secret: &Preimage,
        sats: u64,
    ) -> StorePreimageRequest {
        let now = self.now();
        let invoice = invoice(&preimage.payment_hash(), sats);
        self.cluster.owners[owner].store_preimage(
            &self.cluster.site,
            now,
            preimage,
            &secret.0,
            &invoice,
            &mut self.rng,
        )
    }

    /// Leaves of wallet `from`, locked for wallet `to`.
    pub async fn hash_lock(
        &mut self,
        id: TransferId,
        (from, to): (usize, usize),
        leaves: &[LeafId],
        preimage: &Preimage,
        mode: LockMode,
        refunds: Refunds,
    ) -> HashLockRequest {
        let nodes: Vec<NodeRow> = leaves.iter().map(|leaf| self.node(0, leaf)).collect();
        let nonces = run::nonces(&self.cluster, &mut self.rng, nodes.len() * 4).await;
        let now = self.now();
        let lock = Lock {
            id,
            receiver: self.cluster.owners[to].identity(),
            payment_hash: preimage.payment_hash(),
            mode,
            refunds,
            expiry: (mode != LockMode::Receive).then(|| now.plus(LASTS_MS)),
        };
        self.cluster.owners[from].lock(
            &self.cluster.site,
            now,
            &nodes,
            &lock,
            nonces,
            &mut self.rng,
        )
    }

    /// Wallet `to` shows a preimage.
    #[must_use]
    pub fn show(&self, id: TransferId, to: usize, preimage: &Preimage) -> PreimageRequest {
        PreimageRequest {
            now: self.now(),
            transfer: id,
            receiver: self.cluster.owners[to].identity(),
            preimage: preimage.clone(),
        }
    }

    /// A hash lock as an operator has it.
    #[must_use]
    pub fn lock(&self, operator: u16, id: TransferId) -> Option<HashLockRow> {
        self.row(operator, &HashLockRow::id_of(&id))
    }

    /// The share of a preimage as an operator has it.
    #[must_use]
    pub fn preimage_share(&self, operator: u16, preimage: &Preimage) -> Option<PreimageShareRow> {
        self.row(operator, &preimage.payment_hash())
    }
}
