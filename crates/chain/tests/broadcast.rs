//! Transactions and packages against a real node.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, Secp256k1, TapTweak};
use bitcoin::secp256k1::{All, Message, SecretKey};
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, KnownHrp, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    WPubkeyHash, Witness,
};
use tinderbox_chain::{
    Accepted, Broadcaster, ChainSource, Error, RegtestNode, Rejection, Rpc, Spend,
};

const ANCHOR: Amount = Amount::ZERO;

/// A node and a key that owns mature coins on it.
struct Bench {
    node: RegtestNode,
    secp: Secp256k1<All>,
    keypair: Keypair,
    coins: Vec<(OutPoint, TxOut)>,
}

impl Bench {
    async fn new() -> Self {
        let node = RegtestNode::temporary()
            .await
            .expect("a regtest node; run scripts/bitcoind once if there is none");
        let secp = Secp256k1::new();
        let keypair = SecretKey::from_slice(&[7; 32]).unwrap().keypair(&secp);
        let mut bench = Self {
            node,
            secp,
            keypair,
            coins: Vec::new(),
        };
        let hashes = bench
            .rpc()
            .generate_to_address(8, &bench.address())
            .await
            .unwrap();
        bench.node.mine(100).await.unwrap();
        for block in bench.rpc().blocks(&hashes).await.unwrap() {
            let coinbase = &block.txdata[0];
            let outpoint = OutPoint {
                txid: coinbase.compute_txid(),
                vout: 0,
            };
            bench.coins.push((outpoint, coinbase.output[0].clone()));
        }
        bench
    }

    fn rpc(&self) -> &Rpc {
        self.node.rpc()
    }

    fn address(&self) -> Address {
        Address::p2tr(
            &self.secp,
            self.keypair.x_only_public_key().0,
            None,
            KnownHrp::Regtest,
        )
    }

    fn pay(&self, amount: Amount) -> TxOut {
        TxOut {
            value: amount,
            script_pubkey: self.address().script_pubkey(),
        }
    }

    /// Spends coins of ours, and anchors, which need no signature.
    fn spend(
        &self,
        version: Version,
        inputs: &[(OutPoint, TxOut, Sequence)],
        outputs: Vec<TxOut>,
    ) -> Transaction {
        let mut tx = Transaction {
            version,
            lock_time: LockTime::ZERO,
            input: inputs
                .iter()
                .map(|(outpoint, _, sequence)| TxIn {
                    previous_output: *outpoint,
                    script_sig: ScriptBuf::new(),
                    sequence: *sequence,
                    witness: Witness::new(),
                })
                .collect(),
            output: outputs,
        };
        let prevouts = inputs
            .iter()
            .map(|(_, out, _)| out.clone())
            .collect::<Vec<_>>();
        let key = self.keypair.tap_tweak(&self.secp, None);
        for index in 0..inputs.len() {
            if prevouts[index].script_pubkey == anchor().script_pubkey {
                continue;
            }
            let hash = SighashCache::new(&tx)
                .taproot_key_spend_signature_hash(
                    index,
                    &Prevouts::All(&prevouts),
                    TapSighashType::Default,
                )
                .unwrap();
            let message = Message::from_digest(hash.to_byte_array());
            let signature = self
                .secp
                .sign_schnorr_no_aux_rand(&message, &key.to_keypair());
            tx.input[index].witness = Witness::from_slice(&[signature.serialize()]);
        }
        tx
    }

    /// A zero-fee version-3 transaction with an anchor, and a child that pays for both.
    fn package(&self, coin: usize, fee_coin: usize, fee: u64) -> [Transaction; 2] {
        let (outpoint, out) = &self.coins[coin];
        let parent = self.spend(
            Version(3),
            &[(*outpoint, out.clone(), Sequence::MAX)],
            vec![self.pay(out.value), anchor()],
        );
        let (fee_outpoint, fee_out) = &self.coins[fee_coin];
        let parent_anchor = OutPoint {
            txid: parent.compute_txid(),
            vout: 1,
        };
        let child = self.spend(
            Version(3),
            &[
                (parent_anchor, anchor(), Sequence::MAX),
                (*fee_outpoint, fee_out.clone(), Sequence::MAX),
            ],
            vec![self.pay(fee_out.value - Amount::from_sat(fee))],
        );
        [parent, child]
    }
}

fn anchor() -> TxOut {
    TxOut {
        value: ANCHOR,
        script_pubkey: ScriptBuf::from_bytes(vec![0x51, 0x02, 0x4e, 0x73]),
    }
}

fn rejection(error: Error) -> (Txid, Rejection) {
    match error {
        Error::Rejected {
            txid, rejection, ..
        } => (txid, rejection),
        other => panic!("a rejection was expected: {other}"),
    }
}

