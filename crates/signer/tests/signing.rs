//! Signing, tweaking, nonces and deletion, in process and over a socket.

mod common;

use std::collections::BTreeMap;

use common::{Dealt, Job, Leaf, Mode, Network, message, own};
use futures::future::join_all;
use tinderbox_flows::job::{KeyJob, KeyOutput};
use tinderbox_frost::{OperatorIndex, SecretScalar, SigningPackage, tweak};
use tinderbox_signer::SignerError;

for_both! {
    signatures_verify_before_and_after_a_send_and_a_claim,
    case_14_a_commitment_signs_one_message_for_ever,
    case_14_a_commitment_signs_with_one_share_for_ever,
    case_15_of_two_concurrent_executes_exactly_one_succeeds,
    case_16_a_job_without_the_own_commitment_or_of_another_operator_set_is_refused,
    case_16_swapped_commitments_are_refused,
    case_25_after_settling_the_old_share_and_its_key_are_gone,
    case_26_a_share_of_a_restored_backup_is_stale,
    adaptor_signatures_take_young_nonces_only,
    reserving_is_idempotent_and_survives_a_restart,
    executing_again_gives_the_same_shares,
    a_refused_batch_leaves_nothing_behind,
    a_sealed_share_opens_under_its_own_key_share_only,
    after_a_crash_before_the_commit_old_and_new_shares_open,
    what_a_crash_left_is_found_and_collected,
    the_only_share_of_a_key_share_is_never_destroyed,
    nonces_that_were_never_handed_out_are_unknown,
    settled_nonces_are_unknown,
    old_unused_nonces_are_purged_and_bound_ones_kept,
    two_jobs_of_one_batch_cannot_share_nonces,
    a_large_batch_is_signed_in_order,
    the_identity_key_signs_and_derives,
}

async fn sign(network: &Network, leaf: &Leaf, job: &Job, signers: &[usize]) -> Vec<KeyOutput> {
    let mut outputs = Vec::new();
    for signer in signers {
        let key = network.key_job(leaf, *signer, None, vec![job.sign_job(false)]);
        let signer = network.operators[*signer].signer();
        outputs.push(signer.execute(vec![key]).await.unwrap().remove(0));
    }
    outputs
}

fn by_operator(
    signers: &[usize],
    outputs: &[KeyOutput],
) -> BTreeMap<OperatorIndex, tinderbox_frost::SignatureShare> {
    signers
        .iter()
        .zip(outputs)
        .map(|(signer, output)| (OperatorIndex(*signer as u16), output.shares[0]))
        .collect()
}

/// One tweak at every operator, with one signature by `signers`; settled if asked.
async fn rotate(
    network: &Network,
    leaf: &mut Leaf,
    send: bool,
    signers: &[usize],
    settle: bool,
) -> Vec<tinderbox_flows::secret::SealedShare> {
    let dealt = Dealt::new(leaf.id, &leaf.owner);
    let staged = network.open(&dealt, send).await;
    let job = network.job(leaf, signers).await;
    let mut sealed = Vec::new();
    let mut shares = BTreeMap::new();
    for (place, operator) in network.operators.iter().enumerate() {
        let mut jobs = Vec::new();
        if signers.contains(&place) {
            // A send signs with the old share; a claim with the new one.
            jobs.push(job.sign_job(!send));
        }
        let key = network.key_job(leaf, place, Some(staged[place].clone()), jobs);
        operator.signer().reserve(vec![key.clone()]).await.unwrap();
        let output = operator
            .signer()
            .execute(vec![key])
            .await
            .unwrap()
            .remove(0);
        sealed.push(output.sealed.clone().unwrap());
        if let Some(share) = output.shares.first() {
            shares.insert(operator.index, *share);
        }
    }
    let old = leaf.keyshare.sealed.clone();
    let package = job.package.clone();
    if send {
        job.finish(&leaf.owner, &leaf.keyshare.public_shares, &shares);
        leaf.tweaked(dealt, sealed);
    } else {
        leaf.tweaked(dealt, sealed);
        job.finish(&leaf.owner, &leaf.keyshare.public_shares, &shares);
    }
    if settle {
        for (place, operator) in network.operators.iter().enumerate() {
            let used = package.operators.get(&operator.index).copied();
            operator
                .signer()
                .settle(vec![old[place].clone()], used.into_iter().collect())
                .await
                .unwrap();
        }
    }
    old
}

