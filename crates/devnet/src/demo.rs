//! A story on a network of its own: a coin goes in, moves twice, and comes out although every
//! operator is dead.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bitcoin::{Address, Amount, Network, OutPoint, TxOut};
use tinderbox_chain::ChainSource;
use tinderbox_protocol::Sats;
use tinderbox_wallet::{
    ExitEvent, ExitOptions, MemoryStorage, Rate, SqliteStorage, Wallet, Wanted, new_words,
};

use crate::{DatabaseChoice, DevNet, Error, Plan, Ports, Result};

/// The coin that travels.
const TRAVELS: Sats = Sats(100_000);
/// The coin that stays with Alice.
const STAYS: Sats = Sats(50_000);
/// What Carol gets on chain to pay the fees of her exit.
const FUNDING: Sats = Sats(60_000);
/// Blocks on top of a deposit until it counts.
const DEPTH: u32 = 3;
/// Fee rate of the exit in sat/vB.
const RATE: u64 = 5;
/// Steps after which an exit must be over.
const MAX_STEPS: usize = 64;

struct Story {
    begun: Instant,
    step: u32,
}

impl Story {
    fn tell(&mut self, title: &str) {
        self.step += 1;
        let seconds = self.begun.elapsed().as_secs_f64();
        println!("\n[{seconds:6.2} s] {}. {title}", self.step);
    }

    fn detail(text: impl std::fmt::Display) {
        println!("           {text}");
    }
}

fn expect(what: &str, expected: Sats, found: Sats) -> Result<()> {
    if expected == found {
        Story::detail(format_args!("{what}: {} sats, as it must be", found.0));
        Ok(())
    } else {
        Err(Error::Found(format!(
            "{what}: {} sats, but it must be {}",
            found.0, expected.0
        )))
    }
}

fn coin(address: &Address, value: Sats) -> TxOut {
    TxOut {
        value: Amount::from_sat(value.0),
        script_pubkey: address.script_pubkey(),
    }
}

/// Reads an address of the local network.
pub(crate) fn address(text: &str) -> Result<Address> {
    text.parse::<Address<_>>()
        .and_then(|address| address.require_network(Network::Regtest))
        .map_err(|error| Error::Found(format!("{text} is no address of this network: {error}")))
}

