//! Shares of preimages: what is refused, and who can open them.

mod common;

use common::{Mode, Network, OPERATORS, THRESHOLD};
use rand::rngs::OsRng;
use tinderbox_frost::{SecretScalar, feldman};
use tinderbox_protocol::ecies;
use tinderbox_protocol::package::SecretShare;
use tinderbox_signer::{PreimagePart, SignerError};
use zeroize::Zeroizing;

for_both! {
    a_share_opens_for_its_payment_hash_at_its_operator_and_after_a_restart,
    a_share_in_the_clear_is_checked_alike,
    case_20_a_preimage_share_that_does_not_fit_its_proofs_is_refused,
}

const HASH: [u8; 32] = [9; 32];

fn dealt() -> feldman::Shares {
    feldman::split(
        &SecretScalar::random(&mut OsRng),
        THRESHOLD,
        OPERATORS,
        &mut OsRng,
    )
    .unwrap()
}

fn message(dealt: &feldman::Shares, place: usize) -> SecretShare {
    SecretShare {
        secret_share: dealt.shares[place].to_be_bytes().to_vec(),
        proofs: dealt
            .proofs
            .iter()
            .map(|proof| proof.serialize().to_vec())
            .collect(),
    }
}

fn encrypted(network: &Network, place: usize, message: &SecretShare) -> PreimagePart {
    let identity = network.operators[place].signer().identity();
    let sealed = ecies::encrypt(&identity, &message.to_bytes(), &mut OsRng).unwrap();
    PreimagePart::Encrypted(sealed)
}

async fn a_share_opens_for_its_payment_hash_at_its_operator_and_after_a_restart(mode: Mode) {
    let mut network = Network::start(mode).await;
    let dealt = dealt();
    let mut kept = Vec::new();
    for place in 0..usize::from(OPERATORS) {
        let part = encrypted(&network, place, &message(&dealt, place));
        let signer = network.operators[place].signer();
        kept.push(signer.keep_preimage(HASH, part).await.unwrap());
    }
    for operator in &mut network.operators {
        operator.restart().await;
    }
    for (place, (operator, opened)) in network.operators.iter().zip(&kept).enumerate() {
        assert_eq!(opened.proofs, dealt.proofs);
        let share = &*dealt.shares[place].to_be_bytes();
        // The share itself is nowhere in what is stored.
        let sealed = &opened.sealed.0;
        assert!(!sealed.windows(share.len()).any(|part| part == share));
        let signer = operator.signer();
        let given = signer.preimage_share(HASH, opened.sealed.clone()).await;
        assert_eq!(&given.unwrap().0, share);
        let other = signer.preimage_share([8; 32], opened.sealed.clone()).await;
        assert!(matches!(other, Err(SignerError::BadPreimage(_))));
        let foreign = kept[(place + 1) % kept.len()].sealed.clone();
        let foreign = signer.preimage_share(HASH, foreign).await;
        assert!(matches!(foreign, Err(SignerError::BadPreimage(_))));
    }
}

async fn a_share_in_the_clear_is_checked_alike(mode: Mode) {
    let network = Network::start(mode).await;
    let (dealt, other) = (dealt(), dealt());
    let signer = network.operators[0].signer();
    let share = || Zeroizing::new(dealt.shares[0].to_be_bytes().to_vec());
    let part = PreimagePart::Plain(share(), dealt.proofs.clone());
    let opened = signer.keep_preimage(HASH, part).await.unwrap();
    let given = signer.preimage_share(HASH, opened.sealed).await.unwrap();
    assert_eq!(given.0, *dealt.shares[0].to_be_bytes());
    let part = PreimagePart::Plain(share(), other.proofs.clone());
    let refused = signer.keep_preimage(HASH, part).await;
    assert!(matches!(refused, Err(SignerError::BadPreimage(_))));
}

async fn case_20_a_preimage_share_that_does_not_fit_its_proofs_is_refused(mode: Mode) {
    let network = Network::start(mode).await;
    let dealt = dealt();
    let signer = network.operators[0].signer();
    type Change = fn(&mut SecretShare, &feldman::Shares);
    let cases: [Change; 6] = [
        |message, dealt| message.secret_share = dealt.shares[1].to_be_bytes().to_vec(),
        |message, _| message.secret_share = vec![0; 32],
        |message, _| message.secret_share = vec![0xff; 32],
        |message, _| drop(message.proofs.pop()),
        |message, _| message.proofs.push(message.proofs[0].clone()),
        |message, _| message.proofs[1] = vec![0],
    ];
    for (place, change) in cases.into_iter().enumerate() {
        let mut message = message(&dealt, 0);
        change(&mut message, &dealt);
        let part = encrypted(&network, 0, &message);
        match signer.keep_preimage(HASH, part).await {
            Err(SignerError::BadPreimage(text)) => {
                let secret = hex::encode(&message.secret_share);
                assert!(!text.contains(&secret), "{text}");
            }
            other => panic!("{place}: {:?}", other.map(|opened| opened.proofs)),
        }
    }
    let foreign = encrypted(&network, 1, &message(&dealt, 0));
    let refused = signer.keep_preimage(HASH, foreign).await;
    assert!(matches!(refused, Err(SignerError::BadPreimage(_))));
}
