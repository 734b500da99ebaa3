//! Static addresses against a real network: swaps with a service provider, refunds, rotation. The
//! provider is a wallet whose key the operators list.

mod common;

use std::collections::BTreeMap;

use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut};
use rand::rngs::OsRng;
use tinderbox_devnet::{DevNet, Plan};
use tinderbox_frost::{
    NonceCommitment, Nonces, OperatorIndex, SecretScalar, SignatureShare, SigningPackage,
};
use tinderbox_protocol::hash::{
    InstantStatement, SpendStatement, StaticDepositRequest, StaticDepositStatement,
};
use tinderbox_protocol::tx::static_deposit::refund;
use tinderbox_protocol::tx::{UnsignedTx, Utxo, p2tr};
use tinderbox_protocol::{Network, Sats};
use tinderbox_rpc::client;
use tinderbox_rpc::proto::common::SigningCommitment;
use tinderbox_rpc::proto::spark::{Network as WireNetwork, Utxo as WireUtxo, *};
use tinderbox_rpc::proto::spark_ssp_internal::*;
use tinderbox_wallet::{MemorySigner, WalletSigner, new_words};
use tonic::{Code, Status};

use common::draft::Draftsman;
use common::network::{self, DEPTH, Folder, coin};
use common::raw::{self, Caller};
use common::{PATIENCE, database, eventually};

const OPERATORS: u16 = 3;
/// What the provider's leaves are worth.
const CREDIT: Sats = Sats(10_000);
/// What is paid to static addresses.
const VALUE: u64 = 10_400;
const QUOTE: &[u8] = b"a quote's signature";

struct Scene {
    net: DevNet,
    user: Draftsman,
    provider: Draftsman,
    /// The user's half of its static addresses' keys; the provider has been told.
    half: SecretKey,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn static_deposits_are_swapped_refunded_and_never_both() {
    let words = new_words().expect("words");
    let ssp = MemorySigner::from_words(&words, Network::Local, None).expect("a signer");
    let folder = Folder::new();
    let plan = network::plan(&folder, database::any(), 32);
    let net = network::start(Plan {
        ssps: vec![ssp.identity()],
        ..plan
    })
    .await;
    let scene = Scene {
        user: Draftsman::new(&net),
        provider: Draftsman::of(&net, &words),
        half: SecretKey::new(&mut OsRng),
        net,
    };
    network::deposit(&scene.net, &[&scene.provider.wallet], &[CREDIT; 3]).await;

    scene.only_listed_providers_are_let_in().await;
    let address = scene.the_static_address_is_the_same_everywhere().await;
    scene.a_swap_gives_leaves_for_the_output(&address).await;
    scene.a_refund_is_signed_again_and_again(&address).await;
    let new = scene
        .a_rotated_address_leaves_the_old_one_alive(&address)
        .await;
    scene.an_instant_swap_pays_before_the_block(&new).await;

    let place = scene.net.plan().folder.clone();
    scene.net.stop().await.expect("it stops");
    network::assert_no_panic(&place, OPERATORS);
    database::remove(&place, OPERATORS).await;
}

fn wire(outpoint: &OutPoint) -> WireUtxo {
    let mut txid = outpoint.txid.to_byte_array().to_vec();
    txid.reverse();
    WireUtxo {
        raw_tx: Vec::new(),
        vout: outpoint.vout,
        network: WireNetwork::Regtest.into(),
        txid,
    }
}

fn key(bytes: &[u8]) -> PublicKey {
    PublicKey::from_slice(bytes).expect("a key")
}

fn commitment(wire: &SigningCommitment) -> NonceCommitment {
    NonceCommitment {
        hiding: key(&wire.hiding),
        binding: key(&wire.binding),
    }
}

fn by_operator<'a, T: 'a, U>(
    wire: impl IntoIterator<Item = (&'a String, &'a T)>,
    read: impl Fn(&T) -> U,
) -> BTreeMap<OperatorIndex, U> {
    wire.into_iter()
        .map(|(operator, value)| {
            let index = OperatorIndex::from_identifier(operator).expect("an identifier");
            (index, read(value))
        })
        .collect()
}

fn refused(answer: Result<impl std::fmt::Debug, Status>, code: Code, words: &str) {
    let status = answer.expect_err(words);
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(words), "{words}: {status:?}");
}

