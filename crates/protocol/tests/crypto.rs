//! Keys, encryption, hashes, packages and authentication, as the official wallet makes them.

mod common;

use std::collections::BTreeMap;

use common::{array, bytes, crypto, list, number, public, public_of, secret, small, text};
use prost::Message as _;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde_json::Value;
use tinderbox_protocol::hash::{
    HashVariant, InstantStatement, StaticDepositRequest, StaticDepositStatement, Structured,
    claim_payload, leaf_signature_digest, leaf_signature_payload, message_digest,
    preimage_share_payload, sha256, structured, transfer_payload,
};
use tinderbox_protocol::keys::{SigningKey, WalletKeys, leaf_index};
use tinderbox_protocol::package::{ClaimLeafKeyTweaks, SendLeafKeyTweaks};
use tinderbox_protocol::signature::{
    sign_compact, sign_der, sign_schnorr, verify_der, verify_der_or_compact, verify_schnorr,
};
use tinderbox_protocol::{Error, LeafId, Network, Sats, SparkAddress, TransferId, authn, ecies};

fn assert_key(key: &SigningKey, recorded: &Value) {
    assert_eq!(
        hex::encode(*key.to_be_bytes()),
        text(&recorded["private_key"])
    );
    assert_eq!(key.public_key(), public(&recorded["public_key"]));
}

#[test]
fn wallet_keys_are_the_recorded_ones() {
    let vectors = crypto();
    let cases = list(&vectors["key_derivation"]);
    assert_eq!(cases.len(), 9);
    for case in cases {
        let network = common::network(&case["network"]);
        let account = small(&case["account_number"]);
        let input = text(&case["input"]);
        let keys = match text(&case["input_type"]) {
            "mnemonic" => WalletKeys::from_mnemonic(input, network, None).unwrap(),
            "seed_hex" => {
                WalletKeys::from_seed(&hex::decode(input).unwrap(), network, None).unwrap()
            }
            other => panic!("{other}"),
        };
        assert_eq!(keys.account(), account);
        assert_eq!(keys.network(), network);
        let seed = bytes(&case["seed"]);
        let from_seed = WalletKeys::from_seed(&seed, network, Some(account)).unwrap();
        assert_key(from_seed.identity(), &case["identity"]);
        let from_text = WalletKeys::from_text(&format!(" {input}\n"), network, None).unwrap();
        assert_key(from_text.identity(), &case["identity"]);

        assert_key(keys.identity(), &case["identity"]);
        assert_key(&keys.deposit().unwrap(), &case["deposit"]);
        assert_key(&keys.htlc_key().unwrap(), &case["htlc_preimage_key"]);
        for (index, key) in case["static_deposit"].as_object().into_iter().flatten() {
            assert_key(&keys.static_deposit(index.parse().unwrap()).unwrap(), key);
        }
        for (id, key) in case["leaf"].as_object().into_iter().flatten() {
            let leaf: LeafId = id.parse().unwrap();
            assert_eq!(leaf.to_string(), *id);
            assert_eq!(sha256(id.as_bytes()), array::<32>(&key["sha256"]));
            assert_eq!(leaf_index(&leaf), small(&key["hardened_index"]));
            assert_eq!(
                text(&key["path"]),
                format!("m/8797555'/{account}'/1'/{}'", leaf_index(&leaf))
            );
            assert_key(&keys.leaf(&leaf).unwrap(), key);
        }
        let htlc = &case["htlc_preimage"];
        let transfer: TransferId = text(&htlc["transfer_id"]).parse().unwrap();
        assert_eq!(
            hex::encode(transfer.bytes16()),
            text(&htlc["hmac_message_ascii"])
        );
        let preimage = keys.htlc_preimage(&transfer).unwrap();
        assert_eq!(preimage.to_vec(), bytes(&htlc["preimage"]));
        assert_eq!(
            sha256(preimage.as_slice()),
            array::<32>(&htlc["payment_hash"])
        );
        assert_eq!(
            SparkAddress::new(network, keys.identity().public_key()).to_string(),
            text(&case["spark_address"])
        );
    }
}

