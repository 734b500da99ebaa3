//! The `tinderbox` program: one subcommand per thing that a person does.

mod bench;
mod demo;
mod operator;
mod signer;
mod soak;
mod up;
mod wallet;
mod watchtower;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
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
    /// How log lines are written: `text`, or `json` with one object a line.
    #[arg(
        long = "log",
        value_enum,
        global = true,
        default_value = "text",
        hide_default_value = true,
        env = "TINDERBOX_LOG_FORMAT"
    )]
    log: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// Forms of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
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
    /// Watch over a wallet while its owner is away.
    Watchtower(watchtower::WatchtowerArgs),
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
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match cli.log {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    let result = match cli.command {
        Command::Up(args) => up::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Operator(args) => match operator::run(args).await {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Soak(args) => soak::run(args).await,
        Command::Signer(args) => signer::run(args).await,
        Command::Wallet(args) => wallet::run(args).await,
        Command::Watchtower(args) => watchtower::run(args).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
