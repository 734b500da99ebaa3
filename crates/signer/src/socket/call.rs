//! The trait's calls as messages.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_flows::job::{KeyJob, KeyOutput, OpenedPreimage, OpenedTweak};
use tinderbox_flows::secret::{SealedPreimage, SealedShare};
use tinderbox_frost::dkg::Round1Package;
use tinderbox_frost::{NonceCommitment, OperatorIndex};
use tinderbox_protocol::LeafId;
use zeroize::{Zeroize, Zeroizing};

use crate::SignerError;
use crate::signer::{NewKeyshare, PackageKind, PlainTweak, PreimagePart, Signer};

/// A call and the number under which its answer is expected.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) call: Call,
}

/// The answer to the request with this number.
#[derive(Serialize, Deserialize)]
pub(super) struct Response {
    pub(super) id: u64,
    pub(super) result: Result<Answer, SignerError>,
}

/// 32 secret bytes; wiped when dropped.
#[derive(Serialize, Deserialize)]
pub(super) struct Secret([u8; 32]);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<Zeroizing<[u8; 32]>> for Secret {
    fn from(secret: Zeroizing<[u8; 32]>) -> Self {
        Self(*secret)
    }
}

impl From<Secret> for Zeroizing<[u8; 32]> {
    fn from(secret: Secret) -> Self {
        Self::new(secret.0)
    }
}

type Dealt<T> = BTreeMap<OperatorIndex, Vec<T>>;

/// Secrets of the DKG in another type.
pub(super) fn dealt<A: Into<B>, B>(shares: Dealt<A>) -> Dealt<B> {
    shares
        .into_iter()
        .map(|(operator, shares)| (operator, shares.into_iter().map(Into::into).collect()))
        .collect()
}

/// A [`PlainTweak`]; its secret is wiped when dropped.
#[derive(Serialize, Deserialize)]
pub(super) struct Tweak {
    leaf: LeafId,
    share: Vec<u8>,
    proofs: Vec<PublicKey>,
    public_shares: BTreeMap<OperatorIndex, PublicKey>,
}

impl Drop for Tweak {
    fn drop(&mut self) {
        self.share.zeroize();
    }
}

impl From<PlainTweak> for Tweak {
    fn from(mut tweak: PlainTweak) -> Self {
        Self {
            leaf: tweak.leaf,
            share: std::mem::take(&mut *tweak.share),
            proofs: tweak.proofs,
            public_shares: tweak.public_shares,
        }
    }
}

impl From<Tweak> for PlainTweak {
    fn from(mut tweak: Tweak) -> Self {
        Self {
            leaf: tweak.leaf,
            share: Zeroizing::new(std::mem::take(&mut tweak.share)),
            proofs: std::mem::take(&mut tweak.proofs),
            public_shares: std::mem::take(&mut tweak.public_shares),
        }
    }
}

/// A [`PreimagePart`]; its secret is wiped when dropped.
#[derive(Serialize, Deserialize)]
pub(super) enum Part {
    Encrypted(Vec<u8>),
    Plain(PlainShare, Vec<PublicKey>),
}

/// A big-endian scalar; wiped when dropped.
#[derive(Serialize, Deserialize)]
pub(super) struct PlainShare(Vec<u8>);

