//! Constants, hashes, key arithmetic and plain adaptors.

use bitcoin::secp256k1::XOnlyPublicKey;
use tinderbox_frost::ciphersuite::{
    CONTEXT, USER_IDENTIFIER, expand_message, h1, h3, h4, h5, hash_dkg, hash_identifier,
};
use tinderbox_frost::{OperatorIndex, Participant, Scalar, SecretScalar, adaptor, tweak};

use crate::common::{array, bytes, hex_of, number, point, secret, text, vectors};

#[test]
fn constants_are_those_of_the_network() {
    let vector = vectors!("constants");
    assert_eq!(CONTEXT, text(&vector["frost_context_string"]).as_bytes());
    assert_eq!(
        USER_IDENTIFIER,
        array::<32>(&vector["frost_user_identifier"])
    );
    assert_eq!(USER_IDENTIFIER, hash_identifier(&[b"user"]).to_be_bytes());
    assert_eq!(Participant::User.identifier_bytes(), USER_IDENTIFIER);

    let order: [u8; 32] = array(&vector["curve_order"]);
    assert!(Scalar::from_be_bytes(&order).is_err());
    assert!(Scalar::reduce(&order).is_zero());

    for listed in vector["operator_identifiers"].as_array().unwrap() {
        let index = OperatorIndex(number(&listed["id"]));
        assert_eq!(index.identifier(), text(&listed["identifier"]));
        assert_eq!(
            OperatorIndex::from_identifier(&index.identifier()),
            Ok(index)
        );
    }
}

#[test]
fn the_package_header_carries_the_checksum_of_the_ciphersuite() {
    let vector = vectors!("constants");
    let (_, package) =
        tinderbox_frost::dkg::round1(OperatorIndex(0), 2, 2, &mut crate::common::rng(1)).unwrap();
    assert_eq!(
        package.to_bytes()[1..5],
        bytes(&vector["dkg_ciphersuite_short_id_crc32"])
    );
}

#[test]
fn hashes_to_the_field_are_those_of_the_vectors() {
    let mut checked = 0;
    for case in vectors!("hash_to_field").as_array().unwrap() {
        let (tag, message) = (text(&case["dst"]), bytes(&case["msg"]));
        let parts: &[&[u8]] = &[&message];
        let suffix = tag.strip_prefix("FROST-secp256k1-SHA256-TR-v1").unwrap();
        if case.get("digest").is_some() {
            let digest = if suffix == "msg" {
                h4(parts)
            } else {
                h5(parts)
            };
            assert_eq!(digest, array::<32>(&case["digest"]), "{tag}");
        } else {
            let expanded: [u8; 48] = array(&case["expand_message_xmd_48"]);
            assert_eq!(expand_message(&[tag.as_bytes()], parts), expanded, "{tag}");
            let scalar = match suffix {
                "rho" => h1(parts),
                "nonce" => h3(parts),
                "dkg" => hash_dkg(parts),
                "id" => hash_identifier(parts),
                other => panic!("no hash {other}"),
            };
            assert_eq!(scalar.to_be_bytes(), array::<32>(&case["scalar"]), "{tag}");
        }
        checked += 1;
    }
    assert_eq!(checked, 7);
}

#[test]
fn keys_add_and_subtract_as_everywhere() {
    let vector = vectors!("key_arithmetic");
    let (a, b) = (secret(&vector["a"]), secret(&vector["b"]));
    let (pub_a, pub_b) = (point(&vector["pub_a"]), point(&vector["pub_b"]));
    assert_eq!(a.public_key(), pub_a);
    assert_eq!(b.public_key(), pub_b);
    assert_eq!(hex_of(&a.add(&b).unwrap()), text(&vector["a_plus_b"]));
    assert_eq!(hex_of(&a.sub(&b).unwrap()), text(&vector["a_minus_b"]));
    assert_eq!(
        tweak::add_points(&pub_a, &pub_b).unwrap(),
        point(&vector["pub_a_plus_b"])
    );
    assert_eq!(
        tweak::sub_points(&pub_a, &pub_b).unwrap(),
        point(&vector["pub_a_minus_b"])
    );
}

#[test]
fn a_plain_adaptor_signature_is_made_checked_completed_and_opened() {
    let vector = vectors!("adaptor_plain");
    let key = XOnlyPublicKey::from_slice(&bytes(&vector["xonly_public_key"])).unwrap();
    assert_eq!(
        secret(&vector["secret_key"])
            .public_key()
            .x_only_public_key()
            .0,
        key
    );
    let message: [u8; 32] = array(&vector["message"]);
    let signature: [u8; 64] = array(&vector["signature"]);
    let hidden = secret(&vector["adaptor_secret"]);
    let adaptor_point = point(&vector["adaptor_public_key"]);
    assert_eq!(hidden.public_key(), adaptor_point);

    let incomplete = adaptor::detach(&signature, &hidden).unwrap();
    assert_eq!(incomplete, array::<64>(&vector["adaptor_signature"]));
    adaptor::verify(&key, &message, &incomplete, &adaptor_point).unwrap();
    let applied = adaptor::complete(&key, &message, &incomplete, &hidden).unwrap();
    assert_eq!(applied, array::<64>(&vector["applied"]));
    let opened: SecretScalar = adaptor::extract(&applied, &incomplete, &adaptor_point).unwrap();
    assert_eq!(hex_of(&opened), text(&vector["adaptor_secret"]));
}
