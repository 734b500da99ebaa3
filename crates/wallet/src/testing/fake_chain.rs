//! A chain in memory that is as strict as a node where exits are concerned: inputs must exist and be signed,
//! relative timelocks must have passed, fee-less transactions need a child that pays, and version-3 transactions
//! have at most one unconfirmed relative.

use std::sync::Mutex;

use async_trait::async_trait;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, Secp256k1};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, FeeRate, OutPoint, Script, ScriptBuf, Transaction, TxOut, Txid,
};
use tinderbox_chain::{
    Accepted, BlockRef, ChainSource, Error, OutputView, PackageOutcome, Rejection, Result, Spend,
    TxView,
};
use tinderbox_protocol::tx::{TxKind, is_anchor, verify_input};
use tinderbox_protocol::{BlockHeight, Sats};

use crate::chain::{Coin, Inclusion, WalletChain, inclusion_from_block};
use crate::verify::fixture::mine_on;

/// The chain and its mempool.
pub(crate) struct FakeChain {
    state: Mutex<State>,
}

struct State {
    /// From height 0.
    blocks: Vec<Block>,
    mempool: Vec<Transaction>,
    rate: u64,
    /// What the next package is refused with.
    refuse_next: Option<Rejection>,
    packages: usize,
    down: bool,
}

impl FakeChain {
    pub(crate) fn new() -> Self {
        let state = State {
            blocks: vec![mine_on(BlockHash::all_zeros(), Vec::new())],
            mempool: Vec::new(),
            rate: 2,
            refuse_next: None,
            packages: 0,
            down: false,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap())
    }

    /// Puts a transaction of another world into a block of its own.
    pub(crate) fn confirm_foreign(&self, tx: Transaction) {
        self.with(|s| s.push_block(vec![tx]));
    }

    /// A coin that pays `script`, confirmed.
    pub(crate) fn give(&self, script: ScriptBuf, value: Sats) -> OutPoint {
        let tx = Transaction {
            version: Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![bitcoin::TxIn {
                previous_output: OutPoint::new(
                    Txid::from_byte_array([value.0 as u8; 32]),
                    value.0 as u32,
                ),
                ..Default::default()
            }],
            output: vec![TxOut {
                value: value.to_amount(),
                script_pubkey: script,
            }],
        };
        let txid = tx.compute_txid();
        self.confirm_foreign(tx);
        OutPoint::new(txid, 0)
    }

    /// Mines blocks; the first takes all of the mempool.
    pub(crate) fn mine(&self, count: u32) {
        self.with(|s| {
            for _ in 0..count {
                let txs = std::mem::take(&mut s.mempool);
                s.push_block(txs);
            }
        });
    }

    /// Mines a block that takes nothing.
    pub(crate) fn mine_empty(&self, count: u32) {
        self.with(|s| (0..count).for_each(|_| s.push_block(Vec::new())));
    }

    /// Takes the last blocks back, as another branch would; their transactions are gone.
    pub(crate) fn reorganise(&self, depth: usize) {
        self.with(|s| {
            let keep = s.blocks.len() - depth;
            s.blocks.truncate(keep);
            s.mempool.clear();
        });
    }

    pub(crate) fn set_rate(&self, rate: u64) {
        self.with(|s| s.rate = rate);
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.with(|s| s.down = down);
    }

    pub(crate) fn refuse_next(&self, rejection: Rejection) {
        self.with(|s| s.refuse_next = Some(rejection));
    }

    /// Everything that the mempool forgot, as after a node's restart.
    pub(crate) fn forget_mempool(&self) {
        self.with(|s| s.mempool.clear());
    }

    pub(crate) fn height(&self) -> u32 {
        self.with(|s| s.height())
    }

    pub(crate) fn mempool(&self) -> Vec<Transaction> {
        self.with(|s| s.mempool.clone())
    }

    /// How many packages were accepted.
    pub(crate) fn packages(&self) -> usize {
        self.with(|s| s.packages)
    }

    /// Sum of confirmed unspent outputs of a script.
    pub(crate) fn confirmed_value(&self, script: &Script) -> Sats {
        self.with(|s| Sats(s.coins(script).iter().map(|coin| coin.value.0).sum()))
    }

    /// Takes a fee-paying transaction as a watchtower's broadcast would be.
    pub(crate) fn watchtower(&self, tx: &Transaction) -> Result<()> {
        self.with(|s| s.accept(std::slice::from_ref(tx)))
    }
}