async fn signatures_verify_before_and_after_a_send_and_a_claim(mode: Mode) {
    let network = Network::start(mode).await;
    let mut leaf = network.leaf().await;
    for (send, signers) in [
        (true, [0, 1]),
        (false, [1, 2]),
        (true, [0, 2]),
        (false, [0, 1]),
    ] {
        let job = network.job(&leaf, &signers).await;
        let outputs = sign(&network, &leaf, &job, &signers).await;
        let shares = by_operator(&signers, &outputs);
        job.finish(&leaf.owner, &leaf.keyshare.public_shares, &shares);
        rotate(&network, &mut leaf, send, &signers, true).await;
    }
    let all = [0, 1, 2];
    let job = network.job(&leaf, &all).await;
    let outputs = sign(&network, &leaf, &job, &all).await;
    let shares = by_operator(&all, &outputs);
    job.finish(&leaf.owner, &leaf.keyshare.public_shares, &shares);
}

async fn case_14_a_commitment_signs_one_message_for_ever(mode: Mode) {
    let mut network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let job = network.job(&leaf, &[0, 1]).await;
    let first = network.key_job(&leaf, 0, None, vec![job.sign_job(false)]);
    let shares = network.operators[0]
        .signer()
        .execute(vec![first.clone()])
        .await
        .unwrap();
    let changes: Vec<fn(&mut SigningPackage)> = vec![
        |package| package.message[0] ^= 1,
        |package| package.user = None,
        |package| package.adaptor = Some(package.verifying_key),
        |package| {
            let point = SecretScalar::random(&mut rand::rngs::OsRng).public_key();
            package.verifying_key = tweak::add_points(&package.verifying_key, &point).unwrap();
        },
        |package| {
            let other = package.operators.get_mut(&OperatorIndex(1)).unwrap();
            std::mem::swap(&mut other.hiding, &mut other.binding);
        },
    ];
    // The database may be restored, the vault not: what was handed out before stays bound.
    for round in 0..3 {
        let signer = network.operators[0].signer();
        for change in &changes {
            let mut other = first.clone();
            change(&mut other.jobs[0].package);
            let refused = signer.execute(vec![other.clone()]).await;
            assert_eq!(refused.unwrap_err(), SignerError::NonceReuse);
            let refused = signer.reserve(vec![other]).await;
            assert_eq!(refused.unwrap_err(), SignerError::NonceReuse);
        }
        let again = signer.execute(vec![first.clone()]).await.unwrap();
        assert_eq!(again, shares);
        if round < 2 {
            network.operators[0].restart().await;
        }
    }
}

async fn case_14_a_commitment_signs_with_one_share_for_ever(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let dealt = Dealt::new(leaf.id, &leaf.owner);
    let staged = network.open(&dealt, true).await;
    let job = network.job(&leaf, &[0, 1]).await;
    let signer = network.operators[0].signer();
    let before = network.key_job(&leaf, 0, Some(staged[0].clone()), vec![job.sign_job(false)]);
    signer.execute(vec![before]).await.unwrap();
    // The same package with the share after the tweak would give away the tweak.
    let after = network.key_job(&leaf, 0, Some(staged[0].clone()), vec![job.sign_job(true)]);
    assert_eq!(
        signer.execute(vec![after]).await.unwrap_err(),
        SignerError::NonceReuse
    );
    // And with another key share, the difference of the two.
    let other = network.leaf().await;
    let other = network.key_job(&other, 0, None, vec![job.sign_job(false)]);
    assert_eq!(
        signer.execute(vec![other]).await.unwrap_err(),
        SignerError::NonceReuse
    );
}

