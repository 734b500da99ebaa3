//! `tinderbox bench`: a load on a whole network.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use tinderbox_devnet::DatabaseChoice;
use tinderbox_devnet::bench::{Load, run as measure};

/// Measures a fresh network: wallets pay each other, and every payment is claimed.
#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Wallets that pay at the same time.
    #[arg(long, default_value_t = 16)]
    wallets: u16,
    /// Payments in all.
    #[arg(long, default_value_t = 1000)]
    payments: u64,
    /// How many operators, 2 to 5.
    #[arg(long, default_value_t = 3)]
    operators: u16,
    /// How many of them sign; by default (operators + 2) / 2.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    threshold: u16,
    /// Where operators keep their rows: `sqlite`, or `postgres://user@host:port/database`.
    #[arg(long, default_value = "sqlite")]
    database: String,
    /// Writes the figures to this file as JSON too; `-` for standard output instead of the table.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Measures it.
pub(crate) async fn run(args: BenchArgs) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("tinderbox-bench-")
        .tempdir()
        .context("a temporary folder")?;
    let program = std::env::current_exe().context("where this program is")?;
    let load = Load {
        wallets: args.wallets,
        payments: args.payments,
        operators: args.operators,
        threshold: args.threshold,
        database: DatabaseChoice::parse(&args.database)?,
    };
    anyhow::ensure!(
        args.wallets >= 2,
        "--wallets {}: at least 2 are needed to pay each other",
        args.wallets
    );
    let measured = measure(program, folder.path(), &load).await?;
    let json = serde_json::to_string_pretty(&measured)?;
    match args.json {
        Some(path) if path.as_os_str() == "-" => println!("{json}"),
        Some(path) => {
            std::fs::write(&path, json).with_context(|| path.display().to_string())?;
            println!("{measured}");
        }
        None => println!("{measured}"),
    }
    Ok(())
}