impl State {
    fn height(&self) -> u32 {
        self.blocks.len() as u32 - 1
    }

    fn push_block(&mut self, txs: Vec<Transaction>) {
        let spent = txs
            .iter()
            .flat_map(|tx| tx.input.iter().map(|i| i.previous_output))
            .collect::<Vec<_>>();
        self.mempool.retain(|tx| {
            !tx.input
                .iter()
                .any(|input| spent.contains(&input.previous_output))
        });
        let previous = self.blocks.last().unwrap().block_hash();
        self.blocks.push(mine_on(previous, txs));
    }

    fn confirmed(&self) -> impl Iterator<Item = (u32, &Transaction)> {
        (0u32..)
            .zip(&self.blocks)
            .flat_map(|(height, block)| block.txdata.iter().map(move |tx| (height, tx)))
    }

    fn find(&self, txid: &Txid) -> Option<(Option<u32>, &Transaction)> {
        self.confirmed()
            .find(|(_, tx)| tx.compute_txid() == *txid)
            .map(|(height, tx)| (Some(height), tx))
            .or_else(|| {
                self.mempool
                    .iter()
                    .find(|tx| tx.compute_txid() == *txid)
                    .map(|tx| (None, tx))
            })
    }

    fn spend(&self, outpoint: &OutPoint) -> Spend {
        let spends = |tx: &Transaction| {
            tx.input
                .iter()
                .any(|input| input.previous_output == *outpoint)
        };
        if self.confirmed().any(|(_, tx)| spends(tx)) {
            Spend::Confirmed
        } else if self.mempool.iter().any(spends) {
            Spend::InMempool
        } else {
            Spend::Unspent
        }
    }

    fn coins(&self, script: &Script) -> Vec<Coin> {
        let mut coins = Vec::new();
        for (height, tx) in self.confirmed() {
            for (vout, output) in (0u32..).zip(&tx.output) {
                let outpoint = OutPoint::new(tx.compute_txid(), vout);
                if output.script_pubkey == *script && self.spend(&outpoint) == Spend::Unspent {
                    coins.push(Coin {
                        outpoint,
                        value: output.value.into(),
                        height: BlockHeight(height),
                    });
                }
            }
        }
        coins
    }

    fn refuse(tx: &Transaction, rejection: Rejection) -> Error {
        Error::Rejected {
            txid: tx.compute_txid(),
            rejection,
            reason: format!("fake: {rejection}"),
        }
    }

    /// Takes a package as a node would, or says why not.
    fn accept(&mut self, package: &[Transaction]) -> Result<()> {
        if package
            .iter()
            .all(|tx| self.find(&tx.compute_txid()).is_some())
        {
            return Ok(());
        }
        if let Some(rejection) = self.refuse_next.take() {
            return Err(Self::refuse(package.last().unwrap(), rejection));
        }
        let mut fee = Amount::ZERO;
        let mut size = 0;
        let mut replaced = Vec::new();
        for (index, tx) in package.iter().enumerate() {
            if self
                .find(&tx.compute_txid())
                .is_some_and(|(height, _)| height.is_some())
            {
                continue;
            }
            let mut spent = Vec::new();
            for input in &tx.input {
                let outpoint = input.previous_output;
                let parent = package[..index]
                    .iter()
                    .find(|p| p.compute_txid() == outpoint.txid)
                    .cloned();
                let found = self
                    .find(&outpoint.txid)
                    .map(|(height, tx)| (height, tx.clone()));
                let (height, source) = match (parent, found) {
                    (_, Some((height, tx))) => (height, tx),
                    (Some(tx), None) => (None, tx),
                    (None, None) => return Err(Self::refuse(tx, Rejection::MissingInputs)),
                };
                let Some(output) = source.output.get(outpoint.vout as usize) else {
                    return Err(Self::refuse(tx, Rejection::MissingInputs));
                };
                match self.spend(&outpoint) {
                    Spend::Confirmed => return Err(Self::refuse(tx, Rejection::MissingInputs)),
                    Spend::InMempool => replaced.push(outpoint),
                    Spend::Unspent => {}
                }
                self.check_timelock(tx, input.sequence.0, height)?;
                spent.push(output.clone());
            }
            check_signatures(tx, &spent).map_err(|_| Self::refuse(tx, Rejection::BadScript))?;
            let paid: Amount = spent.iter().map(|o| o.value).sum();
            let out: Amount = tx.output.iter().map(|o| o.value).sum();
            let own = paid
                .checked_sub(out)
                .ok_or_else(|| Self::refuse(tx, Rejection::Other))?;
            if self.find(&tx.compute_txid()).is_none() {
                fee += own;
                size += tx.vsize() as u64;
            }
            self.check_relatives(tx, package)?;
            let has_dust = tx.output.iter().any(|o| o.value == Amount::ZERO);
            let child_spends = package.iter().any(|c| {
                c.input
                    .iter()
                    .any(|i| i.previous_output.txid == tx.compute_txid())
            });
            if has_dust && !child_spends {
                return Err(Self::refuse(tx, Rejection::AnchorUnspent));
            }
        }
        if fee.to_sat() < size {
            return Err(Self::refuse(package.last().unwrap(), Rejection::FeeTooLow));
        }
        self.replace(&replaced, package, fee)?;
        for tx in package {
            if self.find(&tx.compute_txid()).is_none() {
                self.mempool.push(tx.clone());
            }
        }
        if package.len() > 1 {
            self.packages += 1;
        }
        Ok(())
    }