/// Case 18: binding factors do not cover the adaptor, so nonces of many adaptor signatures must not
/// be known together.
async fn adaptor_signatures_take_young_nonces_only(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let mut keys = Vec::new();
    for adaptor in [true, true, false] {
        let job = network.job(&leaf, &[0, 1]).await;
        let mut key = network.key_job(&leaf, 0, None, vec![job.sign_job(false)]);
        let package = &mut key.jobs[0].package;
        package.adaptor = adaptor.then_some(package.verifying_key);
        keys.push(key);
    }
    let [bound, unbound, plain] = <[KeyJob; 3]>::try_from(keys).unwrap();
    let signer = network.operators[0].signer();
    signer.reserve(vec![bound.clone()]).await.unwrap();
    network.operators[0].clock.advance(181);
    // A flow that was given up has bound its nonces and signed nothing: it does not count.
    for old in [&bound, &unbound] {
        let refused = signer.reserve(vec![old.clone()]).await;
        assert_eq!(refused.unwrap_err(), SignerError::UnknownNonce);
    }
    signer.reserve(vec![plain]).await.unwrap();
    // What was voted on in time is signed, however long it took to decide.
    signer.execute(vec![bound]).await.unwrap();
}

async fn case_15_of_two_concurrent_executes_exactly_one_succeeds(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    for _ in 0..10 {
        let job = network.job(&leaf, &[0, 1]).await;
        let mut racers = Vec::new();
        for _ in 0..4 {
            let mut key = network.key_job(&leaf, 0, None, vec![job.sign_job(false)]);
            key.jobs[0].package.message = message();
            let signer = network.operators[0].shared();
            racers.push(tokio::spawn(async move { signer.execute(vec![key]).await }));
        }
        let mut won = 0;
        for result in join_all(racers).await {
            match result.unwrap() {
                Ok(_) => won += 1,
                Err(error) => assert_eq!(error, SignerError::NonceReuse),
            }
        }
        assert_eq!(won, 1);
    }
}

async fn case_16_a_job_without_the_own_commitment_or_of_another_operator_set_is_refused(
    mode: Mode,
) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let job = network.job(&leaf, &[0, 1]).await;
    let good = network.key_job(&leaf, 0, None, vec![job.sign_job(false)]);
    type Case = (fn(&mut SigningPackage), &'static str);
    let changes: Vec<Case> = vec![
        (
            |package| {
                package.operators.remove(&OperatorIndex(0));
            },
            "operator 0 is not among its signers",
        ),
        (
            |package| {
                package.operators.remove(&OperatorIndex(1));
            },
            "",
        ),
        (|package| package.threshold = 1, "threshold is 1"),
        (|package| package.threshold = 3, "threshold is 3"),
        (
            |package| {
                let stranger = own(package, 1);
                package.operators.insert(OperatorIndex(3), stranger);
            },
            "names operator 3, of 3 operators",
        ),
        (
            |package| {
                let own = own(package, 0);
                package.operators.insert(OperatorIndex(1), own);
            },
            "",
        ),
    ];
    let signer = network.operators[0].signer();
    for (change, expected) in changes {
        let mut bad = good.clone();
        change(&mut bad.jobs[0].package);
        for refused in [
            signer.reserve(vec![bad.clone()]).await.unwrap_err(),
            signer.execute(vec![bad]).await.unwrap_err(),
        ] {
            let SignerError::BadJob(text) = refused else {
                panic!("{refused}");
            };
            assert!(text.contains(expected), "{text}");
            assert!(text.contains(&hex::encode(leaf.keyshare.id)), "{text}");
        }
    }
    // None of them has bound the nonces.
    signer.execute(vec![good]).await.unwrap();
}

async fn case_16_swapped_commitments_are_refused(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let job = network.job(&leaf, &[0, 1]).await;
    let mut bad = network.key_job(&leaf, 0, None, vec![job.sign_job(false)]);
    let operators = &mut bad.jobs[0].package.operators;
    let (zero, one) = (operators[&OperatorIndex(0)], operators[&OperatorIndex(1)]);
    operators.insert(OperatorIndex(0), one);
    operators.insert(OperatorIndex(1), zero);
    let signer = network.operators[0].signer();
    assert_eq!(
        signer.execute(vec![bad]).await.unwrap_err(),
        SignerError::UnknownNonce
    );
}

