//! A wallet's and a provider's part of leaf swaps by the older protocol, for simulations.

use bitcoin::secp256k1::PublicKey;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::flow::Site;
use tinderbox_flows::form::{Adaptors, Form};
use tinderbox_flows::rows::{Millis, NodeRow, TransferRow};
use tinderbox_flows::swap_legacy::LegacySwapRequest;
use tinderbox_flows::swap_legacy_counter::LegacyCounterRequest;
use tinderbox_protocol::TransferId;

use crate::owner::{NonceSet, Owner};

impl Owner {
    /// An offer of leaves to a provider, for others of the same total: three sets of nonces per leaf.
    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own")]
    pub fn legacy_offer(
        &self,
        site: &Site,
        id: TransferId,
        now: Millis,
        nodes: &[NodeRow],
        provider: PublicKey,
        nonces: Vec<NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> LegacySwapRequest {
        let receivers = nodes.iter().map(|node| (node.id, provider)).collect();
        LegacySwapRequest {
            now,
            transfer: id,
            sender: self.identity(),
            receiver: provider,
            package: self.package_as(site, &id, nodes, &receivers, &Form::Plain, nonces, rng),
        }
    }

    /// A provider's answer to an offer: three sets of nonces per leaf.
    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own")]
    pub fn legacy_answer(
        &self,
        site: &Site,
        id: TransferId,
        now: Millis,
        nodes: &[NodeRow],
        offer: &TransferRow,
        adaptors: Adaptors,
        nonces: Vec<NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> LegacyCounterRequest {
        let receivers = nodes.iter().map(|node| (node.id, offer.sender)).collect();
        let form = Form::Adaptors(adaptors);
        LegacyCounterRequest {
            now,
            transfer: id,
            sender: self.identity(),
            receiver: offer.sender,
            package: self.package_as(site, &id, nodes, &receivers, &form, nonces, rng),
            adaptors,
            offer: offer.id,
        }
    }
}
