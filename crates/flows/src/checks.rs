//! Checks that several flows share.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::secp256k1::PublicKey;
use sha2::{Digest, Sha256};
use tinderbox_frost::{OperatorIndex, SigningPackage, feldman, tweak};
use tinderbox_protocol::{LeafId, signature};

use crate::flow::{Frame, Plan, Site};
use crate::job::{KeyJob, OpenedTweak, SignJob};
use crate::package::UserShare;
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::rows::{FlowRow, JobRow, KeyshareRow, NodeRow, Part};
use crate::secret::{SealedShare, StagedTweak};

/// Reads nodes and their key shares.
///
/// # Errors
/// A miss, or a refusal that names the first one that is not there.
pub fn load_leaves(
    frame: &Frame<'_>,
    leaves: impl Iterator<Item = LeafId> + Clone,
) -> Result<BTreeMap<LeafId, (NodeRow, KeyshareRow)>, Halt> {
    use crate::record::{Key, Table};
    frame.rows.require(
        leaves
            .clone()
            .map(|leaf| Key::new(Table::Node, NodeRow::id_of(&leaf))),
    )?;
    let mut nodes = Vec::new();
    for leaf in leaves {
        match frame.rows.get::<NodeRow>(NodeRow::id_of(&leaf))? {
            Some(node) => nodes.push(node),
            None => {
                return Err(Refusal::new(
                    Reason::MissingEntity,
                    format!("leaf {leaf} does not exist"),
                )
                .with("leaf_id", leaf)
                .into());
            }
        }
    }
    frame.rows.require(
        nodes
            .iter()
            .map(|node| Key::new(Table::Keyshare, node.keyshare.0.to_vec())),
    )?;
    let mut loaded = BTreeMap::new();
    for node in nodes {
        match frame.rows.get::<KeyshareRow>(node.keyshare.0.to_vec())? {
            Some(keyshare) => {
                loaded.insert(node.id, (node, keyshare));
            }
            None => {
                return refuse(
                    Reason::Internal,
                    format!("the key share of leaf {} is missing", node.id),
                );
            }
        }
    }
    Ok(loaded)
}

/// Checks an ECDSA signature (DER, or 64 bytes compact; low-S) over a digest.
///
/// # Errors
/// A refusal that names `field`.
pub fn check_ecdsa(
    signer: &PublicKey,
    digest: &[u8; 32],
    signature: &[u8],
    field: &'static str,
) -> Result<(), Halt> {
    signature::verify_der_or_compact(signer, digest, signature, field)
        .map_err(|error| Refusal::new(Reason::BadSignature, error.to_string()).into())
}

/// The opened tweaks by leaf; they must be for exactly `leaves`.
///
/// # Errors
/// A refusal that names the leaf.
pub fn tweaks_by_leaf(
    opened: &[OpenedTweak],
    leaves: impl Iterator<Item = LeafId>,
) -> Result<BTreeMap<LeafId, &OpenedTweak>, Halt> {
    let mut by_leaf = BTreeMap::new();
    for tweak in opened {
        if by_leaf.insert(tweak.leaf, tweak).is_some() {
            return Err(Refusal::new(
                Reason::DuplicateField,
                format!("key_tweak_package names leaf {} twice", tweak.leaf),
            )
            .into());
        }
    }
    let wanted: BTreeSet<LeafId> = leaves.collect();
    if let Some(leaf) = wanted.iter().find(|leaf| !by_leaf.contains_key(leaf)) {
        return refuse(
            Reason::MissingField,
            format!("key_tweak_package has no tweak for leaf {leaf}"),
        );
    }
    if let Some(leaf) = by_leaf.keys().find(|leaf| !wanted.contains(leaf)) {
        return refuse(
            Reason::MalformedField,
            format!("key_tweak_package has a tweak for leaf {leaf}, which is not in the package"),
        );
    }
    Ok(by_leaf)
}

/// Public keys of a leaf after a tweak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tweaked {
    /// The operators' group key.
    pub group_key: PublicKey,
    /// Each operator's public share.
    pub public_shares: Vec<PublicKey>,
    /// The owner's half: verifying key minus group key.
    pub owner_signing: PublicKey,
}

/// What a tweak with these commitments makes of a leaf's public keys.
///
/// # Errors
/// A refusal if one of them would become the identity: such a tweak would brick the leaf.
pub fn tweaked(
    node: &NodeRow,
    keyshare: &KeyshareRow,
    proofs: &[PublicKey],
) -> Result<Tweaked, Halt> {
    let brick = |_| {
        Halt::Refuse(Refusal::new(
            Reason::MalformedField,
            format!("the key tweak of leaf {} leads to no valid key", node.id),
        ))
    };
    let Some(constant) = proofs.first() else {
        return refuse(Reason::MissingField, "secret_share_tweak.proofs is empty");
    };
    let group_key = tweak::add_points(&keyshare.group_key, constant).map_err(brick)?;
    let owner_signing = tweak::sub_points(&node.verifying_key, &group_key).map_err(brick)?;
    let mut public_shares = Vec::new();
    for (index, share) in (0u16..).map(OperatorIndex).zip(&keyshare.public_shares) {
        let delta = feldman::evaluate(proofs, index).map_err(brick)?;
        public_shares.push(tweak::add_points(share, &delta).map_err(brick)?);
    }
    Ok(Tweaked {
        group_key,
        public_shares,
        owner_signing,
    })
}

