//! `tinderbox operator`: runs one operator.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use tinderbox_operator::config::Config;
use tinderbox_operator::serve::Operator;
use tokio::io::AsyncReadExt;

/// Runs an operator.
#[derive(Args)]
pub(crate) struct OperatorArgs {
    #[command(subcommand)]
    command: OperatorCommand,
}

#[derive(Subcommand)]
enum OperatorCommand {
    /// Serves until SIGINT or SIGTERM.
    Run {
        /// Its TOML file.
        #[arg(long)]
        config: PathBuf,
        /// Ends when standard input does: for supervisors, so that no process is left behind.
        #[arg(long)]
        supervised: bool,
    },
    /// Reads the TOML file and says what is wrong with it.
    Check {
        /// Its TOML file.
        #[arg(long)]
        config: PathBuf,
    },
}

/// Runs it.
pub(crate) async fn run(args: OperatorArgs) -> Result<()> {
    match args.command {
        OperatorCommand::Check { config } => {
            Config::load(&config)?;
            println!("{} is a valid configuration", config.display());
            Ok(())
        }
        OperatorCommand::Run {
            config,
            supervised: false,
        } => Ok(tinderbox_operator::serve::run(Config::load(&config)?).await?),
        OperatorCommand::Run {
            config,
            supervised: true,
        } => {
            let running = Operator::start(Config::load(&config)?).await?;
            tokio::select! {
                () = supervisor_gone() => {}
                () = running.stopped() => {}
            }
            running.stop().await;
            Ok(())
        }
    }
}

/// Completes at the end of standard input.
pub(crate) async fn supervisor_gone() {
    let mut input = tokio::io::stdin();
    let mut buffer = [0; 64];
    while !matches!(input.read(&mut buffer).await, Ok(0) | Err(_)) {}
}
