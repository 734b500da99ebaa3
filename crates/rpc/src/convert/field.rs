//! Single fields.

use std::collections::BTreeMap;
use std::str::FromStr;

use bitcoin::secp256k1::PublicKey;
use prost_types::Timestamp;
use tinderbox_frost::{NonceCommitment, OperatorIndex, SignatureShare};
use tinderbox_protocol::Network;

use crate::Error;
use crate::proto::{common, spark};

/// A message that must be there.
///
/// # Errors
/// [`Error::MissingField`].
pub fn required<'a, T>(field: &str, value: &'a Option<T>) -> Result<&'a T, Error> {
    value.as_ref().ok_or_else(|| Error::missing(field))
}

/// A compressed public key. The library would take 65 bytes too, the contract does not.
///
/// # Errors
/// A field error.
pub fn public_key(field: &str, bytes: &[u8]) -> Result<PublicKey, Error> {
    if bytes.is_empty() {
        return Err(Error::missing(field));
    }
    if bytes.len() != 33 {
        let problem = format!("must be 33 bytes, a compressed key, is {}", bytes.len());
        return Err(Error::malformed(field, problem));
    }
    PublicKey::from_slice(bytes).map_err(|_| Error::malformed(field, "is not on the curve"))
}

/// An id of a leaf, tree or transfer.
///
/// # Errors
/// A field error.
pub fn id<I: FromStr>(field: &str, text: &str) -> Result<I, Error> {
    if text.is_empty() {
        return Err(Error::missing(field));
    }
    text.parse()
        .map_err(|_| Error::malformed(field, "must be a UUID"))
}

/// A network that is named. Local networks come as regtest.
///
/// # Errors
/// A field error for an unspecified or unknown number.
pub fn network(field: &str, number: i32) -> Result<Network, Error> {
    match spark::Network::try_from(number) {
        Ok(spark::Network::Mainnet) => Ok(Network::Mainnet),
        Ok(spark::Network::Regtest) => Ok(Network::Regtest),
        Ok(spark::Network::Testnet) => Ok(Network::Testnet),
        Ok(spark::Network::Signet) => Ok(Network::Signet),
        Ok(spark::Network::Unspecified) => Err(Error::missing(field)),
        Err(_) => Err(Error::malformed(field, format!("{number} is no network"))),
    }
}

/// The number of a network; regtest's for a local one.
pub fn network_to_proto(network: Network) -> spark::Network {
    match network {
        Network::Mainnet => spark::Network::Mainnet,
        Network::Regtest | Network::Local => spark::Network::Regtest,
        Network::Testnet => spark::Network::Testnet,
        Network::Signet => spark::Network::Signet,
    }
}

/// One nonce commitment.
///
/// # Errors
/// A field error.
pub fn commitment(
    field: &str,
    message: &common::SigningCommitment,
) -> Result<NonceCommitment, Error> {
    let point =
        |name: &str, bytes: &[u8]| public_key(name, bytes).map_err(|error| error.under(field));
    Ok(NonceCommitment {
        hiding: point("hiding", &message.hiding)?,
        binding: point("binding", &message.binding)?,
    })
}

/// One nonce commitment on the wire.
pub fn commitment_to_proto(commitment: &NonceCommitment) -> common::SigningCommitment {
    common::SigningCommitment {
        hiding: commitment.hiding.serialize().to_vec(),
        binding: commitment.binding.serialize().to_vec(),
    }
}

/// Nonce commitments by operator.
///
/// # Errors
/// A field error, also for a key that is no operator identifier.
pub fn commitments(
    field: &str,
    message: &spark::SigningCommitments,
) -> Result<BTreeMap<OperatorIndex, NonceCommitment>, Error> {
    let mut read = BTreeMap::new();
    for (identifier, value) in &message.signing_commitments {
        let operator = OperatorIndex::from_identifier(identifier)
            .map_err(|_| Error::malformed(field, "a key is no operator identifier"))?;
        let value = commitment(&format!("{field}[{identifier}]"), value)?;
        if read.insert(operator, value).is_some() {
            return Err(Error::DuplicateField {
                field: field.into(),
                value: identifier.clone(),
            });
        }
    }
    Ok(read)
}

/// Nonce commitments by operator, on the wire.
pub fn commitments_to_proto(
    commitments: &BTreeMap<OperatorIndex, NonceCommitment>,
) -> spark::SigningCommitments {
    let by_identifier = |(operator, commitment): (&OperatorIndex, _)| {
        (operator.identifier(), commitment_to_proto(commitment))
    };
    spark::SigningCommitments {
        signing_commitments: commitments.iter().map(by_identifier).collect(),
    }
}

/// A signature share of 32 bytes.
///
/// # Errors
/// A field error.
pub fn share(field: &str, bytes: &[u8]) -> Result<SignatureShare, Error> {
    if bytes.is_empty() {
        return Err(Error::missing(field));
    }
    let bytes = bytes.try_into().map_err(|_| {
        Error::malformed(
            field,
            format!("must be 32 bytes, a share, is {}", bytes.len()),
        )
    })?;
    Ok(SignatureShare(bytes))
}

/// Unix milliseconds as a timestamp.
pub fn timestamp(millis: i64) -> Timestamp {
    Timestamp {
        seconds: millis.div_euclid(1000),
        // Below 10^9 by construction, so this never falls back.
        nanos: i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or(0),
    }
}

/// A timestamp in unix milliseconds, rounded down.
///
/// # Errors
/// A field error for a time that no clock shows.
pub fn millis(field: &str, time: &Timestamp) -> Result<i64, Error> {
    if !(0..1_000_000_000).contains(&time.nanos) {
        return Err(Error::malformed(field, "nanos must be 0 to 999999999"));
    }
    time.seconds
        .checked_mul(1000)
        .and_then(|millis| millis.checked_add(i64::from(time.nanos) / 1_000_000))
        .ok_or_else(|| Error::malformed(field, "the time is out of range"))
}
