//! Key generation by three signers, honest and not.

mod common;

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use common::{Mode, Network};
use rand::Rng;
use rand::rngs::OsRng;
use tinderbox_frost::dkg::Round1Package;
use tinderbox_frost::{OperatorIndex, feldman};
use tinderbox_signer::SignerError;
use zeroize::Zeroizing;

for_both! {
    all_signers_hold_consistent_shares_of_every_key,
    case_23_a_wrong_proof_of_knowledge_aborts_and_names_its_maker,
    case_23_a_silent_operator_aborts_in_each_round,
    case_23_a_hijacked_index_is_refused,
    case_23_a_rogue_key_is_refused,
    case_23_a_wrong_share_aborts_and_names_its_maker,
    case_23_equivocation_never_gets_two_answers,
    each_step_may_be_repeated_and_gives_the_same,
    steps_out_of_order_are_refused,
    runs_are_limited_and_forgotten,
    key_share_ids_are_used_once,
    finished_runs_do_not_count,
    shares_that_were_kept_serve_the_last_round,
}

type Packages = BTreeMap<OperatorIndex, Vec<Round1Package>>;
type Dealt = BTreeMap<OperatorIndex, Vec<Zeroizing<[u8; 32]>>>;

const COUNT: u32 = 3;

fn ids() -> Vec<[u8; 16]> {
    (0..COUNT).map(|_| OsRng.r#gen()).collect()
}

async fn round1(network: &Network, run: [u8; 16]) -> Packages {
    let mut packages = Packages::new();
    for operator in &network.operators {
        let made = operator.signer().dkg_round1(run, COUNT).await.unwrap();
        packages.insert(operator.index, made);
    }
    packages
}

async fn round2(network: &Network, run: [u8; 16], packages: &Packages) -> Vec<Dealt> {
    let mut inbox = vec![Dealt::new(); network.operators.len()];
    for operator in &network.operators {
        let out = operator
            .signer()
            .dkg_round2(run, packages.clone())
            .await
            .unwrap();
        assert!(!out.contains_key(&operator.index));
        for (peer, shares) in out {
            inbox[usize::from(peer.0)].insert(operator.index, shares);
        }
    }
    inbox
}

fn dkg_text<T>(result: Result<T, SignerError>) -> String {
    match result.err().unwrap() {
        SignerError::Dkg(text) => text,
        other => panic!("{other}"),
    }
}

/// That nothing was stored: the run's ids are free.
async fn nothing_stored(network: &Network, operator: usize, sealing_keys: usize) {
    let local = network.operators[operator].vault();
    let file = std::fs::read(local).unwrap();
    let stored = file[4096..].chunks(128).filter(|slot| slot[0] == 1).count();
    assert_eq!(stored, sealing_keys);
}

async fn all_signers_hold_consistent_shares_of_every_key(mode: Mode) {
    let network = Network::start(mode).await;
    // The helper compares group keys and public shares across operators.
    let keys = network.keyshares(20).await;
    for key in &keys {
        for set in [[0, 1], [0, 2], [1, 2]] {
            let chosen: BTreeMap<OperatorIndex, PublicKey> = set
                .into_iter()
                .map(OperatorIndex)
                .map(|index| (index, key.public_shares[&index]))
                .collect();
            assert_eq!(feldman::recover_public(&chosen).unwrap(), key.group_key);
        }
    }
    let different: std::collections::BTreeSet<_> = keys.iter().map(|key| key.group_key).collect();
    assert_eq!(different.len(), 20);
}

async fn case_23_a_wrong_proof_of_knowledge_aborts_and_names_its_maker(mode: Mode) {
    let network = Network::start(mode).await;
    let run = [1; 16];
    let mut packages = round1(&network, run).await;
    packages.get_mut(&OperatorIndex(2)).unwrap()[1]
        .proof
        .response[5] ^= 1;
    let signer = network.operators[0].signer();
    let text = dkg_text(signer.dkg_round2(run, packages.clone()).await);
    assert!(text.contains("operator 2"), "{text}");
    // Aborted is aborted: the correct packages come too late.
    packages.get_mut(&OperatorIndex(2)).unwrap()[1]
        .proof
        .response[5] ^= 1;
    assert_eq!(dkg_text(signer.dkg_round2(run, packages).await), text);
    assert_eq!(dkg_text(signer.dkg_round1(run, COUNT).await), text);
    assert_eq!(
        dkg_text(signer.dkg_finish(run, ids(), Dealt::new()).await),
        text
    );
    nothing_stored(&network, 0, 0).await;
}

async fn case_23_a_silent_operator_aborts_in_each_round(mode: Mode) {
    let network = Network::start(mode).await;
    let packages = round1(&network, [1; 16]).await;
    let mut silent = packages.clone();
    silent.remove(&OperatorIndex(1));
    let signer = network.operators[0].signer();
    let text = dkg_text(signer.dkg_round2([1; 16], silent).await);
    assert!(text.contains("operator 1"), "{text}");
    let packages = round1(&network, [2; 16]).await;
    let mut inbox = round2(&network, [2; 16], &packages).await;
    inbox[0].remove(&OperatorIndex(2));
    let text = dkg_text(signer.dkg_finish([2; 16], ids(), inbox[0].clone()).await);
    assert!(text.contains("operator 2"), "{text}");
    nothing_stored(&network, 0, 0).await;
}

async fn case_23_a_hijacked_index_is_refused(mode: Mode) {
    let network = Network::start(mode).await;
    let signer = network.operators[0].signer();
    // Somebody speaks for operator 0 itself.
    let mut packages = round1(&network, [1; 16]).await;
    let foreign = packages[&OperatorIndex(1)].clone();
    packages.insert(OperatorIndex(0), foreign);
    dkg_text(signer.dkg_round2([1; 16], packages).await);
    // Somebody takes over another one's package.
    let mut packages = round1(&network, [2; 16]).await;
    let foreign = packages[&OperatorIndex(1)].clone();
    packages.insert(OperatorIndex(2), foreign);
    let text = dkg_text(signer.dkg_round2([2; 16], packages).await);
    assert!(text.contains("operator 2"), "{text}");
    // A fourth of three.
    let mut packages = round1(&network, [3; 16]).await;
    let foreign = packages[&OperatorIndex(1)].clone();
    packages.insert(OperatorIndex(3), foreign);
    let text = dkg_text(signer.dkg_round2([3; 16], packages).await);
    assert!(text.contains("operator 3"), "{text}");
}

async fn case_23_a_rogue_key_is_refused(mode: Mode) {
    use bitcoin::secp256k1::SECP256K1;
    let network = Network::start(mode).await;
    let run = [1; 16];
    let mut packages = round1(&network, run).await;
    // The last one to speak cancels the first one's commitment, to own the key alone.
    let cancelled = packages[&OperatorIndex(0)][0].commitments[0].negate(SECP256K1);
    let rogue = &mut packages.get_mut(&OperatorIndex(2)).unwrap()[0].commitments[0];
    *rogue = rogue.combine(&cancelled).unwrap();
    let text = dkg_text(
        network.operators[1]
            .signer()
            .dkg_round2(run, packages)
            .await,
    );
    assert!(text.contains("operator 2"), "{text}");
}

async fn case_23_a_wrong_share_aborts_and_names_its_maker(mode: Mode) {
    let network = Network::start(mode).await;
    let run = [1; 16];
    let packages = round1(&network, run).await;
    let mut inbox = round2(&network, run, &packages).await;
    inbox[0].get_mut(&OperatorIndex(1)).unwrap()[2][31] ^= 1;
    let signer = network.operators[0].signer();
    let text = dkg_text(signer.dkg_finish(run, ids(), inbox[0].clone()).await);
    assert!(
        text.contains("operator 1") && !text.contains("operator 2"),
        "{text}"
    );
    nothing_stored(&network, 0, 0).await;
    // The others are not hurt.
    let signer = network.operators[1].signer();
    signer
        .dkg_finish(run, ids(), inbox[1].clone())
        .await
        .unwrap();
    nothing_stored(&network, 1, 3).await;
}

async fn case_23_equivocation_never_gets_two_answers(mode: Mode) {
    let network = Network::start(mode).await;
    let run = [1; 16];
    let packages = round1(&network, run).await;
    let signer = network.operators[0].signer();
    signer.dkg_round2(run, packages.clone()).await.unwrap();
    let mut other = packages.clone();
    let second = network.operators[2]
        .signer()
        .dkg_round1([2; 16], COUNT)
        .await
        .unwrap();
    other.insert(OperatorIndex(2), second);
    let text = dkg_text(signer.dkg_round2(run, other).await);
    assert!(text.contains("the packages differ"), "{text}");
}

async fn each_step_may_be_repeated_and_gives_the_same(mode: Mode) {
    let network = Network::start(mode).await;
    let run = [1; 16];
    let packages = round1(&network, run).await;
    assert_eq!(round1(&network, run).await, packages);
    let inbox = round2(&network, run, &packages).await;
    assert_eq!(round2(&network, run, &packages).await, inbox);
    let ids = ids();
    let signer = network.operators[0].signer();
    let keys = signer
        .dkg_finish(run, ids.clone(), inbox[0].clone())
        .await
        .unwrap();
    let again = signer.dkg_finish(run, ids, inbox[0].clone()).await.unwrap();
    assert_eq!(keys, again);
    nothing_stored(&network, 0, 3).await;
    let other = self::ids();
    dkg_text(signer.dkg_finish(run, other, inbox[0].clone()).await);
    dkg_text(signer.dkg_round1(run, COUNT).await);
}

async fn steps_out_of_order_are_refused(mode: Mode) {
    let network = Network::start(mode).await;
    let signer = network.operators[0].signer();
    let run = [1; 16];
    let text = dkg_text(signer.dkg_round2(run, Packages::new()).await);
    assert!(text.contains("unknown"), "{text}");
    let text = dkg_text(signer.dkg_finish(run, ids(), Dealt::new()).await);
    assert!(text.contains("unknown"), "{text}");
    let packages = round1(&network, run).await;
    let text = dkg_text(signer.dkg_finish(run, ids(), Dealt::new()).await);
    assert!(text.contains("second round"), "{text}");
    // Wrong numbers of things are no reason to abort: the caller may correct itself.
    let mut short = packages.clone();
    short.get_mut(&OperatorIndex(1)).unwrap().pop();
    let text = dkg_text(signer.dkg_round2(run, short).await);
    assert!(text.contains("operator 1"), "{text}");
    let inbox = round2(&network, run, &packages).await;
    let mut few = ids();
    few.pop();
    dkg_text(signer.dkg_finish(run, few, inbox[0].clone()).await);
    dkg_text(
        signer
            .dkg_finish(run, vec![[5; 16]; 3], inbox[0].clone())
            .await,
    );
    let mut short = inbox[0].clone();
    short.get_mut(&OperatorIndex(2)).unwrap().pop();
    let text = dkg_text(signer.dkg_finish(run, ids(), short).await);
    assert!(text.contains("operator 2"), "{text}");
    signer
        .dkg_finish(run, ids(), inbox[0].clone())
        .await
        .unwrap();
}

async fn runs_are_limited_and_forgotten(mode: Mode) {
    let network = Network::start(mode).await;
    let signer = network.operators[0].signer();
    for run in 0..4 {
        signer.dkg_round1([run; 16], 1).await.unwrap();
    }
    let text = dkg_text(signer.dkg_round1([4; 16], 1).await);
    assert!(text.contains("4 runs are under way"), "{text}");
    network.operators[0].clock.advance(300);
    signer.dkg_round1([4; 16], 1).await.unwrap();
    let text = dkg_text(signer.dkg_round2([0; 16], Packages::new()).await);
    assert!(text.contains("took too long"), "{text}");
    for count in [0, 1001] {
        dkg_text(signer.dkg_round1([5; 16], count).await);
    }
}

async fn key_share_ids_are_used_once(mode: Mode) {
    let network = Network::start(mode).await;
    let ids = ids();
    let signer = network.operators[0].signer();
    for run in [[1; 16], [2; 16]] {
        let packages = round1(&network, run).await;
        let inbox = round2(&network, run, &packages).await;
        let made = signer.dkg_finish(run, ids.clone(), inbox[0].clone()).await;
        if run == [1; 16] {
            made.unwrap();
        } else {
            assert!(dkg_text(made).contains("exists already"));
        }
    }
}

async fn finished_runs_do_not_count(mode: Mode) {
    let network = Network::start(mode).await;
    for _ in 0..10 {
        network.keyshares(1).await;
    }
}

/// Shares may reach any of an operator's processes: the signer keeps them.
async fn shares_that_were_kept_serve_the_last_round(mode: Mode) {
    let network = Network::start(mode).await;
    let run = OsRng.r#gen();
    let packages = round1(&network, run).await;
    let inbox = round2(&network, run, &packages).await;
    let new = ids();
    let mut keys = Vec::new();
    for (operator, shares) in network.operators.iter().zip(&inbox) {
        let signer = operator.signer();
        assert_eq!(signer.dkg_taken(run).await.unwrap(), 0);
        for (from, shares) in shares {
            let few = dkg_text(signer.dkg_take(run, *from, shares[1..].to_vec()).await);
            assert!(few.contains("2 shares"), "{few}");
            signer.dkg_take(run, *from, shares.clone()).await.unwrap();
            // Another set does not replace the first.
            let other = vec![Zeroizing::new([1; 32]); shares.len()];
            signer.dkg_take(run, *from, other).await.unwrap();
        }
        assert_eq!(signer.dkg_taken(run).await.unwrap(), 2);
        let made = signer
            .dkg_finish(run, new.clone(), Dealt::new())
            .await
            .unwrap();
        let again = signer
            .dkg_finish(run, new.clone(), Dealt::new())
            .await
            .unwrap();
        assert!(made == again, "asked again it gives the same");
        assert_eq!(
            signer.dkg_taken(run).await.unwrap(),
            0,
            "kept shares are gone"
        );
        let others = dkg_text(signer.dkg_finish(run, ids(), Dealt::new()).await);
        assert!(others.contains("over"), "{others}");
        keys.push(made);
    }
    for key in 0..new.len() {
        for made in &keys {
            assert_eq!(made[key].group_key, keys[0][key].group_key);
            assert_eq!(made[key].public_shares, keys[0][key].public_shares);
        }
    }
    let unknown = network.operators[0].signer().dkg_taken(OsRng.r#gen()).await;
    assert!(dkg_text(unknown).contains("unknown"));
}