async fn case_25_after_settling_the_old_share_and_its_key_are_gone(mode: Mode) {
    let mut network = Network::start(mode).await;
    let mut leaf = network.leaf().await;
    let keys: Vec<[u8; 32]> = (0..3)
        .map(|place| network.operators[place].sealing_key(&leaf.keyshare.sealed[place]))
        .collect();
    for (place, key) in keys.iter().enumerate() {
        let files = network.operators[place].files();
        assert!(files.windows(32).any(|part| part == key));
    }
    let old = rotate(&network, &mut leaf, true, &[0, 1], true).await;
    for restarted in [false, true] {
        for place in 0..3 {
            if restarted {
                network.operators[place].restart().await;
            }
            let operator = &network.operators[place];
            let files = operator.files();
            assert!(!files.windows(32).any(|part| part == keys[place]));
            let mut job = network.key_job(&leaf, place, None, Vec::new());
            operator.signer().reserve(vec![job.clone()]).await.unwrap();
            job.sealed = old[place].clone();
            let refused = operator.signer().reserve(vec![job]).await.unwrap_err();
            assert_eq!(refused, SignerError::Stale(leaf.keyshare.id));
        }
    }
    // Settling is idempotent.
    for (place, operator) in network.operators.iter().enumerate() {
        operator
            .signer()
            .settle(vec![old[place].clone()], Vec::new())
            .await
            .unwrap();
        let job = network.key_job(&leaf, place, None, Vec::new());
        operator.signer().reserve(vec![job]).await.unwrap();
    }
}

async fn case_26_a_share_of_a_restored_backup_is_stale(mode: Mode) {
    let mut network = Network::start(mode).await;
    let mut leaf = network.leaf().await;
    let yesterday = leaf.keyshare.clone();
    rotate(&network, &mut leaf, true, &[0, 1], true).await;
    rotate(&network, &mut leaf, false, &[0, 1], true).await;
    network.operators[0].restart().await;
    let job = network.job(&leaf, &[0, 1]).await;
    let mut key = network.key_job(&leaf, 0, None, vec![job.sign_job(false)]);
    key.sealed = yesterday.sealed[0].clone();
    let signer = network.operators[0].signer();
    let refused = signer.execute(vec![key.clone()]).await.unwrap_err();
    assert_eq!(refused, SignerError::Stale(yesterday.id));
    assert!(refused.to_string().contains("do not restore backups"));
    // The refusal used nothing up.
    key.sealed = leaf.keyshare.sealed[0].clone();
    signer.execute(vec![key]).await.unwrap();
}

async fn reserving_is_idempotent_and_survives_a_restart(mode: Mode) {
    let mut network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let job = network.job(&leaf, &[0, 1]).await;
    let key = network.key_job(&leaf, 0, None, vec![job.sign_job(false)]);
    let mut other = key.clone();
    other.jobs[0].package.message = message();
    for _ in 0..2 {
        let signer = network.operators[0].signer();
        signer.reserve(vec![key.clone()]).await.unwrap();
        signer.reserve(vec![key.clone()]).await.unwrap();
        let refused = signer.execute(vec![other.clone()]).await.unwrap_err();
        assert_eq!(refused, SignerError::NonceReuse);
        network.operators[0].restart().await;
    }
    let outputs = sign(&network, &leaf, &job, &[0, 1]).await;
    let shares = by_operator(&[0, 1], &outputs);
    job.finish(&leaf.owner, &leaf.keyshare.public_shares, &shares);
}

async fn executing_again_gives_the_same_shares(mode: Mode) {
    let mut network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let dealt = Dealt::new(leaf.id, &leaf.owner);
    let staged = network.open(&dealt, true).await;
    let job = network.job(&leaf, &[0, 1]).await;
    let jobs = vec![job.sign_job(false)];
    let key = network.key_job(&leaf, 0, Some(staged[0].clone()), jobs);
    let first = network.operators[0]
        .signer()
        .execute(vec![key.clone()])
        .await
        .unwrap();
    for _ in 0..2 {
        let again = network.operators[0]
            .signer()
            .execute(vec![key.clone()])
            .await
            .unwrap();
        // Soon after, even the sealed share is the same: no garbage.
        assert_eq!(again, first);
        network.operators[0].restart().await;
    }
    network.operators[0].clock.advance(3600);
    let later = network.operators[0]
        .signer()
        .execute(vec![key])
        .await
        .unwrap();
    assert_eq!(later[0].shares, first[0].shares);
    assert_ne!(later[0].sealed, first[0].sealed);
}

