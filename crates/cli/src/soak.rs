//! `tinderbox soak`: a long run of a whole network in bad weather.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tinderbox_devnet::DatabaseChoice;
use tinderbox_devnet::soak::{Soak, run as soak};

/// Runs wallets against a fresh network whose operators are killed, whose database is restarted and
/// whose chain is reorganised; afterwards every sat must be there.
#[derive(Args)]
pub(crate) struct SoakArgs {
    /// How long, in minutes.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Wallets.
    #[arg(long, default_value_t = 6)]
    wallets: u16,
    /// How many operators, 2 to 5.
    #[arg(long, default_value_t = 3)]
    operators: u16,
    /// How many of them sign; by default (operators + 2) / 2.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    threshold: u16,
    /// Where operators keep their rows: `sqlite`, or `postgres://user@host:port/database`.
    #[arg(long, default_value = "sqlite")]
    database: String,
    /// Where the last operator keeps its rows, if elsewhere.
    #[arg(long)]
    database_of_last: Option<String>,
    /// A shell command that restarts a database; run every minute or two.
    #[arg(long)]
    restart_database: Option<String>,
    /// Chooses what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it. An error if anything was wrong afterwards.
pub(crate) async fn run(args: SoakArgs) -> Result<()> {
    anyhow::ensure!(
        args.wallets >= 3,
        "--wallets {}: at least 3 are needed to pay several at once",
        args.wallets
    );
    let mut folder = tempfile::Builder::new()
        .prefix("tinderbox-soak-")
        .tempdir()
        .context("a temporary folder")?;
    let program = std::env::current_exe().context("where this program is")?;
    let plan = Soak {
        length: Duration::from_secs(args.minutes * 60),
        wallets: args.wallets,
        operators: args.operators,
        threshold: args.threshold,
        database: DatabaseChoice::parse(&args.database)?,
        apart: args
            .database_of_last
            .as_deref()
            .map(DatabaseChoice::parse)
            .transpose()?,
        restart_database: args.restart_database,
        seed: args.seed.unwrap_or_else(seed),
    };
    eprintln!("seed {}, folder {}", plan.seed, folder.path().display());
    let report = match soak(program, folder.path(), &plan).await {
        Ok(report) => report,
        Err(error) => {
            folder.disable_cleanup(true);
            return Err(error).context(format!("the folder is kept: {}", folder.path().display()));
        }
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    if !report.is_good() {
        folder.disable_cleanup(true);
        anyhow::bail!(
            "{}; the folder is kept: {}",
            report.wrong.join("; "),
            folder.path().display()
        );
    }
    Ok(())
}

/// Any number; it is printed, so that a run can be begun alike.
fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| u64::from(since.subsec_nanos()))
}
