//! The identity keys of a local network.
//!
//! They are published with the official SDK's defaults: everybody knows them, and operators refuse
//! them on any network but a local one.

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};

const PUBLISHED: [&str; 5] = [
    "5eaae81bcf1fd43fbb92432b82dbafc8273bb3287b42cb4cf3c851fcee2212a5",
    "bc0f5b9055c4a88b881d4bb48d95b409cd910fb27c088380f8ecda2150ee8faf",
    "d5043294f686bc1e3337ce4a44801b011adc67524175f27d7adc85d81d6a4545",
    "f2136e83e8dc4090291faaaf5ea21a27581906d8b108ac0eefdaecf4ee86ac99",
    "effe79dc2a911a5a359910cb7782f5cabb3b7cf01e3809f8d323898ffd78e408",
];

/// The service provider of the official SDK's local defaults. Nobody has published its secret.
const SDK_SSP: &str = "028c094a432d46a0ac95349d792c2e3730bd60c29188db716f56a99e39b95338b4";

/// Identity key of the service provider in the official SDK's local defaults.
pub(crate) fn sdk_ssp() -> PublicKey {
    SDK_SSP
        .parse()
        .expect("the published key is a key: a test checks it")
}

/// How many operators a local network can have: as many as have published keys.
pub(crate) const MOST: u16 = 5;

/// Secret key of operator `index`, as 64 hex digits.
pub(crate) fn secret_hex(index: u16) -> &'static str {
    PUBLISHED
        .get(usize::from(index))
        .copied()
        .unwrap_or(PUBLISHED[0])
}

/// Public key of operator `index`.
pub(crate) fn public(index: u16) -> PublicKey {
    let secret: SecretKey = secret_hex(index)
        .parse()
        .expect("published keys are keys: a test checks each");
    secret.public_key(&Secp256k1::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_that_official_sdks_expect() {
        let expected = [
            "0322ca18fc489ae25418a0e768273c2c61cabb823edfb14feb891e9bec62016510",
            "0341727a6c41b168f07eb50865ab8c397a53c7eef628ac1020956b705e43b6cb27",
            "0305ab8d485cc752394de4981f8a5ae004f2becfea6f432c9a59d5022d8764f0a6",
            "0352aef4d49439dedd798ac4aef1e7ebef95f569545b647a25338398c1247ffdea",
            "02c05c88cc8fc181b1ba30006df6a4b0597de6490e24514fbdd0266d2b9cd3d0ba",
        ];
        for (index, expected) in (0..).zip(expected) {
            assert_eq!(public(index).to_string(), expected);
        }
        assert_eq!(sdk_ssp().to_string(), SDK_SSP);
    }
}