async fn a_refused_batch_leaves_nothing_behind(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let other = network.leaf().await;
    let first = network.job(&leaf, &[0, 1]).await;
    let second = network.job(&other, &[0, 1]).await;
    let good = network.key_job(&leaf, 0, None, vec![first.sign_job(false)]);
    let mut bad = network.key_job(&other, 0, None, vec![second.sign_job(false)]);
    bad.keyshare = [7; 16];
    let signer = network.operators[0].signer();
    let batch = vec![good.clone(), bad];
    assert_eq!(
        signer.reserve(batch.clone()).await.unwrap_err(),
        SignerError::Stale([7; 16])
    );
    assert_eq!(
        signer.execute(batch).await.unwrap_err(),
        SignerError::Stale([7; 16])
    );
    // The nonces of the good job are free for another message still.
    let mut changed = good;
    changed.jobs[0].package.message = message();
    signer.execute(vec![changed]).await.unwrap();
}

async fn a_sealed_share_opens_under_its_own_key_share_only(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let other = network.leaf().await;
    let signer = network.operators[0].signer();
    let good = network.key_job(&leaf, 0, None, Vec::new());
    signer.reserve(vec![good.clone()]).await.unwrap();
    let wrong = KeyJob {
        keyshare: other.keyshare.id,
        ..good.clone()
    };
    let refused = signer.reserve(vec![wrong]).await.unwrap_err();
    assert_eq!(refused, SignerError::Stale(other.keyshare.id));
    // Of another operator: places may coincide, keys do not.
    let foreign = KeyJob {
        sealed: leaf.keyshare.sealed[1].clone(),
        ..good.clone()
    };
    let refused = signer.reserve(vec![foreign]).await.unwrap_err();
    assert_eq!(refused, SignerError::Stale(leaf.keyshare.id));
    for bytes in [Vec::new(), vec![9; 61], good.sealed.0[..60].to_vec()] {
        let mut garbled = good.clone();
        garbled.sealed.0 = bytes;
        let refused = signer.reserve(vec![garbled]).await.unwrap_err();
        assert!(matches!(refused, SignerError::BadJob(_)), "{refused}");
    }
    let mut garbled = good.clone();
    garbled.sealed.0[20] ^= 1;
    let refused = signer.execute(vec![garbled]).await.unwrap_err();
    assert_eq!(refused, SignerError::Stale(leaf.keyshare.id));
}

async fn after_a_crash_before_the_commit_old_and_new_shares_open(mode: Mode) {
    let mut network = Network::start(mode).await;
    let mut leaf = network.leaf().await;
    let old = rotate(&network, &mut leaf, true, &[0, 1], false).await;
    for operator in &mut network.operators {
        operator.restart().await;
    }
    for (place, operator) in network.operators.iter().enumerate() {
        let new = network.key_job(&leaf, place, None, Vec::new());
        let before = KeyJob {
            sealed: old[place].clone(),
            ..new.clone()
        };
        operator.signer().reserve(vec![before, new]).await.unwrap();
    }
}

async fn what_a_crash_left_is_found_and_collected(mode: Mode) {
    let mut network = Network::start(mode).await;
    let mut leaf = network.leaf().await;
    let settled = network.leaf().await;
    let old = rotate(&network, &mut leaf, true, &[0, 1], false).await;
    network.operators[0].clock.advance(100);
    network.operators[0].restart().await;
    let id = leaf.keyshare.id;
    let signer = network.operators[0].signer();
    assert_eq!(signer.unsettled(10).await.unwrap(), [id]);
    assert!(signer.unsettled(0).await.unwrap().is_empty());
    // Young ones may be on their way to the database.
    let current = vec![(id, leaf.keyshare.sealed[0].clone())];
    assert_eq!(signer.collect(current.clone(), 100).await.unwrap(), 0);
    assert_eq!(signer.unsettled(10).await.unwrap(), [id]);
    // Somebody who does not know the current share cannot destroy any.
    let wrong = vec![(id, settled.keyshare.sealed[0].clone())];
    assert_eq!(
        signer.collect(wrong, 1).await.unwrap_err(),
        SignerError::Stale(id)
    );
    assert_eq!(signer.collect(current.clone(), 1).await.unwrap(), 1);
    assert_eq!(signer.collect(current, 1).await.unwrap(), 0);
    assert!(signer.unsettled(10).await.unwrap().is_empty());
    let new = network.key_job(&leaf, 0, None, Vec::new());
    signer.reserve(vec![new.clone()]).await.unwrap();
    let before = KeyJob {
        sealed: old[0].clone(),
        ..new
    };
    assert_eq!(
        signer.reserve(vec![before]).await.unwrap_err(),
        SignerError::Stale(id)
    );
}

