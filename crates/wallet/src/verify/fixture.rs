//! One deposit of Alice's, and her payment of it to Bob: honest, so that tests can spoil one thing at a time.

use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::hashes::Hash;
use bitcoin::key::TapTweak;
use bitcoin::secp256k1::{Keypair, Message, PublicKey, Secp256k1, SecretKey};
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Txid, Witness,
};
use tinderbox_chain::{BlockRef, OutputView, Spend, TxView};
use tinderbox_protocol::hash::leaf_signature_digest;
use tinderbox_protocol::refunds::{self, RefundPurpose, RefundSet};
use tinderbox_protocol::tx::{self, UnsignedTx, Utxo};
use tinderbox_protocol::{
    BlockHeight, LeafId, LeafSequence, Network, Sats, TransferId, TreeId, WalletKeys, deposit,
};

use super::root::Evidence;
use crate::chain::inclusion_from_block;
use crate::leaf::{LeafStatus, Node};
use crate::signer::{MemorySigner, WalletSigner};
use crate::transfer::TransferLeaf;

/// Alice, Bob, and the operators' secret half of Alice's leaf.
pub(crate) struct Scene {
    alice: MemorySigner,
    bob: MemorySigner,
    alice_keys: WalletKeys,
    operators: SecretKey,
    deposit: Transaction,
    block: Block,
}

const VALUE: u64 = 100_000;

