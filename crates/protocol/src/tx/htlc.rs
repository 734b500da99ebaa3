//! Hash-locked outputs: the receiver takes them with a preimage, the sender after a timeout.

use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::opcodes::all::{OP_CHECKSIG, OP_CSV, OP_DROP, OP_EQUALVERIFY, OP_SHA256};
use bitcoin::script::Builder;
use bitcoin::secp256k1::{PublicKey, XOnlyPublicKey};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::taproot::{ControlBlock, LeafVersion, TapLeafHash, TapNodeHash, TaprootSpendInfo};
use bitcoin::{ScriptBuf, Sequence, TapSighashType, Transaction, TxOut, Witness};

use super::{TxKind, UnsignedTx, fee, first_output, p2tr, spend};
use crate::curve::CURVE;
use crate::timelock::HTLC_TIMEOUT;
use crate::{Error, Result, Sats};

/// A point of which nobody knows the secret (BIP 341): these outputs have no key path.
pub const NO_KEY: [u8; 32] = [
    0x50, 0x92, 0x9b, 0x74, 0xc1, 0xa0, 0x49, 0x54, 0xb7, 0x8b, 0x4b, 0x60, 0x35, 0xe9, 0x7a, 0x5e,
    0x07, 0x8a, 0x5a, 0x0f, 0x28, 0xec, 0x96, 0xd5, 0x47, 0xbf, 0xee, 0x9a, 0xce, 0x80, 0x3a, 0xc0,
];

/// A hash-locked output. Both keys are identity keys, used as they are, without tweak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HtlcOutput {
    payment_hash: [u8; 32],
    receiver: PublicKey,
    sender: PublicKey,
}

impl HtlcOutput {
    /// An output that `receiver` takes with the preimage of `payment_hash` (SHA-256), or `sender`
    /// after [`HTLC_TIMEOUT`].
    #[must_use]
    pub const fn new(payment_hash: [u8; 32], receiver: PublicKey, sender: PublicKey) -> Self {
        Self {
            payment_hash,
            receiver,
            sender,
        }
    }

    /// The script that the receiver spends with.
    #[must_use]
    pub fn hash_lock_script(&self) -> ScriptBuf {
        Builder::new()
            .push_opcode(OP_SHA256)
            .push_slice(self.payment_hash)
            .push_opcode(OP_EQUALVERIFY)
            .push_x_only_key(&self.receiver.x_only_public_key().0)
            .push_opcode(OP_CHECKSIG)
            .into_script()
    }

    /// The script that the sender spends with.
    #[must_use]
    pub fn timeout_script(&self) -> ScriptBuf {
        Builder::new()
            .push_int(i64::from(HTLC_TIMEOUT.0))
            .push_opcode(OP_CSV)
            .push_opcode(OP_DROP)
            .push_x_only_key(&self.sender.x_only_public_key().0)
            .push_opcode(OP_CHECKSIG)
            .into_script()
    }

    /// The script of the output.
    ///
    /// # Errors
    /// [`Error::KeysCancel`], which cannot be reached with less than 2¹²⁸ tries.
    pub fn script_pubkey(&self) -> Result<ScriptBuf> {
        Ok(ScriptBuf::new_p2tr_tweaked(self.spend_info()?.output_key()))
    }

    /// The control block of [`hash_lock_script`](Self::hash_lock_script).
    ///
    /// # Errors
    /// [`Error::KeysCancel`].
    pub fn hash_lock_control_block(&self) -> Result<ControlBlock> {
        self.control_block(self.hash_lock_script())
    }

    /// The control block of [`timeout_script`](Self::timeout_script).
    ///
    /// # Errors
    /// [`Error::KeysCancel`].
    pub fn timeout_control_block(&self) -> Result<ControlBlock> {
        self.control_block(self.timeout_script())
    }

    /// The root of the tree of both scripts.
    #[must_use]
    pub fn merkle_root(&self) -> TapNodeHash {
        let hash_lock = TapNodeHash::from_script(&self.hash_lock_script(), LeafVersion::TapScript);
        let timeout = TapNodeHash::from_script(&self.timeout_script(), LeafVersion::TapScript);
        TapNodeHash::from_node_hashes(hash_lock, timeout)
    }

    /// The sender takes output 0 of `htlc_tx` back after the timeout, less `fee`.
    ///
    /// # Errors
    /// [`Error::InvalidFee`] if nothing is left, [`Error::MissingOutput`].
    pub fn timeout_spend(&self, htlc_tx: &Transaction, fee: Sats) -> Result<UnsignedTx> {
        let sequence = Sequence::from_height(HTLC_TIMEOUT.0);
        take(htlc_tx, sequence, p2tr(&self.sender), fee)
    }