async fn the_only_share_of_a_key_share_is_never_destroyed(mode: Mode) {
    let network = Network::start(mode).await;
    let mut leaf = network.leaf().await;
    let signer = network.operators[0].signer();
    let only = leaf.keyshare.sealed[0].clone();
    let refused = signer
        .settle(vec![only.clone()], Vec::new())
        .await
        .unwrap_err();
    assert!(matches!(refused, SignerError::BadJob(_)), "{refused}");
    let old = rotate(&network, &mut leaf, true, &[0, 1], false).await;
    // Old and new at once would leave nothing.
    let both = vec![old[0].clone(), leaf.keyshare.sealed[0].clone()];
    let refused = signer.settle(both, Vec::new()).await.unwrap_err();
    assert!(matches!(refused, SignerError::BadJob(_)), "{refused}");
    // Nor does a forged reference destroy anything.
    let mut forged = old[0].clone();
    forged.0[30] ^= 1;
    let refused = signer.settle(vec![forged], Vec::new()).await.unwrap_err();
    assert!(matches!(refused, SignerError::BadJob(_)), "{refused}");
    for sealed in [&old[0], &leaf.keyshare.sealed[0]] {
        let mut job = network.key_job(&leaf, 0, None, Vec::new());
        job.sealed = sealed.clone();
        signer.reserve(vec![job]).await.unwrap();
    }
}

async fn nonces_that_were_never_handed_out_are_unknown(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let job = network.job(&leaf, &[0, 1]).await;
    let mut key = network.key_job(&leaf, 0, None, vec![job.sign_job(false)]);
    let foreign = tinderbox_frost::Nonces::generate(&mut rand::rngs::OsRng).commitment();
    key.jobs[0]
        .package
        .operators
        .insert(OperatorIndex(0), foreign);
    let signer = network.operators[0].signer();
    assert_eq!(
        signer.reserve(vec![key.clone()]).await.unwrap_err(),
        SignerError::UnknownNonce
    );
    assert_eq!(
        signer.execute(vec![key]).await.unwrap_err(),
        SignerError::UnknownNonce
    );
}

async fn settled_nonces_are_unknown(mode: Mode) {
    let mut network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let job = network.job(&leaf, &[0, 1]).await;
    let key = network.key_job(&leaf, 0, None, vec![job.sign_job(false)]);
    let used = own(&job.package, 0);
    network.operators[0]
        .signer()
        .execute(vec![key.clone()])
        .await
        .unwrap();
    for _ in 0..2 {
        let signer = network.operators[0].signer();
        signer.settle(Vec::new(), vec![used]).await.unwrap();
        let refused = signer.execute(vec![key.clone()]).await.unwrap_err();
        assert_eq!(refused, SignerError::UnknownNonce);
        network.operators[0].restart().await;
    }
}