#[test]
fn wallets_have_the_recorded_identities() {
    let vectors = crypto();
    for (name, wallet) in vectors["wallets"].as_object().unwrap() {
        let keys = WalletKeys::from_seed(
            &bytes(&wallet["seed"]),
            Network::Local,
            Some(small(&wallet["account_number"])),
        )
        .unwrap();
        assert_eq!(
            hex::encode(*keys.identity().to_be_bytes()),
            text(&wallet["identity_private_key"]),
            "{name}"
        );
        assert_eq!(
            keys.identity().public_key(),
            public(&wallet["identity_public_key"])
        );
    }
}

#[test]
fn constants_are_the_recorded_ones() {
    let constants = &crypto()["constants"];
    assert_eq!(
        bitcoin::secp256k1::constants::CURVE_ORDER,
        array::<32>(&constants["curve_order"])
    );
    assert_eq!(number(&constants["hd_purpose"]), 8_797_555);
    for operator in list(&constants["local_development_operators"]["operators"]) {
        let key = secret(&operator["identity_private_key"]);
        assert_eq!(public_of(&key), public(&operator["identity_public_key"]));
        let index = number(&operator["id"]) + 1;
        assert_eq!(text(&operator["identifier"]), format!("{index:064x}"));
    }
}

#[test]
fn wrong_words_and_seeds_are_refused() {
    let words = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon";
    let refused = |result: tinderbox_protocol::Result<WalletKeys>| {
        assert!(matches!(result, Err(Error::InvalidSeed { .. })));
    };
    refused(WalletKeys::from_mnemonic(words, Network::Local, None));
    refused(WalletKeys::from_text("not a seed", Network::Local, None));
    refused(WalletKeys::from_text("", Network::Local, None));
    refused(WalletKeys::from_seed(&[1; 15], Network::Local, None));
    refused(WalletKeys::from_seed(&[1; 65], Network::Local, None));
    assert!(matches!(
        WalletKeys::from_seed(&[1; 32], Network::Local, Some(1 << 31)),
        Err(Error::Derivation { .. })
    ));
    for bytes in [vec![0; 32], vec![0xff; 32], vec![1; 31], vec![]] {
        assert!(SigningKey::from_slice(&bytes).is_err());
    }
}

#[test]
fn recorded_ciphertexts_open() {
    let vectors = crypto();
    for case in list(&vectors["ecies"]) {
        let key = secret(&case["receiver_private_key"]);
        let ciphertext = bytes(&case["ciphertext"]);
        let plaintext = bytes(&case["plaintext"]);
        assert_eq!(ciphertext.len(), plaintext.len() + ecies::OVERHEAD);
        assert_eq!(*ecies::decrypt(&key, &ciphertext).unwrap(), plaintext);
    }
}

#[test]
fn a_changed_or_foreign_ciphertext_is_refused() {
    let vectors = crypto();
    let case = &list(&vectors["ecies"])[0];
    let key = secret(&case["receiver_private_key"]);
    let good = bytes(&case["ciphertext"]);
    let bob = secret(&vectors["wallets"]["bob"]["identity_private_key"]);
    let refused = |key, bytes: &[u8]| {
        assert!(matches!(
            ecies::decrypt(key, bytes),
            Err(Error::Decrypt { .. })
        ));
    };
    for place in 0..good.len() {
        let mut changed = good.clone();
        changed[place] ^= 1;
        refused(&key, &changed);
    }
    for length in 0..good.len() {
        refused(&key, &good[..length]);
    }
    let mut longer = good.clone();
    longer.push(0);
    refused(&key, &longer);
    refused(&bob, &good);
    // A compressed ephemeral key, which wallets refuse too.
    let ephemeral = public(&serde_json::json!(hex::encode(&good[..65])));
    let mut compressed = ephemeral.serialize().to_vec();
    compressed.extend(&good[65..]);
    refused(&key, &compressed);
    // The hybrid form of the same point.
    let mut hybrid = good.clone();
    hybrid[0] = 6 | (good[64] & 1);
    refused(&key, &hybrid);
}

