//! What the signer promises about its disk: nothing leaves before it is durable, and a killed
//! signer has lost nothing that it answered.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use bitcoin::secp256k1::SecretKey;
use common::{Dealt, Mode, Network, OPERATORS, THRESHOLD, message};
use rand::Rng;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use tinderbox_flows::job::{KeyJob, SignJob};
use tinderbox_flows::secret::SealedShare;
use tinderbox_frost::{
    NonceCommitment, Nonces, OperatorIndex, SecretScalar, SigningPackage, feldman,
};
use tinderbox_signer::{Identity, Local, LocalConfig, PlainTweak, Signer, SignerError};
use zeroize::Zeroizing;

#[tokio::test]
async fn nothing_leaves_before_it_is_on_disk() {
    let mut network = Network::start(Mode::Local).await;
    let leaf = network.leaf().await;
    let dealt = Dealt::new(leaf.id, &leaf.owner);
    let staged = network.open(&dealt, true).await.remove(0);
    let job = network.job(&leaf, &[0, 1]).await;
    network.operators[0].stop().await;
    let local = network.operators[0].open_local().unwrap();
    let mut syncs = local.syncs();
    let mut synced = |local: &Local| {
        let more = local.syncs() > syncs;
        syncs = local.syncs();
        more
    };
    local.nonces(1).await.unwrap();
    assert!(synced(&local), "nonces");
    let key = network.key_job(&leaf, 0, Some(staged), vec![job.sign_job(false)]);
    local.execute(vec![key]).await.unwrap();
    assert!(synced(&local), "a binding and a sealing key");
    network.operators[0].clock.advance(3600);
    local.epoch().await.unwrap();
    assert!(synced(&local), "the key of an epoch");
    local.dkg_round1([1; 16], 1).await.unwrap();
    assert!(!synced(&local), "the first round keeps nothing");
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (operator, operators, threshold) in [(0, 3, 1), (0, 3, 4), (3, 3, 2), (0, 0, 0)] {
        let opened = Local::open(
            Identity::generate(),
            &folder.path().join("vault"),
            LocalConfig::new(OperatorIndex(operator), operators, threshold),
        );
        assert!(matches!(opened.err(), Some(SignerError::Vault(_))));
    }
}

const CHILD: &str = "TINDERBOX_SIGNER_CHILD";

/// What the child needs to use a key share.
#[derive(Clone, Serialize, Deserialize)]
struct Order {
    secret: [u8; 32],
    keyshare: [u8; 16],
    sealed: SealedShare,
}

/// What the child has been answered.
#[derive(Serialize, Deserialize)]
enum Answered {
    Made(NonceCommitment),
    Reserved(SigningPackage),
    Signed(SigningPackage, [u8; 32]),
    Tweaked(SealedShare),
}

fn open(order: &Order, folder: &Path) -> Result<Local, SignerError> {
    Local::open(
        Identity::new(SecretKey::from_slice(&order.secret).unwrap()),
        &folder.join("vault"),
        LocalConfig::new(OperatorIndex(0), OPERATORS, THRESHOLD),
    )
}

fn package(own: NonceCommitment) -> SigningPackage {
    let stranger = Nonces::generate(&mut OsRng).commitment();
    SigningPackage {
        verifying_key: SecretScalar::random(&mut OsRng).public_key(),
        message: message(),
        operators: BTreeMap::from([(OperatorIndex(0), own), (OperatorIndex(1), stranger)]),
        user: None,
        adaptor: None,
        threshold: THRESHOLD,
    }
}

fn sign(order: &Order, package: &SigningPackage) -> Vec<KeyJob> {
    vec![KeyJob {
        keyshare: order.keyshare,
        sealed: order.sealed.clone(),
        tweak: None,
        jobs: vec![SignJob {
            package: package.clone(),
            after_tweak: false,
        }],
    }]
}

