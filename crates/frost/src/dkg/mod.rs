//! Distributed key generation: a shared key that never existed in one place.
//!
//! FROST's KeyGen with the taproot step of its ciphersuite. Per key, every operator
//!
//! 1. [`round1`]: deals itself a random polynomial and shows everybody its commitments with a
//!    proof that it knows the constant term;
//! 2. [`round2`]: checks all proofs and gives every peer, privately, its value of the polynomial;
//! 3. [`finish`]: checks the values and adds them up.
//!
//! Between 1 and 2 everybody must have seen the *same* packages: compare [`set_hash`]es, and
//! [`compare_views`] names who showed different ones. Any error aborts: nothing may be stored.

mod agreement;
mod encoding;
mod finish;
mod proof;
mod round1;
mod round2;

pub use agreement::{compare_views, set_hash};
pub use finish::{GeneratedKey, finish};
pub use proof::ProofOfKnowledge;
pub use round1::{Round1Package, Round1Secret, round1, verify_round1};
pub use round2::{Round2Secret, round2};