#[test]
fn encryption_is_fresh_each_time_and_opens() {
    let key = secret(&crypto()["wallets"]["bob"]["identity_private_key"]);
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    for length in [0, 1, 32, 1000] {
        let plaintext = vec![9; length];
        let one = ecies::encrypt(&public_of(&key), &plaintext, &mut rng).unwrap();
        let two = ecies::encrypt(&public_of(&key), &plaintext, &mut rng).unwrap();
        assert_ne!(one, two);
        assert_ne!(one[..65], two[..65]);
        assert_ne!(one[65..81], two[65..81]);
        assert_eq!(*ecies::decrypt(&key, &one).unwrap(), plaintext);
    }
}

fn map(entries: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    entries
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.to_vec()))
        .collect()
}

#[test]
fn structured_hashes_are_the_recorded_ones() {
    let vectors = crypto();
    let cases = list(&vectors["structured_hash"]);
    let fills: [fn(Structured) -> Structured; 5] = [
        |hash| hash,
        |hash| hash,
        |hash| {
            hash.bytes(&[1, 2, 3])
                .string("string")
                .number(1_u64)
                .number(8_u8)
                .number(16_u16)
                .number(32_u32)
                .number(64_u64)
                .map(&map(&[("one", &[1]), ("two", &[2])]))
        },
        |hash| hash.number(u64::MAX).bytes(&[]).string("héllo🚀"),
        |hash| hash.map(&map(&[("b", &[2]), ("a", &[1]), ("aa", &[])])),
    ];
    assert_eq!(cases.len(), fills.len());
    for (case, fill) in cases.iter().zip(fills) {
        let tags: Vec<&str> = case["tag"].as_array().unwrap().iter().map(text).collect();
        let hash = structured(&tags, fill);
        assert_eq!(hash, array::<32>(&case["hash"]), "{}", case["values"]);
        // The recorded serialization under the recorded tag hash gives the same.
        let tag = bytes(&case["tag_hash"]);
        let by_hand = [&tag[..], &tag, &bytes(&case["serialized_values"])].concat();
        assert_eq!(hash, sha256(&by_hand));
    }
}

fn package(value: &Value) -> BTreeMap<String, Vec<u8>> {
    value
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (key.clone(), bytes(value)))
        .collect()
}

#[test]
fn small_package_payloads_are_the_recorded_ones() {
    let vectors = crypto();
    let case = &vectors["package_payload_small"];
    let transfer: TransferId = text(&case["transfer_id"]).parse().unwrap();
    let package = package(&case["key_tweak_package"]);
    assert_eq!(
        transfer_payload(&transfer, &package, HashVariant::V2),
        array::<32>(&case["transfer_v2"])
    );
    assert_eq!(
        transfer_payload(&transfer, &package, HashVariant::Legacy),
        array::<32>(&case["transfer_legacy"])
    );
    assert_eq!(
        claim_payload(&transfer, &package),
        array::<32>(&case["claim_v2"])
    );
    assert_eq!(HashVariant::from_wire(0), Some(HashVariant::Legacy));
    assert_eq!(HashVariant::from_wire(1), Some(HashVariant::V2));
    assert_eq!(HashVariant::from_wire(2), None);
}

