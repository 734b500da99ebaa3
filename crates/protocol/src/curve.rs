//! The one libsecp256k1 context of this crate.

use std::sync::LazyLock;

use bitcoin::secp256k1::{All, Secp256k1};

/// Precomputed once, shared by all.
pub(crate) static CURVE: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);
