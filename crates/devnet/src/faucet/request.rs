//! The calls that the front answers itself.

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Amount, Denomination, Network, ScriptBuf};
use serde_json::{Map, Value};

use super::{Error, Result};

/// A call that is not for the node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OwnCall {
    /// `sendtoaddress ADDRESS AMOUNT`.
    Send { script: ScriptBuf, amount: Amount },
    /// `generate COUNT`: mines for the faucet. Core has no such method any more; for people with curl.
    Generate { blocks: u32 },
}

impl OwnCall {
    /// `None`: the call is for the node.
    pub(super) fn read(request: &Value) -> Option<Result<Self>> {
        let empty = Value::Null;
        let params = request.get("params").unwrap_or(&empty);
        match request.get("method").and_then(Value::as_str) {
            Some("sendtoaddress") => Some(send(params)),
            Some("generate") => Some(generate(params)),
            _ => None,
        }
    }
}

fn send(params: &Value) -> Result<OwnCall> {
    let address = param(params, 0, "address")
        .and_then(Value::as_str)
        .ok_or_else(|| Error::Request("sendtoaddress needs an address and an amount".into()))?;
    let amount = param(params, 1, "amount")
        .ok_or_else(|| Error::Request("sendtoaddress needs an address and an amount".into()))?;
    if param(params, 4, "subtractfeefromamount").is_some_and(|value| value.as_bool() != Some(false))
    {
        return Err(Error::Request(
            "the faucet always pays the fee itself: leave out subtractfeefromamount".into(),
        ));
    }
    let script = address
        .parse::<Address<NetworkUnchecked>>()
        .ok()
        .and_then(|parsed| parsed.require_network(Network::Regtest).ok())
        .ok_or_else(|| Error::Address(address.to_owned()))?
        .script_pubkey();
    Ok(OwnCall::Send {
        script,
        amount: read_amount(amount)?,
    })
}

fn generate(params: &Value) -> Result<OwnCall> {
    let blocks = param(params, 0, "nblocks").map_or(Some(1), Value::as_u64);
    match blocks
        .and_then(|blocks| u32::try_from(blocks).ok())
        .filter(|blocks| (1..=10_000).contains(blocks))
    {
        Some(blocks) => Ok(OwnCall::Generate { blocks }),
        None => Err(Error::Request(
            "generate takes a number of blocks from 1 to 10000".into(),
        )),
    }
}

/// A parameter by position or by name; null counts as absent.
fn param<'a>(params: &'a Value, index: usize, name: &str) -> Option<&'a Value> {
    let none = Map::new();
    match params {
        Value::Array(list) => list.get(index),
        other => other
            .as_object()
            .unwrap_or(&none)
            .get(name)
            .and_then(|_| other.get(name)),
    }
    .filter(|value| !value.is_null())
}

/// Bitcoins as a number (or, as Core allows, a string), exactly: what has more than 8 decimals is refused.
fn read_amount(value: &Value) -> Result<Amount> {
    let wrong = || Error::Amount(value.to_string());
    let amount = match value {
        // The shortest decimal that names the same float is what was sent: all amounts of bitcoin have at most 16
        // digits, and a float keeps 15 to 17.
        Value::Number(number) => {
            Amount::from_btc(number.as_f64().ok_or_else(wrong)?).map_err(|_| wrong())?
        }
        Value::String(text) => {
            Amount::from_str_in(text, Denomination::Bitcoin).map_err(|_| wrong())?
        }
        _ => return Err(wrong()),
    };
    if amount == Amount::ZERO || amount > Amount::MAX_MONEY {
        Err(wrong())
    } else {
        Ok(amount)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ADDRESS: &str = "bcrt1pzcstec45hx996hxq2fjrfmshedzssd07krwjghgm86gywa8t4ucsmfqmpq";

    fn amount(json: &str) -> Result<Amount> {
        read_amount(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn amounts_as_scripts_write_them_are_read() {
        for (json, sats) in [
            ("0.1", 10_000_000),
            ("1e-8", 1),
            ("0.00065536", 65_536),
            ("3", 300_000_000),
            ("\"0.5\"", 50_000_000),
        ] {
            assert_eq!(amount(json).unwrap(), Amount::from_sat(sats), "{json}");
        }
    }

    #[test]
    fn amounts_that_are_none_are_refused() {
        for json in [
            "0",
            "-1",
            "0.123456789",
            "1e-9",
            "21000001",
            "true",
            "\"x\"",
            "1e300",
            "null",
        ] {
            assert!(amount(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn every_amount_written_as_a_json_number_is_read_to_the_sat(sats in 1u64..=2_100_000_000_000_000) {
            let text = format!("{}.{:08}", sats / 100_000_000, sats % 100_000_000);
            prop_assert_eq!(amount(&text).unwrap(), Amount::from_sat(sats));
        }
    }

    #[test]
    fn parameters_come_by_position_or_by_name() {
        let by_position = json!({"method": "sendtoaddress", "params": [ADDRESS, 0.5]});
        let by_name =
            json!({"method": "sendtoaddress", "params": {"address": ADDRESS, "amount": 0.5}});
        let first = OwnCall::read(&by_position).unwrap().unwrap();
        assert_eq!(first, OwnCall::read(&by_name).unwrap().unwrap());
    }

    #[test]
    fn addresses_of_other_networks_are_refused() {
        for address in [
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
            "1BoatSLRHtKNngkdXEeobR76b53LETtpyT",
            "",
            "x",
        ] {
            let request = json!({"method": "sendtoaddress", "params": [address, 1]});
            let error = OwnCall::read(&request)
                .unwrap()
                .expect_err("it is not a regtest address");
            assert!(matches!(error, Error::Address(_)), "{error}");
        }
    }

    #[test]
    fn other_calls_are_for_the_node() {
        for request in [
            json!({"method": "getblockcount"}),
            json!({}),
            json!(7),
            json!([]),
        ] {
            assert!(OwnCall::read(&request).is_none());
        }
    }
}
