//! The `tinderbox` program: one subcommand per thing that a person does.

mod bench;
mod demo;
mod operator;
mod signer;
mod soak;
mod up;
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
    /// Run a local network.
    Up(up::UpArgs),
    /// Watch a coin go in, move, and come out with all operators dead.
    Demo(demo::DemoArgs),
    /// Measure a local network.
    Bench(bench::BenchArgs),
    /// Run a local network in bad weather, for a long time.
    Soak(soak::SoakArgs),
    /// Run one operator.
    Operator(operator::OperatorArgs),
    /// Run one operator's signer.
    Signer(signer::SignerArgs),
    /// Hold, send and receive bitcoin.
    Wallet(wallet::WalletArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(if matches!(cli.command, Command::Operator(_)) {
            "info"
        } else {
            "warn"
        })
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let result = match cli.command {
        Command::Up(args) => up::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Soak(args) => soak::run(args).await,
        Command::Operator(args) => operator::run(args).await,
        Command::Signer(args) => signer::run(args).await,
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
