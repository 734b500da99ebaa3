//! `tinderbox signer`: an operator's key custody as a process of its own.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, Subcommand};
use tinderbox_frost::OperatorIndex;
use tinderbox_signer::{Identity, Local, LocalConfig, serve};

/// Runs an operator's signer.
#[derive(Args)]
pub(crate) struct SignerArgs {
    #[command(subcommand)]
    command: SignerCommand,
}

#[derive(Subcommand)]
enum SignerCommand {
    /// Makes a new identity key, on the machine where it stays, and prints its public half.
    Init {
        /// The new file, which only this user can read.
        #[arg(long)]
        identity_key: PathBuf,
    },
    /// Prints the public half of an identity key: what the other operators' configurations name.
    Identity {
        /// File with the secret identity key, 64 hex digits.
        #[arg(long)]
        identity_key: PathBuf,
    },
    /// Serves the processes of one operator over a Unix socket until SIGINT or SIGTERM.
    Run {
        /// File with the secret identity key, 64 hex digits.
        #[arg(long)]
        identity_key: PathBuf,
        /// The vault. Never back it up together with the operator's database.
        #[arg(long)]
        vault: PathBuf,
        /// Where to listen; give the same path as `signer.socket` in the operator's configuration.
        #[arg(long)]
        socket: PathBuf,
        /// The operator's place, from 0.
        #[arg(long)]
        index: u16,
        /// How many operators there are.
        #[arg(long)]
        operators: u16,
        /// How many of them sign.
        #[arg(long)]
        threshold: u16,
        /// Ends when standard input does: for supervisors, so that no process is left behind.
        #[arg(long)]
        supervised: bool,
    },
}

/// Runs it.
pub(crate) async fn run(args: SignerArgs) -> Result<()> {
    let args = match args.command {
        SignerCommand::Init { identity_key } => {
            let identity = Identity::generate();
            identity.save(&identity_key)?;
            println!("{}", identity.public());
            return Ok(());
        }
        SignerCommand::Identity { identity_key } => {
            println!("{}", Identity::load(&identity_key)?.public());
            return Ok(());
        }
        run @ SignerCommand::Run { .. } => run,
    };
    let SignerCommand::Run {
        identity_key,
        vault,
        socket,
        index,
        operators,
        threshold,
        supervised,
    } = args
    else {
        return Ok(());
    };
    anyhow::ensure!(
        index < operators && (2..=operators).contains(&threshold),
        "--index {index} --operators {operators} --threshold {threshold}: the index must be below the number of operators, the threshold from 2 to that number"
    );
    let identity = Identity::load(&identity_key)?;
    let settings = LocalConfig::new(OperatorIndex(index), operators, threshold);
    let server = serve(&socket, Arc::new(Local::open(identity, &vault, settings)?))?;
    eprintln!("the signer listens at {}", socket.display());
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminated.recv() => {}
        () = crate::operator::supervisor_gone(), if supervised => {}
    }
    server.stop().await;
    Ok(())
}
