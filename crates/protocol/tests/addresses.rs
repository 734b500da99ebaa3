//! Spark addresses and invoices, and what Lightning invoices carry of them.

mod common;

use bitcoin::secp256k1::{PublicKey, SecretKey};
use common::{array, bytes, key, list, network, number, public, public_of, secret_key, text};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde_json::Value;
use tinderbox_protocol::address::{SparkAddress, normalize};
use tinderbox_protocol::bolt11::{self, LightningInvoice, SparkFallback};
use tinderbox_protocol::invoice::{Expiry, InvoiceFields, Payment, SparkInvoice};
use tinderbox_protocol::{Error, Network, Sats};
use uuid::Uuid;

#[test]
fn addresses_are_the_recorded_ones() {
    for case in list(&common::transactions()["spark_addresses"]) {
        let address = SparkAddress::new(
            network(&case["network"]),
            public(&case["identity_public_key"]),
        );
        assert_eq!(address.payload(), bytes(&case["payload"]));
        assert_eq!(address.to_string(), text(&case["address"]));
        assert_eq!(address.to_legacy().unwrap(), text(&case["legacy_address"]));
        for spelling in [&case["address"], &case["legacy_address"]] {
            assert_eq!(text(spelling).parse::<SparkAddress>().unwrap(), address);
            assert_eq!(
                text(spelling)
                    .to_uppercase()
                    .parse::<SparkAddress>()
                    .unwrap(),
                address
            );
        }
        assert_eq!(
            SparkAddress::parse_for(text(&case["address"]), address.network),
            Ok(address)
        );
        for other in Network::ALL {
            assert_eq!(
                SparkAddress::parse_for(text(&case["address"]), other).is_ok(),
                other == address.network
            );
        }
    }
}

#[test]
fn addresses_are_normalized_as_recorded() {
    for case in list(&common::transactions()["spark_address_normalize"]) {
        let to = network(&case["to"]);
        assert_eq!(
            normalize(text(&case["input"]), to).unwrap(),
            text(&case["output"])
        );
        assert_ne!(network(&case["from"]), to);
    }
}

#[test]
fn taproot_addresses_stand_for_the_recorded_spark_addresses() {
    for case in list(&common::transactions()["xchain_addresses"]) {
        let address = SparkAddress::from_taproot(text(&case["taproot_address"])).unwrap();
        assert_eq!(address.to_string(), text(&case["spark_address"]));
    }
    assert!(SparkAddress::from_taproot("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4").is_err());
    assert!(SparkAddress::from_taproot("nonsense").is_err());
}

fn fields(recorded: &Value) -> InvoiceFields {
    let payment = if let Some(amount) = recorded.get("sats_amount") {
        Payment::Sats(amount.as_u64().map(Sats))
    } else {
        Payment::Tokens {
            identifier: recorded["token_identifier"]
                .as_str()
                .map(|hex| hex::decode(hex).unwrap().try_into().unwrap()),
            amount: recorded["token_amount_be"]
                .as_str()
                .map(|hex| u128::from_str_radix(hex, 16).unwrap()),
        }
    };
    InvoiceFields {
        id: Uuid::from_slice(&bytes(&recorded["id"])).unwrap(),
        payment,
        memo: recorded["memo"].as_str().map(str::to_owned),
        sender: recorded["sender_public_key"]
            .as_str()
            .map(|hex| hex.parse().unwrap()),
        expiry: recorded["expiry_unix_millis"]
            .as_u64()
            .map(Expiry::from_millis),
    }
}

#[test]
fn invoices_are_the_recorded_ones() {
    let cases = common::transactions();
    let cases = list(&cases["spark_invoices"]);
    assert!(cases.len() >= 8);
    for case in cases {
        let what = text(&case["label"]);
        assert_eq!(number(&case["fields"]["version"]), 1);
        let invoice = SparkInvoice {
            network: network(&case["network"]),
            receiver: public(&case["receiver_public_key"]),
            fields: fields(&case["fields"]),
            signature: case["signature"]
                .as_str()
                .map(|hex| hex::decode(hex).unwrap().try_into().unwrap()),
        };
        assert_eq!(invoice.digest(), array::<32>(&case["hash"]), "{what}");
        assert_eq!(
            hex::encode(invoice.payload()),
            text(&case["payload"]),
            "{what}"
        );
        assert_eq!(invoice.to_string(), text(&case["invoice"]), "{what}");
        let read: SparkInvoice = text(&case["invoice"]).parse().unwrap();
        assert_eq!(read, invoice, "{what}");
        read.verify().unwrap();
        // It is no address, and no invoice in other letters or with an older prefix.
        assert!(text(&case["invoice"]).parse::<SparkAddress>().is_err());
        assert!(
            text(&case["invoice"])
                .to_uppercase()
                .parse::<SparkInvoice>()
                .is_err()
        );
        assert!(
            invoice
                .address()
                .to_string()
                .parse::<SparkInvoice>()
                .is_err()
        );
    }
}

