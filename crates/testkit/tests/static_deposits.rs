//! Outputs at deposit addresses: refunds, swaps with service providers, rotation of addresses.
//! Wallet 0 owns the addresses, wallet 1 is the provider; each has a leaf.

use bitcoin::{Amount, OutPoint, ScriptBuf, TxOut};
use tinderbox_chain::Spend;
use tinderbox_flows::flow::Outcome;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::{
    AddressRequest, Request, RotateRequest, UtxoClaimRequest, UtxoRefundRequest,
    UtxoReserveRequest, UtxoSwapRequest, UtxoSweepRequest,
};
use tinderbox_flows::rows::{
    AddressRow, DefaultAddressRow, KeyshareStatus, NodeStatus, TransferStatus, UtxoHoldRow,
    UtxoRow, UtxoSwapKind, UtxoSwapRow, UtxoSwapStatus,
};
use tinderbox_flows::utxo_swap::ProviderSpend;
use tinderbox_flows::utxo_sweep::SweepInput;
use tinderbox_protocol::hash::{
    InstantStatement, SpendStatement, StaticDepositRequest, StaticDepositStatement,
};
use tinderbox_protocol::tx::static_deposit::refund;
use tinderbox_protocol::tx::{UnsignedTx, Utxo};
use tinderbox_protocol::{BlockHeight, Sats, TransferId, TreeId};
use tinderbox_testkit::sim::{Half, Scene};

const OPERATORS: u16 = 3;
const OWNER: usize = 0;
const PROVIDER: usize = 1;
const QUOTE: &[u8] = b"the provider's quote";

async fn scene(seed: u64) -> Scene {
    Scene::new(seed, OPERATORS, 2, 4).await
}

/// A scene in which the provider's leaves differ in value.
async fn scene_of_unlike_leaves() -> Scene {
    for seed in 5..50 {
        let scene = scene(seed).await;
        let value = |place| scene.node(0, &scene.leaf(place)).value;
        if value(1) != value(3) {
            return scene;
        }
    }
    panic!("values are dealt at random");
}

async fn done(scene: &Scene, operator: u16, request: Request) -> Outcome {
    scene
        .run(operator, request)
        .await
        .expect("the operator stays up")
        .unwrap_or_else(|refusal| panic!("{refusal}\n{}", scene.log().join("\n")))
}

async fn refused(scene: &Scene, operator: u16, request: Request) -> Refusal {
    match scene.run(operator, request).await.expect("it stays up") {
        Ok(_) => panic!("it was not refused"),
        Err(refusal) => refusal,
    }
}

