//! Cost of every operation, for two of three operators and an owner unless it says otherwise.

// The macros of criterion make public functions without documentation.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tinderbox_frost::dkg::{self, GeneratedKey};
use tinderbox_frost::multiply::Product;
use tinderbox_frost::{
    KeyShare, Nonces, OperatorIndex, PublicKeyshare, SecretScalar, SigningPackage, TaprootKey,
    adaptor, feldman, tweak,
};

const THRESHOLD: u16 = 2;
const COUNT: u16 = 3;

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

fn signing(c: &mut Criterion) {
    let mut rng = rng();
    let (user, group) = (
        SecretScalar::random(&mut rng),
        SecretScalar::random(&mut rng),
    );
    let dealt = feldman::split(&group, THRESHOLD, COUNT, &mut rng).unwrap();
    let stored: BTreeMap<OperatorIndex, _> = OperatorIndex::first(THRESHOLD)
        .map(|i| (i, Nonces::generate(&mut rng).to_bytes()))
        .collect();
    let user_stored = Nonces::generate(&mut rng).to_bytes();
    let nonces = |bytes| Nonces::from_bytes(bytes).unwrap();
    let mut package = SigningPackage {
        verifying_key: tweak::add_points(&user.public_key(), &group.public_key()).unwrap(),
        message: [7; 32],
        operators: stored
            .iter()
            .map(|(i, bytes)| (*i, nonces(bytes).commitment()))
            .collect(),
        user: Some(nonces(&user_stored).commitment()),
        adaptor: None,
        threshold: THRESHOLD,
    };
    let public = feldman::evaluate_all(&dealt.proofs, COUNT).unwrap();
    let user_public = user.public_key();
    let me = OperatorIndex(0);
    let my_commitment = package.operators[&me];
    let prepared = package.prepare().unwrap();
    let sign_all = |prepared: &tinderbox_frost::Prepared| -> BTreeMap<_, _> {
        OperatorIndex::first(THRESHOLD)
            .zip(&dealt.shares)
            .map(|(i, key)| {
                (
                    i,
                    prepared
                        .sign_operator(&i, key, nonces(&stored[&i]))
                        .unwrap(),
                )
            })
            .collect()
    };
    let shares = sign_all(&prepared);
    let user_share = prepared.sign_user(&user, nonces(&user_stored)).unwrap();

    c.bench_function("nonces/generate", |b| b.iter(|| Nonces::generate(&mut rng)));
    c.bench_function("nonces/read", |b| {
        b.iter(|| nonces(black_box(&user_stored)))
    });
    c.bench_function("package/fingerprint", |b| b.iter(|| package.fingerprint()));
    c.bench_function("package/prepare", |b| b.iter(|| package.prepare().unwrap()));
    let key = TaprootKey::new(&package.verifying_key).unwrap();
    c.bench_function("package/prepare with known key", |b| {
        b.iter(|| package.prepare_with(&key).unwrap());
    });
    c.bench_function("share/sign", |b| {
        b.iter_batched(
            || Nonces::from_stored(&stored[&me], my_commitment).unwrap(),
            |nonces| {
                prepared
                    .sign_operator(&me, &dealt.shares[0], nonces)
                    .unwrap()
            },
            BatchSize::SmallInput,
        );
    });
    c.bench_function("share/sign as user", |b| {
        b.iter_batched(
            || nonces(&user_stored),
            |nonces| prepared.sign_user(&user, nonces).unwrap(),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("share/verify", |b| {
        b.iter(|| {
            prepared
                .verify_operator_share(&me, &public[&me], &shares[&me])
                .unwrap()
        });
    });
    c.bench_function("share/verify of user", |b| {
        b.iter(|| {
            prepared
                .verify_user_share(&user_public, &user_share)
                .unwrap()
        });
    });
    let aggregate = |prepared: &tinderbox_frost::Prepared, shares, user_share| {
        prepared
            .aggregate(shares, Some(user_share), &public, Some(&user_public))
            .unwrap()
    };
    c.bench_function("aggregate", |b| {
        b.iter(|| aggregate(&prepared, &shares, &user_share))
    });

    let hidden = SecretScalar::random(&mut rng);
    let point = hidden.public_key();
    package.adaptor = Some(point);
    let prepared = package.prepare().unwrap();
    let shares = sign_all(&prepared);
    let user_share = prepared.sign_user(&user, nonces(&user_stored)).unwrap();
    c.bench_function("aggregate with adaptor", |b| {
        b.iter(|| aggregate(&prepared, &shares, &user_share));
    });
    let signature = aggregate(&prepared, &shares, &user_share);
    let output = prepared.output_key();
    c.bench_function("adaptor/verify", |b| {
        b.iter(|| adaptor::verify(&output, &[7; 32], &signature, &point).unwrap());
    });
    c.bench_function("adaptor/complete", |b| {
        b.iter(|| adaptor::complete(&output, &[7; 32], &signature, &hidden).unwrap());
    });
}

fn sharing(c: &mut Criterion) {
    let mut rng = rng();
    for (threshold, count) in [(2, 3), (3, 5)] {
        let secret = SecretScalar::random(&mut rng);
        let dealt = feldman::split(&secret, threshold, count, &mut rng).unwrap();
        let name = |what: &str| format!("feldman/{what} {threshold} of {count}");
        let last = OperatorIndex(count - 1);
        let some: Vec<_> = OperatorIndex::first(threshold).zip(&dealt.shares).collect();
        c.bench_function(&name("split"), |b| {
            b.iter(|| feldman::split(&secret, threshold, count, &mut rng).unwrap());
        });
        c.bench_function(&name("verify"), |b| {
            let share = dealt.shares.last().unwrap();
            b.iter(|| feldman::verify_share(&dealt.proofs, last, share).unwrap());
        });
        c.bench_function(&name("evaluate"), |b| {
            b.iter(|| feldman::evaluate(&dealt.proofs, last).unwrap());
        });
        c.bench_function(&name("recover"), |b| {
            b.iter(|| feldman::recover(&some).unwrap())
        });
        let tweak = feldman::split(&secret, threshold, count, &mut rng).unwrap();
        let key = PublicKeyshare::from_proofs(&dealt.proofs, count).unwrap();
        c.bench_function(&format!("tweak/whole key {threshold} of {count}"), |b| {
            b.iter(|| {
                let share = tweak::apply_secret(&dealt.shares[0], &tweak.shares[1]).unwrap();
                (share, key.tweaked(&tweak.proofs).unwrap())
            });
        });
    }
    let group = feldman::split(&SecretScalar::random(&mut rng), 2, 3, &mut rng).unwrap();
    let factor = SecretScalar::random(&mut rng);
    let share = KeyShare {
        index: OperatorIndex(0),
        secret: group.shares[0].duplicate(),
    };
    c.bench_function("multiply/deal", |b| {
        b.iter(|| Product::deal(&share, &factor, 2, 3, &mut rng).unwrap());
    });
}

/// One key as all participants together make it.
fn generate(rng: &mut ChaCha20Rng, threshold: u16, count: u16) -> Vec<GeneratedKey> {
    let mut secrets = Vec::new();
    let mut packages = BTreeMap::new();
    for index in OperatorIndex::first(count) {
        let (secret, package) = dkg::round1(index, count, threshold, rng).unwrap();
        secrets.push((index, secret));
        packages.insert(index, package);
    }
    let mut mail: BTreeMap<OperatorIndex, BTreeMap<_, _>> = BTreeMap::new();
    let mut states = Vec::new();
    for (from, secret) in secrets {
        let (state, shares) = dkg::round2(secret, &packages).unwrap();
        states.push((from, state));
        for (to, share) in shares {
            mail.entry(to).or_default().insert(from, share);
        }
    }
    states
        .into_iter()
        .map(|(index, state)| dkg::finish(state, &mail[&index]).unwrap())
        .collect()
}

fn generation(c: &mut Criterion) {
    let mut rng = rng();
    c.bench_function("dkg/one key, all three participants", |b| {
        b.iter(|| generate(&mut rng, 2, 3));
    });
    c.bench_function("dkg/one key, all five participants", |b| {
        b.iter(|| generate(&mut rng, 3, 5));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = signing, sharing, generation
}
criterion_main!(benches);
