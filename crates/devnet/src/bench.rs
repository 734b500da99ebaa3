//! A load on a whole network: wallets that pay each other whole leaves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bitcoin::{Amount, TxOut};
use futures::future::try_join_all;
use serde::Serialize;
use tinderbox_protocol::Sats;
use tinderbox_wallet::{MemoryStorage, Wallet, new_words};

use crate::{DatabaseChoice, DevNet, Error, Plan, Ports, Result, proc_stat};

/// Value of every leaf.
const LEAF: Sats = Sats(10_000);
/// Payments that one leaf is good for; its timelock allows a few more.
const PER_LEAF: u64 = 15;
/// Unused deposit addresses that a wallet may have at once, with some room.
const ADDRESSES: u64 = 60;
/// Payments of one wallet while nobody else pays.
const IDLE: usize = 40;
/// Wallets ask for this many addresses at the same time.
const AT_ONCE: usize = 8;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Load {
    /// Wallets that pay at the same time.
    pub wallets: u16,
    /// Payments in all.
    pub payments: u64,
    /// Operators.
    pub operators: u16,
    /// Threshold; 0: the usual one.
    pub threshold: u16,
    /// Where operators keep rows.
    pub database: DatabaseChoice,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half are faster.
    pub p50: f64,
    /// 95 of 100 are faster.
    pub p95: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
}

impl Latency {
    fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let at = |percent: usize| {
            let place = (samples.len() * percent / 100).min(samples.len().saturating_sub(1));
            samples
                .get(place)
                .map_or(0.0, |sample| sample.as_secs_f64() * 1000.0)
        };
        Self {
            p50: at(50),
            p95: at(95),
            p99: at(99),
        }
    }
}

/// One operator's cost per payment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// CPU milliseconds.
    pub cpu_ms: f64,
    /// SQL statements.
    pub statements: f64,
    /// Database transactions, each one made durable.
    pub commits: f64,
    /// Times that the signer's vault was made durable.
    pub vault_syncs: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// `sqlite` or `postgres`.
    pub database: String,
    /// Operators and threshold.
    pub operators: [u16; 2],
    /// Wallets that paid at the same time.
    pub wallets: u16,
    /// Payments, each sent and claimed.
    pub payments: u64,
    /// Seconds that they took.
    pub seconds: f64,
    /// Payments per second.
    pub per_second: f64,
    /// One wallet alone, nobody else paying: sending.
    pub idle_send_ms: Latency,
    /// One wallet alone: claiming.
    pub idle_claim_ms: Latency,
    /// Under load: sending.
    pub send_ms: Latency,
    /// Under load: claiming.
    pub claim_ms: Latency,
    /// CPU milliseconds of wallets and this program per payment.
    pub load_cpu_ms: f64,
    /// Per operator.
    pub cost: Vec<Cost>,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [operators, threshold] = self.operators;
        writeln!(
            f,
            "{}: {} payments among {} wallets, {operators} operators, threshold {threshold}: {:.1} payments/s ({:.1} s)",
            self.database, self.payments, self.wallets, self.per_second, self.seconds
        )?;
        writeln!(
            f,
            "  {:<22} {:>8} {:>8} {:>8}",
            "latency in ms", "p50", "p95", "p99"
        )?;
        for (what, latency) in [
            ("send, one wallet", self.idle_send_ms),
            ("claim, one wallet", self.idle_claim_ms),
            ("send, under load", self.send_ms),
            ("claim, under load", self.claim_ms),
        ] {
            writeln!(
                f,
                "  {what:<22} {:>8.1} {:>8.1} {:>8.1}",
                latency.p50, latency.p95, latency.p99
            )?;
        }
        writeln!(
            f,
            "  {:<22} {:>8} {:>8} {:>8} {:>8}",
            "per payment", "CPU ms", "SQL", "commits", "vault"
        )?;
        for (index, cost) in self.cost.iter().enumerate() {
            writeln!(
                f,
                "  {:<22} {:>8.2} {:>8.2} {:>8.2} {:>8.2}",
                format!("operator {index}"),
                cost.cpu_ms,
                cost.statements,
                cost.commits,
                cost.vault_syncs
            )?;
        }
        write!(f, "  {:<22} {:>8.2}", "wallets", self.load_cpu_ms)
    }
}

/// Counters of one operator at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    cpu: Duration,
    statements: f64,
    commits: f64,
    vault_syncs: f64,
}

async fn counters(net: &DevNet) -> Result<Vec<Counters>> {
    let pids = net.pids();
    let mut all = Vec::new();
    for index in 0..net.plan().operators {
        let text = net.metrics(index).await?;
        let value = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once(' '))
                .filter(|(found, _)| *found == name)
                .filter_map(|(_, value)| value.trim().parse::<f64>().ok())
                .sum::<f64>()
        };
        let name = format!("operator {index}");
        let pid = pids.iter().find(|(what, _)| *what == name);
        all.push(Counters {
            cpu: pid.map_or(Duration::ZERO, |(_, pid)| proc_stat::cpu(*pid)),
            statements: value("tinderbox_store_statements_total"),
            commits: value("tinderbox_store_commits_total"),
            vault_syncs: value("tinderbox_vault_syncs_total"),
        });
    }
    Ok(all)
}