fn swaps(scene: &Scene) -> Vec<UtxoSwapRow> {
    let first = scene.rows::<UtxoSwapRow>(0);
    let rows = |operator| {
        scene
            .rows::<UtxoSwapRow>(operator)
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert!((1..OPERATORS).all(|operator| rows(operator) == first));
    first
}

fn utxo(address: &AddressRow, outpoint: OutPoint, value: u64) -> Utxo {
    Utxo {
        outpoint,
        output: TxOut {
            value: Amount::from_sat(value),
            script_pubkey: address.script.clone(),
        },
    }
}

/// What pays an output, less a fee, to somewhere.
fn spend(address: &AddressRow, outpoint: OutPoint, value: u64, fee: u64) -> UnsignedTx {
    let to = ScriptBuf::from_bytes([vec![0x51, 0x20], vec![7; 32]].concat());
    refund(&utxo(address, outpoint, value), to, Sats(fee)).unwrap()
}

struct Refund {
    request: UtxoRefundRequest,
    half: Half,
}

/// A refund as the owner's wallet asks for it.
async fn owners_refund(
    scene: &mut Scene,
    address: &AddressRow,
    outpoint: OutPoint,
    value: u64,
    fee: u64,
) -> Refund {
    let tx = spend(address, outpoint, value, fee);
    let sighash = tx.sighash().unwrap();
    let digest = StaticDepositStatement {
        network: address.network,
        txid: &outpoint.txid.to_string(),
        vout: outpoint.vout,
        credit: Sats(value - fee),
        request: StaticDepositRequest::Refund {
            spend_sighash: &sighash,
        },
    }
    .digest();
    let half = scene.half(OWNER, tx).await;
    let now = scene.now();
    let owner = scene.owner(OWNER);
    Refund {
        request: UtxoRefundRequest {
            now,
            owner: owner.identity(),
            outpoint,
            spend: half.job.clone(),
            user_signature: owner.sign(&digest),
            hash_variant: 0,
        },
        half,
    }
}

impl Refund {
    fn request(&self) -> Request {
        Request::UtxoRefund(Box::new(self.request.clone()))
    }
}

/// The provider's spend of an output, under its signature.
async fn providers_spend(
    scene: &mut Scene,
    address: &AddressRow,
    outpoint: OutPoint,
    value: u64,
) -> (ProviderSpend, Half) {
    let tx = spend(address, outpoint, value, 300);
    let digest = SpendStatement {
        network: address.network,
        txid: &outpoint.txid.to_string(),
        vout: outpoint.vout,
        spend_sighash: &tx.sighash().unwrap(),
    }
    .digest();
    // The owner has told the provider its half of the key.
    let half = scene.half(OWNER, tx).await;
    let spend = ProviderSpend {
        job: half.job.clone(),
        signature: scene.owner(PROVIDER).sign(&digest),
    };
    (spend, half)
}

/// A swap of an output for the provider's leaf, with everybody's signature.
async fn swap(
    scene: &mut Scene,
    address: &AddressRow,
    outpoint: OutPoint,
    value: u64,
    leaf: usize,
) -> (UtxoSwapRequest, Half) {
    let leaf = scene.leaf(leaf);
    let credit = scene.node(0, &leaf).value;
    let id = scene.transfer_id();
    let send = scene.payment(id, PROVIDER, OWNER, &[leaf]).await;
    let (spend, half) = providers_spend(scene, address, outpoint, value).await;
    let digest = StaticDepositStatement {
        network: address.network,
        txid: &outpoint.txid.to_string(),
        vout: outpoint.vout,
        credit,
        request: StaticDepositRequest::Fixed {
            quote_signature: QUOTE,
        },
    }
    .digest();
    let request = UtxoSwapRequest {
        send,
        outpoint,
        confirmations: 3,
        spend,
        quote_signature: QUOTE.to_vec(),
        user_signature: scene.owner(OWNER).sign(&digest),
        hash_variant: 0,
    };
    (request, half)
}

fn fixed(request: &UtxoSwapRequest) -> Request {
    Request::UtxoSwap(Box::new(request.clone()))
}

/// A reservation that pays with the provider's leaf.
async fn reserve(
    scene: &mut Scene,
    address: &AddressRow,
    value: u64,
    leaf: usize,
    quote: &[u8],
    secondary: Option<(TransferId, Sats)>,
) -> UtxoReserveRequest {
    let leaf = scene.leaf(leaf);
    let credit = scene.node(0, &leaf).value;
    let id = scene.transfer_id();
    let send = scene.payment(id, PROVIDER, OWNER, &[leaf]).await;
    let digest = InstantStatement {
        network: address.network,
        credit,
        secondary_credit: secondary.map_or(Sats::ZERO, |(_, credit)| credit),
        destination_address: &address.address,
        deposit: Sats(value),
        quote_signature: quote,
    }
    .digest();
    UtxoReserveRequest {
        send,
        script: address.script.clone(),
        value: Sats(value),
        credit,
        secondary,
        seen: None,
        quote_signature: quote.to_vec(),
        user_signature: scene.owner(OWNER).sign(&digest),
    }
}

fn instant(request: &UtxoReserveRequest) -> Request {
    Request::UtxoReserve(Box::new(request.clone()))
}

/// The claim of the one reservation that there is.
async fn claim(
    scene: &mut Scene,
    address: &AddressRow,
    outpoint: OutPoint,
    value: u64,
) -> (UtxoClaimRequest, Half) {
    let (spend, half) = providers_spend(scene, address, outpoint, value).await;
    let request = UtxoClaimRequest {
        now: scene.now(),
        swap: swaps(scene)[0].id,
        provider: scene.owner(PROVIDER).identity(),
        outpoint,
        secondary: None,
        spend,
    };
    (request, half)
}

fn take(request: &UtxoClaimRequest) -> Request {
    Request::UtxoClaim(Box::new(request.clone()))
}

/// More than any leaf of a scene is worth.
const VALUE: u64 = 200_000;

#[tokio::test(start_paused = true)]
async fn refund_is_complete_and_repeatable_until_one_is_in_a_block() {
    let mut scene = scene(1).await;
    let address = scene.deposit_address(OWNER, true).await;
    let outpoint = scene.pay_deep(&address.script, 10_000);
    let shares = scene.public_shares(&address);
    for (operator, fee) in [(0, 300), (1, 500), (2, 194)] {
        let asked = owners_refund(&mut scene, &address, outpoint, 10_000, fee).await;
        let outcome = done(&scene, operator, asked.request()).await;
        let tx = asked.half.complete(&address, &shares, &outcome);
        assert_eq!(tx.output[0].value.to_sat(), 10_000 - fee);
        scene.chain().spend(outpoint, Spend::InMempool);
    }
    scene.heal().await;
    let [row] = swaps(&scene).try_into().unwrap();
    assert_eq!(
        (row.kind, row.status, row.held),
        (UtxoSwapKind::Refund, UtxoSwapStatus::Completed, None)
    );
    scene.chain().spend(outpoint, Spend::Confirmed);
    let late = owners_refund(&mut scene, &address, outpoint, 10_000, 700).await;
    let refusal = refused(&scene, 0, late.request()).await;
    assert_eq!(refusal.reason, Reason::MissingEntity);
}

#[tokio::test(start_paused = true)]
async fn refund_needs_the_owner_its_word_and_depth() {
    let mut scene = scene(2).await;
    let address = scene.deposit_address(OWNER, true).await;
    let outpoint = scene.pay(&address.script, 10_000);
    let good = owners_refund(&mut scene, &address, outpoint, 10_000, 300).await;
    let refusal = refused(&scene, 0, good.request()).await;
    assert_eq!(refusal.reason, Reason::InsufficientConfirmations);
    scene.chain().mine(2);
    let other = scene.owner(PROVIDER).identity();
    let forged = scene.owner(PROVIDER).sign(&[1; 32]);
    let stranger = UtxoRefundRequest {
        owner: other,
        ..good.request.clone()
    };
    let unsigned = UtxoRefundRequest {
        user_signature: forged,
        ..good.request.clone()
    };
    let variant = UtxoRefundRequest {
        hash_variant: 7,
        ..good.request.clone()
    };
    // The owner's word is for one transaction: another fee needs another word.
    let cheaper = spend(&address, outpoint, 10_000, 200).serialize();
    let mut altered = good.request.clone();
    altered.spend.tx = cheaper;
    let mut version = good.request.clone();
    let mut tx = spend(&address, outpoint, 10_000, 300);
    tx.tx.version = bitcoin::transaction::Version::TWO;
    version.spend.tx = tx.serialize();
    let mut greedy = good.request.clone();
    tx.tx.version = bitcoin::transaction::Version::non_standard(3);
    tx.tx.output[0].value = Amount::from_sat(10_001);
    greedy.spend.tx = tx.serialize();
    let mut key = good.request.clone();
    key.spend.signing_key = other;
    for (request, reason) in [
        (stranger, Reason::NotOwner),
        (unsigned, Reason::BadSignature),
        (variant, Reason::MalformedField),
        (altered, Reason::BadSignature),
        (version, Reason::MalformedField),
        (greedy, Reason::MalformedField),
        (key, Reason::MalformedField),
    ] {
        let refusal = refused(&scene, 0, Request::UtxoRefund(Box::new(request))).await;
        assert_eq!(refusal.reason, reason, "{refusal}");
    }
    assert!(swaps(&scene).is_empty());
    done(&scene, 0, good.request()).await;
}

#[tokio::test(start_paused = true)]
async fn refund_is_registered_everywhere_before_any_share_or_not_at_all() {
    let mut scene = scene(3).await;
    let address = scene.deposit_address(OWNER, true).await;
    let outpoint = scene.pay_deep(&address.script, 10_000);
    scene.crash(2);
    let asked = owners_refund(&mut scene, &address, outpoint, 10_000, 300).await;
    let refusal = refused(&scene, 0, asked.request()).await;
    assert!(refusal.is_transient(), "{refusal}");
    scene.heal().await;
    assert!(swaps(&scene).is_empty());
    for operator in 0..OPERATORS {
        assert!(scene.rows::<UtxoHoldRow>(operator).is_empty());
    }
    let again = owners_refund(&mut scene, &address, outpoint, 10_000, 300).await;
    let outcome = done(&scene, 1, again.request()).await;
    let shares = scene.public_shares(&address);
    let _ = again.half.complete(&address, &shares, &outcome);
    scene.heal().await;
    assert_eq!(swaps(&scene).len(), 1);
}

/// Case 49: once the leaf is paid, nobody else gets the output, also not through a reorganisation.
#[tokio::test(start_paused = true)]
async fn case_49_swap_gives_the_leaf_and_the_output_together_and_once() {
    let mut scene = scene(4).await;
    let address = scene.deposit_address(OWNER, true).await;
    let outpoint = scene.pay_deep(&address.script, VALUE);
    let (request, half) = swap(&mut scene, &address, outpoint, VALUE, 1).await;
    let id = request.send.transfer;
    let outcome = done(&scene, 0, fixed(&request)).await;
    let shares = scene.public_shares(&address);
    let _ = half.complete(&address, &shares, &outcome);
    scene.heal().await;
    let [row] = swaps(&scene).try_into().unwrap();
    assert_eq!(row.status, UtxoSwapStatus::Completed);
    assert_eq!(row.transfer, Some(id));
    assert!(row.signed.is_some());
    for operator in 0..OPERATORS {
        let transfer = scene.transfer(operator, id).unwrap();
        assert_eq!(transfer.status, TransferStatus::SenderKeyTweaked);
    }
    let claimed = scene.claim(id, OWNER).await;
    done(&scene, 1, Request::Claim(Box::new(claimed))).await;
    scene.heal().await;
    scene.check();
    let leaf = scene.node(0, &scene.leaf(1));
    assert_eq!(leaf.status, NodeStatus::Available);
    assert_eq!(leaf.owner, scene.owner(OWNER).identity());
    for _ in 0..2 {
        let refund = owners_refund(&mut scene, &address, outpoint, VALUE, 300).await;
        let refusal = refused(&scene, 1, refund.request()).await;
        assert_eq!(refusal.reason, Reason::DuplicateOperation);
        assert!(refusal.message.contains("already registered"), "{refusal}");
        let (second, _) = swap(&mut scene, &address, outpoint, VALUE, 3).await;
        let refusal = refused(&scene, 2, fixed(&second)).await;
        assert_eq!(refusal.reason, Reason::DuplicateOperation, "{refusal}");
        scene.chain().forget(&outpoint);
        let refund = owners_refund(&mut scene, &address, outpoint, VALUE, 300).await;
        let refusal = refused(&scene, 1, refund.request()).await;
        assert_eq!(refusal.reason, Reason::MissingEntity);
        scene.chain().restore(outpoint, &address.script, VALUE);
        scene.chain().mine(3);
    }
}

/// Case 49: a quote that was altered, or is for something else.
#[tokio::test(start_paused = true)]
async fn case_49_swap_is_what_owner_and_provider_have_signed() {
    let mut scene = scene_of_unlike_leaves().await;
    let address = scene.deposit_address(OWNER, true).await;
    let outpoint = scene.pay_deep(&address.script, VALUE);
    let (good, _) = swap(&mut scene, &address, outpoint, VALUE, 1).await;
    let mut quote = good.clone();
    quote.quote_signature[0] ^= 1;
    // Another leaf, worth something else than the owner agreed to.
    let (other, _) = swap(&mut scene, &address, outpoint, VALUE, 3).await;
    let mut credit = good.clone();
    credit.send = other.send;
    // To the provider itself.
    let id = scene.transfer_id();
    let leaf = scene.leaf(1);
    let mut receiver = good.clone();
    receiver.send = scene.payment(id, PROVIDER, PROVIDER, &[leaf]).await;
    // The operator that was called has another transaction signed.
    let mut stolen = good.clone();
    stolen.spend.job.tx = spend(&address, outpoint, VALUE, 400).serialize();
    let mut shallow = good.clone();
    shallow.confirmations = 99;
    let mut zero = good.clone();
    zero.confirmations = 0;
    let another = scene.pay_deep(&address.script, VALUE);
    let mut elsewhere = good.clone();
    elsewhere.outpoint = another;
    for (request, reason) in [
        (quote, Reason::BadSignature),
        (credit, Reason::BadSignature),
        (receiver, Reason::NotOwner),
        (stolen, Reason::BadSignature),
        (shallow, Reason::InsufficientConfirmations),
        (zero, Reason::MalformedField),
        (elsewhere, Reason::BadSignature),
    ] {
        let refusal = refused(&scene, 0, fixed(&request)).await;
        assert_eq!(refusal.reason, reason, "{refusal}");
    }
    let small = scene.pay_deep(&address.script, 1000);
    let (dear, _) = swap(&mut scene, &address, small, 1000, 1).await;
    let refusal = refused(&scene, 0, fixed(&dear)).await;
    assert!(refusal.message.contains("not enough to cover"), "{refusal}");
    let single = scene.deposit_address(OWNER, false).await;
    let once = scene.pay_deep(&single.script, VALUE);
    let (wrong, _) = swap(&mut scene, &single, once, VALUE, 1).await;
    let refusal = refused(&scene, 0, fixed(&wrong)).await;
    assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
    scene.heal().await;
    assert!(swaps(&scene).is_empty());
    done(&scene, 0, fixed(&good)).await;
}

/// Case 49: of several that want one output, at different operators, one gets it.
#[tokio::test(start_paused = true)]
async fn case_49_one_output_goes_to_one_of_two_providers_or_back_to_its_owner() {
    for seed in 100..112 {
        let mut scene = scene(seed).await;
        let address = scene.deposit_address(OWNER, true).await;
        let outpoint = scene.pay_deep(&address.script, VALUE);
        let mut winners = 0;
        for _ in 0..4 {
            let (first, _) = swap(&mut scene, &address, outpoint, VALUE, 1).await;
            let (second, _) = swap(&mut scene, &address, outpoint, VALUE, 3).await;
            let back = owners_refund(&mut scene, &address, outpoint, VALUE, 300).await;
            let answers = [
                scene.begin(0, fixed(&first)),
                scene.begin(1, fixed(&second)),
                scene.begin(2, back.request()),
            ];
            let mut won = [false; 3];
            for (place, answer) in answers.into_iter().enumerate() {
                match answer.await.unwrap() {
                    Ok(_) => won[place] = true,
                    Err(refusal) => assert!(
                        refusal.is_transient() || refusal.reason == Reason::DuplicateOperation,
                        "seed {seed}: {refusal}"
                    ),
                }
            }
            winners = won.iter().filter(|won| **won).count();
            assert!(winners < 2, "seed {seed}: {won:?}");
            scene.heal().await;
            scene.check();
            assert_eq!(swaps(&scene).len(), winners, "seed {seed}");
            if winners == 1 {
                let moved = [1, 3]
                    .map(|leaf| scene.node(0, &scene.leaf(leaf)).status != NodeStatus::Available);
                assert_eq!(moved, [won[0], won[1]], "seed {seed}");
                break;
            }
        }
        assert_eq!(winners, 1, "seed {seed}: nobody gets it");
    }
}

#[tokio::test(start_paused = true)]
async fn refunded_output_cannot_be_swapped() {
    let mut scene = scene(6).await;
    let address = scene.deposit_address(OWNER, true).await;
    let outpoint = scene.pay_deep(&address.script, VALUE);
    let back = owners_refund(&mut scene, &address, outpoint, VALUE, 300).await;
    done(&scene, 0, back.request()).await;
    let (late, _) = swap(&mut scene, &address, outpoint, VALUE, 1).await;
    let refusal = refused(&scene, 1, fixed(&late)).await;
    assert_eq!(refusal.reason, Reason::DuplicateOperation);
    assert!(refusal.message.contains("already registered"), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn swap_that_an_operator_cannot_vote_on_leaves_nothing() {
    let mut scene = scene(7).await;
    let address = scene.deposit_address(OWNER, true).await;
    let outpoint = scene.pay_deep(&address.script, VALUE);
    scene.crash(1);
    let (request, _) = swap(&mut scene, &address, outpoint, VALUE, 1).await;
    let refusal = refused(&scene, 0, fixed(&request)).await;
    assert!(refusal.is_transient(), "{refusal}");
    scene.heal().await;
    scene.check();
    assert!(swaps(&scene).is_empty());
    assert!(scene.transfer(0, request.send.transfer).is_none());
    let leaf = scene.node(0, &scene.leaf(1));
    assert_eq!((leaf.status, leaf.lock), (NodeStatus::Available, None));
    let (again, half) = swap(&mut scene, &address, outpoint, VALUE, 1).await;
    let outcome = done(&scene, 0, fixed(&again)).await;
    let shares = scene.public_shares(&address);
    let _ = half.complete(&address, &shares, &outcome);
}

#[tokio::test(start_paused = true)]
async fn case_49_reservation_is_good_for_the_next_output_of_its_value_whichever_transaction_makes_it()
 {
    let mut scene = scene(8).await;
    let address = scene.deposit_address(OWNER, true).await;
    let request = reserve(&mut scene, &address, VALUE, 1, QUOTE, None).await;
    done(&scene, 0, instant(&request)).await;
    scene.heal().await;
    let [row] = swaps(&scene).try_into().unwrap();
    assert_eq!(
        (row.kind, row.status, row.outpoint),
        (UtxoSwapKind::Instant, UtxoSwapStatus::Created, None)
    );
    for operator in 0..OPERATORS {
        let transfer = scene.transfer(operator, request.send.transfer).unwrap();
        assert_eq!(transfer.status, TransferStatus::SenderKeyTweaked);
    }
    // The slot is taken: for another reservation, for a swap, and for a refund by the owner, who
    // has been paid.
    let twice = reserve(&mut scene, &address, VALUE, 3, b"other quote", None).await;
    let refusal = refused(&scene, 1, instant(&twice)).await;
    assert_eq!(refusal.reason, Reason::DuplicateOperation, "{refusal}");
    // The payment was replaced by one of another value, then by one of the same.
    let less = scene.pay_deep(&address.script, VALUE - 1);
    let (wrong, _) = claim(&mut scene, &address, less, VALUE - 1).await;
    let refusal = refused(&scene, 0, take(&wrong)).await;
    assert_eq!(refusal.reason, Reason::MalformedField, "{refusal}");
    let outpoint = scene.pay_deep(&address.script, VALUE);
    let refund = owners_refund(&mut scene, &address, outpoint, VALUE, 300).await;
    let refusal = refused(&scene, 2, refund.request()).await;
    assert_eq!(refusal.reason, Reason::DuplicateOperation, "{refusal}");
    let (beside, _) = swap(&mut scene, &address, outpoint, VALUE, 3).await;
    let refusal = refused(&scene, 2, fixed(&beside)).await;
    assert_eq!(refusal.reason, Reason::DuplicateOperation, "{refusal}");
    // Only the provider that paid gets it, for what it signed.
    let (good, half) = claim(&mut scene, &address, outpoint, VALUE).await;
    let mut thief = good.clone();
    thief.provider = scene.owner(OWNER).identity();
    let refusal = refused(&scene, 0, take(&thief)).await;
    assert_eq!(refusal.reason, Reason::NotOwner, "{refusal}");
    let mut stolen = good.clone();
    stolen.spend.job.tx = spend(&address, outpoint, VALUE, 999).serialize();
    let refusal = refused(&scene, 0, take(&stolen)).await;
    assert_eq!(refusal.reason, Reason::BadSignature, "{refusal}");
    let outcome = done(&scene, 1, take(&good)).await;
    let shares = scene.public_shares(&address);
    let _ = half.complete(&address, &shares, &outcome);
    scene.heal().await;
    scene.check();
    let [row] = swaps(&scene).try_into().unwrap();
    assert_eq!(
        (row.status, row.outpoint),
        (UtxoSwapStatus::Completed, Some(outpoint))
    );
    let refusal = refused(&scene, 0, take(&good)).await;
    assert_eq!(refusal.reason, Reason::DuplicateOperation, "{refusal}");
    // The next output of that value is the owner's again. Its old word does not serve twice.
    let next = scene.pay_deep(&address.script, VALUE);
    let replayed = reserve(&mut scene, &address, VALUE, 3, QUOTE, None).await;
    if replayed.credit == request.credit {
        let refusal = refused(&scene, 0, instant(&replayed)).await;
        assert_eq!(refusal.reason, Reason::DuplicateOperation, "{refusal}");
    }
    let refund = owners_refund(&mut scene, &address, next, VALUE, 300).await;
    done(&scene, 0, refund.request()).await;
}

/// Case 49: the owner's word names no output, so it must not serve for a second one.
#[tokio::test(start_paused = true)]
async fn case_49_owners_word_is_good_for_one_reservation() {
    let mut scene = scene(9).await;
    let address = scene.deposit_address(OWNER, true).await;
    let first = reserve(&mut scene, &address, VALUE, 1, QUOTE, None).await;
    done(&scene, 0, instant(&first)).await;
    let outpoint = scene.pay_deep(&address.script, VALUE);
    let (good, _) = claim(&mut scene, &address, outpoint, VALUE).await;
    done(&scene, 0, take(&good)).await;
    scene.heal().await;
    // The owner claims the leaf and sends it back, so that the provider can pay with it again.
    let id = first.send.transfer;
    let claimed = scene.claim(id, OWNER).await;
    done(&scene, 0, Request::Claim(Box::new(claimed))).await;
    let leaf = scene.leaf(1);
    let back = scene.transfer_id();
    let payment = scene.payment(back, OWNER, PROVIDER, &[leaf]).await;
    done(&scene, 0, Request::Send(Box::new(payment))).await;
    let claimed = scene.claim(back, PROVIDER).await;
    done(&scene, 0, Request::Claim(Box::new(claimed))).await;
    scene.heal().await;
    let replayed = reserve(&mut scene, &address, VALUE, 1, QUOTE, None).await;
    assert_eq!(replayed.credit, first.credit);
    assert_eq!(replayed.user_signature, first.user_signature);
    let refusal = refused(&scene, 1, instant(&replayed)).await;
    assert!(refusal.message.contains("user_signature"), "{refusal}");
    let fresh = reserve(&mut scene, &address, VALUE, 1, b"new quote", None).await;
    done(&scene, 1, instant(&fresh)).await;
}

#[tokio::test(start_paused = true)]
async fn secondary_credit_is_paid_with_the_claim_exactly_as_agreed() {
    let mut scene = scene(10).await;
    let address = scene.deposit_address(OWNER, true).await;
    let rest = scene.leaf(3);
    let agreed = scene.node(0, &rest).value;
    let second = scene.transfer_id();
    let request = reserve(
        &mut scene,
        &address,
        VALUE,
        1,
        QUOTE,
        Some((second, agreed)),
    )
    .await;
    done(&scene, 0, instant(&request)).await;
    let outpoint = scene.pay(&address.script, VALUE);
    let (mut good, half) = claim(&mut scene, &address, outpoint, VALUE).await;
    let refusal = refused(&scene, 0, take(&good)).await;
    assert_eq!(refusal.reason, Reason::MissingField, "{refusal}");
    let other = scene.transfer_id();
    good.secondary = Some(scene.payment(other, PROVIDER, OWNER, &[rest]).await);
    let refusal = refused(&scene, 0, take(&good)).await;
    assert_eq!(refusal.reason, Reason::MalformedField, "{refusal}");
    good.secondary = Some(scene.payment(second, PROVIDER, OWNER, &[rest]).await);
    let outcome = done(&scene, 2, take(&good)).await;
    let shares = scene.public_shares(&address);
    let _ = half.complete(&address, &shares, &outcome);
    scene.heal().await;
    for id in [request.send.transfer, second] {
        let claimed = scene.claim(id, OWNER).await;
        done(&scene, 0, Request::Claim(Box::new(claimed))).await;
    }
    scene.heal().await;
    scene.check();
    let owner = scene.owner(OWNER).identity();
    assert_eq!(scene.node(0, &rest).owner, owner);
}

#[tokio::test(start_paused = true)]
async fn provider_sweeps_what_it_swapped_and_nothing_else() {
    let mut scene = scene(11).await;
    let address = scene.deposit_address(OWNER, true).await;
    let swapped = scene.pay_deep(&address.script, VALUE);
    let (request, _) = swap(&mut scene, &address, swapped, VALUE, 1).await;
    done(&scene, 0, fixed(&request)).await;
    let refunded = scene.pay_deep(&address.script, 5000);
    let back = owners_refund(&mut scene, &address, refunded, 5000, 300).await;
    done(&scene, 0, back.request()).await;
    let untouched = scene.pay_deep(&address.script, 6000);
    scene.heal().await;
    for (outpoint, value, reason) in [
        (refunded, 5000, Some(Reason::InvalidState)),
        (untouched, 6000, Some(Reason::MissingEntity)),
        (swapped, VALUE, None),
    ] {
        let tx = spend(&address, outpoint, value, 900);
        let half = scene.half(OWNER, tx.clone()).await;
        let digest = sha2_of(&tx.serialize());
        let sweep = UtxoSweepRequest {
            now: scene.now(),
            provider: scene.owner(PROVIDER).identity(),
            tx: tx.serialize(),
            prevouts: tx.prevouts.clone(),
            inputs: vec![SweepInput {
                vin: 0,
                outpoint,
                commitment: half.job.commitment,
                operators: half.job.operators.clone(),
            }],
            signature: scene.owner(PROVIDER).sign(&digest),
        };
        let Some(reason) = reason else {
            let mut thief = sweep.clone();
            thief.provider = scene.owner(OWNER).identity();
            let refusal = refused(&scene, 0, Request::UtxoSweep(Box::new(thief))).await;
            assert_eq!(refusal.reason, Reason::NotOwner, "{refusal}");
            let mut forged = sweep.clone();
            forged.signature = scene.owner(OWNER).sign(&digest);
            let refusal = refused(&scene, 0, Request::UtxoSweep(Box::new(forged))).await;
            assert_eq!(refusal.reason, Reason::BadSignature, "{refusal}");
            let outcome = done(&scene, 1, Request::UtxoSweep(Box::new(sweep))).await;
            let shares = scene.public_shares(&address);
            let _ = half.complete(&address, &shares, &outcome);
            continue;
        };
        let refusal = refused(&scene, 0, Request::UtxoSweep(Box::new(sweep))).await;
        assert_eq!(refusal.reason, reason, "{refusal}");
    }
}

fn sha2_of(bytes: &[u8]) -> [u8; 32] {
    use bitcoin::hashes::{Hash, sha256};
    sha256::Hash::hash(bytes).to_byte_array()
}

/// An output as operators have seen it in a block.
fn seen(address: &AddressRow, outpoint: OutPoint, value: u64) -> UtxoRow {
    UtxoRow {
        outpoint,
        network: address.network,
        value: Sats(value),
        script: address.script.clone(),
        block: Some((
            BlockHeight(1),
            <bitcoin::BlockHash as bitcoin::hashes::Hash>::all_zeros(),
        )),
        tree: None,
        of_tree: false,
    }
}

#[tokio::test(start_paused = true)]
async fn output_beside_the_deposit_of_a_single_use_address_is_refundable_while_the_leaf_has_not_moved()
 {
    let mut scene = scene(12).await;
    // The address of leaf 0, of which a tree was made.
    let template = scene.deposit_address(OWNER, false).await;
    let leaf = scene.leaf(0);
    let node = scene.node(0, &leaf);
    let address = AddressRow {
        script: tinderbox_protocol::tx::p2tr(&node.verifying_key),
        address: "of leaf 0".into(),
        owner_signing: node.owner_signing,
        verifying_key: node.verifying_key,
        keyshare: node.keyshare,
        tree: Some(TreeId(leaf.0)),
        ..template
    };
    scene.put_address(&address).await;
    let late = scene.pay_deep(&address.script, 7000);
    // Each operator's own view of the chain must have it, and must not take it for the leaf's.
    let mut row = seen(&address, late, 7000);
    row.of_tree = true;
    scene.plant(&row).await;
    let own = owners_refund(&mut scene, &address, late, 7000, 300).await;
    let refusal = refused(&scene, 0, own.request()).await;
    assert_eq!(refusal.reason, Reason::DuplicateOperation, "{refusal}");
    row.of_tree = false;
    scene.plant(&row).await;
    let key = scene.owner(OWNER).leaf_key(&leaf);
    let mut asked = owners_refund(&mut scene, &address, late, 7000, 300).await;
    asked.request.spend.signing_key = key.public_key(bitcoin::secp256k1::SECP256K1);
    let outcome = done(&scene, 0, asked.request()).await;
    assert_eq!(outcome.jobs.len(), 1);
    scene.heal().await;
    // The leaf moves, and the operators' half of the key with it.
    let id = scene.transfer_id();
    let payment = scene.payment(id, OWNER, PROVIDER, &[leaf]).await;
    done(&scene, 0, Request::Send(Box::new(payment))).await;
    let later = scene.pay_deep(&address.script, 8000);
    scene.plant(&seen(&address, later, 8000)).await;
    let mut asked = owners_refund(&mut scene, &address, later, 8000, 300).await;
    asked.request.spend.signing_key = key.public_key(bitcoin::secp256k1::SECP256K1);
    let refusal = refused(&scene, 0, asked.request()).await;
    assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
    assert!(refusal.message.contains("single-use"), "{refusal}");
}

/// A rotation as the coordinator asks for it.
async fn rotation(scene: &mut Scene, coordinator: u16, old: &AddressRow) -> RotateRequest {
    let keyshare = scene.deal_keyshare(coordinator).await;
    assert_eq!(keyshare.status, KeyshareStatus::Available);
    let mut nonces = scene.nonces(2).await.into_iter();
    RotateRequest {
        address: AddressRequest {
            now: scene.now(),
            owner: old.owner,
            owner_signing: old.owner_signing,
            keyshare: keyshare.id,
            leaf: None,
            is_static: true,
            nonces: nonces.next().unwrap(),
            nonces_legacy: nonces.next().unwrap(),
        },
        replaces: old.script.clone(),
    }
}

fn shown(scene: &Scene, old: &AddressRow) -> AddressRow {
    let default = |operator| {
        let id = DefaultAddressRow::id_of(&old.owner, old.network);
        let default: DefaultAddressRow = scene.row(operator, &id).unwrap();
        let row: AddressRow = scene.row(operator, default.script.as_bytes()).unwrap();
        assert!(row.is_default && row.proof.is_some() && row.pending.is_none());
        row
    };
    let first = default(0);
    assert!((1..OPERATORS).all(|operator| default(operator) == first));
    first
}

#[tokio::test(start_paused = true)]
async fn rotated_address_replaces_the_old_one_whose_outputs_stay_refundable() {
    let mut scene = scene(13).await;
    let old = scene.deposit_address(OWNER, true).await;
    let before = scene.pay_deep(&old.script, 9000);
    let request = rotation(&mut scene, 1, &old).await;
    done(&scene, 1, Request::Rotate(Box::new(request))).await;
    scene.heal().await;
    let new = shown(&scene, &old);
    assert_ne!(new.script, old.script);
    let proof = new.proof.as_ref().unwrap();
    assert_eq!(proof.operators.len(), usize::from(OPERATORS));
    for operator in 0..OPERATORS {
        let archived: AddressRow = scene.row(operator, old.script.as_bytes()).unwrap();
        assert!(!archived.is_default && archived.proof.is_some() && archived.pending.is_none());
    }
    let after = scene.pay_deep(&old.script, 9500);
    for (outpoint, value) in [(before, 9000), (after, 9500)] {
        let asked = owners_refund(&mut scene, &old, outpoint, value, 300).await;
        let outcome = done(&scene, 2, asked.request()).await;
        let shares = scene.public_shares(&old);
        let _ = asked.half.complete(&old, &shares, &outcome);
    }
}

#[tokio::test(start_paused = true)]
async fn wallet_is_shown_one_address_whatever_becomes_of_rotations() {
    for seed in 200..206 {
        let mut scene = scene(seed).await;
        let old = scene.deposit_address(OWNER, true).await;
        // One operator is down: nothing happens.
        scene.crash(2);
        let request = rotation(&mut scene, 0, &old).await;
        let refusal = refused(&scene, 0, Request::Rotate(Box::new(request))).await;
        assert!(refusal.is_transient(), "{refusal}");
        scene.heal().await;
        assert_eq!(shown(&scene, &old).script, old.script);
        // Two at once, at two operators.
        let first = rotation(&mut scene, 0, &old).await;
        let second = rotation(&mut scene, 1, &old).await;
        let answers = [
            scene.begin(0, Request::Rotate(Box::new(first))),
            scene.begin(1, Request::Rotate(Box::new(second))),
        ];
        let mut won = 0;
        for answer in answers {
            match answer.await.unwrap() {
                Ok(_) => won += 1,
                Err(refusal) => assert!(refusal.is_transient(), "seed {seed}: {refusal}"),
            }
        }
        assert!(won < 2, "seed {seed}");
        scene.heal().await;
        let now = shown(&scene, &old);
        assert_eq!(now.script != old.script, won == 1, "seed {seed}");
    }
}