#[test]
fn a_transfer_is_signed_packed_and_opened_as_recorded() {
    let vectors = crypto();
    let chain = &vectors["transfer_chain"];
    let send = &chain["send"];
    let alice = secret(&vectors["wallets"]["alice"]["identity_private_key"]);
    let bob = secret(&vectors["wallets"]["bob"]["identity_private_key"]);
    assert_eq!(text(&chain["sender"]), "wallets.alice");
    assert_eq!(text(&chain["receiver"]), "wallets.bob");
    let leaf: LeafId = text(&chain["leaf_id"]).parse().unwrap();
    let transfer: TransferId = text(&chain["transfer_id"]).parse().unwrap();

    // Keys come from the wallets.
    let wallet = |name: &str| {
        let seed = bytes(&vectors["wallets"][name]["seed"]);
        WalletKeys::from_seed(&seed, Network::Local, None).unwrap()
    };
    let temporary: LeafId = text(&chain["temporary_leaf_id"]).parse().unwrap();
    for (key, recorded) in [
        (wallet("alice").leaf(&leaf), &chain["sender_leaf_key"]),
        (wallet("alice").leaf(&temporary), &chain["temporary_key"]),
        (wallet("bob").leaf(&leaf), &chain["receiver_leaf_key"]),
    ] {
        assert_eq!(key.unwrap().to_be_bytes().to_vec(), bytes(recorded));
    }

    // Per leaf: the ciphertext opens for the receiver, the signature is the sender's.
    let cipher = bytes(&send["secret_cipher"]);
    assert_eq!(
        *ecies::decrypt(&bob, &cipher).unwrap(),
        bytes(&chain["temporary_key"])
    );
    assert!(ecies::decrypt(&alice, &cipher).is_err());
    assert_eq!(
        leaf_signature_payload(&leaf, &transfer, &cipher),
        bytes(&send["leaf_payload"])
    );
    let digest = leaf_signature_digest(&leaf, &transfer, &cipher);
    assert_eq!(digest, array::<32>(&send["leaf_payload_sha256"]));
    assert_eq!(
        sign_compact(&alice, &digest),
        array::<64>(&send["leaf_signature_compact"])
    );

    // The package as a whole.
    let tweaks = package(&send["key_tweak_package"]);
    let payload = transfer_payload(&transfer, &tweaks, HashVariant::V2);
    assert_eq!(payload, array::<32>(&send["signing_payload_v2"]));
    assert_eq!(
        transfer_payload(&transfer, &tweaks, HashVariant::Legacy),
        array::<32>(&send["signing_payload_legacy"])
    );
    assert_eq!(
        sign_der(&alice, &payload),
        bytes(&send["user_signature_der_over_v2"])
    );

    let claim = &chain["claim"];
    let payload = claim_payload(&transfer, &package(&claim["key_tweak_package"]));
    assert_eq!(payload, array::<32>(&claim["signing_payload_v2"]));
    assert_eq!(
        sign_der(&bob, &payload),
        bytes(&claim["user_signature_der_over_v2"])
    );
}

#[test]
fn packages_open_to_the_recorded_tweaks_and_pack_again() {
    let vectors = crypto();
    let chain = &vectors["transfer_chain"];
    for operator in &list(&vectors["constants"]["local_development_operators"]["operators"])[..3] {
        let identifier = text(&operator["identifier"]);
        let key = secret(&operator["identity_private_key"]);
        let open = |half: &Value| {
            let plaintext =
                ecies::decrypt(&key, &bytes(&half["key_tweak_package"][identifier])).unwrap();
            assert_eq!(*plaintext, bytes(&half["plaintext_packages"][identifier]));
            plaintext
        };
        let assert_tweak = |half: &Value,
                            share: &tinderbox_protocol::package::SecretShare,
                            public: &BTreeMap<String, Vec<u8>>| {
            assert_eq!(
                share.secret_share,
                bytes(&half["per_operator"][identifier]["secret_share"])
            );
            let proofs: Vec<Vec<u8>> = list(&half["proofs"]).iter().map(bytes).collect();
            assert_eq!(share.proofs, proofs);
            assert_eq!(*public, package(&half["pubkey_shares_tweak"]));
        };

        let plaintext = open(&chain["send"]);
        let sent = SendLeafKeyTweaks::from_bytes(&plaintext).unwrap();
        assert_eq!(*sent.to_bytes(), *plaintext);
        let [tweak] = sent.leaves_to_send.as_slice() else {
            panic!("one leaf")
        };
        assert_eq!(tweak.leaf_id, text(&chain["leaf_id"]));
        assert_eq!(tweak.secret_cipher, bytes(&chain["send"]["secret_cipher"]));
        assert_eq!(
            tweak.signature,
            bytes(&chain["send"]["leaf_signature_compact"])
        );
        assert_tweak(
            &chain["send"],
            tweak.secret_share_tweak.as_ref().unwrap(),
            &tweak.pubkey_shares_tweak,
        );

        let plaintext = open(&chain["claim"]);
        let claimed = ClaimLeafKeyTweaks::from_bytes(&plaintext).unwrap();
        assert_eq!(*claimed.to_bytes(), *plaintext);
        let [tweak] = claimed.leaves_to_receive.as_slice() else {
            panic!("one leaf")
        };
        assert_eq!(tweak.leaf_id, text(&chain["leaf_id"]));
        assert_tweak(
            &chain["claim"],
            tweak.secret_share_tweak.as_ref().unwrap(),
            &tweak.pubkey_shares_tweak,
        );
    }
}

