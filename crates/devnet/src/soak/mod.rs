//! A long run of a whole network in bad weather.
//!
//! Wallets deposit, pay one or several others, claim and look at what they have, for as long as is
//! asked. Meanwhile operators are killed, all at once now and then, a database is restarted, and
//! the chain is reorganised. Afterwards everything that was deposited must be there to the sat,
//! spendable and with one owner, no flow may be open, and no operator may have grown.

mod memory;
mod players;
mod report;
mod weather;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bitcoin::{Address, Network, ScriptBuf};
use tokio::sync::watch;

use crate::{DatabaseChoice, DevNet, Error, Plan, Ports, Result};

use memory::Memory;
use players::Players;
pub use report::Soaked;
use weather::Weather;

/// Unused key shares that each operator keeps ready.
const KEYSHARES: u32 = 200;

/// What to run.
#[derive(Clone, Debug)]
pub struct Soak {
    /// How long.
    pub length: Duration,
    /// Wallets.
    pub wallets: u16,
    /// Operators.
    pub operators: u16,
    /// Threshold; 0: the usual one.
    pub threshold: u16,
    /// Where operators keep rows.
    pub database: DatabaseChoice,
    /// Where the last operator keeps its rows, if elsewhere.
    pub apart: Option<DatabaseChoice>,
    /// A shell command that restarts a database; run now and then.
    pub restart_database: Option<String>,
    /// Chooses what happens. What the machine makes of it differs each time.
    pub seed: u64,
}

/// The chain, which deposits and reorganisations use in turn.
type ChainTurn = tokio::sync::Mutex<()>;

/// Runs it on a network of its own in `folder`.
///
/// # Errors
/// If the network does not start, or something that was begun does not end. What was found wrong
/// afterwards is in the report.
pub async fn run(program: PathBuf, folder: &Path, soak: &Soak) -> Result<Soaked> {
    let plan = Plan::new(
        soak.operators,
        soak.threshold,
        folder.join("network"),
        Ports::free(soak.operators)?,
    )?;
    let plan = Plan {
        database: soak.database.clone(),
        apart: soak
            .apart
            .clone()
            .map(|database| (soak.operators.saturating_sub(1), database)),
        keyshares: KEYSHARES,
        ..plan
    };
    let mut net = DevNet::start(plan, program).await?;
    let report = in_bad_weather(&mut net, soak).await;
    let stopped = net.stop().await;
    let report = report?;
    stopped?;
    Ok(report)
}

async fn in_bad_weather(net: &mut DevNet, soak: &Soak) -> Result<Soaked> {
    let begun = Instant::now();
    let chain = ChainTurn::default();
    let players = Players::new(net, soak).await?;
    let memory = Memory::new(begun);
    let (over, is_over) = watch::channel(false);
    let mut weather = Weather::new(soak, begun);
    let faucet = net.faucet().clone();
    let rpc = net.rpc().clone();
    let weather_ends = async {
        let blown = weather.blow(net, &rpc, &chain, &memory).await;
        let _ = over.send(true);
        blown
    };
    let (played, blown) = tokio::join!(players.play(&faucet, &chain, is_over), weather_ends);
    played?;
    blown?;
    net.ready().await?;
    eprintln!(
        "the weather is over after {} s; settling",
        begun.elapsed().as_secs()
    );
    let mut wrong = players.settle(&faucet, &chain).await;
    wrong.extend(still_open(net).await?);
    let (rss, growth) = memory.verdict(soak.operators);
    wrong.extend(growth);
    for index in 0..soak.operators {
        let log = net.plan().folder.join(format!("operator-{index}/log"));
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if let Some(line) = text.lines().find(|line| line.contains("panicked")) {
            wrong.push(format!("operator {index}: {line}"));
        }
    }
    Ok(Soaked {
        database: soak.database.name().to_owned(),
        seed: soak.seed,
        seconds: begun.elapsed().as_secs(),
        deeds: players.deeds(),
        weather: weather.counts(),
        met: players.met(),
        rss_mib: rss,
        wrong,
    })
}

/// Flows that do not end although everybody is up.
async fn still_open(net: &DevNet) -> Result<Vec<String>> {
    const PATIENCE: Duration = Duration::from_secs(120);
    let begun = Instant::now();
    let mut open = Vec::new();
    for index in 0..net.plan().operators {
        loop {
            let found = gauge(&net.metrics(index).await?, "tinderbox_flows_open");
            match found {
                Some(0.0) => break,
                _ if begun.elapsed() > PATIENCE => {
                    open.push(format!("operator {index}: {found:?} flows are open"));
                    break;
                }
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
    Ok(open)
}

fn gauge(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(found, _)| *found == name)
        .and_then(|(_, value)| value.trim().parse().ok())
}

/// An address that nobody spends from.
fn nobody(rng: &mut impl rand::Rng) -> Address {
    let script = ScriptBuf::from_bytes(rng.r#gen::<[u8; 32]>().to_vec());
    Address::p2wsh(&script, Network::Regtest)
}

fn stuck(what: impl std::fmt::Display) -> Error {
    Error::Found(format!("{what}: it is stuck"))
}
