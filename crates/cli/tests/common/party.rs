//! A wallet without the wallet crate, for what that does not do (yet): it makes its packages with
//! the test kit, and talks to operators in plain calls. Written apart, so that one checks the other.

use bitcoin::consensus::deserialize;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Transaction, TxOut};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tinderbox_devnet::DevNet;
use tinderbox_flows::flow::Site;
use tinderbox_flows::form::{Adaptors, Form};
use tinderbox_flows::package::{TweakPackage, UserJob};
use tinderbox_flows::rows::{
    Details, FlowId, KeyshareId, LeafRefunds, Millis, NodeRow, NodeStatus, NodeTxs, TransferKind,
    TransferLeafRow, TransferRow, TransferStatus,
};
use tinderbox_frost::{OperatorIndex, SignatureShare, SigningPackage, adaptor};
use tinderbox_protocol::tx::{TxKind, sighash};
use tinderbox_protocol::{LeafId, Network, Sats, SparkAddress, TransferId, refunds};
use tinderbox_rpc::client;
use tinderbox_rpc::convert::{InputShare, SigningJob, commitment, commitments};
use tinderbox_rpc::proto::spark::*;
use tinderbox_rpc::proto::spark_ssp_internal::CounterTransferRequest;
use tinderbox_testkit::owner::{NonceSet, Owner};
use tonic::Status;

use super::raw::Caller;

/// Somebody with an identity key and sessions at all operators.
pub(crate) struct Party {
    pub(crate) owner: Owner,
    pub(crate) site: Site,
    pub(crate) callers: Vec<Caller>,
    rng: ChaCha20Rng,
}

fn key(bytes: &[u8]) -> PublicKey {
    PublicKey::from_slice(bytes).expect("a public key")
}

fn fresh() -> TransferId {
    TransferId(uuid::Uuid::now_v7())
}

/// An owner whose identity is known before there is a network.
pub(crate) fn owner(seed: u64) -> Owner {
    Owner::new(&mut ChaCha20Rng::seed_from_u64(seed))
}

impl Party {
    /// Logs in at all operators.
    pub(crate) async fn new(net: &DevNet, owner: Owner, seed: u64) -> Self {
        let config = net.wallet_config(0).expect("a configuration");
        let mut callers = Vec::new();
        for operator in 0..net.plan().operators {
            let sign = |digest| owner.ecdsa(&digest);
            callers.push(Caller::enter(net, operator, owner.identity(), sign).await);
        }
        Self {
            owner,
            site: Site {
                me: OperatorIndex(0),
                operators: config.operators.iter().map(|o| o.identity).collect(),
                threshold: config.threshold,
                network: Network::Local,
                deposit_confirmations: 1,
                exit_confirmations: 1,
                providers: Vec::new(),
            },
            callers,
            rng: ChaCha20Rng::seed_from_u64(seed),
        }
    }

    pub(crate) fn identity(&self) -> PublicKey {
        self.owner.identity()
    }

    /// Where wallets pay it.
    pub(crate) fn address(&self) -> SparkAddress {
        SparkAddress::new(Network::Local, self.identity())
    }

    /// The leaves that it owns and can spend, as an operator tells.
    pub(crate) async fn leaves(&mut self, operator: usize) -> Vec<NodeRow> {
        let caller = &mut self.callers[operator];
        let request = caller.with(QueryNodesRequest {
            source: Some(query_nodes_request::Source::OwnerIdentityPubkey(
                caller.identity.clone(),
            )),
            network: tinderbox_rpc::proto::spark::Network::Regtest.into(),
            limit: 100,
            ..QueryNodesRequest::default()
        });
        let reply = caller.spark.query_nodes(request).await.expect("nodes");
        let nodes = reply.into_inner().nodes.into_values();
        let mut nodes: Vec<NodeRow> = nodes
            .filter(|node| node.status == "AVAILABLE")
            .map(|node| node_row(&node))
            .collect();
        nodes.sort_by_key(|node| node.id);
        nodes
    }

