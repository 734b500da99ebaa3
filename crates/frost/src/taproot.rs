//! From a verifying key to the key that stands in an output (BIP341, no script tree).

use bitcoin::key::TapTweak;
use bitcoin::secp256k1::{PublicKey, SECP256K1, XOnlyPublicKey};

use crate::ciphersuite::tagged_hash;
use crate::error::Result;
use crate::point;
use crate::scalar::Scalar;

/// A verifying key with everything that signing derives from it. Worth keeping for the several
/// transactions of one leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaprootKey {
    verifying_key: PublicKey,
    output: PublicKey,
    tweak: Scalar,
    verifying_odd: bool,
    output_odd: bool,
}

impl TaprootKey {
    /// Tweaks a verifying key.
    ///
    /// # Errors
    /// [`Error::IdentityPoint`](crate::Error::IdentityPoint) if key and tweak cancel, which nobody
    /// can bring about.
    pub fn new(verifying_key: &PublicKey) -> Result<Self> {
        let verifying_odd = point::is_odd(verifying_key);
        let tweak = tap_tweak(verifying_key);
        let even = point::negate_if(verifying_key, verifying_odd);
        let output = point::add_base(&even, &tweak, "the output key")?;
        Ok(Self {
            verifying_key: *verifying_key,
            output,
            tweak,
            verifying_odd,
            output_odd: point::is_odd(&output),
        })
    }

    /// The key before the tweak.
    #[must_use]
    pub fn verifying_key(&self) -> &PublicKey {
        &self.verifying_key
    }

    /// The tweaked key, with its parity.
    #[must_use]
    pub fn output(&self) -> &PublicKey {
        &self.output
    }

    /// The tweaked key as it stands in an output.
    #[must_use]
    pub fn output_key(&self) -> XOnlyPublicKey {
        self.output.x_only_public_key().0
    }

    /// The tweak.
    #[must_use]
    pub fn tweak(&self) -> &Scalar {
        &self.tweak
    }

    /// Whether the verifying key has an odd y coordinate.
    #[must_use]
    pub fn verifying_odd(&self) -> bool {
        self.verifying_odd
    }

    /// Whether the tweaked key has an odd y coordinate.
    #[must_use]
    pub fn output_odd(&self) -> bool {
        self.output_odd
    }
}

/// The tweak of a key without scripts.
pub(crate) fn tap_tweak(key: &PublicKey) -> Scalar {
    Scalar::reduce(&tagged_hash("TapTweak", &[&point::x(key)]))
}

/// The x-only key under which signatures of this verifying key verify on the chain.
#[must_use]
pub fn output_key(verifying_key: &PublicKey) -> XOnlyPublicKey {
    let (internal, _) = verifying_key.x_only_public_key();
    internal.tap_tweak(SECP256K1, None).0.to_x_only_public_key()
}