#[test]
fn known_invoices_are_read_and_hashed() {
    let vectors = common::transactions();
    let cases = list(&vectors["spark_invoice_known"]);
    let first = &cases[0];
    let digest = SparkInvoice {
        network: network(&first["network"]),
        receiver: public(&first["receiver_public_key"]),
        fields: fields(first),
        signature: None,
    }
    .digest();
    assert_eq!(digest, array::<32>(&first["hash"]));

    let second = &cases[1];
    let invoice: SparkInvoice = text(&second["invoice"]).parse().unwrap();
    let decoded = &second["decoded"];
    let inner = &decoded["sparkInvoiceFields"];
    assert_eq!(invoice.network, network(&decoded["network"]));
    assert_eq!(invoice.receiver, public(&decoded["identityPublicKey"]));
    assert_eq!(invoice.fields.id.to_string(), text(&inner["id"]));
    assert_eq!(
        invoice.fields.payment,
        Payment::Tokens {
            identifier: Some(array(&inner["paymentType"]["tokenIdentifier"])),
            amount: inner["paymentType"]["amount"].as_str().map_or_else(
                || inner["paymentType"]["amount"].as_u64().map(u128::from),
                |text| text.parse().ok()
            ),
        }
    );
    assert_eq!(invoice.fields.memo.as_deref(), inner["memo"].as_str());
    assert_eq!(
        invoice.fields.sender,
        Some(public(&inner["senderPublicKey"]))
    );
    // 2025-09-09T18:09:48.419Z
    assert_eq!(text(&inner["expiryTime"]), "2025-09-09T18:09:48.419Z");
    assert_eq!(
        invoice.fields.expiry.unwrap().as_millis(),
        1_757_441_388_419
    );
    assert_eq!(
        invoice.signature.unwrap().to_vec(),
        bytes(&decoded["signature"])
    );
    assert_eq!(second["signature_valid"], true);
    invoice.verify().unwrap();
    let mut changed = invoice;
    changed.fields.memo = Some("other".to_owned());
    assert!(matches!(changed.verify(), Err(Error::BadSignature { .. })));
}

/// Fields of an invoice by hand, so that broken ones can be written too.
fn raw_invoice(receiver: &PublicKey, inner: &[u8]) -> String {
    let mut payload = vec![0x0a, 33];
    payload.extend(receiver.serialize());
    payload.push(0x12);
    assert!(inner.len() < 256);
    if inner.len() < 128 {
        payload.push(u8::try_from(inner.len()).unwrap());
    } else {
        payload.extend([u8::try_from(inner.len() & 0x7f).unwrap() | 0x80, 1]);
    }
    payload.extend(inner);
    bech32::encode::<bech32::Bech32m>(bech32::Hrp::parse("sparkrt").unwrap(), &payload).unwrap()
}

fn field(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2, u8::try_from(body.len()).unwrap()];
    out.extend(body);
    out
}