    /// Nonces as wallets ask for them: three sets for each leaf, in three blocks.
    pub(crate) async fn nonces(
        &mut self,
        operator: usize,
        leaves: &[LeafId],
        owned: bool,
    ) -> Vec<NonceSet> {
        let caller = &mut self.callers[operator];
        // A receiver does not own yet what it claims: it only says how many leaves there are.
        let count = if owned { 0 } else { leaves.len() };
        let owned = leaves.iter().filter(|_| owned);
        let request = caller.with(GetSigningCommitmentsRequest {
            node_ids: owned.map(ToString::to_string).collect(),
            node_id_count: u32::try_from(count).expect("few"),
            count: 3,
        });
        let reply = caller.spark.get_signing_commitments(request).await;
        let reply = reply.expect("nonces").into_inner();
        assert_eq!(reply.signing_commitments.len(), 3 * leaves.len());
        let sets = reply.signing_commitments.into_iter().map(|set| {
            let set = SigningCommitments {
                signing_commitments: set.signing_nonce_commitments,
            };
            commitments("signing_commitments", &set).expect("commitments")
        });
        sets.collect()
    }

    /// A transfer that it takes part in, as an operator tells.
    pub(crate) async fn transfer(&mut self, operator: usize, id: &str) -> Option<Transfer> {
        let caller = &mut self.callers[operator];
        let transfers = caller.transfers().await.expect("transfers");
        transfers.get(id).cloned()
    }

    /// Transfers that wait for it, as an operator tells.
    pub(crate) async fn waiting(&mut self, operator: usize) -> Vec<Transfer> {
        let caller = &mut self.callers[operator];
        let identity = caller.identity.clone();
        let request = caller.with(TransferFilter {
            participant: Some(transfer_filter::Participant::ReceiverIdentityPublicKey(
                identity,
            )),
            network: tinderbox_rpc::proto::spark::Network::Regtest.into(),
            ..TransferFilter::default()
        });
        let reply = caller.spark.query_pending_transfers(request).await;
        reply.expect("transfers").into_inner().transfers
    }

    /// Claims a transfer in one call.
    pub(crate) async fn claim(
        &mut self,
        operator: usize,
        transfer: &Transfer,
    ) -> Result<Transfer, Status> {
        let row = transfer_row(transfer);
        let nodes: Vec<NodeRow> = transfer
            .leaves
            .iter()
            .map(|leaf| node_row(leaf.leaf.as_ref().expect("a node")))
            .collect();
        let ids: Vec<LeafId> = nodes.iter().map(|node| node.id).collect();
        let nonces = self.nonces(operator, &ids, false).await;
        let request = self
            .owner
            .claim(&self.site, Millis(0), &row, &nodes, nonces, &mut self.rng)
            .expect("what was sent to it opens");
        let package = request.package;
        let caller = &mut self.callers[operator];
        let request = caller.with(ClaimTransferRequest {
            transfer_id: transfer.id.clone(),
            owner_identity_public_key: caller.identity.clone(),
            claim_package: Some(ClaimPackage {
                leaves_to_claim: jobs(&package.cpfp),
                direct_leaves_to_claim: jobs(&package.direct),
                direct_from_cpfp_leaves_to_claim: jobs(&package.direct_from_cpfp),
                key_tweak_package: package.tweaks,
                user_signature: package.user_signature,
                hash_variant: HashVariant::V2.into(),
            }),
        });
        let reply = caller.spark.claim_transfer(request).await?.into_inner();
        Ok(reply.transfer.expect("a transfer"))
    }

    /// Claims everything that waits.
    pub(crate) async fn claim_all(&mut self, operator: usize) {
        for transfer in self.waiting(operator).await {
            self.claim(operator, &transfer).await.expect("claimed");
        }
    }

    /// One leg of a swap with all of `nodes`, half-signed under `adaptor`.
    pub(crate) async fn leg(
        &mut self,
        operator: usize,
        nodes: &[NodeRow],
        to: PublicKey,
        adaptor: PublicKey,
    ) -> StartTransferRequest {
        let form = Form::Adaptor(adaptor);
        self.leg_as(operator, nodes, to, &form).await
    }

    /// One leg of a swap with all of `nodes`, its refunds of this form.
    pub(crate) async fn leg_as(
        &mut self,
        operator: usize,
        nodes: &[NodeRow],
        to: PublicKey,
        form: &Form,
    ) -> StartTransferRequest {
        let ids: Vec<LeafId> = nodes.iter().map(|node| node.id).collect();
        let nonces = self.nonces(operator, &ids, true).await;
        let receivers = ids.iter().map(|leaf| (*leaf, to)).collect();
        let id = fresh();
        let package = self.owner.package_as(
            &self.site,
            &id,
            nodes,
            &receivers,
            form,
            nonces,
            &mut self.rng,
        );
        StartTransferRequest {
            transfer_id: id.to_string(),
            owner_identity_public_key: self.identity().serialize().to_vec(),
            receiver_identity_public_key: to.serialize().to_vec(),
            transfer_package: Some(transfer_package(package)),
            ..StartTransferRequest::default()
        }
    }