/// Not a test: the process that [`a_killed_signer_has_lost_nothing_that_it_answered`] kills. It
/// writes a line for each answer it got.
#[tokio::test]
#[ignore = "is started by another test, and killed by it"]
async fn child() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let folder = Path::new(&folder);
    let order: Order = postcard::from_bytes(&std::fs::read(folder.join("order")).unwrap()).unwrap();
    let signer = open(&order, folder).unwrap();
    let tell = |answered: &Answered| {
        let line = hex::encode(postcard::to_stdvec(answered).unwrap());
        let mut out = std::io::stdout().lock();
        writeln!(out, "answered {line}").unwrap();
        out.flush().unwrap();
    };
    loop {
        let made = signer.nonces(3).await.unwrap();
        for nonce in &made {
            tell(&Answered::Made(*nonce));
        }
        let reserved = package(made[0]);
        signer.reserve(sign(&order, &reserved)).await.unwrap();
        tell(&Answered::Reserved(reserved));
        let signed = package(made[1]);
        let outputs = signer.execute(sign(&order, &signed)).await.unwrap();
        tell(&Answered::Signed(signed, outputs[0].shares[0].0));
        let secret = SecretScalar::random(&mut OsRng);
        let dealt = feldman::split(&secret, THRESHOLD, OPERATORS, &mut OsRng).unwrap();
        let tweak = PlainTweak {
            leaf: common::leaf_id(),
            share: Zeroizing::new(dealt.shares[0].to_be_bytes().to_vec()),
            public_shares: feldman::evaluate_all(&dealt.proofs, OPERATORS).unwrap(),
            proofs: dealt.proofs,
        };
        let staged = signer.stage(vec![tweak]).await.unwrap().remove(0).staged;
        let job = KeyJob {
            keyshare: order.keyshare,
            sealed: order.sealed.clone(),
            tweak: Some(staged),
            jobs: Vec::new(),
        };
        let outputs = signer.execute(vec![job]).await.unwrap();
        tell(&Answered::Tweaked(outputs[0].sealed.clone().unwrap()));
    }
}

/// Runs the child until it has given `lines` answers, and kills it.
fn run_and_kill(folder: &Path, lines: usize) -> Vec<Answered> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut answered = Vec::new();
    for line in out.lines() {
        // The test harness writes a line of its own before, without an end.
        let Ok(line) = line else { break };
        if let Some((_, hex)) = line.split_once("answered ")
            && let Ok(bytes) = hex::decode(hex)
        {
            answered.push(postcard::from_bytes(&bytes).unwrap());
        }
        if answered.len() == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(answered.len() >= lines);
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_signer_has_lost_nothing_that_it_answered() {
    let mut network = Network::start(Mode::Local).await;
    let leaf = network.leaf().await;
    network.operators[0].stop().await;
    let operator = &network.operators[0];
    let folder = operator.folder.path();
    let order = Order {
        secret: operator.secret.secret_bytes(),
        keyshare: leaf.keyshare.id,
        sealed: leaf.keyshare.sealed[0].clone(),
    };
    std::fs::write(folder.join("order"), postcard::to_stdvec(&order).unwrap()).unwrap();
    for _ in 0..6 {
        let answered = run_and_kill(folder, OsRng.gen_range(1..60));
        let signer = open(&order, folder).unwrap();
        assert_eq!(signer.counts().unwrap().damaged, 0);
        let mut used = std::collections::BTreeSet::new();
        for answer in answered.iter().rev() {
            match answer {
                Answered::Tweaked(sealed) => {
                    let order = Order {
                        sealed: sealed.clone(),
                        ..order.clone()
                    };
                    let job = KeyJob {
                        jobs: Vec::new(),
                        ..sign(&order, &package(Nonces::generate(&mut OsRng).commitment()))
                            .remove(0)
                    };
                    signer.reserve(vec![job]).await.unwrap();
                }
                Answered::Signed(package, share) => {
                    let own = package.operators[&OperatorIndex(0)];
                    used.insert(own);
                    let refused = signer.execute(sign(&order, &self::package(own))).await;
                    assert_eq!(refused.unwrap_err(), SignerError::NonceReuse);
                    let again = signer.execute(sign(&order, package)).await.unwrap();
                    assert_eq!(again[0].shares[0].0, *share);
                }
                Answered::Reserved(package) => {
                    let own = package.operators[&OperatorIndex(0)];
                    used.insert(own);
                    let refused = signer.reserve(sign(&order, &self::package(own))).await;
                    assert_eq!(refused.unwrap_err(), SignerError::NonceReuse);
                    signer.execute(sign(&order, package)).await.unwrap();
                }
                Answered::Made(own) => {
                    // Known: it signs, or it was bound in a call whose answer never came.
                    let result = signer.execute(sign(&order, &self::package(*own))).await;
                    match result {
                        Ok(_) => assert!(!used.contains(own)),
                        Err(error) => assert_eq!(error, SignerError::NonceReuse),
                    }
                }
            }
        }
        // What the killed calls left is found.
        let unsettled = signer.unsettled(10).await.unwrap();
        let tweaked = answered
            .iter()
            .any(|answer| matches!(answer, Answered::Tweaked(_)));
        assert!(!tweaked || unsettled == [order.keyshare]);
        signer
            .collect(vec![(order.keyshare, order.sealed.clone())], 0)
            .await
            .unwrap();
    }
}