/// Gives each wallet its leaves: few transactions, many outputs.
async fn provide(net: &DevNet, wallets: &[Wallet], leaves: u64) -> Result<()> {
    let mut left = leaves;
    while left > 0 {
        let now = left.min(ADDRESSES);
        left -= now;
        let mut outputs = Vec::new();
        for wallet in wallets {
            let mut made = 0;
            while made < now {
                let batch = (now - made).min(AT_ONCE as u64);
                made += batch;
                let addresses = try_join_all((0..batch).map(|_| wallet.deposit_address())).await?;
                for address in addresses {
                    outputs.push(TxOut {
                        value: Amount::from_sat(LEAF.0),
                        script_pubkey: crate::demo::address(&address.address)?.script_pubkey(),
                    });
                }
            }
        }
        let tx = net.faucet().send_many(&outputs).await?;
        net.faucet().mine(3).await?;
        let txid = tx.compute_txid();
        try_join_all(wallets.iter().map(|wallet| wallet.claim_deposit(txid))).await?;
    }
    Ok(())
}

/// Payments of one wallet to the next one.
struct Lane<'a> {
    from: &'a Wallet,
    to: &'a Wallet,
}

#[derive(Default)]
struct Samples {
    send: Vec<Duration>,
    claim: Vec<Duration>,
}

impl Lane<'_> {
    async fn pay(&self, samples: &mut Samples) -> Result<()> {
        let begun = Instant::now();
        self.from.send(&self.to.address(), LEAF).await?;
        samples.send.push(begun.elapsed());
        let begun = Instant::now();
        let report = self.to.claim_pending().await?;
        samples.claim.push(begun.elapsed());
        match report.refused.first() {
            Some((id, why)) => Err(Error::Found(format!("transfer {id} was refused: {why}"))),
            None => Ok(()),
        }
    }
}

/// Runs a load on a network of its own in `folder`.
///
/// # Errors
/// If anything of it fails: a payment that does not arrive is no measurement.
pub async fn run(program: PathBuf, folder: &Path, load: &Load) -> Result<Measured> {
    let leaves = load
        .payments
        .div_ceil(PER_LEAF)
        .div_ceil(u64::from(load.wallets))
        + 3;
    let plan = Plan::new(
        load.operators,
        load.threshold,
        folder.join("network"),
        Ports::free(load.operators)?,
    )?;
    let keyshares = u32::try_from(leaves * u64::from(load.wallets)).unwrap_or(u32::MAX);
    let plan = Plan {
        database: load.database.clone(),
        keyshares: keyshares.saturating_add(200),
        ..plan
    };
    let threshold = plan.threshold;
    let net = DevNet::start(plan, program).await?;
    let measured = measure(&net, load, threshold, leaves).await;
    let stopped = net.stop().await;
    let measured = measured?;
    stopped?;
    Ok(measured)
}

async fn measure(net: &DevNet, load: &Load, threshold: u16, leaves: u64) -> Result<Measured> {
    let mut wallets = Vec::new();
    for index in 0..load.wallets {
        // Wallets use all operators as coordinators.
        let config = net.wallet_config(index % load.operators)?;
        wallets.push(Wallet::open(
            config,
            &new_words()?,
            Arc::new(MemoryStorage::new()),
        )?);
    }
    eprintln!(
        "preparing {} leaves for {} wallets",
        leaves * u64::from(load.wallets),
        load.wallets
    );
    provide(net, &wallets, leaves).await?;
    let lanes: Vec<Lane<'_>> = wallets
        .iter()
        .zip(wallets.iter().cycle().skip(1))
        .map(|(from, to)| Lane { from, to })
        .collect();
    let Some(there) = lanes.first() else {
        return Err(Error::Found("a load needs wallets".to_owned()));
    };
    let back = Lane {
        from: there.to,
        to: there.from,
    };
    let mut idle = Samples::default();
    for _ in 0..IDLE / 2 {
        there.pay(&mut idle).await?;
        back.pay(&mut idle).await?;
    }
    eprintln!("measuring {} payments", load.payments);
    let before = counters(net).await?;
    let own = proc_stat::cpu(std::process::id());
    let next = AtomicU64::new(0);
    let begun = Instant::now();
    let samples = try_join_all(lanes.iter().map(|lane| async {
        let mut samples = Samples::default();
        loop {
            // What this wallet has sent may not have come round yet.
            if lane.from.balance_of_leaves().available < LEAF {
                if next.load(Ordering::Relaxed) >= load.payments {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
                continue;
            }
            if next.fetch_add(1, Ordering::Relaxed) >= load.payments {
                break;
            }
            lane.pay(&mut samples).await?;
        }
        Ok::<_, Error>(samples)
    }))
    .await?;
    let elapsed = begun.elapsed().as_secs_f64();
    let after = counters(net).await?;
    let own = proc_stat::cpu(std::process::id()).saturating_sub(own);
    let mut all = Samples::default();
    for lane in samples {
        all.send.extend(lane.send);
        all.claim.extend(lane.claim);
    }
    let payments = all.send.len();
    let per = |total: f64| total / payments.max(1) as f64;
    Ok(Measured {
        database: load.database.name().to_owned(),
        operators: [load.operators, threshold],
        wallets: load.wallets,
        payments: payments as u64,
        seconds: elapsed,
        per_second: payments as f64 / elapsed,
        idle_send_ms: Latency::of(idle.send),
        idle_claim_ms: Latency::of(idle.claim),
        send_ms: Latency::of(all.send),
        claim_ms: Latency::of(all.claim),
        load_cpu_ms: per(own.as_secs_f64() * 1000.0),
        cost: before
            .iter()
            .zip(&after)
            .map(|(before, after)| Cost {
                cpu_ms: per((after.cpu.saturating_sub(before.cpu)).as_secs_f64() * 1000.0),
                statements: per(after.statements - before.statements),
                commits: per(after.commits - before.commits),
                vault_syncs: per(after.vault_syncs - before.vault_syncs),
            })
            .collect(),
    })
}