/// A spend that waits for the operators' half.
struct Half {
    tx: UnsignedTx,
    nonces: Nonces,
    job: SigningJob,
}

impl Scene {
    async fn user(&self, operator: u16) -> Caller {
        Caller::log_in(&self.net, operator, &self.user.signer).await
    }

    async fn provider(&self, operator: u16) -> Caller {
        Caller::log_in(&self.net, operator, &self.provider.signer).await
    }

    /// Pays an address; every operator has seen `depth` blocks on it.
    async fn pay(&self, address: &str, value: u64, depth: u32) -> OutPoint {
        let output = coin(address, Sats(value));
        let tx = self
            .net
            .faucet()
            .send_many(std::slice::from_ref(&output))
            .await;
        let tx = tx.expect("coins");
        if depth > 0 {
            self.net.faucet().mine(depth).await.expect("blocks");
        }
        let vout = tx.output.iter().position(|found| *found == output);
        let vout = u32::try_from(vout.expect("the payment")).expect("few outputs");
        OutPoint::new(tx.compute_txid(), vout)
    }

    /// Outputs of an address that an operator lists.
    async fn utxos(&self, operator: u16, address: &str, exclude_claimed: bool) -> Vec<WireUtxo> {
        let mut caller = self.user(operator).await;
        let request = caller.with(GetUtxosForAddressRequest {
            address: address.to_owned(),
            network: WireNetwork::Regtest.into(),
            exclude_claimed,
            ..GetUtxosForAddressRequest::default()
        });
        let reply = caller.spark.get_utxos_for_address(request).await;
        reply.expect("a list").into_inner().utxos
    }

    async fn listed_everywhere(&self, address: &str, outpoint: &OutPoint) {
        for operator in 0..OPERATORS {
            eventually("an operator sees the payment", PATIENCE, || async move {
                let found = self.utxos(operator, address, false).await;
                found
                    .contains(&wire(outpoint))
                    .then_some(())
                    .ok_or_else(|| format!("operator {operator}: {found:?}"))
            })
            .await;
        }
    }

    fn spend(&self, script: &ScriptBuf, outpoint: OutPoint, value: u64, fee: u64) -> Half {
        let utxo = Utxo {
            outpoint,
            output: TxOut {
                value: Amount::from_sat(value),
                script_pubkey: script.clone(),
            },
        };
        let to = p2tr(&SecretKey::new(&mut OsRng).public_key(SECP256K1));
        let tx = refund(&utxo, to, Sats(fee)).expect("a spend");
        let nonces = Nonces::generate(&mut OsRng);
        let own = nonces.commitment();
        Half {
            job: SigningJob {
                signing_public_key: self.half.public_key(SECP256K1).serialize().to_vec(),
                raw_tx: tx.serialize(),
                signing_nonce_commitment: Some(SigningCommitment {
                    hiding: own.hiding.serialize().to_vec(),
                    binding: own.binding.serialize().to_vec(),
                }),
            },
            tx,
            nonces,
        }
    }

    /// The complete transaction, which the node must take.
    async fn complete(
        &self,
        half: Half,
        result: Option<SigningResult>,
        address: Option<DepositAddressQueryResult>,
    ) -> Transaction {
        let (result, address) = (result.expect("shares"), address.expect("an address"));
        let operators = by_operator(&result.signing_nonce_commitments, commitment);
        let package = SigningPackage {
            verifying_key: key(&address.verifying_public_key),
            message: half.tx.sighash().expect("a sighash"),
            user: Some(half.nonces.commitment()),
            adaptor: None,
            threshold: u16::try_from(operators.len()).expect("few"),
            operators,
        };
        let prepared = package.prepare().expect("a package");
        let secret = SecretScalar::try_from_be_bytes(&self.half.secret_bytes()).expect("a key");
        let own = prepared.sign_user(&secret, half.nonces).expect("a share");
        let shares = by_operator(&result.signature_shares, |share| {
            SignatureShare(share.as_slice().try_into().expect("32 bytes"))
        });
        let public = by_operator(&result.public_keys, |bytes| key(bytes));
        let user = self.half.public_key(SECP256K1);
        let signature = prepared
            .aggregate(&shares, Some(&own), &public, Some(&user))
            .expect("the shares fit");
        half.tx.finalize(&signature)
    }