    /// The receiver takes output 0 of `htlc_tx` with the preimage, less `fee`.
    ///
    /// # Errors
    /// [`Error::InvalidFee`] if nothing is left, [`Error::MissingOutput`].
    pub fn preimage_spend(&self, htlc_tx: &Transaction, fee: Sats) -> Result<UnsignedTx> {
        take(htlc_tx, Sequence::MAX, p2tr(&self.receiver), fee)
    }

    /// The hash that the sender signs in a [`timeout_spend`](Self::timeout_spend), with the
    /// untweaked identity key.
    ///
    /// # Errors
    /// [`Error::MalformedTx`].
    pub fn timeout_sighash(&self, spend: &UnsignedTx) -> Result<[u8; 32]> {
        script_sighash(spend, &self.timeout_script())
    }

    /// The hash that the receiver signs in a [`preimage_spend`](Self::preimage_spend), with the
    /// untweaked identity key.
    ///
    /// # Errors
    /// [`Error::MalformedTx`].
    pub fn preimage_sighash(&self, spend: &UnsignedTx) -> Result<[u8; 32]> {
        script_sighash(spend, &self.hash_lock_script())
    }

    /// A [`timeout_spend`](Self::timeout_spend) with its witness.
    ///
    /// # Errors
    /// [`Error::KeysCancel`].
    pub fn finalize_timeout(
        &self,
        spend: &UnsignedTx,
        signature: &[u8; 64],
    ) -> Result<Transaction> {
        let mut witness = Witness::from_slice(&[signature.as_slice()]);
        witness.push(self.timeout_script().as_bytes());
        witness.push(self.timeout_control_block()?.serialize());
        Ok(with_witness(spend, witness))
    }

    /// A [`preimage_spend`](Self::preimage_spend) with its witness.
    ///
    /// # Errors
    /// [`Error::KeysCancel`]; [`Error::BadSignature`] if the preimage does not fit.
    pub fn finalize_preimage(
        &self,
        spend: &UnsignedTx,
        signature: &[u8; 64],
        preimage: &[u8; 32],
    ) -> Result<Transaction> {
        if sha256::Hash::hash(preimage).to_byte_array() != self.payment_hash {
            return Err(Error::BadSignature {
                what: "the preimage",
            });
        }
        let mut witness = Witness::from_slice(&[signature.as_slice(), preimage.as_slice()]);
        witness.push(self.hash_lock_script().as_bytes());
        witness.push(self.hash_lock_control_block()?.serialize());
        Ok(with_witness(spend, witness))
    }

    fn spend_info(&self) -> Result<TaprootSpendInfo> {
        let unreachable = || Error::KeysCancel {
            what: "the key of a hash-locked output",
        };
        let internal = XOnlyPublicKey::from_slice(&NO_KEY).map_err(|_| unreachable())?;
        bitcoin::taproot::TaprootBuilder::new()
            .add_leaf(1, self.hash_lock_script())
            .and_then(|tree| tree.add_leaf(1, self.timeout_script()))
            .map_err(|_| unreachable())?
            .finalize(&CURVE, internal)
            .map_err(|_| unreachable())
    }

    fn control_block(&self, script: ScriptBuf) -> Result<ControlBlock> {
        self.spend_info()?
            .control_block(&(script, LeafVersion::TapScript))
            .ok_or(Error::KeysCancel {
                what: "the script of a hash-locked output",
            })
    }
}

/// The fee of either spend at `rate` sats per virtual byte.
///
/// # Errors
/// [`Error::AmountOverflow`].
pub fn spend_fee(rate: u64) -> Result<Sats> {
    fee::estimated(rate)
}

fn take(
    htlc_tx: &Transaction,
    sequence: Sequence,
    destination: ScriptBuf,
    fee: Sats,
) -> Result<UnsignedTx> {
    let spent = first_output(htlc_tx)?;
    let value = Sats::from(spent.output.value);
    let left = value
        .checked_sub(fee)
        .filter(|left| *left > Sats::ZERO)
        .ok_or(Error::InvalidFee {
            fee,
            value,
            reason: "nothing is left",
        })?;
    let output = TxOut {
        value: left.to_amount(),
        script_pubkey: destination,
    };
    Ok(spend(
        TxKind::HtlcSpend,
        vec![(spent, sequence)],
        vec![output],
    ))
}

fn script_sighash(spend: &UnsignedTx, script: &ScriptBuf) -> Result<[u8; 32]> {
    let leaf = TapLeafHash::from_script(script, LeafVersion::TapScript);
    SighashCache::new(&spend.tx)
        .taproot_script_spend_signature_hash(
            0,
            &Prevouts::All(&spend.prevouts),
            leaf,
            TapSighashType::Default,
        )
        .map(|hash| hash.to_byte_array())
        .map_err(|error| Error::MalformedTx {
            kind: spend.kind,
            reason: error.to_string(),
        })
}

fn with_witness(spend: &UnsignedTx, witness: Witness) -> Transaction {
    let mut tx = spend.tx.clone();
    if let Some(input) = tx.input.first_mut() {
        input.witness = witness;
    }
    tx
}