    /// Drives conflicting transactions out if the newcomers pay more.
    fn replace(&mut self, spent: &[OutPoint], package: &[Transaction], fee: Amount) -> Result<()> {
        let ids = package
            .iter()
            .map(Transaction::compute_txid)
            .collect::<Vec<_>>();
        let conflicts = |tx: &Transaction| {
            !ids.contains(&tx.compute_txid())
                && tx.input.iter().any(|i| spent.contains(&i.previous_output))
        };
        let old = self
            .mempool
            .iter()
            .filter(|tx| conflicts(tx))
            .cloned()
            .collect::<Vec<_>>();
        for tx in &old {
            let paid: Amount = tx
                .input
                .iter()
                .filter_map(|i| {
                    let (_, parent) = self.find(&i.previous_output.txid)?;
                    parent
                        .output
                        .get(i.previous_output.vout as usize)
                        .map(|o| o.value)
                })
                .sum();
            let out: Amount = tx.output.iter().map(|o| o.value).sum();
            if fee <= paid - out {
                return Err(Self::refuse(
                    &package[package.len() - 1],
                    Rejection::Conflict,
                ));
            }
        }
        self.mempool.retain(|tx| !conflicts(tx));
        Ok(())
    }

    fn check_timelock(&self, tx: &Transaction, sequence: u32, height: Option<u32>) -> Result<()> {
        // BIP 68: version 2 and above; bit 31 switches it off, bit 22 counts seconds.
        if tx.version.0 < 2 || sequence & (1 << 31) != 0 {
            return Ok(());
        }
        assert_eq!(
            sequence & (1 << 22),
            0,
            "no transaction of a test counts seconds"
        );
        let blocks = sequence & 0xffff;
        let since = height.unwrap_or(self.height() + 1);
        if blocks > 0 && self.height() + 1 < since + blocks {
            return Err(Self::refuse(tx, Rejection::TimelockNotReached));
        }
        Ok(())
    }

    /// Version 3: at most one unconfirmed parent, at most one child, nothing beyond.
    fn check_relatives(&self, tx: &Transaction, package: &[Transaction]) -> Result<()> {
        if tx.version != Version::non_standard(3) {
            return Ok(());
        }
        let ids = package
            .iter()
            .map(Transaction::compute_txid)
            .collect::<Vec<_>>();
        let unconfirmed = |id: &Txid| {
            self.mempool.iter().any(|tx| tx.compute_txid() == *id)
                || (ids.contains(id) && self.find(id).is_none())
        };
        let mut parents = tx
            .input
            .iter()
            .map(|i| i.previous_output.txid)
            .filter(|id| unconfirmed(id))
            .collect::<Vec<_>>();
        parents.sort_unstable();
        parents.dedup();
        let grandparent = parents.iter().any(|parent| {
            let found = self
                .find(parent)
                .map(|(_, tx)| tx)
                .or_else(|| package.iter().find(|p| p.compute_txid() == *parent));
            found.is_some_and(|p| p.input.iter().any(|i| unconfirmed(&i.previous_output.txid)))
        });
        if parents.len() > 1 || grandparent || (!parents.is_empty() && tx.vsize() > 1000) {
            return Err(Self::refuse(tx, Rejection::TrucLimit));
        }
        Ok(())
    }