    /// Offers leaves for others.
    pub(crate) async fn offer(
        &mut self,
        operator: usize,
        transfer: &StartTransferRequest,
        adaptor: PublicKey,
    ) -> Result<InitiateSwapPrimaryTransferResponse, Status> {
        let caller = &mut self.callers[operator];
        let request = caller.with(InitiateSwapPrimaryTransferRequest {
            transfer: Some(transfer.clone()),
            adaptor_public_keys: Some(adaptors(adaptor)),
        });
        let reply = caller.spark.initiate_swap_primary_transfer(request).await?;
        Ok(reply.into_inner())
    }

    /// Answers an offer, as a provider.
    pub(crate) async fn answer(
        &mut self,
        operator: usize,
        transfer: &StartTransferRequest,
        adaptor: PublicKey,
        primary: &str,
    ) -> Result<StartTransferResponse, Status> {
        let caller = &mut self.callers[operator];
        let request = caller.with(CounterTransferRequest {
            transfer: Some(transfer.clone()),
            adaptor_public_keys: Some(adaptors(adaptor)),
            primary_transfer_id: primary.to_owned(),
        });
        let mut service = client::ssp(caller.channel.clone());
        let reply = service.initiate_counter_transfer(request).await?;
        Ok(reply.into_inner())
    }
}

/// Swaps by the older protocol.
impl Party {
    /// Offers leaves for others.
    pub(crate) async fn legacy_offer(
        &mut self,
        operator: usize,
        transfer: &StartTransferRequest,
    ) -> Result<StartTransferResponse, Status> {
        let caller = &mut self.callers[operator];
        let request = caller.with(transfer.clone());
        Ok(caller.spark.start_leaf_swap_v2(request).await?.into_inner())
    }

    /// Answers an offer, as a provider.
    pub(crate) async fn legacy_answer(
        &mut self,
        operator: usize,
        transfer: &StartTransferRequest,
        adaptors: Adaptors,
        swap_id: &str,
    ) -> Result<CounterLeafSwapResponse, Status> {
        let point = |point: Option<PublicKey>| {
            point.map_or_else(Vec::new, |point| point.serialize().to_vec())
        };
        let caller = &mut self.callers[operator];
        let request = caller.with(CounterLeafSwapRequest {
            transfer: Some(transfer.clone()),
            swap_id: swap_id.to_owned(),
            adaptor_public_key: point(Some(adaptors.cpfp)),
            direct_adaptor_public_key: point(adaptors.direct),
            direct_from_cpfp_adaptor_public_key: point(adaptors.direct_from_cpfp),
        });
        let mut service = client::ssp(caller.channel.clone());
        Ok(service.counter_leaf_swap_v2(request).await?.into_inner())
    }
}

fn adaptors(adaptor: PublicKey) -> AdaptorPublicKeyPackage {
    AdaptorPublicKeyPackage {
        adaptor_public_key: adaptor.serialize().to_vec(),
        ..AdaptorPublicKeyPackage::default()
    }
}

/// Puts the operators' shares of a leaf together with the user's half, from nothing but the
/// messages, as wallets do: an adaptor signature, with the key and message that it is for.
pub(crate) fn adaptor_signature(
    leg: &StartTransferRequest,
    node: &NodeRow,
    result: &LeafRefundTxSigningResult,
    point: &PublicKey,
    threshold: u16,
) -> (PublicKey, [u8; 32], [u8; 64]) {
    let package = leg.transfer_package.as_ref().expect("a package");
    let mut jobs = package.leaves_to_send.iter();
    let job = jobs.find(|job| job.leaf_id == result.leaf_id).expect("it");
    let refund: Transaction = deserialize(&job.raw_tx).expect("a transaction");
    let parent: Transaction = deserialize(&node.txs.node).expect("a transaction");
    let spent: TxOut = parent.output[0].clone();
    let message = sighash(&refund, 0, &[spent]).expect("a message");
    let made = result.refund_tx_signing_result.as_ref().expect("shares");
    let nonces = SigningCommitments {
        signing_commitments: made.signing_nonce_commitments.clone(),
    };
    let own = job.signing_nonce_commitment.as_ref().expect("a nonce");
    let verifying_key = key(&result.verifying_key);
    let by_operator = |identifier: &str| OperatorIndex::from_identifier(identifier).expect("one");
    let prepared = SigningPackage {
        verifying_key,
        message,
        operators: commitments("signing_nonce_commitments", &nonces).expect("nonces"),
        user: Some(commitment("signing_nonce_commitment", own).expect("a nonce")),
        adaptor: Some(*point),
        threshold,
    }
    .prepare()
    .expect("a package");
    let share = |bytes: &[u8]| SignatureShare(bytes.try_into().expect("32 bytes"));
    let shares = made.signature_shares.iter();
    let shares = shares
        .map(|(operator, bytes)| (by_operator(operator), share(bytes)))
        .collect();
    let public = made.public_keys.iter();
    let public = public
        .map(|(operator, bytes)| (by_operator(operator), key(bytes)))
        .collect();
    let signature = prepared
        .aggregate(
            &shares,
            Some(&share(&job.user_signature)),
            &public,
            Some(&key(&job.signing_public_key)),
        )
        .expect("an adaptor signature");
    adaptor::verify(&prepared.output_key(), &message, &signature, point).expect("under the point");
    (verifying_key, message, signature)
}