/// Plays it in `folder`, with operators that are processes of `program`.
///
/// # Errors
/// The first step that did not hold.
pub async fn play(
    program: PathBuf,
    folder: &Path,
    operators: u16,
    database: DatabaseChoice,
) -> Result<()> {
    let mut story = Story {
        begun: Instant::now(),
        step: 0,
    };
    story.tell("A network starts: Bitcoin Core, operators, a faucet");
    let plan = Plan::new(
        operators,
        0,
        folder.join("network"),
        Ports::free(operators)?,
    )?;
    let mut net = DevNet::start(
        Plan {
            keyshares: 64,
            database,
            ..plan
        },
        program,
    )
    .await?;
    println!("{}", net.status());
    let result = tell(&mut story, &mut net, folder).await;
    let stopped = net.stop().await;
    result?;
    stopped?;
    println!(
        "\nEvery step held. {:.1} s in all.",
        story.begun.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn tell(story: &mut Story, net: &mut DevNet, folder: &Path) -> Result<()> {
    let config = net.wallet_config(0)?;
    let memory = || Arc::new(MemoryStorage::new());
    let alice = Wallet::open(config.clone(), &new_words()?, memory())?;
    let bob = Wallet::open(config.clone(), &new_words()?, memory())?;
    let storage = Arc::new(SqliteStorage::open(folder.join("carol.sqlite"))?);
    let carol = Wallet::open(config, &new_words()?, storage)?;

    story.tell("Alice deposits two coins");
    let first = alice.deposit_address().await?;
    let second = alice.deposit_address().await?;
    Story::detail(format_args!("{} sats to {}", TRAVELS.0, first.address));
    Story::detail(format_args!("{} sats to {}", STAYS.0, second.address));
    let deposit = net
        .faucet()
        .send_many(&[
            coin(&address(&first.address)?, TRAVELS),
            coin(&address(&second.address)?, STAYS),
        ])
        .await?;
    let txid = deposit.compute_txid();
    net.faucet().mine(DEPTH).await?;
    let leaves = alice.claim_deposit(txid).await?;
    Story::detail(format_args!("transaction {txid}, {DEPTH} blocks deep"));
    for leaf in &leaves {
        Story::detail(format_args!("leaf {} of {} sats", leaf.id, leaf.value.0));
    }
    let both = Sats(TRAVELS.0 + STAYS.0);
    expect("Alice has", both, alice.balance().await?.available)?;

    story.tell("Alice pays Bob one of them; nothing happens on chain");
    let sent = Instant::now();
    let payment = alice.send(&bob.address(), TRAVELS).await?;
    let send_ms = sent.elapsed().as_millis();
    let claimed = Instant::now();
    let report = bob.claim_pending().await?;
    Story::detail(format_args!(
        "transfer {}: sent in {send_ms} ms, claimed in {} ms",
        payment.id,
        claimed.elapsed().as_millis()
    ));
    if let Some((id, why)) = report.refused.first() {
        return Err(Error::Found(format!("Bob refuses transfer {id}: {why}")));
    }
    expect("Alice has", STAYS, alice.balance().await?.available)?;
    expect("Bob has", TRAVELS, bob.balance().await?.available)?;

    story.tell("Bob pays Carol");
    let sent = Instant::now();
    let payment = bob.send(&carol.address(), TRAVELS).await?;
    let send_ms = sent.elapsed().as_millis();
    let claimed = Instant::now();
    carol.claim_pending().await?;
    Story::detail(format_args!(
        "transfer {}: sent in {send_ms} ms, claimed in {} ms",
        payment.id,
        claimed.elapsed().as_millis()
    ));
    carol.sync().await?;
    expect("Bob has", Sats(0), bob.balance().await?.available)?;
    expect("Carol has", TRAVELS, carol.balance().await?.available)?;

    story.tell("All operators are killed with SIGKILL");
    for (what, pid) in net.pids() {
        if what != "bitcoind" {
            Story::detail(format_args!("{what}, process {pid}: killed"));
        }
    }
    for index in 0..net.plan().operators {
        net.kill(index).await;
    }

    story.tell("Carol leaves alone, with what her wallet keeps on disk");
    let funding = carol.funding_address();
    net.faucet().send_many(&[coin(&funding, FUNDING)]).await?;
    net.faucet().mine(1).await?;
    Story::detail(format_args!("{} sats at {funding} pay her fees", FUNDING.0));
    let (destination, value, fee, sweep) = exit(net, &carol).await?;
    let seen = net
        .rpc()
        .confirmations_of(&OutPoint::new(sweep, 0))
        .await?
        .ok_or_else(|| Error::Found(format!("the chain does not have {sweep}")))?;
    if seen.script != destination.script_pubkey() || seen.confirmations == 0 {
        return Err(Error::Found(format!(
            "{sweep} does not pay {destination} in a block"
        )));
    }

    story.tell("The count");
    expect("on chain at Carol's address", value, seen.value)?;
    expect(
        "what she got and the fee of her last transaction",
        TRAVELS,
        Sats(value.0 + fee.0),
    )?;
    expect(
        "Alice's leaf, Carol's sats and that fee",
        both,
        Sats(STAYS.0 + seen.value.0 + fee.0),
    )
}

/// Carries Carol's exit through; returns where it went, what arrived, the last fee, and the
/// transaction.
async fn exit(net: &DevNet, carol: &Wallet) -> Result<(Address, Sats, Sats, bitcoin::Txid)> {
    let key = bitcoin::key::Keypair::new(
        &bitcoin::secp256k1::Secp256k1::new(),
        &mut rand::thread_rng(),
    );
    let destination = Address::p2tr(
        &bitcoin::secp256k1::Secp256k1::new(),
        key.x_only_public_key().0,
        None,
        Network::Regtest,
    );
    let mut driver = carol
        .exit(ExitOptions {
            destination: destination.clone(),
            leaves: None,
            fee_rate: Some(Rate(RATE)),
            uneconomic_too: false,
            sweep_funding: false,
        })
        .await?;
    let mut swept = None;
    for _ in 0..MAX_STEPS {
        let report = driver.step().await?;
        for event in &report.events {
            match event {
                ExitEvent::Sent {
                    txid, step, steps, ..
                } => Story::detail(format_args!(
                    "package {} of {steps}: {txid} and its fee-bump",
                    step + 1
                )),
                ExitEvent::Confirmed { txid, height, .. } => {
                    Story::detail(format_args!("in block {}: {txid}", height.0));
                }
                ExitEvent::Waiting { until, .. } => Story::detail(format_args!(
                    "the refund's timelock ends at block {}",
                    until.0
                )),
                ExitEvent::SweepSent { txid, value, fee } => {
                    swept = Some((*value, *fee, *txid));
                    Story::detail(format_args!(
                        "sweep {txid}: {} sats, fee {}",
                        value.0, fee.0
                    ));
                }
                ExitEvent::SweepConfirmed { txid, height } => {
                    Story::detail(format_args!("in block {}: {txid}", height.0));
                }
                ExitEvent::Failed { reason, .. } | ExitEvent::Refused { reason, .. } => {
                    return Err(Error::Found(format!("the exit failed: {reason}")));
                }
                ExitEvent::Bumped { .. }
                | ExitEvent::Refunded { .. }
                | ExitEvent::Reorganised { .. } => {}
            }
        }
        match report.wanted {
            Wanted::Nothing => {
                return swept
                    .map(|(value, fee, txid)| (destination, value, fee, txid))
                    .ok_or_else(|| Error::Found("the exit ended without a sweep".to_owned()));
            }
            Wanted::Block { at_least } => {
                let blocks = at_least.0.saturating_sub(report.tip.0).max(1);
                net.faucet().mine(blocks).await?;
            }
            Wanted::Funding { at_least, .. } => {
                return Err(Error::Found(format!(
                    "the exit wants {} sats more for fees",
                    at_least.0
                )));
            }
        }
    }
    Err(Error::Found(format!(
        "the exit was not over after {MAX_STEPS} steps"
    )))
}
