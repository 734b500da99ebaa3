//! The `tinderbox` program: one subcommand per thing that a person does.

mod wallet;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// A Spark network: wallets, operators, and a local network that starts with one command.
#[derive(Parser)]
#[command(
    name = "tinderbox",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Each subcommand lives in a module of its own; this file only dispatches.
#[derive(Subcommand)]
enum Command {
    /// Hold, send and receive bitcoin.
    Wallet(wallet::WalletArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let result = match cli.command {
        Command::Wallet(args) => wallet::run(args).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