/// Key shares before the transfer, after the send, after the claim: each step adds the dealt
/// tweak to every operator's share, and the verifying key stays the sum of both halves.
#[test]
fn tweaks_lead_from_one_recorded_keyshare_to_the_next() {
    use tinderbox_frost::{OperatorIndex, SecretScalar, feldman, tweak};
    use tinderbox_protocol::deposit;
    let vectors = crypto();
    let chain = &vectors["transfer_chain"];
    let scalar = |value: &Value| SecretScalar::try_from_be_bytes(&bytes(value)).unwrap();
    let verifying = public(&chain["verifying_key"]);
    let steps = [
        (
            "send",
            "keyshare_before",
            "keyshare_after_send",
            "sender_leaf_key",
            "temporary_key",
        ),
        (
            "claim",
            "keyshare_after_send",
            "keyshare_after_claim",
            "temporary_key",
            "receiver_leaf_key",
        ),
    ];
    for (step, before, after, old, new) in steps {
        let (before, after) = (&chain[before], &chain[after]);
        let step = &chain[step];
        let difference = scalar(&chain[old]).sub(&scalar(&chain[new])).unwrap();
        assert_eq!(
            *difference.to_be_bytes(),
            array::<32>(&step["tweak_scalar"])
        );
        let proofs: Vec<_> = list(&step["proofs"]).iter().map(public).collect();
        feldman::check_proofs(&proofs, 2).unwrap();
        assert_eq!(proofs[0], difference.public_key());
        assert_eq!(
            tweak::apply_public(&public(&before["public_key"]), &proofs[0]).unwrap(),
            public(&after["public_key"])
        );
        let shares = list(&before["shares"]).iter().zip(list(&after["shares"]));
        for (place, (before, after)) in shares.enumerate() {
            let identifier = text(&before["identifier"]);
            let index = OperatorIndex::from_identifier(identifier).unwrap();
            assert_eq!(index, OperatorIndex(u16::try_from(place).unwrap()));
            let dealt = scalar(&step["per_operator"][identifier]["secret_share"]);
            feldman::verify_share(&proofs, index, &dealt).unwrap();
            let point = public(&step["pubkey_shares_tweak"][identifier]);
            assert_eq!(feldman::evaluate(&proofs, index).unwrap(), point);
            let tweaked = tweak::apply_secret(&scalar(&before["secret_share"]), &dealt).unwrap();
            assert_eq!(*tweaked.to_be_bytes(), array::<32>(&after["secret_share"]));
            assert_eq!(tweaked.public_key(), public(&after["public_share"]));
            assert_eq!(
                tweak::apply_public(&public(&before["public_share"]), &point).unwrap(),
                public(&after["public_share"])
            );
        }
        let owner = public(&after["owner_signing_public_key"]);
        assert_eq!(owner, scalar(&chain[new]).public_key());
        deposit::check_halves(&verifying, &owner, &public(&after["public_key"])).unwrap();
        assert_eq!(
            deposit::operators_key(&verifying, &owner).unwrap(),
            public(&after["public_key"])
        );
    }
}