fn jobs(jobs: &[UserJob]) -> Vec<UserSignedTxSigningJob> {
    let wire = |job: &UserJob| {
        let job = SigningJob {
            leaf_id: job.leaf,
            signing_public_key: job.signing_key,
            tx: job.tx.clone(),
            input: InputShare {
                user_commitment: job.share.commitment,
                user_share: job.share.share,
                operator_commitments: job.share.operators.clone(),
            },
            additional_inputs: Vec::new(),
        };
        UserSignedTxSigningJob::from(&job)
    };
    jobs.iter().map(wire).collect()
}

fn transfer_package(package: TweakPackage) -> TransferPackage {
    TransferPackage {
        leaves_to_send: jobs(&package.cpfp),
        direct_leaves_to_send: jobs(&package.direct),
        direct_from_cpfp_leaves_to_send: jobs(&package.direct_from_cpfp),
        key_tweak_package: package.tweaks,
        user_signature: package.user_signature,
        hash_variant: HashVariant::V2.into(),
    }
}

/// A node as a wallet knows it; what only operators know is left empty.
fn node_row(node: &TreeNode) -> NodeRow {
    NodeRow {
        id: node.id.parse().expect("a leaf id"),
        tree: node.tree_id.parse().expect("a tree id"),
        parent: None,
        network: Network::Local,
        value: Sats(node.value),
        status: NodeStatus::Available,
        lock: None,
        verifying_key: key(&node.verifying_public_key),
        owner: key(&node.owner_identity_public_key),
        owner_signing: key(&node.owner_signing_public_key),
        keyshare: KeyshareId([0; 16]),
        txs: NodeTxs {
            node: node.node_tx.clone(),
            direct: node.direct_tx.clone(),
            refund: node.refund_tx.clone(),
            direct_refund: node.direct_refund_tx.clone(),
            direct_from_cpfp_refund: node.direct_from_cpfp_refund_tx.clone(),
        },
        deposits: Vec::new(),
        created: Millis(0),
        updated: Millis(0),
        node_confirmed: None,
        refund_confirmed: None,
        before_chain: None,
        renewal: None,
    }
}

/// A transfer as its receiver knows it.
fn transfer_row(transfer: &Transfer) -> TransferRow {
    let leaves = transfer.leaves.iter().map(|leaf| {
        let node = leaf.leaf.as_ref().expect("a node");
        TransferLeafRow {
            leaf: node.id.parse().expect("a leaf id"),
            receiver: 0,
            secret_cipher: leaf.secret_cipher.clone(),
            signature: leaf.signature.clone(),
            send_tweak: None,
            send_proofs: Vec::new(),
            claim_tweak: None,
            claim_proofs: Vec::new(),
            // Until it is claimed, a node keeps the refund that its sender had.
            previous_sequence: refunds::sequence_of_raw(&node.refund_tx, TxKind::CpfpRefund)
                .expect("a refund"),
            intermediate: LeafRefunds::default(),
            claim_refunds: None,
        }
    });
    TransferRow {
        id: transfer.id.parse().expect("an id"),
        kind: TransferKind::Transfer,
        status: TransferStatus::SenderKeyTweaked,
        network: Network::Local,
        sender: key(&transfer.sender_identity_public_key),
        receivers: Vec::new(),
        leaves: leaves.collect(),
        values: Vec::new(),
        expiry: None,
        invoice: String::new(),
        fingerprint: [0; 32],
        details: Details::None,
        started_by: FlowId([0; 16]),
        held: None,
        created: Millis(0),
        updated: Millis(0),
    }
}