#[test]
fn invoices_outside_the_limits_are_refused() {
    let vectors = common::transactions();
    let receiver = key(&vectors, "receiver_identity");
    let version = |number: u8| vec![0x08, number];
    let id = field(2, &[7; 16]);
    let sats = |amount: u64| {
        let mut body = vec![0x08];
        let mut rest = amount;
        while rest >= 128 {
            body.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        body.push(u8::try_from(rest).unwrap());
        field(4, &body)
    };
    let tokens =
        |token: &[u8], amount: &[u8]| field(3, &[field(1, token), field(2, amount)].concat());
    let good = sats(1);
    let memo = |length: usize| field(5, &vec![b'a'; length]);
    let write = |parts: &[&[u8]]| raw_invoice(&receiver, &parts.concat());
    let v1 = version(1);
    let token = tokens(&[1; 32], &[1]);
    write(&[&v1, &id, &good]).parse::<SparkInvoice>().unwrap();
    write(&[&v1, &id, &token]).parse::<SparkInvoice>().unwrap();
    let cases = [
        ("version 2", write(&[&version(2), &id, &good])),
        ("id 15 bytes", write(&[&v1, &field(2, &[7; 15]), &good])),
        ("memo 121 bytes", write(&[&v1, &id, &memo(121), &good])),
        (
            "memo 120 bytes (accepted)",
            write(&[&v1, &id, &memo(120), &good]),
        ),
        (
            "sats over 21M BTC",
            write(&[&v1, &id, &sats(2_100_000_000_000_001)]),
        ),
        (
            "token amount 17 bytes",
            write(&[&v1, &id, &tokens(&[1; 32], &[1; 17])]),
        ),
        (
            "token id 31 bytes",
            write(&[&v1, &id, &tokens(&[1; 31], &[1])]),
        ),
    ];
    let recorded = list(&vectors["spark_invoice_rejects"]);
    assert_eq!(recorded.len(), cases.len());
    for (case, (label, invoice)) in recorded.iter().zip(&cases) {
        assert_eq!(text(&case["label"]), *label);
        assert_eq!(
            invoice.parse::<SparkInvoice>().is_ok(),
            case["result"] == "accepted",
            "{label}"
        );
    }
    // Encodings that mean the same but are not the canonical one.
    for invoice in [
        write(&[&v1, &good, &id]),
        write(&[&id, &v1, &good]),
        write(&[&v1, &id, &good, &memo(3)]),
        write(&[&v1, &id, &tokens(&[1; 32], &[0, 1])]),
        write(&[&v1, &id, &good, &token]),
        write(&[&v1, &id]),
        write(&[&v1, &id, &good, &field(9, &[1])]),
    ] {
        assert!(invoice.parse::<SparkInvoice>().is_err(), "{invoice}");
    }
}

#[test]
fn an_invoice_is_payable_only_where_by_whom_and_when_it_says() {
    let vectors = common::transactions();
    let (receiver, payer) = (
        secret_key(&vectors, "receiver_identity"),
        key(&vectors, "user_identity"),
    );
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let fields = InvoiceFields {
        id: Uuid::from_bytes([3; 16]),
        payment: Payment::Sats(Some(Sats(1))),
        memo: None,
        sender: Some(payer),
        expiry: Some(Expiry::from_millis(10_000)),
    };
    let invoice = SparkInvoice::signed(Network::Local, &receiver, fields, &mut rng).unwrap();
    invoice
        .check_payable(Network::Local, &payer, 9_999)
        .unwrap();
    assert!(
        invoice
            .check_payable(Network::Local, &payer, 10_000)
            .is_err()
    );
    assert!(invoice.check_payable(Network::Regtest, &payer, 0).is_err());
    let other = key(&vectors, "ssp_identity");
    assert!(invoice.check_payable(Network::Local, &other, 0).is_err());
    let mut forged = invoice;
    forged.fields.payment = Payment::Sats(Some(Sats(2)));
    assert!(forged.check_payable(Network::Local, &payer, 0).is_err());
}

#[test]
fn lightning_invoices_carry_what_is_recorded() {
    let vectors = common::transactions();
    let group = &vectors["bolt11"];
    assert_eq!(
        bolt11::SENTINEL_CHANNEL.to_vec(),
        bytes(&group["sentinel_scid"])
    );
    assert_eq!(
        u64::from(bolt11::FALLBACK_VERSION),
        number(&group["fallback_version"])
    );
    for case in list(&group["cases"]) {
        let what = text(&case["label"]);
        let invoice = LightningInvoice::parse(text(&case["invoice"])).unwrap();
        let decoded = &case["decoded"];
        assert_eq!(
            invoice.amount_msat,
            decoded["amount_msat"].as_str().map(|n| n.parse().unwrap()),
            "{what}"
        );
        assert_eq!(invoice.payment_hash, array::<32>(&decoded["payment_hash"]));
        let carried = invoice.spark.map(|spark| match spark {
            SparkFallback::Identity(key) => key.to_string(),
            SparkFallback::Invoice(text) => text,
        });
        assert_eq!(
            carried.as_deref(),
            decoded["spark_fallback"].as_str(),
            "{what}"
        );
        let upper = text(&case["invoice"]).to_uppercase();
        assert_eq!(
            LightningInvoice::parse(&upper).unwrap().payment_hash,
            invoice.payment_hash
        );
        let mut broken = text(&case["invoice"]).to_owned();
        let last = if broken.ends_with('q') { 'p' } else { 'q' };
        broken.pop();
        broken.push(last);
        assert!(LightningInvoice::parse(&broken).is_err());
    }
    let hint = bytes(&group["hint_layout"]);
    assert_eq!(hint.len(), 51);
    assert_eq!(hint[33..41], bolt11::SENTINEL_CHANNEL);
}

#[test]
fn lightning_invoices_without_the_needed_fields_are_refused() {
    for text in [
        "",
        "lnbc",
        "lnbc1",
        "sparkl1pgss99jdsct7smvyqe7ndwxgv8xqjhyh9yuu3ddcjjt7na47d6udv3mf3t77th",
    ] {
        assert!(
            matches!(
                LightningInvoice::parse(text),
                Err(Error::InvalidBolt11 { .. })
            ),
            "{text}"
        );
    }
}

prop_compose! {
    fn any_key()(bytes in any::<[u8; 32]>()) -> SecretKey {
        SecretKey::from_slice(&bytes).unwrap_or(SecretKey::from_slice(&[1; 32]).unwrap())
    }
}

prop_compose! {
    fn any_fields()(
        id in any::<[u8; 16]>(),
        sats in proptest::option::of(0..=Sats::MAX.0),
        token in proptest::option::of(any::<(Option<[u8; 32]>, Option<u128>)>()),
        memo in proptest::option::of("\\PC{0,30}"),
        sender in proptest::option::of(any_key()),
        expiry in proptest::option::of(0..=4_000_000_000_000_u64),
    ) -> InvoiceFields {
        InvoiceFields {
            id: Uuid::from_bytes(id),
            payment: match token {
                Some((identifier, amount)) => Payment::Tokens { identifier, amount },
                None => Payment::Sats(sats.map(Sats)),
            },
            memo,
            sender: sender.map(|key| public_of(&key)),
            expiry: expiry.map(Expiry::from_millis),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn addresses_survive_a_round_trip(key in any_key(), network in 0_usize..5) {
        let address = SparkAddress::new(Network::ALL[network], public_of(&key));
        prop_assert_eq!(address.to_string().parse::<SparkAddress>(), Ok(address));
        let json = serde_json::to_string(&address).unwrap();
        prop_assert_eq!(serde_json::from_str::<SparkAddress>(&json).unwrap(), address);
    }

    #[test]
    fn invoices_survive_a_round_trip(
        key in any_key(),
        fields in any_fields(),
        network in 0_usize..5,
        seed in any::<u64>(),
    ) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let network = Network::ALL[network];
        let made = SparkInvoice::signed(network, &key, fields.clone(), &mut rng);
        if fields.memo.as_ref().is_some_and(|memo| memo.len() > 120) {
            prop_assert!(made.is_err());
            return Ok(());
        }
        let made = made.unwrap();
        let read: SparkInvoice = made.to_string().parse().unwrap();
        prop_assert!(read.verify().is_ok());
        prop_assert_eq!(read, made);
    }

    #[test]
    fn a_changed_letter_is_noticed(key in any_key(), at in 7_usize..60, to in 0_usize..32) {
        const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
        let text = SparkAddress::new(Network::Regtest, public_of(&key)).to_string();
        let mut changed = text.clone().into_bytes();
        let place = at.min(changed.len() - 1).max(8);
        prop_assume!(changed[place] != LETTERS[to]);
        changed[place] = LETTERS[to];
        let changed = String::from_utf8(changed).unwrap();
        prop_assert!(changed.parse::<SparkAddress>().is_err());
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in "\\PC{0,200}", payload in any::<Vec<u8>>()) {
        let _ = text.parse::<SparkAddress>();
        let _ = text.parse::<SparkInvoice>();
        let _ = LightningInvoice::parse(&text);
        for prefix in ["sparkrt", "lnbcrt1u"] {
            let prefix = bech32::Hrp::parse(prefix).unwrap();
            if let Ok(text) = bech32::encode::<bech32::Bech32m>(prefix, &payload) {
                let _ = text.parse::<SparkAddress>();
                let _ = text.parse::<SparkInvoice>();
            }
            if let Ok(text) = bech32::encode::<bech32::Bech32>(prefix, &payload) {
                let _ = LightningInvoice::parse(&text);
            }
        }
    }
}
