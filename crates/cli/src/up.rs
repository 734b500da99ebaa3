//! `tinderbox up`: a local network until Ctrl-C.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bitcoin::secp256k1::PublicKey;
use clap::Args;
use tinderbox_devnet::{DatabaseChoice, DevNet, Plan, Ports};

/// Runs a whole Spark network on this machine: Bitcoin Core (regtest), operators, a faucet.
#[derive(Args)]
pub(crate) struct UpArgs {
    /// How many operators, 2 to 5.
    #[arg(long, default_value_t = 3)]
    operators: u16,
    /// How many of them sign; by default (operators + 2) / 2.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    threshold: u16,
    /// Processes of each operator, on one database and behind one port; more than 1 needs PostgreSQL.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    replicas: u16,
    /// Where operators keep their rows: `sqlite`, or `postgres://user@host:port/database`.
    #[arg(long, default_value = "sqlite")]
    database: String,
    /// Folder of everything.
    #[arg(long, default_value = "tinderbox-network")]
    data_dir: PathBuf,
    /// Starts anew: removes what an earlier network left in the folder.
    #[arg(long)]
    fresh: bool,
    /// First port of the operators; the node and faucet are then on the port below it.
    #[arg(long)]
    port_base: Option<u16>,
    /// Unused key shares that each operator keeps ready.
    #[arg(long, default_value_t = 300)]
    keyshares: u32,
    /// Mines a block every so many seconds. By default blocks come only when asked for.
    #[arg(long)]
    mine_every: Option<u64>,
    /// Identity public key (66 hex digits) of a service provider that operators serve, beside the
    /// official SDK's. May be given several times.
    #[arg(long)]
    ssp_key: Vec<PublicKey>,
    /// Prints the status as JSON.
    #[arg(long)]
    json: bool,
}

/// How often it is looked whether all operators still run.
const LOOK: Duration = Duration::from_secs(1);

/// Runs it.
pub(crate) async fn run(args: UpArgs) -> Result<()> {
    let ports = match args.port_base {
        None => Ports::fixed(
            tinderbox_devnet::SDK_BASE,
            tinderbox_devnet::SDK_FRONT,
            args.operators,
        ),
        Some(base) => Ports::fixed(base, base.saturating_sub(1), args.operators),
    };
    let plan = Plan::new(args.operators, args.threshold, args.data_dir, ports)?;
    let ssps = plan
        .ssps
        .iter()
        .copied()
        .chain(args.ssp_key)
        .collect::<BTreeSet<_>>();
    let plan = Plan {
        ssps: ssps.into_iter().collect(),
        replicas: args.replicas,
        database: DatabaseChoice::parse(&args.database)?,
        fresh: args.fresh,
        keyshares: args.keyshares,
        mine_every: args.mine_every.map(Duration::from_secs),
        ..plan
    };
    plan.check_replicas()?;
    let program = std::env::current_exe().context("where this program is")?;
    let begun = std::time::Instant::now();
    if !args.json {
        println!(
            "starting Bitcoin Core, {} operators and a faucet ...",
            plan.operators
        );
    }
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let mut net = tokio::select! {
        net = DevNet::start(plan, program) => net?,
        _ = &mut interrupted => return Ok(()),
    };
    let status = net.status();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        println!(
            "up after {:.1} s\n\n{status}\n",
            begun.elapsed().as_secs_f64()
        );
        println!("The official SDK's `network: \"LOCAL\"` works as it is. Ctrl-C stops all.");
    }
    let ended = asked_to_stop(interrupted);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => break,
            () = tokio::time::sleep(LOOK) => {
                if let Some(index) = net.fallen() {
                    eprintln!("operator {index} ended; starting it again (see its log)");
                    net.restart(index)?;
                }
            }
        }
    }
    if !args.json {
        println!("stopping ...");
    }
    net.stop().await?;
    Ok(())
}

/// SIGINT or SIGTERM.
async fn asked_to_stop(interrupted: impl Future<Output = std::io::Result<()>>) {
    let mut terminated =
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(terminated) => terminated,
            Err(_) => {
                let _ = interrupted.await;
                return;
            }
        };
    tokio::select! {
        _ = interrupted => {}
        _ = terminated.recv() => {}
    }
}