    async fn broadcast(&self, tx: &Transaction) {
        let sent = self.net.rpc().send_raw_transaction(tx).await;
        sent.expect("the node takes it");
    }

    fn spend_signature(&self, outpoint: &OutPoint, half: &Half) -> Vec<u8> {
        let digest = SpendStatement {
            network: Network::Local,
            txid: &outpoint.txid.to_string(),
            vout: outpoint.vout,
            spend_sighash: &half.tx.sighash().expect("a sighash"),
        }
        .digest();
        let signature = self.provider.signer.sign_identity(digest);
        signature.serialize_der().to_vec()
    }

    async fn only_listed_providers_are_let_in(&self) {
        let request = CreateTreeRequest::default;
        let channel = raw::connect(&self.net, 0).await;
        let sweep = SignStaticDepositSweepTxRequest {
            raw_tx: vec![1],
            inputs: vec![SweepInput::default()],
            previous_outputs: Vec::new(),
            ssp_signature: vec![1],
        };
        let anonymous = client::ssp(channel)
            .sign_static_deposit_sweep_tx(sweep.clone())
            .await;
        refused(anonymous, Code::Unauthenticated, "");
        let user = self.user(0).await;
        let mut ssp = client::ssp(user.channel.clone());
        let answer = ssp.sign_static_deposit_sweep_tx(user.with(sweep)).await;
        refused(answer, Code::PermissionDenied, "not a service provider");
        let provider = self.provider(0).await;
        let mut ssp = client::ssp(provider.channel.clone());
        let answer = ssp.create_tree(provider.with(request())).await;
        refused(answer, Code::Unimplemented, "");
    }

    async fn make_address(&self, operator: u16) -> Address {
        let mut caller = self.user(operator).await;
        let request = caller.with(GenerateStaticDepositAddressRequest {
            signing_public_key: self.half.public_key(SECP256K1).serialize().to_vec(),
            identity_public_key: caller.identity.clone(),
            network: WireNetwork::Regtest.into(),
            hash_variant: HashVariant::V2.into(),
        });
        let reply = caller.spark.generate_static_deposit_address(request).await;
        reply
            .expect("an address")
            .into_inner()
            .deposit_address
            .expect("an address")
    }

    /// Also when it is asked for at all operators at once.
    async fn the_static_address_is_the_same_everywhere(&self) -> String {
        let all = (0..OPERATORS).map(|operator| self.make_address(operator));
        let made = futures::future::join_all(all).await;
        let first = made.first().expect("operators").address.clone();
        for address in &made {
            assert_eq!(address.address, first);
            let proof = address.deposit_address_proof.as_ref().expect("a proof");
            assert_eq!(proof.address_signatures.len(), usize::from(OPERATORS));
        }
        first
    }

    fn script(address: &str) -> ScriptBuf {
        coin(address, Sats(1)).script_pubkey
    }