async fn old_unused_nonces_are_purged_and_bound_ones_kept(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let signer = network.operators[0].signer();
    let bound = network.job(&leaf, &[0, 1]).await;
    let bound = network.key_job(&leaf, 0, None, vec![bound.sign_job(false)]);
    signer.reserve(vec![bound.clone()]).await.unwrap();
    let old = network.job(&leaf, &[0, 1]).await;
    let old = network.key_job(&leaf, 0, None, vec![old.sign_job(false)]);
    let many = signer.nonces(700).await.unwrap();
    assert_eq!(many.len(), 700);
    network.operators[0].clock.advance(1000);
    let young = network.job(&leaf, &[0, 1]).await;
    let young = network.key_job(&leaf, 0, None, vec![young.sign_job(false)]);
    assert_eq!(signer.purge_nonces(1000).await.unwrap(), 0);
    assert_eq!(signer.purge_nonces(999).await.unwrap(), 701);
    assert_eq!(signer.purge_nonces(999).await.unwrap(), 0);
    assert_eq!(
        signer.execute(vec![old]).await.unwrap_err(),
        SignerError::UnknownNonce
    );
    signer.execute(vec![bound, young]).await.unwrap();
    let refused = signer.nonces(1_000_000).await.unwrap_err();
    assert!(matches!(refused, SignerError::BadJob(_)), "{refused}");
    assert!(signer.nonces(0).await.unwrap().is_empty());
}

async fn two_jobs_of_one_batch_cannot_share_nonces(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let job = network.job(&leaf, &[0, 1]).await;
    let mut key = network.key_job(
        &leaf,
        0,
        None,
        vec![job.sign_job(false), job.sign_job(false)],
    );
    let signer = network.operators[0].signer();
    let mut different = key.clone();
    different.jobs[1].package.message = message();
    assert_eq!(
        signer.execute(vec![different]).await.unwrap_err(),
        SignerError::NonceReuse
    );
    // Twice the same is the same.
    let outputs = signer.execute(vec![key.clone()]).await.unwrap();
    assert_eq!(outputs[0].shares[0], outputs[0].shares[1]);
    key.jobs[1].after_tweak = true;
    let refused = signer.execute(vec![key]).await.unwrap_err();
    assert!(matches!(refused, SignerError::BadJob(_)), "{refused}");
}

async fn a_large_batch_is_signed_in_order(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let mut jobs = Vec::new();
    for _ in 0..20 {
        jobs.push(network.job(&leaf, &[0, 1]).await);
    }
    let mut shares: Vec<BTreeMap<_, _>> = vec![BTreeMap::new(); jobs.len()];
    for place in [0, 1] {
        let keys: Vec<KeyJob> = jobs
            .chunks(2)
            .map(|jobs| {
                let jobs = jobs.iter().map(|job| job.sign_job(false)).collect();
                network.key_job(&leaf, place, None, jobs)
            })
            .collect();
        let operator = &network.operators[place];
        let outputs = operator.signer().execute(keys).await.unwrap();
        let all = outputs.iter().flat_map(|output| &output.shares);
        for (shares, share) in shares.iter_mut().zip(all) {
            shares.insert(operator.index, *share);
        }
    }
    for (job, shares) in jobs.into_iter().zip(shares) {
        job.finish(&leaf.owner, &leaf.keyshare.public_shares, &shares);
    }
}

async fn the_identity_key_signs_and_derives(mode: Mode) {
    use bitcoin::secp256k1::{Message, SECP256K1, ecdsa::Signature};
    use sha2::{Digest, Sha256};
    let network = Network::start(mode).await;
    let operator = &network.operators[0];
    let signer = operator.signer();
    assert_eq!(signer.identity(), common::identity_of(&operator.secret));
    for count in [0, 1, 40] {
        let digests: Vec<[u8; 32]> = (0..count).map(|_| message()).collect();
        let signatures = signer.sign(digests.clone()).await.unwrap();
        assert_eq!(signatures.len(), count);
        for (digest, der) in digests.iter().zip(&signatures) {
            let signature = Signature::from_der(der).unwrap();
            let mut low = signature;
            low.normalize_s();
            assert_eq!(low, signature);
            SECP256K1
                .verify_ecdsa(
                    &Message::from_digest(*digest),
                    &signature,
                    &signer.identity(),
                )
                .unwrap();
        }
        assert_eq!(signer.sign(digests).await.unwrap(), signatures);
    }
    let mut input = operator.secret.secret_bytes().to_vec();
    input.extend(b"AUTH_SESSION_SECRET_v1");
    let expected: [u8; 32] = Sha256::digest(&input).into();
    let derived = signer.derive("AUTH_SESSION_SECRET_v1").await.unwrap();
    assert_eq!(*derived, expected);
}