/// Applies a tweak to a leaf's rows.
///
/// # Errors
/// As [`tweaked`], or if the signer gave no new share.
pub fn rotate(
    node: &mut NodeRow,
    keyshare: &mut KeyshareRow,
    proofs: &[PublicKey],
    sealed: Option<&SealedShare>,
) -> Result<(), Halt> {
    let after = tweaked(node, keyshare, proofs)?;
    let Some(sealed) = sealed else {
        return refuse(Reason::Internal, "the signer gave no tweaked share");
    };
    node.owner_signing = after.owner_signing;
    keyshare.group_key = after.group_key;
    keyshare.public_shares = after.public_shares;
    keyshare.generation = keyshare.generation.saturating_add(1);
    keyshare.sealed = sealed.clone();
    Ok(())
}

/// One half-signed transaction, as a job. Operators that will sign check the user's half now:
/// after the certificate it would be too late to refuse it.
///
/// # Errors
/// A refusal if the half signature is wrong or the set of signers is not valid.
pub fn user_job(
    site: &Site,
    leaf: LeafId,
    part: Part,
    package: SigningPackage,
    share: &UserShare,
    user_key: PublicKey,
    public_shares: Vec<PublicKey>,
) -> Result<JobRow, Halt> {
    if package.operators.contains_key(&site.me) {
        let prepared = package
            .prepare()
            .map_err(|error| bad_half(leaf, part, &error.to_string()))?;
        prepared
            .verify_user_share(&user_key, &share.share)
            .map_err(|_| {
                let why = "sign the transaction that is sent, with fresh signing commitments";
                bad_half(leaf, part, why)
            })?;
    }
    Ok(JobRow {
        leaf: Some(leaf),
        part,
        package,
        user_share: Some(share.share),
        user_key: Some(user_key),
        public_shares,
    })
}

fn bad_half(leaf: LeafId, part: Part, why: &str) -> Halt {
    Halt::Refuse(
        Refusal::new(
            Reason::BadSignature,
            format!("the user's half signature of {part:?} of leaf {leaf} is not valid: {why}"),
        )
        .with("leaf_id", leaf),
    )
}

/// What all operators must find equal: the request, then per key share its public key, its
/// generation and the commitments of its tweak, then what is signed.
#[must_use]
pub fn digest<'a>(
    request: &[u8],
    keys: impl Iterator<Item = (&'a KeyshareRow, &'a [PublicKey])>,
    jobs: &[JobRow],
) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/digest/1");
    hash.update(Sha256::digest(request));
    for (keyshare, proofs) in keys {
        hash.update(keyshare.id.0);
        hash.update(keyshare.group_key.serialize());
        hash.update(keyshare.generation.to_be_bytes());
        for proof in proofs {
            hash.update(proof.serialize());
        }
        hash.update([0]);
    }
    for job in jobs {
        hash.update(job.package.fingerprint());
    }
    hash.finalize().into()
}

/// A key share's part in a plan: which of the flow's jobs it signs, and its tweak.
#[derive(Clone, Debug)]
pub struct KeyPart<'a> {
    /// The key share.
    pub keyshare: &'a KeyshareRow,
    /// Tweak to apply.
    pub tweak: Option<StagedTweak>,
    /// Sign with the tweaked share.
    pub after_tweak: bool,
    /// Places of its jobs.
    pub places: Vec<u32>,
}

/// The plan for the signer: this operator contributes to the jobs whose package names it, and
/// tweaks every key share that has a tweak. Key shares without either are left out, except that
/// order is kept for those with a tweak.
#[must_use]
pub fn plan(site: &Site, jobs: &[JobRow], parts: Vec<KeyPart<'_>>) -> Plan {
    let mut plan = Plan::default();
    for part in parts {
        let mut places = Vec::new();
        let mut sign = Vec::new();
        for place in part.places {
            let job = usize::try_from(place).ok().and_then(|at| jobs.get(at));
            if let Some(job) = job
                && job.package.operators.contains_key(&site.me)
            {
                places.push(place);
                sign.push(SignJob {
                    package: job.package.clone(),
                    after_tweak: part.after_tweak,
                });
            }
        }
        if part.tweak.is_none() && sign.is_empty() {
            continue;
        }
        plan.keys.push(KeyJob {
            keyshare: part.keyshare.id.0,
            sealed: part.keyshare.sealed.clone(),
            tweak: part.tweak,
            jobs: sign,
        });
        plan.places.push(places);
    }
    plan
}

/// The whole of a flow's row that a commit needs, checked to be there.
///
/// # Errors
/// A refusal if rows that the flow locked are gone.
pub fn gone<T>(what: &str, row: &FlowRow) -> Result<T, Halt> {
    refuse(
        Reason::Internal,
        format!("{what} of flow {} is gone", row.id),
    )
}