#[tokio::test]
async fn a_zero_fee_v3_parent_relays_with_its_anchor_child() {
    let bench = Bench::new().await;
    let broadcaster = Broadcaster::new(bench.rpc().clone());
    let package = bench.package(0, 1, 1000);
    let (parent, child) = (package[0].compute_txid(), package[1].compute_txid());

    let alone = broadcaster
        .broadcast(&package[0])
        .await
        .expect_err("a zero-fee parent alone is refused");
    assert_eq!(rejection(alone).0, parent);

    let outcome = broadcaster.submit_package(&package).await.unwrap();
    assert_eq!(
        outcome.accepted,
        [(parent, Accepted::InMempool), (child, Accepted::InMempool)]
    );
    let entry = bench
        .rpc()
        .mempool_entry(&parent)
        .await
        .unwrap()
        .expect("the parent is in the mempool");
    assert_eq!(entry.fees.base, Amount::ZERO);
    assert_eq!(entry.spent_by, [child]);

    // Once more, unconfirmed and then confirmed: still success.
    broadcaster.submit_package(&package).await.unwrap();
    bench.node.mine(1).await.unwrap();
    let outcome = broadcaster.submit_package(&package).await.unwrap();
    assert_eq!(
        outcome.accepted,
        [(parent, Accepted::Confirmed), (child, Accepted::Confirmed)]
    );
    let view = bench.rpc().tx(&parent).await.unwrap().unwrap();
    assert_eq!(view.confirmations, 1);
}

#[tokio::test]
async fn a_package_whose_parent_is_in_a_block_already_sends_the_child() {
    let bench = Bench::new().await;
    let broadcaster = Broadcaster::new(bench.rpc().clone());
    let package = bench.package(0, 1, 1000);
    broadcaster.submit_package(&package).await.unwrap();
    bench.node.mine(1).await.unwrap();
    // A later child on the parent's other output.
    let parent_out = OutPoint {
        txid: package[0].compute_txid(),
        vout: 0,
    };
    let value = package[0].output[0].value;
    let next = bench.spend(
        Version(3),
        &[(parent_out, package[0].output[0].clone(), Sequence::MAX)],
        vec![bench.pay(value - Amount::from_sat(500))],
    );
    let outcome = broadcaster
        .submit_package(&[package[0].clone(), next.clone()])
        .await
        .unwrap();
    assert_eq!(
        outcome.accepted,
        [
            (package[0].compute_txid(), Accepted::Confirmed),
            (next.compute_txid(), Accepted::InMempool)
        ]
    );
}

