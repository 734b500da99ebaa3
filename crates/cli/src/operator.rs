//! `tinderbox operator`: runs one operator.

use std::path::PathBuf;
use std::process::ExitCode;

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
    /// Looks at everything that an operator needs and says what to do: configuration, files,
    /// database, signer, node, other operators, key shares, disk, certificate. Exit status 0: all is
    /// well; 1: something wants looking after; 2: something is wrong.
    Doctor {
        /// Its TOML file.
        #[arg(long)]
        config: PathBuf,
        /// Prints the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Reads the TOML file and says what is wrong with it.
    Check {
        /// Its TOML file.
        #[arg(long)]
        config: PathBuf,
    },
}

/// Runs it.
pub(crate) async fn run(args: OperatorArgs) -> Result<ExitCode> {
    match args.command {
        OperatorCommand::Doctor { config, json } => {
            let report = tinderbox_operator::doctor::examine(&config).await;
            if json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                print!("{report}");
            }
            return Ok(ExitCode::from(report.exit_code()));
        }
        OperatorCommand::Check { config } => {
            Config::load(&config)?;
            println!("{} is a valid configuration", config.display());
        }
        OperatorCommand::Run {
            config,
            supervised: false,
        } => tinderbox_operator::serve::run(Config::load(&config)?).await?,
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
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Completes at the end of standard input.
pub(crate) async fn supervisor_gone() {
    let mut input = tokio::io::stdin();
    let mut buffer = [0; 64];
    while !matches!(input.read(&mut buffer).await, Ok(0) | Err(_)) {}
}
