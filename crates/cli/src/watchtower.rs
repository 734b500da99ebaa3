//! `tinderbox watchtower`: watches over somebody's wallet, and cannot spend.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Args;
use tinderbox_chain::{Auth, Rpc, RpcConfig};
use tinderbox_wallet::Bundle;
use tinderbox_wallet::watch::{WatchEvent, WatchReport, Watchtower};

/// Watches over the leaves of a wallet while its owner is away. Needs what `tinderbox wallet exit
/// export` writes, and a Bitcoin Core node. Holds no key.
#[derive(Args)]
pub(crate) struct WatchtowerArgs {
    /// What the wallet exported. It is read again whenever it changes.
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// Where the watchtower remembers; by default beside the bundle.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The node, for example http://127.0.0.1:8332.
    #[arg(long, value_name = "URL")]
    bitcoin: String,
    /// The node's user.
    #[arg(long, value_name = "NAME", requires = "password")]
    user: Option<String>,
    /// The node's password.
    #[arg(
        long,
        value_name = "WORD",
        env = "BITCOIN_RPC_PASSWORD",
        hide_env_values = true
    )]
    password: Option<String>,
    /// The node's cookie file, instead of user and password.
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    cookie: Option<PathBuf>,
    /// Look once and return.
    #[arg(long)]
    once: bool,
    /// Seconds between two looks at the chain.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    poll: u64,
    /// Print JSON, one object per line.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) async fn run(args: WatchtowerArgs) -> Result<()> {
    let auth = match (&args.cookie, &args.user, &args.password) {
        (Some(file), ..) => Auth::CookieFile(file.clone()),
        (None, Some(user), Some(password)) => Auth::UserPassword {
            user: user.clone(),
            password: password.clone(),
        },
        _ => bail!("say how to log in at the node: --cookie FILE, or --user and --password"),
    };
    let config = RpcConfig {
        auth,
        ..RpcConfig::with_cookie(&args.bitcoin, "")
    };
    let rpc = Rpc::new(config)?;
    let (bundle, mut read) = load(&args.bundle)?;
    rpc.check(Some(bundle.network.bitcoin())).await?;
    let state = args
        .state
        .clone()
        .unwrap_or_else(|| args.bundle.with_extension("watch"));
    let mut tower = Watchtower::open(Arc::new(rpc), &bundle, state)?;
    let mut told = None;
    loop {
        match tower.step().await {
            Ok(report) => {
                if args.once || !report.events.is_empty() || told != Some(report.tip) {
                    show(&report, args.json)?;
                }
                told = Some(report.tip);
                if args.once {
                    return Ok(());
                }
            }
            Err(error) if error.is_temporary() && !args.once => {
                tracing::warn!(%error, "trying again");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(args.poll)) => {}
        }
        if modified(&args.bundle) != read {
            match load(&args.bundle).and_then(|(bundle, at)| {
                tower.replace(&bundle)?;
                Ok(at)
            }) {
                Ok(at) => read = at,
                Err(error) => {
                    tracing::warn!(%error, "the new bundle is not used; watching the old one");
                }
            }
        }
    }
}

fn modified(file: &PathBuf) -> Option<SystemTime> {
    fs::metadata(file).and_then(|data| data.modified()).ok()
}

fn load(file: &PathBuf) -> Result<(Bundle, Option<SystemTime>)> {
    let at = modified(file);
    let text =
        fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok((Bundle::from_json(&text)?, at))
}

fn show(report: &WatchReport, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    println!(
        "[{}] {} leaves, {} on chain without a refund",
        report.tip, report.leaves, report.contested
    );
    for event in &report.events {
        println!("[{}] {}", report.tip, line(event));
    }
    Ok(())
}

fn line(event: &WatchEvent) -> String {
    match event {
        WatchEvent::OnChain { leaf, node, height } => {
            format!("{leaf}: somebody published node {node}, in block {height}")
        }
        WatchEvent::Published { leaf, txid } => format!("{leaf}: answered with {txid}"),
        WatchEvent::Refused { leaf, reason } => {
            format!("{leaf}: the answer was not taken, trying again: {reason}")
        }
        WatchEvent::Refunded { leaf, txid, height } => {
            format!("{leaf}: its owner has it, by {txid} in block {height}")
        }
        WatchEvent::Lost { leaf, reason } => format!("{leaf}: {reason}"),
        WatchEvent::Unprotected { leaf } => format!(
            "{leaf}: not watched over, the bundle has no signed fee-paying refund: sync the wallet and export again"
        ),
    }
}