impl Drop for PlainShare {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<PreimagePart> for Part {
    fn from(part: PreimagePart) -> Self {
        match part {
            PreimagePart::Encrypted(ciphertext) => Self::Encrypted(ciphertext),
            PreimagePart::Plain(mut share, proofs) => {
                Self::Plain(PlainShare(std::mem::take(&mut *share)), proofs)
            }
        }
    }
}

impl From<Part> for PreimagePart {
    fn from(part: Part) -> Self {
        match part {
            Part::Encrypted(ciphertext) => Self::Encrypted(ciphertext),
            Part::Plain(mut share, proofs) => {
                Self::Plain(Zeroizing::new(std::mem::take(&mut share.0)), proofs)
            }
        }
    }
}

/// One call of the trait.
#[derive(Serialize, Deserialize)]
pub(super) enum Call {
    Sign(Vec<[u8; 32]>),
    Derive(String),
    Open(PackageKind, Vec<u8>),
    Stage(Vec<Tweak>),
    KeepPreimage([u8; 32], Part),
    PreimageShare([u8; 32], SealedPreimage),
    Nonces(u32),
    Reserve(Vec<KeyJob>),
    Execute(Vec<KeyJob>),
    Settle(Vec<SealedShare>, Vec<NonceCommitment>),
    Retire(u64),
    Epoch,
    PurgeNonces(u64),
    DkgRound1([u8; 16], u32),
    DkgRound2([u8; 16], Dealt<Round1Package>),
    DkgFinish([u8; 16], Vec<[u8; 16]>, Dealt<Secret>),
    Unsettled(u32),
    Collect(Vec<([u8; 16], SealedShare)>, u64),
    DkgTake([u8; 16], OperatorIndex, Vec<Secret>),
    DkgTaken([u8; 16]),
}

/// What a call gave.
#[derive(Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Number(u64),
    Signatures(Vec<Vec<u8>>),
    Secret(Secret),
    Opened(Vec<OpenedTweak>),
    Preimage(OpenedPreimage),
    Commitments(Vec<NonceCommitment>),
    Outputs(Vec<KeyOutput>),
    Packages(Vec<Round1Package>),
    Shares(Dealt<Secret>),
    Keyshares(Vec<NewKeyshare>),
    Ids(Vec<[u8; 16]>),
}

impl Call {
    /// Makes the call.
    pub(super) async fn make(self, signer: &dyn Signer) -> Result<Answer, SignerError> {
        Ok(match self {
            Self::Sign(digests) => Answer::Signatures(signer.sign(digests).await?),
            Self::Derive(label) => Answer::Secret(signer.derive(&label).await?.into()),
            Self::Open(kind, ciphertext) => Answer::Opened(signer.open(kind, ciphertext).await?),
            Self::Stage(tweaks) => {
                let tweaks = tweaks.into_iter().map(Into::into).collect();
                Answer::Opened(signer.stage(tweaks).await?)
            }
            Self::KeepPreimage(hash, part) => {
                Answer::Preimage(signer.keep_preimage(hash, part.into()).await?)
            }
            Self::PreimageShare(hash, sealed) => {
                let share = signer.preimage_share(hash, sealed).await?;
                Answer::Secret(Zeroizing::new(share.0).into())
            }
            Self::Nonces(count) => Answer::Commitments(signer.nonces(count).await?),
            Self::Reserve(jobs) => {
                signer.reserve(jobs).await?;
                Answer::Done
            }
            Self::Execute(jobs) => Answer::Outputs(signer.execute(jobs).await?),
            Self::Settle(shares, nonces) => {
                signer.settle(shares, nonces).await?;
                Answer::Done
            }
            Self::Retire(epoch) => {
                signer.retire(epoch).await?;
                Answer::Done
            }
            Self::Epoch => Answer::Number(signer.epoch().await?),
            Self::PurgeNonces(age) => Answer::Number(signer.purge_nonces(age).await?),
            Self::DkgRound1(run, count) => Answer::Packages(signer.dkg_round1(run, count).await?),
            Self::DkgRound2(run, packages) => {
                Answer::Shares(dealt(signer.dkg_round2(run, packages).await?))
            }
            Self::DkgFinish(run, ids, shares) => {
                Answer::Keyshares(signer.dkg_finish(run, ids, dealt(shares)).await?)
            }
            Self::DkgTake(run, from, shares) => {
                let shares = shares.into_iter().map(Into::into).collect();
                signer.dkg_take(run, from, shares).await?;
                Answer::Done
            }
            Self::DkgTaken(run) => Answer::Number(signer.dkg_taken(run).await?),
            Self::Unsettled(limit) => Answer::Ids(signer.unsettled(limit).await?),
            Self::Collect(current, age) => Answer::Number(signer.collect(current, age).await?),
        })
    }
}
