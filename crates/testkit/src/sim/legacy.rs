//! Leaf swaps by the older protocol in a calm network.

use tinderbox_flows::form::Adaptors;
use tinderbox_flows::rows::NodeRow;
use tinderbox_flows::swap_legacy::LegacySwapRequest;
use tinderbox_flows::swap_legacy_counter::LegacyCounterRequest;
use tinderbox_protocol::{LeafId, TransferId};

use super::run;
use super::scene::Scene;

impl Scene {
    /// An offer of leaves to another wallet for its own, as the owner's wallet makes it.
    pub async fn legacy_offer(
        &mut self,
        id: TransferId,
        from: usize,
        to: usize,
        leaves: &[LeafId],
    ) -> LegacySwapRequest {
        let nodes: Vec<NodeRow> = leaves.iter().map(|leaf| self.node(0, leaf)).collect();
        let provider = self.cluster.owners[to].identity();
        let nonces = run::nonces(&self.cluster, &mut self.rng, nodes.len() * 3).await;
        self.cluster.owners[from].legacy_offer(
            &self.cluster.site,
            id,
            run::now(&self.cluster),
            &nodes,
            provider,
            nonces,
            &mut self.rng,
        )
    }

    /// An answer to an offer, as operator 0 tells of it, with these leaves.
    ///
    /// # Panics
    /// If there is no such offer.
    pub async fn legacy_answer(
        &mut self,
        id: TransferId,
        from: usize,
        offer: TransferId,
        leaves: &[LeafId],
        adaptors: Adaptors,
    ) -> LegacyCounterRequest {
        let offer = self.transfer(0, offer).expect("the offer is there");
        let nodes: Vec<NodeRow> = leaves.iter().map(|leaf| self.node(0, leaf)).collect();
        let nonces = run::nonces(&self.cluster, &mut self.rng, nodes.len() * 3).await;
        self.cluster.owners[from].legacy_answer(
            &self.cluster.site,
            id,
            run::now(&self.cluster),
            &nodes,
            &offer,
            adaptors,
            nonces,
            &mut self.rng,
        )
    }
}