/// The block of the deposit; the tip is two further.
const HEIGHT: u32 = 100;

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with_seed(1)
    }

    /// Another scene, with other keys throughout.
    pub(crate) fn with_seed(seed: u8) -> Self {
        let alice_seed = [seed; 32];
        let signer = |seed: &[u8]| MemorySigner::from_seed(seed, Network::Local, None).unwrap();
        let mut scene = Self {
            alice: signer(&alice_seed),
            bob: signer(&[seed + 1; 32]),
            alice_keys: WalletKeys::from_seed(&alice_seed, Network::Local, None).unwrap(),
            operators: SecretKey::from_slice(&[seed + 2; 32]).unwrap(),
            deposit: Transaction {
                version: bitcoin::transaction::Version::TWO,
                lock_time: bitcoin::absolute::LockTime::ZERO,
                input: vec![TxIn {
                    previous_output: OutPoint::new(Txid::from_byte_array([seed; 32]), 3),
                    sequence: Sequence::MAX,
                    script_sig: ScriptBuf::new(),
                    witness: Witness::new(),
                }],
                output: Vec::new(),
            },
            block: mine(Vec::new()),
        };
        let script_pubkey = tx::p2tr(&scene.verifying_key());
        scene.deposit.output.push(TxOut {
            value: Amount::from_sat(VALUE),
            script_pubkey,
        });
        let mut coinbase = scene.deposit.clone();
        coinbase.input[0].previous_output = OutPoint::null();
        scene.block = mine(vec![coinbase, scene.deposit.clone()]);
        scene
    }

    pub(crate) fn sender(&self) -> &MemorySigner {
        &self.alice
    }

    pub(crate) fn receiver(&self) -> &MemorySigner {
        &self.bob
    }

    pub(crate) fn leaf_id(&self) -> LeafId {
        "0195d5ae-1f2b-7c3d-8e4f-5a6b7c8d9e0f".parse().unwrap()
    }

    pub(crate) fn transfer_id(&self) -> TransferId {
        "0195d5af-0b1c-7d2e-8f3a-4b5c6d7e8f90".parse().unwrap()
    }

    /// A key that nobody in the scene holds.
    pub(crate) fn stranger(&self) -> PublicKey {
        SecretKey::from_slice(&[77; 32])
            .unwrap()
            .public_key(&Secp256k1::new())
    }

    /// Alice's half of the leaf's key.
    pub(crate) fn owner_key(&self) -> PublicKey {
        self.alice.leaf_key(&self.leaf_id()).unwrap()
    }

    /// What payments to Bob pay.
    pub(crate) fn receiver_key(&self) -> PublicKey {
        self.bob.identity()
    }

    pub(crate) fn keyshare(&self) -> PublicKey {
        self.operators.public_key(&Secp256k1::new())
    }

    pub(crate) fn verifying_key(&self) -> PublicKey {
        deposit::verifying_key(&self.owner_key(), &self.keyshare()).unwrap()
    }

    pub(crate) fn deposit_tx(&self) -> &Transaction {
        &self.deposit
    }

    pub(crate) fn deposit_outpoint(&self) -> OutPoint {
        OutPoint::new(self.deposit.compute_txid(), 0)
    }

    /// What all of them together sign with, taproot tweak included.
    fn whole_key(&self) -> Keypair {
        let user = self.alice_keys.leaf(&self.leaf_id()).unwrap();
        let secret = self
            .operators
            .add_tweak(&(*user.secret_key()).into())
            .unwrap();
        let curve = Secp256k1::new();
        Keypair::from_secret_key(&curve, &secret)
            .tap_tweak(&curve, None)
            .to_keypair()
    }

    /// Signs input 0 under the leaf's key.
    pub(crate) fn sign(&self, tx: Transaction, spent: &[TxOut]) -> Transaction {
        // A hostile transaction may have more inputs than there are outputs to spend.
        let mut spent = spent.to_vec();
        spent.resize(tx.input.len(), spent[0].clone());
        let hash = tx::sighash(&tx, 0, &spent).unwrap();
        let signature =
            Secp256k1::new().sign_schnorr(&Message::from_digest(hash), &self.whole_key());
        tx::finalize(tx, 0, &signature.serialize())
    }

    fn finish(&self, tx: &UnsignedTx) -> Transaction {
        self.sign(tx.tx.clone(), &tx.prevouts)
    }

    fn node(&self, id: LeafId, node_tx: Transaction) -> Node {
        Node {
            id,
            tree: TreeId::from_bytes16([9; 16]),
            parent: None,
            value: Sats(VALUE),
            status: LeafStatus::Available,
            verifying_key: self.verifying_key(),
            keyshare: self.keyshare(),
            owner: self.alice.identity(),
            node_tx,
            direct_tx: None,
            refund_tx: None,
            direct_refund_tx: None,
            direct_from_cpfp_refund_tx: None,
        }
    }

    fn with_refunds(&self, mut node: Node, purpose: &RefundPurpose) -> Node {
        let set = refunds::expected(&node.txs(), purpose).unwrap();
        node.refund_tx = Some(self.finish(&set.cpfp));
        node.direct_refund_tx = set.direct.as_ref().map(|tx| self.finish(tx));
        node.direct_from_cpfp_refund_tx = Some(self.finish(&set.direct_from_cpfp));
        node
    }

    /// Alice's leaf: the root of its tree.
    pub(crate) fn leaf(&self) -> Node {
        let utxo = Utxo::of(&self.deposit, 0).unwrap();
        let root = self.finish(&tx::root::build(&[utxo]).unwrap());
        let purpose = RefundPurpose::Initial {
            owner_signing_key: self.owner_key(),
        };
        self.with_refunds(self.node(self.leaf_id(), root), &purpose)
    }

    /// The same leaf after a renewal: one level below a root that is no leaf any more, with a timelock of its own
    /// and a fee-paying variant.
    pub(crate) fn renewed_leaf(&self) -> (Node, Node) {
        let root_tx = self.leaf().node_tx;
        let mut root = self.node(LeafId::from_bytes16([8; 16]), root_tx);
        root.status = LeafStatus::SplitLocked;
        let sequence = LeafSequence::INITIAL;
        let node_tx = self.finish(&tx::node::build(&root.node_tx, sequence).unwrap());
        let mut leaf = self.node(self.leaf_id(), node_tx);
        leaf.parent = Some(root.id);
        leaf.direct_tx = Some(self.finish(&tx::node::direct(&root.node_tx, sequence).unwrap()));
        let purpose = RefundPurpose::Initial {
            owner_signing_key: self.owner_key(),
        };
        (root, self.with_refunds(leaf, &purpose))
    }

    fn payment_refunds(&self, leaf: &Node) -> RefundSet {
        let purpose = RefundPurpose::Send {
            current: leaf.refund_sequence().unwrap(),
            receiver: self.receiver_key(),
        };
        refunds::expected(&leaf.txs(), &purpose).unwrap()
    }

    /// The refund of Alice's payment to Bob, not signed.
    pub(crate) fn payment_refund(&self) -> Transaction {
        self.payment_refunds(&self.leaf()).cpfp.tx
    }

    /// Alice's payment as Bob sees it, after the operators have applied her tweak.
    pub(crate) fn transfer_leaf(&self) -> TransferLeaf {
        self.transfer_leaf_of(self.leaf())
    }

    /// The same of a leaf that was renewed before.
    pub(crate) fn transfer_leaf_of(&self, mut node: Node) -> TransferLeaf {
        let hand_over = self
            .alice
            .hand_over(&self.leaf_id(), &self.receiver_key(), 2, 3)
            .unwrap();
        let digest = leaf_signature_digest(
            &self.leaf_id(),
            &self.transfer_id(),
            &hand_over.secret_cipher,
        );
        node.status = LeafStatus::TransferLocked;
        node.keyshare = deposit::verifying_key(&node.keyshare, &hand_over.tweak.proofs[0]).unwrap();
        let refunds = self.payment_refunds(&node);
        TransferLeaf {
            secret_cipher: hand_over.secret_cipher,
            signature: self
                .alice
                .sign_identity(digest)
                .serialize_compact()
                .to_vec(),
            refund: self.finish(&refunds.cpfp),
            direct_refund: refunds.direct.as_ref().map(|tx| self.finish(tx)),
            direct_from_cpfp_refund: Some(self.finish(&refunds.direct_from_cpfp)),
            node,
        }
    }

    /// The leaf as honest operators give it to Bob when he has claimed.
    pub(crate) fn claimed(&self, payment: &TransferLeaf) -> Node {
        let bob = self.bob.leaf_key(&self.leaf_id()).unwrap();
        let mut node = payment.node.clone();
        node.keyshare = deposit::operators_key(&node.verifying_key, &bob).unwrap();
        node.owner = self.bob.identity();
        node.status = LeafStatus::Available;
        let sequence = refunds::sequence_of(&payment.refund, tx::TxKind::CpfpRefund).unwrap();
        let purpose = RefundPurpose::Claim {
            basis: refunds::ClaimBasis::Intermediate(sequence),
            owner_signing_key: bob,
        };
        self.with_refunds(node, &purpose)
    }

    /// What an honest chain source says about the deposit.
    pub(crate) fn evidence(&self) -> Evidence {
        let block = BlockRef {
            height: BlockHeight(HEIGHT),
            hash: self.block.block_hash(),
        };
        let tip = BlockRef {
            height: BlockHeight(HEIGHT + 2),
            hash: BlockHash::all_zeros(),
        };
        Evidence {
            tx: TxView {
                tx: self.deposit.clone(),
                block: Some(block),
                confirmations: 3,
            },
            output: OutputView {
                value: Sats(VALUE),
                script: self.deposit.output[0].script_pubkey.clone(),
                block: Some(block),
                confirmations: 3,
                spent: Spend::Unspent,
            },
            inclusion: inclusion_from_block(&self.block, &self.deposit.compute_txid()),
            tip,
        }
    }
}

/// A block with work of regtest's difficulty.
pub(crate) fn mine(txdata: Vec<Transaction>) -> Block {
    mine_on(BlockHash::all_zeros(), txdata)
}

pub(crate) fn mine_on(previous: BlockHash, txdata: Vec<Transaction>) -> Block {
    let mut block = Block {
        header: Header {
            version: BlockVersion::TWO,
            prev_blockhash: previous,
            merkle_root: TxMerkleNode::all_zeros(),
            time: 1_700_000_000,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        },
        txdata,
    };
    if let Some(root) = block.compute_merkle_root() {
        block.header.merkle_root = root;
    }
    while block.header.validate_pow(block.header.target()).is_err() {
        block.header.nonce += 1;
    }
    block
}