#[tokio::test]
async fn a_child_that_pays_more_replaces_the_first_child() {
    let bench = Bench::new().await;
    let broadcaster = Broadcaster::new(bench.rpc().clone());
    let first = bench.package(0, 1, 500);
    let second = bench.package(0, 2, 5000);
    assert_eq!(first[0], second[0], "only the children differ");
    broadcaster.submit_package(&first).await.unwrap();
    let outcome = broadcaster.submit_package(&second).await.unwrap();
    assert_eq!(outcome.replaced, [first[1].compute_txid()]);
    assert!(
        bench
            .rpc()
            .mempool_entry(&first[1].compute_txid())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn limits_of_version_3_are_explained() {
    let bench = Bench::new().await;
    let broadcaster = Broadcaster::new(bench.rpc().clone());
    let package = bench.package(0, 1, 1000);
    broadcaster.submit_package(&package).await.unwrap();
    // A grandchild: a version-3 transaction may have one unconfirmed ancestor only.
    let child_out = OutPoint {
        txid: package[1].compute_txid(),
        vout: 0,
    };
    let value = package[1].output[0].value;
    let grandchild = bench.spend(
        Version(3),
        &[(child_out, package[1].output[0].clone(), Sequence::MAX)],
        vec![bench.pay(value - Amount::from_sat(500))],
    );
    let error = broadcaster
        .broadcast(&grandchild)
        .await
        .expect_err("too many ancestors");
    assert!(error.to_string().contains("version-3"), "{error}");
    assert_eq!(
        rejection(error),
        (grandchild.compute_txid(), Rejection::TrucLimit)
    );
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let bench = Bench::new().await;
    let broadcaster = Broadcaster::new(bench.rpc().clone());
    let refuse = async |tx: &Transaction| {
        rejection(
            broadcaster
                .broadcast(tx)
                .await
                .expect_err("it must be refused"),
        )
        .1
    };
    let (outpoint, out) = bench.coins[0].clone();
    let outputs = |fee: u64| vec![bench.pay(out.value - Amount::from_sat(fee))];

    let nowhere = OutPoint {
        txid: Txid::all_zeros(),
        vout: 0,
    };
    let tx = bench.spend(
        Version::TWO,
        &[(nowhere, out.clone(), Sequence::MAX)],
        outputs(500),
    );
    assert_eq!(refuse(&tx).await, Rejection::MissingInputs);

    let too_early = Sequence::from_height(2000);
    let tx = bench.spend(
        Version::TWO,
        &[(outpoint, out.clone(), too_early)],
        outputs(500),
    );
    assert_eq!(refuse(&tx).await, Rejection::TimelockNotReached);

    let tx = bench.spend(
        Version::TWO,
        &[(outpoint, out.clone(), Sequence::MAX)],
        outputs(0),
    );
    assert_eq!(refuse(&tx).await, Rejection::FeeTooLow);

    let mut tx = bench.spend(
        Version::TWO,
        &[(outpoint, out.clone(), Sequence::MAX)],
        outputs(500),
    );
    tx.input[0].witness = Witness::from_slice(&[[1u8; 64]]);
    assert_eq!(refuse(&tx).await, Rejection::BadScript);

    let mut dust = outputs(5000);
    dust.push(bench.pay(Amount::from_sat(100)));
    let tx = bench.spend(
        Version::TWO,
        &[(outpoint, out.clone(), Sequence::MAX)],
        dust,
    );
    assert_eq!(refuse(&tx).await, Rejection::Dust);

    let tx = bench.spend(
        Version::TWO,
        &[(outpoint, out.clone(), Sequence::MAX)],
        outputs(500),
    );
    broadcaster.broadcast(&tx).await.unwrap();
    let rival = bench.spend(
        Version::TWO,
        &[(outpoint, out.clone(), Sequence::MAX)],
        outputs(501),
    );
    assert_eq!(refuse(&rival).await, Rejection::Conflict);
}

#[tokio::test]
async fn a_transaction_sent_again_is_success_wherever_it_is() {
    let bench = Bench::new().await;
    let broadcaster = Broadcaster::new(bench.rpc().clone());
    let (outpoint, out) = bench.coins[0].clone();
    let tx = bench.spend(
        Version::TWO,
        &[(outpoint, out.clone(), Sequence::MAX)],
        vec![bench.pay(out.value - Amount::from_sat(500))],
    );
    assert_eq!(
        broadcaster.broadcast(&tx).await.unwrap(),
        Accepted::InMempool
    );
    assert_eq!(
        broadcaster.broadcast(&tx).await.unwrap(),
        Accepted::InMempool
    );
    bench.node.mine(1).await.unwrap();
    assert_eq!(
        broadcaster.broadcast(&tx).await.unwrap(),
        Accepted::Confirmed
    );

    // Its only output is spent too: to the node it now looks as if inputs were missing.
    let mine = OutPoint {
        txid: tx.compute_txid(),
        vout: 0,
    };
    let next = bench.spend(
        Version::TWO,
        &[(mine, tx.output[0].clone(), Sequence::MAX)],
        vec![TxOut {
            value: tx.output[0].value - Amount::from_sat(500),
            script_pubkey: ScriptBuf::new_p2wpkh(&WPubkeyHash::all_zeros()),
        }],
    );
    broadcaster.broadcast(&next).await.unwrap();
    bench.node.mine(1).await.unwrap();
    assert_eq!(
        broadcaster.broadcast(&tx).await.unwrap(),
        Accepted::Confirmed
    );
}

#[tokio::test]
async fn an_output_is_seen_through_its_whole_life() {
    let bench = Bench::new().await;
    let (outpoint, out) = bench.coins[0].clone();
    let view = async |point: &OutPoint| {
        bench
            .rpc()
            .confirmations_of(point)
            .await
            .unwrap()
            .expect("it exists")
    };

    let coin = view(&outpoint).await;
    assert_eq!(
        (coin.value.0, coin.confirmations, coin.spent),
        (out.value.to_sat(), 108, Spend::Unspent)
    );
    assert_eq!(coin.block.unwrap().height.0, 1);

    let value = out.value - Amount::from_sat(500);
    let tx = bench.spend(
        Version::TWO,
        &[(outpoint, out.clone(), Sequence::MAX)],
        vec![bench.pay(value)],
    );
    bench.rpc().broadcast(&tx).await.unwrap();
    assert_eq!(view(&outpoint).await.spent, Spend::InMempool);
    assert_eq!(
        bench.rpc().mempool_spender(&outpoint).await.unwrap(),
        Some(tx.compute_txid())
    );

    let fresh = OutPoint {
        txid: tx.compute_txid(),
        vout: 0,
    };
    let unconfirmed = view(&fresh).await;
    assert_eq!(
        (
            unconfirmed.confirmations,
            unconfirmed.block,
            unconfirmed.spent
        ),
        (0, None, Spend::Unspent)
    );

    bench.node.mine(2).await.unwrap();
    assert_eq!(view(&outpoint).await.spent, Spend::Confirmed);
    assert_eq!(view(&fresh).await.confirmations, 2);

    // A reorganisation makes it unconfirmed again.
    let block = view(&fresh).await.block.unwrap();
    bench.rpc().invalidate_block(&block.hash).await.unwrap();
    let again = view(&fresh).await;
    assert_eq!((again.confirmations, again.block), (0, None));
}
