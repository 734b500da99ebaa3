//! Single fields: parsed, or refused by name.

use std::collections::BTreeMap;
use std::str::FromStr;

use bitcoin::secp256k1::PublicKey;
use prost_types::Timestamp;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::Millis;
use tinderbox_frost::{NonceCommitment, OperatorIndex, SignatureShare};
use tinderbox_protocol::{LeafId, Network, TransferId};

use super::{common, spark};

/// A refusal of a field that cannot be read.
pub fn malformed(field: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::MalformedField, format!("{field}: {why}")).with("field", field)
}

/// A refusal because a field is not there.
pub fn missing(field: &str) -> Refusal {
    Refusal::new(Reason::MissingField, format!("{field} is missing")).with("field", field)
}

/// A compressed public key of 33 bytes.
///
/// # Errors
/// A refusal that names `field`.
pub fn public_key(field: &str, bytes: &[u8]) -> Result<PublicKey, Refusal> {
    if bytes.is_empty() {
        return Err(missing(field));
    }
    // The library would also take 65 bytes, the contract does not.
    if bytes.len() != 33 {
        return Err(malformed(
            field,
            format!("{} bytes, a compressed public key has 33", bytes.len()),
        ));
    }
    PublicKey::from_slice(bytes).map_err(|_| malformed(field, "not a point of the curve"))
}

/// A leaf id in its canonical form.
///
/// # Errors
/// A refusal that names `field`.
pub fn leaf_id(field: &str, text: &str) -> Result<LeafId, Refusal> {
    LeafId::from_str(text).map_err(|_| malformed(field, format!("\"{text}\" is not a UUID")))
}

/// A transfer id in its canonical form.
///
/// # Errors
/// A refusal that names `field`.
pub fn transfer_id(field: &str, text: &str) -> Result<TransferId, Refusal> {
    TransferId::from_str(text).map_err(|_| malformed(field, format!("\"{text}\" is not a UUID")))
}

/// True if the contract's number `wire` stands for the network that is served.
#[must_use]
pub fn is_network(wire: i32, served: Network) -> bool {
    wire == network_number(served)
}

/// The contract's number of a network. Local networks are regtest on the wire.
#[must_use]
pub fn network_number(network: Network) -> i32 {
    let network = match network {
        Network::Mainnet => spark::Network::Mainnet,
        Network::Regtest | Network::Local => spark::Network::Regtest,
        Network::Testnet => spark::Network::Testnet,
        Network::Signet => spark::Network::Signet,
    };
    network.into()
}

/// Refuses any network but the one that is served.
///
/// # Errors
/// A refusal that names `network`.
pub fn check_network(wire: i32, served: Network) -> Result<(), Refusal> {
    if wire == 0 {
        return Err(missing("network"));
    }
    if is_network(wire, served) {
        Ok(())
    } else {
        Err(malformed(
            "network",
            format!("these operators serve {} only", served.name()),
        ))
    }
}

/// An optional instant; absent and the epoch both mean none.
///
/// # Errors
/// A refusal that names `field` if it is before 1970 or not normalised.
pub fn instant(field: &str, time: Option<&Timestamp>) -> Result<Option<Millis>, Refusal> {
    let Some(time) = time else { return Ok(None) };
    let (Ok(seconds), Ok(nanos @ 0..=999_999_999)) =
        (u64::try_from(time.seconds), u32::try_from(time.nanos))
    else {
        return Err(malformed(field, "not an instant after 1970"));
    };
    let millis = seconds
        .saturating_mul(1000)
        .saturating_add(u64::from(nanos / 1_000_000));
    Ok((millis != 0).then_some(Millis(millis)))
}

/// An instant as the contract writes it.
#[must_use]
pub fn timestamp(time: Millis) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(time.0 / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.0 % 1000 * 1_000_000).unwrap_or(0),
    }
}

/// A pair of nonce commitments.
///
/// # Errors
/// A refusal that names `field`.
pub fn commitment(
    field: &str,
    wire: Option<&common::SigningCommitment>,
) -> Result<NonceCommitment, Refusal> {
    let wire = wire.ok_or_else(|| missing(field))?;
    Ok(NonceCommitment {
        hiding: public_key(&format!("{field}.hiding"), &wire.hiding)?,
        binding: public_key(&format!("{field}.binding"), &wire.binding)?,
    })
}

/// A pair of nonce commitments as the contract writes it.
#[must_use]
pub fn commitment_to_wire(commitment: &NonceCommitment) -> common::SigningCommitment {
    common::SigningCommitment {
        hiding: commitment.hiding.serialize().to_vec(),
        binding: commitment.binding.serialize().to_vec(),
    }
}

/// Operators by identifier, as the contract writes it.
pub fn by_identifier<T, U, C: FromIterator<(String, U)>>(
    entries: &BTreeMap<OperatorIndex, T>,
    convert: impl Fn(&T) -> U,
) -> C {
    entries
        .iter()
        .map(|(operator, value)| (operator.identifier(), convert(value)))
        .collect()
}

/// The commitments of the operators that sign, by operator.
///
/// # Errors
/// A refusal that names `field`.
pub fn commitments<'a>(
    field: &str,
    wire: impl IntoIterator<Item = (&'a String, &'a common::SigningCommitment)>,
) -> Result<BTreeMap<OperatorIndex, NonceCommitment>, Refusal> {
    let mut operators = BTreeMap::new();
    for (identifier, value) in wire {
        let operator = operator(field, identifier)?;
        operators.insert(operator, commitment(field, Some(value))?);
    }
    Ok(operators)
}

/// An operator's identifier: 64 hex digits.
///
/// # Errors
/// A refusal that names `field`.
pub fn operator(field: &str, identifier: &str) -> Result<OperatorIndex, Refusal> {
    OperatorIndex::from_identifier(identifier).map_err(|_| {
        malformed(
            field,
            format!("\"{identifier}\" is not an operator's identifier"),
        )
    })
}

/// A signature share of 32 bytes.
///
/// # Errors
/// A refusal that names `field`.
pub fn signature_share(field: &str, bytes: &[u8]) -> Result<SignatureShare, Refusal> {
    let share = <[u8; 32]>::try_from(bytes).map_err(|_| {
        malformed(
            field,
            format!("{} bytes, a signature share has 32", bytes.len()),
        )
    })?;
    Ok(SignatureShare(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_both_ways_and_the_epoch_is_none() {
        let time = Millis(1_700_000_000_123);
        assert_eq!(instant("t", Some(&timestamp(time))).unwrap(), Some(time));
        assert_eq!(instant("t", Some(&timestamp(Millis(0)))).unwrap(), None);
        assert_eq!(instant("t", None).unwrap(), None);
        let before = Timestamp {
            seconds: -1,
            nanos: 0,
        };
        assert!(
            instant("t", Some(&before))
                .unwrap_err()
                .message
                .contains('t')
        );
    }

    #[test]
    fn uncompressed_and_broken_keys_are_refused_by_name() {
        for bytes in [vec![], vec![2; 32], vec![4; 65], vec![5; 33]] {
            let refusal = public_key("owner", &bytes).unwrap_err();
            assert!(refusal.message.starts_with("owner"), "{refusal}");
        }
    }

    #[test]
    fn foreign_and_absent_networks_are_refused() {
        assert!(check_network(2, Network::Local).is_ok());
        assert_eq!(
            check_network(0, Network::Local).unwrap_err().reason,
            Reason::MissingField
        );
        assert_eq!(
            check_network(1, Network::Local).unwrap_err().reason,
            Reason::MalformedField
        );
    }
}
