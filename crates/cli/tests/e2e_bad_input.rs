//! What wallets must not send, sent to a real network: each is refused in words that name what is
//! wrong, nothing is half done, and the operators stay well.

mod common;

use std::collections::BTreeMap;
use std::str::FromStr as _;

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng, RngCore as _, SeedableRng};
use serde_json::{Value, json};
use tinderbox_devnet::DevNet;
use tinderbox_protocol::hash::{HashVariant, transfer_payload};
use tinderbox_protocol::{LeafId, Network, Sats, SparkAddress, TransferId};
use tinderbox_rpc::client;
use tinderbox_rpc::proto::common::SigningCommitment;
use tinderbox_rpc::proto::spark::{HashVariant as WireHash, Network as WireNetwork, *};
use tinderbox_rpc::{Reason, ServiceError};
use tinderbox_wallet::{Error, WalletSigner as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use common::cli::CliWallet;
use common::draft::Draftsman;
use common::network::{self, DEPTH, Folder, coin};
use common::raw::{self, Caller};
use common::{PATIENCE, database, eventually};

const LEAF: Sats = Sats(10_000);
const OPERATORS: u16 = 3;

/// Alice has leaves; Bob is paid; Mallory has a leaf too and wants more.
struct Scene {
    net: DevNet,
    folder: Folder,
    alice: Draftsman,
    bob: Draftsman,
    mallory: Draftsman,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_and_change_nothing() {
    let folder = Folder::new();
    let net = network::start(network::plan(&folder, database::any(), 32)).await;
    let scene = Scene {
        alice: Draftsman::new(&net),
        bob: Draftsman::new(&net),
        mallory: Draftsman::new(&net),
        net,
        folder,
    };
    network::deposit(
        &scene.net,
        &[&scene.alice.wallet, &scene.mallory.wallet],
        &[LEAF; 3],
    )
    .await;

    scene.a_replayed_payment_gives_the_stored_answer().await;
    scene.another_payment_under_a_used_id_is_refused().await;
    scene.a_signature_over_something_else_is_refused().await;
    scene.leaves_of_somebody_else_are_refused().await;
    scene.a_transfer_to_somebody_else_is_not_claimed().await;
    scene.calls_without_a_session_are_refused().await;
    scene.deposits_of_others_and_nobody_are_refused().await;
    scene.deposits_below_dust_are_refused().await;
    scene.unconfirmed_deposits_are_not_spendable().await;
    scene.other_networks_are_refused().await;
    scene.bytes_that_are_no_message_are_refused().await;
    scene.damaged_payments_are_refused().await;
    scene.nonsense_on_a_port_does_no_harm().await;
    scene.everything_works_as_before().await;

    let place = scene.net.plan().folder.clone();
    scene.net.stop().await.expect("it stops");
    network::assert_no_panic(&place, OPERATORS);
    database::remove(&place, OPERATORS).await;
}

/// A refusal of an operator, read like a wallet reads it.
fn refused(status: &Status, code: Code, reason: Reason, words: &str) {
    let read = ServiceError::from_status(status);
    assert_eq!(
        (status.code(), read.reason),
        (code, Some(reason)),
        "{status:?}"
    );
    assert!(
        status.message().contains(words),
        "{words}: {}",
        status.message()
    );
}

fn fresh_id() -> String {
    TransferId(uuid::Uuid::now_v7()).to_string()
}

fn leaves_of(request: &StartTransferRequest) -> Vec<LeafId> {
    let package = request.transfer_package.as_ref().expect("a package");
    let jobs = package.leaves_to_send.iter();
    jobs.map(|job| job.leaf_id.parse().expect("a leaf id"))
        .collect()
}

fn package(request: &mut StartTransferRequest) -> &mut TransferPackage {
    request.transfer_package.as_mut().expect("a package")
}

/// Everything in a package that is signed for a leaf.
fn jobs(package: &mut TransferPackage) -> impl Iterator<Item = &mut UserSignedTxSigningJob> {
    package
        .leaves_to_send
        .iter_mut()
        .chain(&mut package.direct_leaves_to_send)
        .chain(&mut package.direct_from_cpfp_leaves_to_send)
}

/// The name of an operator on the wire.
fn identifier(operator: u16) -> String {
    format!("{:064x}", operator + 1)
}

fn spoil_tweak(request: &mut StartTransferRequest, operator: u16) {
    let tweaks = &mut package(request).key_tweak_package;
    let tweak = tweaks.get_mut(&identifier(operator)).expect("a tweak");
    *tweak.last_mut().expect("bytes") ^= 1;
}

/// Signs a changed package again, as a sender who means it would.
fn sign_again(request: &mut StartTransferRequest, by: &Draftsman) {
    let id = request.transfer_id.parse::<TransferId>().expect("an id");
    let package = package(request);
    let tweaks: BTreeMap<_, _> = package.key_tweak_package.clone().into_iter().collect();
    let payload = transfer_payload(&id, &tweaks, HashVariant::V2);
    package.user_signature = by.signer.sign_identity(payload).serialize_der().to_vec();
}

impl Scene {
    async fn caller(&self, who: &Draftsman) -> Caller {
        Caller::log_in(&self.net, 0, &who.signer).await
    }

    async fn start(
        &self,
        caller: &mut Caller,
        request: StartTransferRequest,
    ) -> Result<Transfer, Status> {
        let request = caller.with(request);
        let reply = caller.spark.start_transfer_v2(request).await?.into_inner();
        Ok(reply.transfer.expect("a transfer"))
    }

    /// Every operator has these leaves free and with their owner, and knows of no such transfer.
    async fn assert_untouched(&self, owner: &Draftsman, request: &StartTransferRequest) {
        for operator in 0..OPERATORS {
            let mut caller = Caller::log_in(&self.net, operator, &owner.signer).await;
            for node in caller
                .nodes(leaves_of(request))
                .await
                .expect("nodes")
                .values()
            {
                assert_eq!(node.status, "AVAILABLE", "operator {operator}: {}", node.id);
                assert_eq!(
                    node.owner_identity_public_key, caller.identity,
                    "{}",
                    node.id
                );
            }
            let transfers = caller.transfers().await.expect("transfers");
            assert!(
                !transfers.contains_key(&request.transfer_id),
                "operator {operator}"
            );
        }
    }

    async fn a_replayed_payment_gives_the_stored_answer(&self) {
        let mut alice = self.caller(&self.alice).await;
        let request = self.alice.draft(&self.bob.wallet.address(), LEAF).await;
        let first = self
            .start(&mut alice, request.clone())
            .await
            .expect("a payment");
        let again = self
            .start(&mut alice, request.clone())
            .await
            .expect("the same payment");
        assert_eq!(again, first);
        for operator in 1..OPERATORS {
            let mut other = Caller::log_in(&self.net, operator, &self.alice.signer).await;
            let told = self
                .start(&mut other, request.clone())
                .await
                .expect("the same payment");
            assert_eq!(
                (told.id, told.status, told.total_value),
                (first.id.clone(), first.status, first.total_value)
            );
        }
        let report = self
            .bob
            .wallet
            .claim_pending()
            .await
            .expect("it can be asked");
        assert_eq!(
            (report.claimed.len(), report.refused.len()),
            (1, 0),
            "{report:?}"
        );
        // Also after the claim: nothing is paid a second time.
        let late = self
            .start(&mut alice, request)
            .await
            .expect("the same payment");
        assert_eq!(late.status(), TransferStatus::Completed);
        let balance = |of: &'static str, who: &Draftsman| {
            let wallet = who.wallet.clone();
            async move { (of, wallet.balance().await.expect("a balance").available) }
        };
        assert_eq!(balance("Alice", &self.alice).await.1, Sats(2 * LEAF.0));
        assert_eq!(balance("Bob", &self.bob).await.1, LEAF);
    }

    async fn another_payment_under_a_used_id_is_refused(&self) {
        let mut alice = self.caller(&self.alice).await;
        let used = alice.transfers().await.expect("transfers");
        let used = used.keys().next().expect("there is one").clone();
        let honest = self.alice.draft(&self.bob.wallet.address(), LEAF).await;
        let mut request = honest.clone();
        request.transfer_id = used.clone();
        sign_again(&mut request, &self.alice);
        let status = self.start(&mut alice, request).await.expect_err("refused");
        refused(
            &status,
            Code::AlreadyExists,
            Reason::DuplicateOperation,
            "choose a new id",
        );
        assert!(status.message().contains(&used), "{status:?}");
        // Mallory learns nothing from Alice's id, and cannot take it.
        let mut mallory = self.caller(&self.mallory).await;
        let mut request = self.mallory.draft(&self.bob.wallet.address(), LEAF).await;
        request.transfer_id = used;
        sign_again(&mut request, &self.mallory);
        let status = self
            .start(&mut mallory, request)
            .await
            .expect_err("refused");
        refused(
            &status,
            Code::AlreadyExists,
            Reason::DuplicateOperation,
            "choose a new id",
        );
        self.assert_untouched(&self.alice, &honest).await;
    }

    async fn a_signature_over_something_else_is_refused(&self) {
        let mut alice = self.caller(&self.alice).await;
        let honest = self.alice.draft(&self.bob.wallet.address(), LEAF).await;
        type Spoil = Box<dyn Fn(&mut StartTransferRequest)>;
        let signature = "transfer_package.user_signature";
        let cases: Vec<(&str, Reason, &str, Spoil)> = vec![
            ("of another transfer", Reason::BadSignature, signature, {
                Box::new(|request| request.transfer_id = fresh_id())
            }),
            (
                "of other tweaks for this operator",
                Reason::BadSignature,
                "key tweak package: cannot decrypt",
                Box::new(|request| spoil_tweak(request, 0)),
            ),
            (
                "of other tweaks for another operator",
                Reason::BadSignature,
                signature,
                Box::new(|request| spoil_tweak(request, 1)),
            ),
            ("none", Reason::MalformedField, "user_signature", {
                Box::new(|request| package(request).user_signature.clear())
            }),
            (
                "a share of another message",
                Reason::BadSignature,
                "half signature",
                {
                    Box::new(|request| {
                        package(request).leaves_to_send[0].user_signature = vec![7; 32];
                    })
                },
            ),
            (
                "a refund with another value",
                Reason::MalformedField,
                "leaf",
                {
                    Box::new(|request| {
                        let job = &mut package(request).leaves_to_send[0];
                        let tx = bitcoin::consensus::deserialize::<Transaction>(&job.raw_tx);
                        let mut tx = tx.expect("a refund");
                        tx.output[0].value -= Amount::ONE_SAT;
                        job.raw_tx = serialize(&tx);
                    })
                },
            ),
            (
                "a refund to somebody else",
                Reason::MalformedField,
                "leaf",
                {
                    let mallory = self.mallory.signer.identity().serialize().to_vec();
                    Box::new(move |request| request.receiver_identity_public_key = mallory.clone())
                },
            ),
            (
                "a key that is not the leaf's",
                Reason::MalformedField,
                "signing_public_key",
                {
                    let key = self.alice.signer.identity().serialize().to_vec();
                    Box::new(move |request| {
                        package(request).leaves_to_send[0].signing_public_key = key.clone();
                    })
                },
            ),
            (
                "no package for an operator",
                Reason::MissingField,
                "key_tweak_package",
                {
                    Box::new(|request| {
                        package(request).key_tweak_package.remove(&identifier(1));
                    })
                },
            ),
        ];
        for (what, reason, words, spoil) in cases {
            let mut request = honest.clone();
            spoil(&mut request);
            let status = self.start(&mut alice, request).await.expect_err(what);
            println!("{what}: {}", status.message());
            refused(&status, Code::InvalidArgument, reason, words);
            self.assert_untouched(&self.alice, &honest).await;
        }
        // The honest one is as good as before.
        self.start(&mut alice, honest).await.expect("a payment");
        self.bob
            .wallet
            .claim_pending()
            .await
            .expect("it can be asked");
    }

    async fn leaves_of_somebody_else_are_refused(&self) {
        let mut mallory = self.caller(&self.mallory).await;
        let alices = self.alice.draft(&self.mallory.wallet.address(), LEAF).await;
        // In Alice's name.
        let status = self
            .start(&mut mallory, alices.clone())
            .await
            .expect_err("refused");
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        assert!(
            status.message().contains("owner_identity_public_key"),
            "{status:?}"
        );
        // In her own name, and signed by her.
        let mut request = alices.clone();
        request.owner_identity_public_key = mallory.identity.clone();
        sign_again(&mut request, &self.mallory);
        let status = self
            .start(&mut mallory, request)
            .await
            .expect_err("refused");
        refused(
            &status,
            Code::PermissionDenied,
            Reason::NotOwner,
            "is not owned by",
        );
        // Her own payment, with a leaf of Alice's slipped in.
        let own = self.mallory.draft(&self.bob.wallet.address(), LEAF).await;
        let mut request = own.clone();
        let alices_job = package(&mut alices.clone()).leaves_to_send[0].clone();
        package(&mut request).leaves_to_send.push(alices_job);
        let status = self
            .start(&mut mallory, request)
            .await
            .expect_err("refused");
        assert!(
            matches!(
                status.code(),
                Code::InvalidArgument | Code::PermissionDenied
            ),
            "{status:?}"
        );
        // Leaves that do not exist.
        let mut request = own.clone();
        let unknown = LeafId::from_bytes16([9; 16]).to_string();
        for job in jobs(package(&mut request)) {
            job.leaf_id = unknown.clone();
        }
        let status = self
            .start(&mut mallory, request)
            .await
            .expect_err("refused");
        assert!(status.message().contains(&unknown), "{status:?}");
        self.assert_untouched(&self.alice, &alices).await;
        self.assert_untouched(&self.mallory, &own).await;
    }

    async fn a_transfer_to_somebody_else_is_not_claimed(&self) {
        let mut alice = self.caller(&self.alice).await;
        let request = self.alice.draft(&self.bob.wallet.address(), LEAF).await;
        let sent = self.start(&mut alice, request).await.expect("a payment");
        let mut mallory = self.caller(&self.mallory).await;
        let claim = |identity: Vec<u8>, id: &str| ClaimTransferRequest {
            transfer_id: id.to_owned(),
            owner_identity_public_key: identity,
            claim_package: Some(ClaimPackage {
                user_signature: vec![1; 70],
                hash_variant: WireHash::V2.into(),
                ..ClaimPackage::default()
            }),
        };
        let request = mallory.with(claim(mallory.identity.clone(), &sent.id));
        let status = mallory
            .spark
            .claim_transfer(request)
            .await
            .expect_err("refused");
        refused(
            &status,
            Code::PermissionDenied,
            Reason::NotOwner,
            "does not receive",
        );
        let bob = self.bob.signer.identity().serialize().to_vec();
        let request = mallory.with(claim(bob, &sent.id));
        let status = mallory
            .spark
            .claim_transfer(request)
            .await
            .expect_err("refused");
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        let unknown = fresh_id();
        let request = mallory.with(claim(mallory.identity.clone(), &unknown));
        let status = mallory
            .spark
            .claim_transfer(request)
            .await
            .expect_err("refused");
        refused(&status, Code::NotFound, Reason::MissingEntity, &unknown);
        let report = self
            .bob
            .wallet
            .claim_pending()
            .await
            .expect("it can be asked");
        assert_eq!(
            (report.claimed.len(), report.refused.len()),
            (1, 0),
            "{report:?}"
        );
    }

    async fn calls_without_a_session_are_refused(&self) {
        let channel = raw::connect(&self.net, 0).await;
        let mut stranger = client::spark(channel);
        let own = self.mallory.draft(&self.bob.wallet.address(), LEAF).await;
        let status = stranger
            .start_transfer_v2(own.clone())
            .await
            .expect_err("refused");
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        let mut request = Request::new(own.clone());
        let forged = "Bearer bm90IGEgdG9rZW4".parse().expect("a header");
        request.metadata_mut().insert("authorization", forged);
        let status = stranger
            .start_transfer_v2(request)
            .await
            .expect_err("refused");
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        // A session is one operator's: another one does not take it.
        let elsewhere = Caller::log_in(&self.net, 1, &self.mallory.signer).await;
        let request = elsewhere.with(own.clone());
        let status = stranger
            .start_transfer_v2(request)
            .await
            .expect_err("refused");
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        self.assert_untouched(&self.mallory, &own).await;
    }

    async fn deposits_of_others_and_nobody_are_refused(&self) {
        let alices = self
            .alice
            .wallet
            .deposit_address()
            .await
            .expect("an address");
        let nobodys = self.net.faucet().address().to_string();
        let outputs = [coin(&alices.address, LEAF), coin(&nobodys, LEAF)];
        let tx = self.net.faucet().send_many(&outputs).await.expect("coins");
        self.net.faucet().mine(DEPTH).await.expect("blocks");
        let txid = tx.compute_txid();
        let error = self
            .mallory
            .wallet
            .claim_deposit(txid)
            .await
            .expect_err("refused");
        assert!(matches!(error, Error::NotOurDeposit { .. }), "{error}");
        let unknown = bitcoin::Txid::from_byte_array([3; 32]);
        let error = self
            .mallory
            .wallet
            .claim_deposit(unknown)
            .await
            .expect_err("refused");
        assert!(matches!(error, Error::UnknownTransaction { .. }), "{error}");

        let mut mallory = self.caller(&self.mallory).await;
        let job = self.any_job();
        let request = |identity: &[u8], raw_tx: Vec<u8>, vout| {
            let utxo = Utxo {
                raw_tx,
                vout,
                network: WireNetwork::Regtest.into(),
                txid: Vec::new(),
            };
            FinalizeDepositTreeCreationRequest {
                identity_public_key: identity.to_vec(),
                on_chain_utxo: Some(utxo),
                root_tx_signing_job: Some(job.clone()),
                refund_tx_signing_job: Some(job.clone()),
                direct_from_cpfp_refund_tx_signing_job: Some(job.clone()),
                additional_on_chain_utxos: Vec::new(),
            }
        };
        let place = |address: &str| {
            let script = coin(address, LEAF).script_pubkey;
            let at = tx
                .output
                .iter()
                .position(|output| output.script_pubkey == script);
            u32::try_from(at.expect("an output")).expect("few")
        };
        let raw = serialize(&tx);
        let own = mallory.identity.clone();
        let alice = self.alice.signer.identity().serialize().to_vec();
        for (what, request, code, words) in [
            (
                "Alice's coin",
                request(&own, raw.clone(), place(&alices.address)),
                Code::PermissionDenied,
                "",
            ),
            (
                "in Alice's name",
                request(&alice, raw.clone(), place(&alices.address)),
                Code::PermissionDenied,
                "identity_public_key",
            ),
            (
                "nobody's coin",
                request(&own, raw.clone(), place(&nobodys)),
                Code::NotFound,
                "pays no deposit address",
            ),
            (
                "no such output",
                request(&own, raw.clone(), 77),
                Code::InvalidArgument,
                "on_chain_utxo.vout",
            ),
            (
                "no transaction",
                request(&own, vec![1, 2, 3], 0),
                Code::InvalidArgument,
                "on_chain_utxo.raw_tx",
            ),
        ] {
            let request = mallory.with(request);
            let status = mallory.spark.finalize_deposit_tree_creation(request).await;
            let status = status.expect_err(what);
            println!("{what}: {}", status.message());
            assert_eq!(status.code(), code, "{what}: {status:?}");
            assert!(status.message().contains(words), "{what}: {status:?}");
        }
        // It is Alice's as before.
        let leaves = self
            .alice
            .wallet
            .claim_deposit(txid)
            .await
            .expect("her deposit");
        assert_eq!(leaves.len(), 1);
    }

    /// A half-signed transaction that is well formed, and of nothing.
    fn any_job(&self) -> UserSignedTxSigningJob {
        let key = self.mallory.signer.identity().serialize().to_vec();
        let nonce = SigningCommitment {
            hiding: key.clone(),
            binding: key.clone(),
        };
        UserSignedTxSigningJob {
            leaf_id: String::new(),
            signing_public_key: key,
            raw_tx: serialize(&spend(OutPoint::null(), Vec::new())),
            signing_nonce_commitment: Some(nonce.clone()),
            user_signature: vec![1; 32],
            signing_commitments: Some(SigningCommitments {
                signing_commitments: [(identifier(0), nonce.clone()), (identifier(1), nonce)]
                    .into(),
            }),
            additional_inputs: Vec::new(),
        }
    }

    async fn deposits_below_dust_are_refused(&self) {
        let address = self
            .alice
            .wallet
            .deposit_address()
            .await
            .expect("an address");
        // The node relays no dust, but a miner may put it in a block all the same.
        let anybody = ScriptBuf::from_bytes(vec![0x51]);
        let script = ScriptBuf::new_p2wsh(&anybody.wscript_hash());
        let source = TxOut {
            value: Amount::from_sat(1000),
            script_pubkey: script,
        };
        let funded = self.net.faucet().send_many(&[source]).await.expect("coins");
        self.net.faucet().mine(1).await.expect("a block");
        let mut dust = spend(
            OutPoint::new(funded.compute_txid(), 0),
            vec![coin(&address.address, Sats(329))],
        );
        dust.input[0].witness = Witness::from_slice(&[anybody.as_bytes()]);
        let raw = hex::encode(serialize(&dust));
        let to = self.net.faucet().address().to_string();
        let mined: Value = self
            .net
            .rpc()
            .call("generateblock", json!([to, [raw]]))
            .await
            .expect("a block with dust in it");
        assert!(mined["hash"].is_string(), "{mined}");
        self.net.faucet().mine(DEPTH).await.expect("blocks");
        let error = self.alice.wallet.claim_deposit(dust.compute_txid()).await;
        let error = error.expect_err("refused");
        assert!(matches!(error, Error::DepositTooSmall { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("329 sats") && text.contains("330 sats"),
            "{text}"
        );
        // The address serves a proper deposit afterwards.
        let outputs = [coin(&address.address, LEAF)];
        let tx = self.net.faucet().send_many(&outputs).await.expect("coins");
        self.net.faucet().mine(DEPTH).await.expect("blocks");
        let leaves = self.alice.wallet.claim_deposit(tx.compute_txid()).await;
        assert_eq!(leaves.expect("a leaf").len(), 1);
    }

    async fn unconfirmed_deposits_are_not_spendable(&self) {
        let fresh = Draftsman::new(&self.net);
        let address = fresh.wallet.deposit_address().await.expect("an address");
        let faucet = self.net.faucet();
        let first = faucet
            .send_many(&[coin(&address.address, LEAF)])
            .await
            .expect("coins");
        let second = faucet
            .send_many(&[coin(&address.address, LEAF)])
            .await
            .expect("coins");
        let outpoint = |tx: &Transaction| OutPoint::new(tx.compute_txid(), 0);
        let both = [outpoint(&first), outpoint(&second)];
        // Several outputs at once only when they are buried.
        let error = fresh
            .wallet
            .claim_deposits(&both)
            .await
            .expect_err("refused");
        assert!(error.to_string().contains("not yet confirmed"), "{error}");
        faucet.mine(DEPTH - 1).await.expect("blocks");
        let error = fresh
            .wallet
            .claim_deposits(&both)
            .await
            .expect_err("refused");
        assert!(
            error.to_string().contains("2 of 3 confirmations"),
            "{error}"
        );
        faucet.mine(1).await.expect("a block");
        let node = fresh
            .wallet
            .claim_deposits(&both)
            .await
            .expect("a leaf of both");
        assert_eq!(node.value, Sats(2 * LEAF.0));

        // One output may be claimed before, and waits.
        let address = fresh.wallet.deposit_address().await.expect("an address");
        let tx = faucet
            .send_many(&[coin(&address.address, Sats(5000))])
            .await
            .expect("coins");
        fresh
            .wallet
            .claim_deposit(tx.compute_txid())
            .await
            .expect("a leaf that waits");
        let error = fresh
            .wallet
            .send(&self.bob.wallet.address(), Sats(5000))
            .await;
        let error = error.expect_err("refused");
        assert!(
            matches!(
                error,
                Error::NoExactAmount { .. } | Error::Insufficient { .. }
            ),
            "{error}"
        );
        faucet.mine(DEPTH).await.expect("blocks");
        eventually("the deposit can be spent", PATIENCE, || async {
            let payment = fresh
                .wallet
                .balance()
                .await
                .map_err(|error| error.to_string())?;
            (payment.available == Sats(2 * LEAF.0 + 5000))
                .then_some(())
                .ok_or(format!("{payment:?}"))
        })
        .await;
    }

    async fn other_networks_are_refused(&self) {
        let bob = self.bob.signer.identity();
        let cli = CliWallet::new(&self.net, self.folder.path(), "other-networks");
        cli.json(&["create"]).await;
        for network in [
            Network::Mainnet,
            Network::Regtest,
            Network::Testnet,
            Network::Signet,
        ] {
            let address = SparkAddress::new(network, bob).to_string();
            let error = cli.run(&["send", &address, "10000"]).await.bad();
            let words =
                format!("this address belongs to network {network}, but the wallet is on local");
            assert!(error.contains(&words), "{error}");
        }
        let mut alice = self.caller(&self.alice).await;
        let request = alice.with(GenerateDepositAddressRequest {
            signing_public_key: alice.identity.clone(),
            identity_public_key: alice.identity.clone(),
            network: WireNetwork::Mainnet.into(),
            ..GenerateDepositAddressRequest::default()
        });
        let status = alice
            .spark
            .generate_deposit_address(request)
            .await
            .expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains("network"), "{status:?}");
    }

    async fn bytes_that_are_no_message_are_refused(&self) {
        let alice = self.caller(&self.alice).await;
        // Bodies that no message has: a broken tag, a length beyond the end, a number without end.
        let bodies: [&[u8]; 4] = [&[0xff; 16], &[0x0a, 0x7f, 1], &[0x08, 0xff, 0xff], &[0x0b]];
        for method in METHODS {
            for body in bodies {
                let status = send_bytes(&alice, method, body.to_vec())
                    .await
                    .expect_err(method);
                refused(
                    &status,
                    Code::InvalidArgument,
                    Reason::MalformedField,
                    "malformed protobuf",
                );
            }
        }
        let status = send_bytes(&alice, "no_such_method", vec![])
            .await
            .expect_err("refused");
        assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
        // Larger than any message may be.
        let large = vec![0; client::MESSAGE_BYTES + 1];
        let status = send_bytes(&alice, METHODS[0], large)
            .await
            .expect_err("refused");
        assert!(
            matches!(
                status.code(),
                Code::ResourceExhausted | Code::OutOfRange | Code::Cancelled
            ),
            "{status:?}"
        );
        // Whatever parses must be refused for what it says, not as a fault of the operator.
        let seed = rand::random();
        println!("seed of random messages: {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        for method in METHODS.iter().cycle().take(10 * METHODS.len()) {
            let mut body = vec![0; rng.gen_range(0..64)];
            rng.fill_bytes(&mut body);
            // A message of short fields parses more often than noise.
            if rng.gen_bool(0.5) {
                let length = u8::try_from(body.len()).expect("few");
                body.splice(0..0, [rng.gen_range(1..8u8) << 3 | 2, length]);
            }
            if let Err(status) = send_bytes(&alice, method, body.clone()).await {
                let code = status.code();
                assert!(
                    !is_fault(code),
                    "{method}: {}: {status:?}",
                    hex::encode(&body)
                );
            }
        }
    }

    async fn damaged_payments_are_refused(&self) {
        let mut mallory = self.caller(&self.mallory).await;
        let seed = rand::random();
        println!("seed of damaged payments: {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let honest = self.mallory.draft(&self.bob.wallet.address(), LEAF).await;
        for _ in 0..150 {
            let mut bytes = honest.encode_to_vec();
            for _ in 0..rng.gen_range(1..4) {
                let at = rng.gen_range(0..bytes.len());
                match rng.gen_range(0..3) {
                    0 => bytes[at] ^= 1 << rng.gen_range(0..8),
                    1 => bytes[at] = rng.r#gen(),
                    _ => bytes.truncate(at + 1),
                }
            }
            if bytes == honest.encode_to_vec() {
                continue;
            }
            match send_bytes(&mallory, "start_transfer_v2", bytes.clone()).await {
                Err(status) => {
                    let code = status.code();
                    assert!(!is_fault(code), "{}: {status:?}", hex::encode(&bytes));
                }
                Ok(_) => {
                    let read = StartTransferRequest::decode(&*bytes).expect("it was understood");
                    panic!("a damaged payment was taken: {read:?} for {honest:?}");
                }
            }
        }
        self.assert_untouched(&self.mallory, &honest).await;
        // Nothing of it stands in the way of the payment that was meant.
        self.start(&mut mallory, honest).await.expect("a payment");
        let report = self
            .bob
            .wallet
            .claim_pending()
            .await
            .expect("it can be asked");
        assert_eq!(
            (report.claimed.len(), report.refused.len()),
            (1, 0),
            "{report:?}"
        );
    }

    async fn nonsense_on_a_port_does_no_harm(&self) {
        let ports = &self.net.plan().ports;
        let mut rng = StdRng::seed_from_u64(1);
        for port in ports.public.iter().chain(&ports.peer).chain(&ports.metrics) {
            for body in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 4096], {
                let mut noise = vec![0; 4096];
                rng.fill_bytes(&mut noise);
                noise
            }] {
                let address = format!("127.0.0.1:{port}");
                let mut stream = tokio::net::TcpStream::connect(&address)
                    .await
                    .expect("it listens");
                // Either may fail: whoever sends nonsense is hung up on.
                let _ = stream.write_all(&body).await;
                let _ = stream.shutdown().await;
                let mut answer = Vec::new();
                let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
                assert!(
                    read.is_ok(),
                    "{address} keeps a connection open that sends nonsense"
                );
            }
        }
    }

    async fn everything_works_as_before(&self) {
        network::flows_have_ended(&self.net).await;
        for port in &self.net.plan().ports.metrics {
            let url = format!("http://127.0.0.1:{port}/ready");
            let client = reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client");
            let reply = client.get(url).send().await.expect("an answer");
            let code = reply.status().as_u16();
            assert_eq!(
                (code, reply.text().await.expect("text").trim()),
                (200, "ready")
            );
        }
        for (who, name) in [
            (&self.alice, "Alice"),
            (&self.mallory, "Mallory"),
            (&self.bob, "Bob"),
        ] {
            let report = who.wallet.sync().await.expect("it can be asked");
            assert!(
                report.unusable.is_empty() && report.dissent.is_empty(),
                "{name}: {report:?}"
            );
            let balance = who.wallet.balance().await.expect("a balance");
            let moving = [balance.incoming, balance.outgoing, balance.exiting];
            assert_eq!(moving, [Sats(0); 3], "{name}: {balance:?}");
        }
        let before = self
            .bob
            .wallet
            .balance()
            .await
            .expect("a balance")
            .available;
        self.mallory
            .wallet
            .send(&self.bob.wallet.address(), LEAF)
            .await
            .expect("a payment");
        self.bob
            .wallet
            .claim_pending()
            .await
            .expect("it can be asked");
        let after = self
            .bob
            .wallet
            .balance()
            .await
            .expect("a balance")
            .available;
        assert_eq!(after, Sats(before.0 + LEAF.0));
    }
}

/// A code that blames the operator.
fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Ok
    )
}

/// A transaction without signatures.
fn spend(outpoint: OutPoint, output: Vec<TxOut>) -> Transaction {
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output,
    }
}

/// Methods with a message of their own each.
const METHODS: [&str; 14] = [
    "generate_deposit_address",
    "generate_static_deposit_address",
    "finalize_deposit_tree_creation",
    "query_pending_transfers",
    "query_all_transfers",
    "claim_transfer_tweak_keys",
    "get_signing_commitments",
    "query_nodes",
    "query_balance",
    "query_unused_deposit_addresses",
    "start_transfer_v2",
    "start_transfer_v3",
    "claim_transfer",
    "finalize_node_signatures_v2",
];

/// Calls a method with these bytes as its message.
async fn send_bytes(caller: &Caller, method: &str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut grpc = tonic::client::Grpc::new(caller.channel.clone())
        .max_encoding_message_size(usize::MAX)
        .max_decoding_message_size(usize::MAX);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path = format!("/spark.SparkService/{method}");
    let path = PathAndQuery::from_str(&path).expect("a path");
    Ok(grpc
        .unary(caller.with(body), path, Bytes)
        .await?
        .into_inner())
}

/// A codec that leaves bytes as they are.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use prost::bytes::Buf as _;
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
