use bitcoin::secp256k1::SecretKey;
use tinderbox_frost::{SecretScalar, feldman};
use tinderbox_protocol::ecies;
use tinderbox_protocol::package::{ClaimLeafKeyTweaks, SecretShare, SendLeafKeyTweaks};

fn check(share: Option<&SecretShare>) {
    let Some(share) = share else { return };
    let proofs: Option<Vec<_>> = share
        .proofs
        .iter()
        .map(|proof| bitcoin::secp256k1::PublicKey::from_slice(proof).ok())
        .collect();
    if let Some(proofs) = proofs
        && feldman::check_proofs(&proofs, 2).is_ok()
        && let Ok(secret) = SecretScalar::try_from_be_bytes(&share.secret_share)
    {
        let _ = feldman::verify_share(&proofs, tinderbox_frost::OperatorIndex(0), &secret);
    }
}

fn opened(plain: &[u8]) {
    if let Ok(tweaks) = SendLeafKeyTweaks::from_bytes(plain) {
        for tweak in &tweaks.leaves_to_send {
            check(tweak.secret_share_tweak.as_ref());
            let _ = tweak.leaf_id.parse::<tinderbox_protocol::LeafId>();
        }
    }
    if let Ok(tweaks) = ClaimLeafKeyTweaks::from_bytes(plain) {
        for tweak in &tweaks.leaves_to_receive {
            check(tweak.secret_share_tweak.as_ref());
        }
    }
}

pub(super) fn run(data: &[u8]) {
    let Some((choice, bytes)) = super::chosen(data) else {
        return;
    };
    // A plain text seldom comes out of a forged ciphertext, so it is also tried as it is.
    if choice % 4 != 0 {
        opened(bytes);
        return;
    }
    let key = SecretKey::from_slice(&[1; 32]).expect("a key");
    if let Ok(plain) = ecies::decrypt(&key, bytes) {
        opened(&plain);
    }
}
