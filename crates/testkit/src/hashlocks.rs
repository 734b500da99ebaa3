//! A wallet's part of hash locks, for simulations.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use tinderbox_flows::flow::Site;
use tinderbox_flows::htlc::lock::{HashLockRequest, LockMode};
use tinderbox_flows::htlc::store::StorePreimageRequest;
use tinderbox_flows::refunds;
use tinderbox_flows::rows::{Millis, NodeRow};
use tinderbox_flows::secret::Preimage;
use tinderbox_frost::{SecretScalar, feldman};
use tinderbox_protocol::refunds::RefundPurpose;
use tinderbox_protocol::tx::htlc::HtlcOutput;
use tinderbox_protocol::{Sats, TransferId, ecies, package};

use crate::owner::{NonceSet, Owner};

/// A Lightning invoice of the local network, without a signature that would hold: operators read
/// hash and amount only. `sats` 0: the payer chooses.
#[must_use]
pub fn invoice(payment_hash: &[u8; 32], sats: u64) -> String {
    let prefix = match sats {
        0 => "lnbcrt".to_owned(),
        sats => format!("lnbcrt{}n", sats * 10),
    };
    // When it was made; then fields: kind, length in two words, words.
    let mut words = vec![0, 12, 4, 19, 1, 2, 3];
    for (kind, value) in [(1, payment_hash), (16, &[7; 32])] {
        words.extend([kind, 1, 20]);
        words.extend(five_bits(value));
    }
    words.extend([0; 104]);
    let checksum = checksum(&prefix, &words);
    let text = words.iter().chain(&checksum);
    let text: String = text
        .map(|word| char::from(ALPHABET[usize::from(*word)]))
        .collect();
    format!("{prefix}1{text}")
}

const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

fn five_bits(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
        .collect();
    bits.chunks(5)
        .map(|chunk| {
            let word = chunk.iter().fold(0, |word, bit| word << 1 | bit);
            word << (5 - chunk.len())
        })
        .collect()
}

/// The checksum of BIP 173.
fn checksum(prefix: &str, words: &[u8]) -> [u8; 6] {
    let high = prefix.bytes().map(|byte| byte >> 5);
    let low = prefix.bytes().map(|byte| byte & 31);
    let all = high
        .chain([0])
        .chain(low)
        .chain(words.iter().copied())
        .chain([0; 6]);
    let mut sum: u32 = 1;
    for word in all {
        let top = sum >> 25;
        sum = (sum & 0x1ff_ffff) << 5 ^ u32::from(word);
        for (at, step) in [
            0x3b6a_57b2,
            0x2650_8e6d,
            0x1ea1_19fa,
            0x3d42_33dd,
            0x2a14_62b3,
        ]
        .into_iter()
        .enumerate()
        {
            if top >> at & 1 == 1 {
                sum ^= step;
            }
        }
    }
    sum ^= 1;
    [25, 20, 15, 10, 5, 0].map(|shift| u8::try_from(sum >> shift & 31).unwrap_or(0))
}

/// A preimage that follows from a transfer's id, so that whoever plays the receiver knows it.
#[must_use]
pub fn preimage_of(transfer: &TransferId) -> Preimage {
    Preimage(Sha256::digest(transfer.bytes16()).into())
}

/// Which refunds a sender makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refunds {
    /// Plain ones.
    Plain,
    /// Hash-locked ones.
    Htlc,
}

/// What a hash lock is to be.
#[derive(Clone, Debug)]
pub struct Lock {
    /// The transfer.
    pub id: TransferId,
    /// Who gets the leaves.
    pub receiver: PublicKey,
    /// SHA-256 of the preimage.
    pub payment_hash: [u8; 32],
    /// How it goes on.
    pub mode: LockMode,
    /// Which refunds.
    pub refunds: Refunds,
    /// When it lapses.
    pub expiry: Option<Millis>,
}

impl Owner {
    /// Deposits shares of `secret` for the hash of `preimage`: an honest wallet gives the same twice.
    ///
    /// # Panics
    /// If `secret` is no scalar.
    #[must_use]
    pub fn store_preimage(
        &self,
        site: &Site,
        now: Millis,
        preimage: &Preimage,
        secret: &[u8; 32],
        invoice: &str,
        rng: &mut ChaCha20Rng,
    ) -> StorePreimageRequest {
        let secret = SecretScalar::try_from_be_bytes(secret).expect("a preimage is a scalar");
        let dealt = feldman::split(&secret, site.threshold, site.count(), rng)
            .expect("threshold and count are valid");
        let proofs: Vec<Vec<u8>> = dealt
            .proofs
            .iter()
            .map(|proof| proof.serialize().to_vec())
            .collect();
        let shares = site
            .everyone()
            .zip(&site.operators)
            .zip(&dealt.shares)
            .map(|((operator, identity), share)| {
                let plain = package::SecretShare {
                    secret_share: share.to_be_bytes().to_vec(),
                    proofs: proofs.clone(),
                };
                let sealed = ecies::encrypt(identity, &plain.to_bytes(), rng);
                (operator.identifier(), sealed.expect("a share is encrypted"))
            })
            .collect();
        StorePreimageRequest {
            now,
            payment_hash: preimage.payment_hash(),
            owner: self.identity(),
            threshold: u32::from(site.threshold),
            invoice: invoice.to_owned(),
            shares,
        }
    }

    /// Locks leaves against a payment hash. Takes four sets of nonces per leaf.
    ///
    /// # Panics
    /// If a leaf cannot be sent.
    #[must_use]
    pub fn lock(
        &self,
        site: &Site,
        now: Millis,
        nodes: &[NodeRow],
        lock: &Lock,
        mut nonces: Vec<NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> HashLockRequest {
        let receivers: BTreeMap<_, _> = nodes.iter().map(|node| (node.id, lock.receiver)).collect();
        let for_plain = nonces.split_off(nodes.len() * 3);
        let htlc = HtlcOutput::new(lock.payment_hash, lock.receiver, self.identity());
        let plain_refunds =
            |node: &NodeRow| refunds::for_send(node, lock.receiver).expect("leaf can be sent");
        let refunds = |node: &NodeRow| match lock.refunds {
            Refunds::Plain => plain_refunds(node),
            Refunds::Htlc => {
                let current = refunds::current_sequence(node).expect("a leaf has a refund");
                let purpose = RefundPurpose::Htlc {
                    current,
                    htlc: htlc.clone(),
                };
                refunds::made(node, &purpose).expect("leaf can be locked")
            }
        };
        let send = self.send_with(site, lock.id, now, nodes, &receivers, nonces, rng, &refunds);
        let plain = nodes
            .iter()
            .zip(for_plain)
            .map(|(node, nonces)| {
                let key = self.leaf_key(&node.id);
                self.job(site, node, &key, &plain_refunds(node).cpfp, nonces, rng)
            })
            .collect();
        HashLockRequest {
            now,
            transfer: lock.id,
            sender: self.identity(),
            receiver: lock.receiver,
            payment_hash: lock.payment_hash,
            mode: lock.mode,
            package: send.package,
            plain,
            expiry: lock.expiry,
            amount: Sats(0),
            fee: Sats(0),
            invoice: String::new(),
        }
    }
}
