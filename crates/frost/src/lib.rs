//! Threshold signatures of a Spark network: no input, no output, no clock, only mathematics.
//!
//! | module | holds |
//! |---|---|
//! | [`scalar`], [`secret`], [`index`] | numbers modulo the group order, secret ones, operators |
//! | [`ciphersuite`], [`taproot`] | hash functions, the step from a verifying key to an output key |
//! | [`nonce`], [`package`], [`Prepared`] | nested FROST: sign, verify shares, aggregate |
//! | [`adaptor`] | signatures that only become valid with one more secret |
//! | [`feldman`], [`lagrange`] | verifiable secret sharing |
//! | [`tweak`], [`keyshare`], [`multiply`] | moving a shared key by a secret that nobody sees |
//! | [`dkg`] | making a shared key that nobody ever held |
//!
//! # The nested scheme
//!
//! A leaf's verifying key is `Y = U + S`: the owner's key plus the operators' group key. The owner
//! is mandatory and counts with factor one; the operators are a threshold group of their own, and
//! their Lagrange coefficients are taken over the signing operators only. Only operators add the
//! taproot tweak; since their coefficients sum to one, it is added exactly once.
//!
//! ```
//! use std::collections::BTreeMap;
//! use tinderbox_frost::{Nonces, OperatorIndex, SecretScalar, SigningPackage, feldman, tweak};
//!
//! # fn main() -> tinderbox_frost::Result<()> {
//! let mut rng = rand::rngs::OsRng;
//! let user = SecretScalar::random(&mut rng);
//! let group = SecretScalar::random(&mut rng);
//! let dealt = feldman::split(&group, 2, 3, &mut rng)?;
//!
//! let signers = [OperatorIndex(0), OperatorIndex(2)];
//! let mut nonces: BTreeMap<_, _> =
//!     signers.into_iter().map(|index| (index, Nonces::generate(&mut rng))).collect();
//! let user_nonces = Nonces::generate(&mut rng);
//! let package = SigningPackage {
//!     verifying_key: tweak::add_points(&user.public_key(), &group.public_key())?,
//!     message: [7; 32],
//!     operators: nonces.iter().map(|(index, nonces)| (*index, nonces.commitment())).collect(),
//!     user: Some(user_nonces.commitment()),
//!     adaptor: None,
//!     threshold: 2,
//! };
//! let prepared = package.prepare()?;
//! let user_share = prepared.sign_user(&user, user_nonces)?;
//! let mut shares = BTreeMap::new();
//! let mut public = BTreeMap::new();
//! for index in signers {
//!     let key = &dealt.shares[usize::from(index.0)];
//!     let nonces = nonces.remove(&index).expect("generated above");
//!     shares.insert(index, prepared.sign_operator(&index, key, nonces)?);
//!     public.insert(index, key.public_key());
//! }
//! let signature =
//!     prepared.aggregate(&shares, Some(&user_share), &public, Some(&user.public_key()))?;
//! tinderbox_frost::verify_signature(&package.verifying_key, &[7; 32], &signature)?;
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod adaptor;
mod aggregate;
pub mod ciphersuite;
pub mod dkg;
mod error;
pub mod feldman;
pub mod index;
pub mod keyshare;
pub mod lagrange;
pub mod multiply;
pub mod nonce;
pub mod package;
mod point;
mod polynomial;
mod prepare;
pub mod scalar;
pub mod secret;
mod sign;
pub mod taproot;
pub mod tweak;
mod verify;

pub use error::{Error, Result};
pub use index::{OperatorIndex, Participant};
pub use keyshare::{KeyShare, PublicKeyshare};
pub use nonce::{NonceBinding, NonceCommitment, Nonces};
pub use package::{SignatureShare, SigningPackage};
pub use prepare::Prepared;
pub use scalar::Scalar;
pub use secret::SecretScalar;
pub use taproot::{TaprootKey, output_key};
pub use verify::verify_signature;
