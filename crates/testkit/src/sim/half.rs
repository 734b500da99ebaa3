//! Signatures that a wallet completes: the operators give their shares first.

use std::collections::BTreeMap;

use bitcoin::Transaction;
use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::flow::{JobOutcome, Outcome};
use tinderbox_flows::package::OpenJob;
use tinderbox_flows::rows::AddressRow;
use tinderbox_frost::{Nonces, OperatorIndex, SecretScalar, SigningPackage};
use tinderbox_protocol::tx::{TxKind, UnsignedTx, verify_input};

use crate::owner::NonceSet;

/// A transaction that waits for the operators' half of one of its signatures.
pub struct Half {
    /// What the operators are asked for.
    pub job: OpenJob,
    tx: UnsignedTx,
    input: usize,
    nonces: Nonces,
    key: SecretKey,
}

impl Half {
    /// For one input of `tx`, with this half of its key and these operators.
    pub(super) fn new(
        key: SecretKey,
        tx: UnsignedTx,
        input: usize,
        operators: NonceSet,
        rng: &mut ChaCha20Rng,
    ) -> Self {
        let nonces = Nonces::generate(rng);
        Self {
            job: OpenJob {
                signing_key: key.public_key(SECP256K1),
                tx: tx.serialize(),
                commitment: nonces.commitment(),
                operators,
            },
            tx,
            input,
            nonces,
            key,
        }
    }

    /// The complete signature, which is valid.
    ///
    /// # Errors
    /// Why there is none: the operators' shares do not fit.
    pub(super) fn sign(
        self,
        verifying_key: PublicKey,
        public_shares: &[PublicKey],
        job: &JobOutcome,
    ) -> Result<[u8; 64], String> {
        let JobOutcome::Shares(shares) = job else {
            return Err(format!("no shares: {job:?}"));
        };
        let bad = |error: &dyn std::fmt::Display| error.to_string();
        let package = SigningPackage {
            verifying_key,
            message: self
                .tx
                .sighash_of(self.input)
                .map_err(|error| bad(&error))?,
            threshold: u16::try_from(self.job.operators.len()).map_err(|error| bad(&error))?,
            operators: self.job.operators,
            user: Some(self.job.commitment),
            adaptor: None,
        };
        let prepared = package.prepare().map_err(|error| bad(&error))?;
        let secret = SecretScalar::try_from_be_bytes(&self.key.secret_bytes())
            .map_err(|error| bad(&error))?;
        let own = prepared
            .sign_user(&secret, self.nonces)
            .map_err(|error| bad(&error))?;
        let public: BTreeMap<OperatorIndex, PublicKey> = (0u16..)
            .map(OperatorIndex)
            .zip(public_shares.iter().copied())
            .collect();
        let user = self.key.public_key(SECP256K1);
        prepared
            .aggregate(shares, Some(&own), &public, Some(&user))
            .map_err(|error| bad(&error))
    }

    /// The complete transaction, its signature checked.
    ///
    /// # Panics
    /// If the operators' shares do not fit.
    #[must_use]
    pub fn complete(
        self,
        address: &AddressRow,
        public_shares: &[PublicKey],
        outcome: &Outcome,
    ) -> Transaction {
        let tx = self.tx.clone();
        let job = outcome.jobs.last().expect("a spend is the last job");
        let signature = self
            .sign(address.verifying_key, public_shares, job)
            .expect("the shares fit");
        let signed = tx.finalize(&signature);
        verify_input(&signed, 0, &tx.prevouts, TxKind::Other).expect("a valid signature");
        signed
    }
}
