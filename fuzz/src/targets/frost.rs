use tinderbox_frost::dkg::Round1Package;
use tinderbox_frost::{NonceCommitment, Nonces, SecretScalar, SignatureShare, SigningPackage};

pub(super) fn run(data: &[u8]) {
    let Some((choice, bytes)) = super::chosen(data) else {
        return;
    };
    match choice % 4 {
        0 => {
            let _ = Round1Package::from_bytes(bytes);
        }
        1 => {
            if let Ok(package) = postcard::from_bytes::<SigningPackage>(bytes) {
                let _ = package.fingerprint();
                let _ = package.prepare();
            }
        }
        2 => {
            let _ = postcard::from_bytes::<NonceCommitment>(bytes);
            let _ = postcard::from_bytes::<SignatureShare>(bytes);
            let _ = SecretScalar::try_from_be_bytes(bytes);
        }
        _ => {
            if let Some(bytes) = bytes.first_chunk::<64>() {
                let _ = Nonces::from_bytes(bytes);
            }
        }
    }
}
