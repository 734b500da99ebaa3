//! `tinderbox wallet`: a wallet in a folder.

mod deposit;
mod exit;
mod folder;
mod invoice;
mod money;
mod output;
mod setup;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use tinderbox_protocol::Network;

use folder::Folder;
use output::Output;

/// Hold, send and receive bitcoin.
#[derive(Args)]
pub(crate) struct WalletArgs {
    /// Folder of the wallet: its words, its configuration, its database.
    #[arg(long, global = true, env = "TINDERBOX_WALLET_DIR", value_name = "DIR")]
    wallet_dir: Option<PathBuf>,
    /// Network: local, regtest, signet, testnet or mainnet. Others than local need a configuration file.
    #[arg(long, global = true, default_value = "local", value_name = "NAME")]
    network: Network,
    /// Configuration file; without one, config.toml in the wallet's folder, if it is there.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How many operators the local network has; ignored if there is a configuration file.
    #[arg(long, global = true, default_value_t = 3, value_name = "N")]
    operators: u16,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a new wallet and show its words once.
    Create,
    /// Make a wallet from its words, which are read from standard input.
    Restore,
    /// Show the address at which this wallet is paid.
    Address,
    /// Get an address for one deposit from the chain.
    DepositAddress(deposit::AddressArgs),
    /// Turn deposits into spendable leaves.
    ClaimDeposit(deposit::ClaimArgs),
    /// Show what the wallet has.
    Balance,
    /// List the wallet's leaves.
    Leaves,
    /// Pay somebody.
    Send(money::SendArgs),
    /// Ask for a payment, or pay what somebody asks for.
    #[command(subcommand)]
    Invoice(invoice::InvoiceCommand),
    /// Claim payments that wait for this wallet.
    Receive(money::ReceiveArgs),
    /// List payments, newest first.
    History(money::HistoryArgs),
    /// Say what became of a payment, for example of one whose answer was lost.
    Outcome(money::TransferArgs),
    /// Show one payment.
    Transfer(money::TransferArgs),
    /// Leave Spark without the operators.
    #[command(subcommand)]
    Exit(exit::ExitCommand),
}

/// Runs one command.
///
/// # Errors
/// Whatever goes wrong, in words that say what to do.
pub(crate) async fn run(args: WalletArgs) -> Result<()> {
    let output = Output::new(args.json);
    let folder = Folder::new(args.wallet_dir, args.network, args.config, args.operators)?;
    match args.command {
        Command::Create => setup::create(&folder, output),
        Command::Restore => setup::restore(&folder, output),
        Command::Address => setup::address(&folder, output),
        Command::DepositAddress(args) => deposit::address(&folder, args, output).await,
        Command::ClaimDeposit(args) => deposit::claim(&folder, args, output).await,
        Command::Balance => money::balance(&folder, output).await,
        Command::Leaves => money::leaves(&folder, output).await,
        Command::Send(args) => money::send(&folder, args, output).await,
        Command::Invoice(command) => invoice::run(&folder, command, output).await,
        Command::Receive(args) => money::receive(&folder, args, output).await,
        Command::History(args) => money::history(&folder, args, output).await,
        Command::Outcome(args) => money::outcome(&folder, args, output).await,
        Command::Transfer(args) => money::transfer(&folder, args, output).await,
        Command::Exit(command) => exit::run(&folder, command, output).await,
    }
}