/// Case 11: the per-leaf signature of another transfer, leaf, ciphertext or sender.
#[test]
fn a_leaf_signature_over_something_else_is_refused() {
    let vectors = crypto();
    let chain = &vectors["transfer_chain"];
    let sender = public(&vectors["wallets"]["alice"]["identity_public_key"]);
    let leaf: LeafId = text(&chain["leaf_id"]).parse().unwrap();
    let other_leaf: LeafId = text(&chain["temporary_leaf_id"]).parse().unwrap();
    let transfer: TransferId = text(&chain["transfer_id"]).parse().unwrap();
    let other_transfer = TransferId::from_bytes16([1; 16]);
    let cipher = bytes(&chain["send"]["secret_cipher"]);
    let signature = bytes(&chain["send"]["leaf_signature_compact"]);
    let check = |key, leaf, transfer, cipher: &[u8], signature: &[u8]| {
        let digest = leaf_signature_digest(leaf, transfer, cipher);
        verify_der_or_compact(key, &digest, signature, "the leaf signature")
    };
    check(&sender, &leaf, &transfer, &cipher, &signature).unwrap();
    assert!(check(&sender, &other_leaf, &transfer, &cipher, &signature).is_err());
    assert!(check(&sender, &leaf, &other_transfer, &cipher, &signature).is_err());
    assert!(check(&sender, &leaf, &transfer, &cipher[1..], &signature).is_err());
    assert!(check(&sender, &leaf, &transfer, &cipher, &[]).is_err());
    assert!(check(&sender, &leaf, &transfer, &cipher, &[0; 64]).is_err());
    let bob = public(&vectors["wallets"]["bob"]["identity_public_key"]);
    assert!(check(&bob, &leaf, &transfer, &cipher, &signature).is_err());
}

#[test]
fn static_deposit_statements_are_the_recorded_ones() {
    let vectors = crypto();
    let group = &vectors["static_deposit_statements"];
    let quote = bytes(&group["ssp_quote_signature"]);
    let sighash = array::<32>(&group["refund"]["spend_tx_sighash"]);
    let statement = |case: &Value, vout| {
        let request = match number(&case["request_type"]) {
            0 => StaticDepositRequest::Fixed {
                quote_signature: &quote,
            },
            2 => StaticDepositRequest::Refund {
                spend_sighash: &sighash,
            },
            other => panic!("{other}"),
        };
        StaticDepositStatement {
            network: common::network(&case["network"]),
            txid: text(&group["txid_display_hex"]),
            vout,
            credit: Sats(number(&case["credit_amount_sats"])),
            request,
        }
    };
    let vout = small(&group["vout"]);
    for (name, vout) in [
        ("fixed_claim", vout),
        ("refund", vout),
        ("large_amount", small(&group["large_amount"]["vout"])),
    ] {
        let case = &group[name];
        let statement = statement(case, vout);
        assert_eq!(statement.payload(), bytes(&case["payload"]), "{name}");
        assert_eq!(statement.digest(), array::<32>(&case["sha256"]), "{name}");
        if !case["v2_hash"].is_null() {
            assert_eq!(statement.digest_v2(), array::<32>(&case["v2_hash"]));
        }
    }
    let fixed = &group["fixed_claim"];
    let key = secret(&fixed["example_user_private_key"]);
    let digest = statement(fixed, vout).digest();
    verify_der(
        &public_of(&key),
        &digest,
        &bytes(&fixed["example_user_signature_der"]),
        "the statement",
    )
    .unwrap();
    // A maximum-fee claim is another statement than a fixed one.
    let max_fee = StaticDepositStatement {
        request: StaticDepositRequest::MaxFee {
            quote_signature: &quote,
        },
        ..statement(fixed, vout)
    };
    assert_ne!(max_fee.digest(), digest);

    let instant = &group["instant_0conf"];
    let digest = InstantStatement {
        network: common::network(&instant["network"]),
        credit: Sats(number(&instant["credit_amount_sats"])),
        secondary_credit: Sats(number(&instant["secondary_credit_amount_sats"])),
        destination_address: text(&instant["destination_address"]),
        deposit: Sats(number(&instant["sats_value"])),
        quote_signature: &quote,
    }
    .digest();
    assert_eq!(digest, array::<32>(&instant["hash"]));
    let alice = secret(&vectors["wallets"]["alice"]["identity_private_key"]);
    assert_eq!(
        sign_der(&alice, &digest),
        bytes(&instant["der_signature_by_alice"])
    );
}