    async fn a_swap_gives_leaves_for_the_output(&self, address: &str) {
        let outpoint = self.pay(address, VALUE, DEPTH).await;
        self.listed_everywhere(address, &outpoint).await;
        let draft = self
            .provider
            .draft(&self.user.wallet.address(), CREDIT)
            .await;
        let half = self.spend(&Self::script(address), outpoint, VALUE, 300);
        let statement = StaticDepositStatement {
            network: Network::Local,
            txid: &outpoint.txid.to_string(),
            vout: outpoint.vout,
            credit: CREDIT,
            request: StaticDepositRequest::Fixed {
                quote_signature: QUOTE,
            },
        };
        let consent = self.user.signer.sign_identity(statement.digest());
        let request = InitiateStaticDepositUtxoSwapRequest {
            on_chain_utxo: Some(wire(&outpoint)),
            ssp_signature: QUOTE.to_vec(),
            user_signature: consent.serialize_der().to_vec(),
            transfer: Some(draft),
            spend_tx_signing_job: Some(half.job.clone()),
            hash_variant: 0,
            confirmation_threshold: None,
            spend_signature: self.spend_signature(&outpoint, &half),
        };
        let provider = self.provider(1).await;
        let mut ssp = client::ssp(provider.channel.clone());
        let mut forged = request.clone();
        forged.ssp_signature = b"another quote".to_vec();
        let answer = ssp
            .initiate_static_deposit_utxo_swap(provider.with(forged))
            .await;
        refused(answer, Code::InvalidArgument, "user_signature");
        let call = ssp.initiate_static_deposit_utxo_swap(provider.with(request.clone()));
        let first = call.await.expect("a swap").into_inner();
        // The reply was lost: the same request at another operator gets the same answer.
        let elsewhere = self.provider(2).await;
        let mut other = client::ssp(elsewhere.channel.clone());
        let call = other.initiate_static_deposit_utxo_swap(elsewhere.with(request));
        let again = call.await.expect("the same swap").into_inner();
        assert_eq!(first.spend_tx_signing_result, again.spend_tx_signing_result);
        let transfer = first.transfer.expect("a transfer");
        assert_eq!(transfer.r#type, i32::from(TransferType::UtxoSwap));
        let tweaked = TransferStatus::SenderKeyTweaked;
        assert_eq!(transfer.status, i32::from(tweaked));
        let tx = self
            .complete(half, first.spend_tx_signing_result, first.deposit_address)
            .await;
        self.broadcast(&tx).await;
        self.user.wallet.claim_pending().await.expect("claimed");
        let balance = self.user.wallet.balance().await.expect("a balance");
        assert_eq!(balance.available, CREDIT);
        for operator in 0..OPERATORS {
            assert_eq!(self.utxos(operator, address, false).await.len(), 1);
            assert!(self.utxos(operator, address, true).await.is_empty());
        }
        let refund = self.ask_refund(0, address, outpoint, VALUE, 300).await;
        refused(
            refund.map(|_| ()),
            Code::AlreadyExists,
            "already registered",
        );
    }

    async fn ask_refund(
        &self,
        operator: u16,
        address: &str,
        outpoint: OutPoint,
        value: u64,
        fee: u64,
    ) -> Result<(Half, InitiateStaticDepositUtxoRefundResponse), Status> {
        let half = self.spend(&Self::script(address), outpoint, value, fee);
        let statement = StaticDepositStatement {
            network: Network::Local,
            txid: &outpoint.txid.to_string(),
            vout: outpoint.vout,
            credit: Sats(value - fee),
            request: StaticDepositRequest::Refund {
                spend_sighash: &half.tx.sighash().expect("a sighash"),
            },
        };
        let consent = self.user.signer.sign_identity(statement.digest());
        let mut caller = self.user(operator).await;
        let request = caller.with(InitiateStaticDepositUtxoRefundRequest {
            on_chain_utxo: Some(wire(&outpoint)),
            refund_tx_signing_job: Some(half.job.clone()),
            user_signature: consent.serialize_der().to_vec(),
            hash_variant: 0,
        });
        let reply = caller.spark.initiate_static_deposit_utxo_refund(request);
        Ok((half, reply.await?.into_inner()))
    }

    async fn a_refund_is_signed_again_and_again(&self, address: &str) {
        let outpoint = self.pay(address, 50_000, DEPTH).await;
        self.listed_everywhere(address, &outpoint).await;
        for (operator, fee) in [(0, 300), (2, 900)] {
            let asked = self
                .ask_refund(operator, address, outpoint, 50_000, fee)
                .await;
            let (half, reply) = asked.expect("a refund");
            let tx = self
                .complete(half, reply.refund_tx_signing_result, reply.deposit_address)
                .await;
            // The second replaces the first.
            self.broadcast(&tx).await;
        }
        self.net.faucet().mine(1).await.expect("a block");
        let late = self.ask_refund(1, address, outpoint, 50_000, 1200).await;
        refused(late.map(|_| ()), Code::NotFound, "unspent");
    }

    async fn a_rotated_address_leaves_the_old_one_alive(&self, old: &str) -> String {
        let mut caller = self.user(1).await;
        let request = caller.with(RotateStaticDepositAddressRequest {
            signing_public_key: self.half.public_key(SECP256K1).serialize().to_vec(),
            network: WireNetwork::Regtest.into(),
            hash_variant: HashVariant::V2.into(),
        });
        let reply = caller.spark.rotate_static_deposit_address(request).await;
        let reply = reply.expect("a new address").into_inner();
        let new = reply.new_deposit_address.expect("an address").address;
        assert_eq!(reply.archived_deposit_address.expect("one").address, old);
        assert_ne!(new, old);
        for operator in 0..OPERATORS {
            assert_eq!(self.make_address(operator).await.address, new);
            let mut caller = self.user(operator).await;
            let request = caller.with(QueryStaticDepositAddressesRequest {
                identity_public_key: caller.identity.clone(),
                network: WireNetwork::Regtest.into(),
                hash_variant: HashVariant::V2.into(),
                ..QueryStaticDepositAddressesRequest::default()
            });
            let listed = caller.spark.query_static_deposit_addresses(request).await;
            let listed = listed.expect("a list").into_inner().deposit_addresses;
            let texts: Vec<_> = listed.iter().map(|row| &*row.deposit_address).collect();
            assert_eq!(texts, [&*new, old]);
            for row in &listed {
                let proof = row.proof_of_possession.as_ref().expect("a proof");
                assert_eq!(proof.address_signatures.len(), usize::from(OPERATORS));
            }
        }
        // The old one goes on receiving; outputs of both are listed, page by page.
        let late = [
            self.pay(old, 20_000, DEPTH).await,
            self.pay(&new, 21_000, DEPTH).await,
        ];
        self.listed_everywhere(old, &late[0]).await;
        self.listed_everywhere(&new, &late[1]).await;
        let mut cursor = String::new();
        let mut found = Vec::new();
        for _ in 0..3 {
            let request = caller.with(GetUtxosForIdentityRequest {
                identity_public_key: caller.identity.clone(),
                network: WireNetwork::Regtest.into(),
                exclude_claimed: true,
                include_pending: true,
                page: Some(PageRequest {
                    page_size: 1,
                    cursor: cursor.clone(),
                    ..PageRequest::default()
                }),
            });
            let reply = caller.spark.get_utxos_for_identity(request).await;
            let reply = reply.expect("a page").into_inner();
            found.extend(reply.utxos.into_iter().map(|row| row.utxo.expect("one")));
            let page = reply.page.expect("a page");
            if !page.has_next_page {
                break;
            }
            cursor = page.next_cursor;
        }
        assert_eq!(found, [wire(&late[1]), wire(&late[0])]);
        let refund = self.ask_refund(0, old, late[0], 20_000, 300).await;
        let (half, reply) = refund.expect("a refund of an output at the old address");
        let tx = self
            .complete(half, reply.refund_tx_signing_result, reply.deposit_address)
            .await;
        self.broadcast(&tx).await;
        new
    }

    async fn an_instant_swap_pays_before_the_block(&self, address: &str) {
        let draft = self
            .provider
            .draft(&self.user.wallet.address(), CREDIT)
            .await;
        let statement = InstantStatement {
            network: Network::Local,
            credit: CREDIT,
            secondary_credit: Sats(0),
            destination_address: address,
            deposit: Sats(VALUE),
            quote_signature: QUOTE,
        };
        let consent = self.user.signer.sign_identity(statement.digest());
        let reserve = ReserveInstantStaticDepositUtxoSwapRequest {
            ssp_signature: QUOTE.to_vec(),
            user_signature: consent.serialize_der().to_vec(),
            transfer: Some(draft),
            destination_address: address.to_owned(),
            value_sats: VALUE,
            credit_amount_sats: CREDIT.0,
            ..ReserveInstantStaticDepositUtxoSwapRequest::default()
        };
        let provider = self.provider(0).await;
        let mut ssp = client::ssp(provider.channel.clone());
        let call = ssp.reserve_instant_static_deposit_utxo_swap(provider.with(reserve.clone()));
        let reserved = call.await.expect("a reservation").into_inner();
        let call = ssp.reserve_instant_static_deposit_utxo_swap(provider.with(reserve));
        let again = call.await.expect("the same reservation").into_inner();
        assert_eq!(reserved.utxo_swap_id, again.utxo_swap_id);
        self.user.wallet.claim_pending().await.expect("claimed");
        let balance = self.user.wallet.balance().await.expect("a balance");
        assert_eq!(balance.available, Sats(2 * CREDIT.0));

        let outpoint = self.pay(address, VALUE, 0).await;
        let half = self.spend(&Self::script(address), outpoint, VALUE, 300);
        let claim = ClaimInstantStaticDepositUtxoSwapRequest {
            on_chain_utxo: Some(wire(&outpoint)),
            utxo_swap_id: reserved.utxo_swap_id,
            transfer: None,
            spend_tx_signing_job: Some(half.job.clone()),
            spend_signature: self.spend_signature(&outpoint, &half),
        };
        let call = ssp.claim_instant_static_deposit_utxo_swap(provider.with(claim.clone()));
        refused(call.await, Code::FailedPrecondition, "not yet confirmed");
        self.net.faucet().mine(1).await.expect("a block");
        let elsewhere = self.provider(2).await;
        let mut other = client::ssp(elsewhere.channel.clone());
        let call = other.claim_instant_static_deposit_utxo_swap(elsewhere.with(claim));
        let claimed = call.await.expect("a claim").into_inner();
        let tx = self
            .complete(
                half,
                claimed.spend_tx_signing_result,
                claimed.deposit_address,
            )
            .await;
        self.broadcast(&tx).await;
        self.another_fee_by_a_sweep(address, outpoint).await;
    }

    /// The first spend pays too little: the provider has another one signed.
    async fn another_fee_by_a_sweep(&self, address: &str, outpoint: OutPoint) {
        let half = self.spend(&Self::script(address), outpoint, VALUE, 2000);
        let raw_tx = half.tx.serialize();
        let digest = sha256::Hash::hash(&raw_tx).to_byte_array();
        let provider = self.provider(1).await;
        let mut ssp = client::ssp(provider.channel.clone());
        let prevout = &half.tx.prevouts[0];
        let request = SignStaticDepositSweepTxRequest {
            raw_tx,
            inputs: vec![SweepInput {
                on_chain_utxo: Some(wire(&outpoint)),
                vin: 0,
                user_signing_commitment: half.job.signing_nonce_commitment.clone(),
            }],
            previous_outputs: vec![BitcoinTransactionOutput {
                value: i64::try_from(VALUE).expect("small"),
                pk_script: prevout.script_pubkey.to_bytes(),
            }],
            ssp_signature: self
                .provider
                .signer
                .sign_identity(digest)
                .serialize_der()
                .to_vec(),
        };
        let call = ssp.sign_static_deposit_sweep_tx(provider.with(request));
        let signed = call.await.expect("a sweep").into_inner();
        assert!(signed.ineligible_inputs.is_empty());
        let input = signed.signed_inputs.into_iter().next().expect("one input");
        let address = DepositAddressQueryResult {
            verifying_public_key: input.verifying_key,
            ..DepositAddressQueryResult::default()
        };
        let tx = self
            .complete(half, input.signing_result, Some(address))
            .await;
        self.broadcast(&tx).await;
    }
}
