//! Nonces that operators hand out ahead of a request.

use tinderbox_protocol::LeafId;
use tinderbox_rpc::proto::spark;

use crate::error::Result;
use crate::wallet::Wallet;
use crate::wire::{self, Commitments};

const CALL: &str = "get_signing_commitments";

impl Wallet {
    /// Nonces for `count` signatures that belong to no leaf of ours yet.
    pub(crate) async fn commitments_for_new(&self, count: usize) -> Result<Vec<Commitments>> {
        let number = u32::try_from(count).unwrap_or(u32::MAX);
        self.ask_commitments(Vec::new(), number, 1, count).await
    }

    /// Nonces for the three refunds of each of `count` leaves that are being received.
    pub(crate) async fn commitments_for_claim(&self, count: usize) -> Result<Vec<Commitments>> {
        let number = u32::try_from(count).unwrap_or(u32::MAX);
        self.ask_commitments(Vec::new(), 3, number, count.saturating_mul(3))
            .await
    }

    /// Nonces for the three refunds of each of these leaves: all fee-less ones first, then all direct ones,
    /// then all direct-from-cpfp ones.
    pub(crate) async fn commitments_for_send(&self, leaves: &[LeafId]) -> Result<Vec<Commitments>> {
        let ids = leaves.iter().map(ToString::to_string).collect();
        self.ask_commitments(ids, 3, 0, leaves.len().saturating_mul(3))
            .await
    }

    /// Nonces for the `count` transactions of a leaf's renewal.
    pub(crate) async fn commitments_for_renewal(
        &self,
        leaf: &LeafId,
        count: usize,
    ) -> Result<Vec<Commitments>> {
        let number = u32::try_from(count).unwrap_or(u32::MAX);
        self.ask_commitments(vec![leaf.to_string()], number, 0, count)
            .await
    }

    async fn ask_commitments(
        &self,
        node_ids: Vec<String>,
        count: u32,
        node_id_count: u32,
        expected: usize,
    ) -> Result<Vec<Commitments>> {
        let operators = &self.inner().operators;
        let coordinator = operators.coordinator();
        let request = spark::GetSigningCommitmentsRequest {
            node_ids,
            count,
            node_id_count,
        };
        let reply = coordinator
            .call(CALL, request, |mut client, r| async move {
                client.get_signing_commitments(r).await
            })
            .await?;
        let entries = reply
            .signing_commitments
            .iter()
            .map(wire::commitments)
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|what| coordinator.nonsense(CALL, what))?;
        if entries.len() != expected {
            let what = format!("{} commitments instead of {expected}", entries.len());
            return Err(coordinator.nonsense(CALL, what));
        }
        let threshold = usize::from(operators.threshold());
        let wrong = |entry: &Commitments| {
            entry.len() != threshold || entry.keys().any(|index| index.0 >= operators.count())
        };
        if entries.iter().any(wrong) {
            return Err(coordinator.nonsense(
                CALL,
                format!("an entry does not name {threshold} operators"),
            ));
        }
        Ok(entries)
    }
}