#[test]
fn the_preimage_share_payload_is_the_recorded_one() {
    let vectors = crypto();
    let case = &vectors["store_preimage_share_payload"];
    assert_eq!(
        preimage_share_payload(
            &array(&case["payment_hash"]),
            &package(&case["encrypted_preimage_shares"]),
            small(&case["threshold"]),
            text(&case["invoice_string"]),
        ),
        array::<32>(&case["hash"])
    );
}

#[test]
fn challenges_and_tokens_of_operators_are_the_recorded_ones() {
    let vectors = crypto();
    let group = &vectors["authn"];
    let recorded = &group["challenge"];
    let alice = secret(&vectors["wallets"]["alice"]["identity_private_key"]);
    let challenge = authn::Challenge {
        version: i32::try_from(number(&recorded["version"])).unwrap(),
        timestamp: recorded["timestamp"].as_i64().unwrap(),
        nonce: bytes(&recorded["nonce"]),
        public_key: bytes(&recorded["public_key"]),
    };
    assert_eq!(challenge.version, authn::VERSION);
    let encoded = challenge.encode_to_vec();
    assert_eq!(encoded, bytes(&group["challenge_bytes"]));
    assert_eq!(challenge.digest(), array::<32>(&group["challenge_sha256"]));
    assert_eq!(
        sign_der(&alice, &challenge.digest()),
        bytes(&group["signature_der"])
    );

    let server = &group["reference_server"];
    let identity = secret(&server["operator_identity_private_key"]);
    for (label, recorded) in [
        ("AUTH_CHALLENGE_SECRET_v1", &server["challenge_hmac_key"]),
        ("AUTH_SESSION_SECRET_v1", &server["session_hmac_key"]),
    ] {
        let input = [identity.secret_bytes().as_slice(), label.as_bytes()].concat();
        assert_eq!(sha256(&input), array::<32>(recorded));
    }
    let keys = authn::ServerKeys::new(&identity);
    assert_eq!(
        keys.challenge_hmac(&encoded),
        array::<32>(&server["server_hmac"])
    );
    assert!(keys.challenge_is_ours(&encoded, &bytes(&server["server_hmac"])));
    assert!(!keys.challenge_is_ours(&encoded[1..], &bytes(&server["server_hmac"])));
    assert!(!keys.challenge_is_ours(&encoded, &bytes(&server["server_hmac"])[1..]));

    let session_bytes = bytes(&server["session_bytes"]);
    let session = authn::Session::decode(session_bytes.as_slice()).unwrap();
    assert_eq!(session.encode_to_vec(), session_bytes);
    assert_eq!(session.public_key, challenge.public_key);
    assert_eq!(
        keys.session_hmac(&session_bytes),
        array::<32>(&server["session_hmac"])
    );
    assert!(keys.session_is_ours(&session_bytes, &bytes(&server["session_hmac"])));
    // A challenge's HMAC is none for a session.
    assert!(!keys.session_is_ours(&encoded, &bytes(&server["server_hmac"])));
    let token = authn::ProtectedSession {
        version: authn::VERSION,
        session: Some(session),
        hmac: bytes(&server["session_hmac"]),
    };
    let recorded = text(&server["session_token_base64url"]);
    assert_eq!(token.to_token(), recorded);
    assert_eq!(
        authn::ProtectedSession::from_token(recorded).unwrap(),
        token
    );
    assert!(authn::ProtectedSession::from_token("no token!").is_err());
}