    fn block_ref(&self, height: u32) -> BlockRef {
        BlockRef {
            height: BlockHeight(height),
            hash: self.blocks[height as usize].block_hash(),
        }
    }
}

/// Taproot key paths and P2WPKH are all that exits use, and anchors need no signature.
fn check_signatures(tx: &Transaction, spent: &[TxOut]) -> std::result::Result<(), String> {
    for (index, output) in spent.iter().enumerate() {
        if is_anchor(output) {
            if !tx.input[index].witness.is_empty() {
                return Err("an anchor needs no witness".into());
            }
        } else if output.script_pubkey.is_p2tr() {
            verify_input(tx, index, spent, TxKind::Other).map_err(|e| e.to_string())?;
        } else {
            let witness = &tx.input[index].witness;
            let signature =
                bitcoin::ecdsa::Signature::from_slice(witness.nth(0).ok_or("no signature")?)
                    .map_err(|e| e.to_string())?;
            let key = bitcoin::CompressedPublicKey::from_slice(witness.nth(1).ok_or("no key")?)
                .map_err(|e| e.to_string())?;
            if ScriptBuf::new_p2wpkh(&key.wpubkey_hash()) != output.script_pubkey {
                return Err("another key".into());
            }
            let hash = SighashCache::new(tx)
                .p2wpkh_signature_hash(
                    index,
                    &output.script_pubkey,
                    output.value,
                    EcdsaSighashType::All,
                )
                .map_err(|e| e.to_string())?;
            Secp256k1::new()
                .verify_ecdsa(
                    &Message::from_digest(hash.to_byte_array()),
                    &signature.signature,
                    &key.0,
                )
                .map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

#[async_trait]
impl ChainSource for FakeChain {
    async fn tip(&self) -> Result<BlockRef> {
        if self.with(|s| s.down) {
            return Err(Error::Busy);
        }
        Ok(self.with(|s| s.block_ref(s.height())))
    }

    async fn confirmations_of(&self, outpoint: &OutPoint) -> Result<Option<OutputView>> {
        Ok(self.with(|s| {
            let (height, tx) = s.find(&outpoint.txid)?;
            let output = tx.output.get(outpoint.vout as usize)?;
            Some(OutputView {
                value: output.value.into(),
                script: output.script_pubkey.clone(),
                block: height.map(|h| s.block_ref(h)),
                confirmations: height.map_or(0, |h| s.height() - h + 1),
                spent: s.spend(outpoint),
            })
        }))
    }

    async fn tx(&self, txid: &Txid) -> Result<Option<TxView>> {
        Ok(self.with(|s| {
            let (height, tx) = s.find(txid)?;
            Some(TxView {
                tx: tx.clone(),
                block: height.map(|h| s.block_ref(h)),
                confirmations: height.map_or(0, |h| s.height() - h + 1),
            })
        }))
    }

    async fn mempool_spender(&self, outpoint: &OutPoint) -> Result<Option<Txid>> {
        let spends = |tx: &&Transaction| {
            tx.input
                .iter()
                .any(|input| input.previous_output == *outpoint)
        };
        Ok(self.with(|s| s.mempool.iter().find(spends).map(Transaction::compute_txid)))
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Accepted> {
        self.with(|s| s.accept(std::slice::from_ref(tx)))?;
        Ok(Accepted::InMempool)
    }

    async fn submit_package(&self, txs: &[Transaction]) -> Result<PackageOutcome> {
        self.with(|s| s.accept(txs))?;
        let accepted = txs
            .iter()
            .map(|tx| (tx.compute_txid(), Accepted::InMempool))
            .collect();
        Ok(PackageOutcome {
            accepted,
            replaced: Vec::new(),
        })
    }

    async fn fee_rate(&self, _blocks: u16) -> Result<FeeRate> {
        Ok(FeeRate::from_sat_per_vb_u32(
            self.with(|s| u32::try_from(s.rate).unwrap()),
        ))
    }
}

#[async_trait]
impl WalletChain for FakeChain {
    async fn coins_of(&self, script: &Script) -> Result<Vec<Coin>> {
        Ok(self.with(|s| s.coins(script)))
    }

    async fn inclusion(&self, txid: &Txid, block: &BlockHash) -> Result<Option<Inclusion>> {
        Ok(self.with(|s| {
            let block = s.blocks.iter().find(|b| b.block_hash() == *block)?;
            inclusion_from_block(block, txid)
        }))
    }
}
