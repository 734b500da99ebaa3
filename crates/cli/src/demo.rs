//! `tinderbox demo`: a coin goes in, moves twice, and comes out with all operators dead.

use anyhow::{Context, Result};
use clap::Args;
use tinderbox_devnet::DatabaseChoice;

/// Plays a story on a fresh network: deposit, two payments, all operators killed, exit on chain.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// How many operators, 2 to 5.
    #[arg(long, default_value_t = 3)]
    operators: u16,
    /// Where operators keep their rows: `sqlite`, or `postgres://user@host:port/database`.
    #[arg(long, default_value = "sqlite")]
    database: String,
}

/// Plays it.
pub(crate) async fn run(args: DemoArgs) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("tinderbox-demo-")
        .tempdir()
        .context("a temporary folder")?;
    let program = std::env::current_exe().context("where this program is")?;
    let database = DatabaseChoice::parse(&args.database)?;
    tinderbox_devnet::demo::play(program, folder.path(), args.operators, database).await?;
    Ok(())
}