#[test]
fn challenges_of_providers_are_the_recorded_ones() {
    let vectors = crypto();
    let group = &vectors["ssp_authn"];
    let raw = bytes(&group["protected_challenge_bytes"]);
    let challenge = authn::SspProtectedChallenge::decode(raw.as_slice()).unwrap();
    assert_eq!(challenge.encode_to_vec(), raw);
    let alice = secret(&vectors["wallets"]["alice"]["identity_private_key"]);
    assert_eq!(
        challenge.challenge.as_ref().unwrap().public_key,
        public_of(&alice).serialize()
    );
    let recorded = text(&group["protected_challenge_base64url_nopad"]);
    assert_eq!(challenge.to_text(), recorded);
    for spelling in [
        recorded.to_owned(),
        format!("{recorded}=="),
        recorded.replace('-', "+").replace('_', "/"),
    ] {
        assert_eq!(
            authn::SspProtectedChallenge::from_text(&spelling).unwrap(),
            challenge
        );
    }
    assert_eq!(challenge.digest(), array::<32>(&group["signed_digest"]));
    let signature = sign_der(&alice, &challenge.digest());
    assert_eq!(signature, bytes(&group["signature_der"]));
    use base64::Engine as _;
    assert_eq!(
        base64::engine::general_purpose::STANDARD.encode(signature),
        text(&group["signature_base64_as_sent_by_official_sdk"])
    );
}

#[test]
fn messages_are_signed_as_recorded() {
    let vectors = crypto();
    let case = &vectors["message_signing"];
    let alice = secret(&vectors["wallets"]["alice"]["identity_private_key"]);
    let key = public_of(&alice);
    let digest = message_digest(text(&case["message"]));
    assert_eq!(digest, array::<32>(&case["sha256"]));
    let what = "the message";
    let (der, compact) = (sign_der(&alice, &digest), sign_compact(&alice, &digest));
    assert_eq!(der, bytes(&case["ecdsa_der"]));
    assert_eq!(compact.to_vec(), bytes(&case["ecdsa_compact"]));
    verify_der(&key, &digest, &der, what).unwrap();
    verify_der_or_compact(&key, &digest, &der, what).unwrap();
    verify_der_or_compact(&key, &digest, &compact, what).unwrap();
    assert!(verify_der(&key, &digest, &compact, what).is_err());
    assert!(verify_der(&key, &[0; 32], &der, what).is_err());

    let example = &case["schnorr_example"];
    assert_eq!(
        key.x_only_public_key().0.serialize().to_vec(),
        bytes(&example["xonly_public_key"])
    );
    verify_schnorr(&key, &digest, &bytes(&example["signature"]), what).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let ours = sign_schnorr(&alice, &digest, &mut rng);
    verify_schnorr(&key, &digest, &ours, what).unwrap();
    assert_ne!(ours, sign_schnorr(&alice, &digest, &mut rng));
    assert!(verify_schnorr(&key, &[0; 32], &ours, what).is_err());
    assert!(verify_schnorr(&key, &digest, &ours[1..], what).is_err());
}

/// A vector that no test reads would be a vector that proves nothing.
#[test]
fn every_group_of_vectors_has_a_test() {
    let tests = concat!(include_str!("crypto.rs"), include_str!("deposit_proofs.rs"));
    for group in crypto().as_object().unwrap().keys() {
        assert!(
            tests.contains(&format!("[\"{group}\"]")),
            "{group} has no test"
        );
    }
}
