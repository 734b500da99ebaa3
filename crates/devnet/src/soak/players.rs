//! The wallets, and what they do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::{Amount, TxOut};
use futures::future::{join_all, try_join_all};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tinderbox_protocol::{LeafId, Sats, SparkAddress, TransferId};
use tinderbox_wallet::{InvoiceTerms, MemoryStorage, PaymentState, Wallet, new_words};
use tokio::sync::watch;

use super::report::Deeds;
use super::{ChainTurn, Soak, stuck};
use crate::faucet::Faucet;
use crate::{DevNet, Result};

/// Value of every leaf.
const LEAF: Sats = Sats(10_000);
/// Leaves of one deposit.
const BATCH: u64 = 4;
/// A wallet with less than so much makes a deposit.
const LOW: Sats = Sats(3 * LEAF.0);
/// Whatever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(240);
/// A person who is told to try again waits so long.
const PAUSE: Duration = Duration::from_millis(250);
/// Blocks on top of a deposit.
const DEPTH: u32 = 3;

type WalletError = tinderbox_wallet::Error;

/// How somebody is paid.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Address,
    Several,
    Invoice,
}

/// All wallets.
pub(super) struct Players {
    wallets: Vec<Wallet>,
    seed: u64,
    deeds: Mutex<Deeds>,
    met: Mutex<BTreeMap<String, u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Players {
    pub(super) async fn new(net: &DevNet, soak: &Soak) -> Result<Self> {
        let mut wallets = Vec::new();
        for number in 0..soak.wallets {
            // They use all operators as coordinators.
            let config = net.wallet_config(number % soak.operators)?;
            let storage = Arc::new(MemoryStorage::new());
            wallets.push(Wallet::open(config, &new_words()?, storage)?);
        }
        let players = Self {
            wallets,
            seed: soak.seed,
            deeds: Mutex::default(),
            met: Mutex::default(),
        };
        let turn = ChainTurn::default();
        for number in 0..players.wallets.len() {
            players.deposit(number, net.faucet(), &turn).await?;
        }
        Ok(players)
    }

    pub(super) fn deeds(&self) -> Deeds {
        *lock(&self.deeds)
    }

    pub(super) fn met(&self) -> BTreeMap<String, u64> {
        lock(&self.met).clone()
    }

    fn note(&self, call: &str, error: &WalletError) {
        let text = error.to_string();
        // Without ids and numbers.
        let words: Vec<&str> = text
            .split_whitespace()
            .filter(|word| !word.contains(|letter: char| letter.is_ascii_digit()))
            .take(12)
            .collect();
        let kind = format!("{call}: {}", words.join(" "));
        *lock(&self.met).entry(kind).or_default() += 1;
    }

    /// Everybody plays until the weather is over and what was begun has ended.
    pub(super) async fn play(
        &self,
        faucet: &Faucet,
        chain: &ChainTurn,
        over: watch::Receiver<bool>,
    ) -> Result<()> {
        // Some wallets claim what the event stream tells, the others when they look.
        let _claims: Vec<_> = self
            .wallets
            .iter()
            .step_by(2)
            .map(Wallet::run_auto_claim)
            .collect();
        let all = (0..self.wallets.len()).map(|number| {
            let over = over.clone();
            async move {
                let mut rng = StdRng::seed_from_u64(self.seed.wrapping_add(1 + number as u64));
                while !*over.borrow() {
                    self.turn(number, &mut rng, faucet, chain).await?;
                    let rest = rng.gen_range(50..400);
                    tokio::time::sleep(Duration::from_millis(rest)).await;
                }
                Ok::<_, crate::Error>(())
            }
        });
        try_join_all(all).await?;
        Ok(())
    }

    async fn turn(
        &self,
        number: usize,
        rng: &mut StdRng,
        faucet: &Faucet,
        chain: &ChainTurn,
    ) -> Result<()> {
        self.claim(number).await;
        let wallet = &self.wallets[number];
        if wallet.balance_of_leaves().available < LOW || rng.gen_ratio(1, 60) {
            return self.deposit(number, faucet, chain).await;
        }
        if rng.gen_ratio(1, 10) {
            if let Err(error) = wallet.sync().await {
                self.note("sync", &error);
            }
            return Ok(());
        }
        self.pay(number, rng).await
    }

    async fn claim(&self, number: usize) {
        match self.wallets[number].claim_pending().await {
            Ok(report) => lock(&self.deeds).claims += report.claimed.len() as u64,
            Err(error) => self.note("claim", &error),
        }
    }

    /// One payment, tried until its outcome is known.
    async fn pay(&self, number: usize, rng: &mut StdRng) -> Result<()> {
        let wallet = &self.wallets[number];
        let mut others: Vec<usize> = (0..self.wallets.len()).filter(|to| *to != number).collect();
        others.shuffle(rng);
        let way = match rng.gen_range(0..8) {
            0..2 => Way::Several,
            2..4 => Way::Invoice,
            _ => Way::Address,
        };
        let payment = match way {
            Way::Invoice => {
                let terms = InvoiceTerms {
                    amount: Some(LEAF),
                    ..InvoiceTerms::default()
                };
                let invoice = self.wallets[others[0]].create_invoice(terms)?;
                wallet.pay_invoice(&invoice, None).await
            }
            Way::Address | Way::Several => {
                let count = if way == Way::Several { 2 } else { 1 };
                let payments: Vec<(SparkAddress, Sats)> = others
                    .iter()
                    .take(count)
                    .map(|to| (self.wallets[*to].address(), LEAF))
                    .collect();
                wallet.pay_many(&payments).await
            }
        };
        let paid = match payment {
            Ok(_) => true,
            Err(WalletError::OutcomeUnknown { id, .. }) => self.outcome(number, id).await?,
            Err(error) => {
                self.note("pay", &error);
                let _ = wallet.sync().await;
                tokio::time::sleep(PAUSE).await;
                false
            }
        };
        if paid {
            let mut deeds = lock(&self.deeds);
            *match way {
                Way::Address => &mut deeds.payments,
                Way::Several => &mut deeds.shared_payments,
                Way::Invoice => &mut deeds.invoices,
            } += 1;
        }
        Ok(())
    }

    /// Waits until a wallet knows what became of a payment. True if it was paid.
    async fn outcome(&self, number: usize, id: TransferId) -> Result<bool> {
        let wallet = &self.wallets[number];
        let begun = Instant::now();
        loop {
            if begun.elapsed() > PATIENCE {
                return Err(stuck(format!("the outcome of {id} is not known")));
            }
            match wallet.payment_state(id).await {
                Ok(PaymentState::Paid) => return Ok(true),
                Ok(PaymentState::Returned | PaymentState::NotMade) => return Ok(false),
                Ok(PaymentState::Open) => {}
                Err(error) => self.note("outcome", &error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Several leaves in one transaction.
    async fn deposit(&self, number: usize, faucet: &Faucet, chain: &ChainTurn) -> Result<()> {
        let wallet = &self.wallets[number];
        let begun = Instant::now();
        let mut outputs = Vec::new();
        while (outputs.len() as u64) < BATCH {
            match wallet.deposit_address().await {
                Ok(address) => outputs.push(TxOut {
                    value: Amount::from_sat(LEAF.0),
                    script_pubkey: crate::demo::address(&address.address)?.script_pubkey(),
                }),
                Err(error) if begun.elapsed() > PATIENCE => {
                    return Err(stuck(format!("a deposit address: {error}")));
                }
                Err(error) => {
                    self.note("address", &error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        let tx = {
            let _turn = chain.lock().await;
            let tx = faucet.send_many(&outputs).await?;
            faucet.mine(DEPTH).await?;
            tx
        };
        let txid = tx.compute_txid();
        loop {
            match wallet.claim_deposit(txid).await {
                Ok(_) => break,
                Err(error) if begun.elapsed() > PATIENCE => {
                    return Err(stuck(format!("deposit {txid}: {error}")));
                }
                Err(error) => {
                    self.note("deposit", &error);
                    tokio::time::sleep(PAUSE).await;
                    if error.to_string().contains("confirm") {
                        // A reorganisation took it back.
                        let _turn = chain.lock().await;
                        faucet.mine(1).await?;
                    }
                }
            }
        }
        let mut deeds = lock(&self.deeds);
        deeds.deposits += 1;
        deeds.deposited += BATCH * LEAF.0;
        Ok(())
    }

    /// Waits until everything is where it belongs; says what is not.
    pub(super) async fn settle(&self, faucet: &Faucet, chain: &ChainTurn) -> Vec<String> {
        {
            // Whatever a reorganisation took back is buried again.
            let _turn = chain.lock().await;
            if let Err(error) = faucet.mine(DEPTH).await {
                return vec![error.to_string()];
            }
        }
        let held = join_all((0..self.wallets.len()).map(|number| self.settled(number))).await;
        let mut wrong = Vec::new();
        let mut total = 0;
        let mut owners = BTreeMap::<LeafId, usize>::new();
        for (number, held) in held.into_iter().enumerate() {
            match held {
                Ok((value, leaves)) => {
                    total += value;
                    for leaf in leaves {
                        if let Some(other) = owners.insert(leaf, number) {
                            wrong.push(format!("leaf {leaf} is of wallets {other} and {number}"));
                        }
                    }
                }
                Err(why) => wrong.push(why),
            }
        }
        let deposited = self.deeds().deposited;
        if wrong.is_empty() && total != deposited {
            wrong.push(format!("{deposited} sat were deposited, {total} are there"));
        }
        wrong
    }

    /// What a wallet has once nothing of it is on its way.
    async fn settled(&self, number: usize) -> std::result::Result<(u64, BTreeSet<LeafId>), String> {
        let begun = Instant::now();
        loop {
            match self.try_settle(number).await {
                Ok(held) => return Ok(held),
                Err(why) if begun.elapsed() > PATIENCE => {
                    return Err(format!("wallet {number} is stuck: {why}"));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn try_settle(
        &self,
        number: usize,
    ) -> std::result::Result<(u64, BTreeSet<LeafId>), String> {
        let text = |error: WalletError| error.to_string();
        let wallet = &self.wallets[number];
        let report = wallet.claim_pending().await.map_err(text)?;
        if let Some((id, why)) = report.refused.first() {
            return Err(format!("transfer {id}: {why}"));
        }
        let report = wallet.sync().await.map_err(text)?;
        if !report.unusable.is_empty() || !report.dissent.is_empty() {
            return Err(format!("{report:?}"));
        }
        let balance = wallet.balance().await.map_err(text)?;
        if balance.incoming.0 + balance.outgoing.0 + balance.exiting.0 > 0 {
            return Err(format!("{balance:?}"));
        }
        let leaves = wallet.leaves().iter().map(|leaf| leaf.id).collect();
        Ok((balance.available.0 + balance.to_be_renewed.0, leaves))
    }
}
