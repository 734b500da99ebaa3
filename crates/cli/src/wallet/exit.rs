use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use tinderbox_protocol::LeafId;
use tinderbox_wallet::{Bundle, ExitDriver, ExitEvent, ExitOptions, ExitReport, Rate, Wanted};

use super::folder::Folder;
use super::output::{Output, table};

/// How long operators may take to answer before an export goes on without them.
const LAST_LOOK: Duration = Duration::from_secs(10);

/// Leave Spark without the operators.
#[derive(Subcommand)]
pub(super) enum ExitCommand {
    /// Show what an exit would cost, and where its funding is to be sent.
    Estimate(EstimateArgs),
    /// Begin an exit and carry it through.
    Start(StartArgs),
    /// Show where the exit stands, without doing anything.
    Status,
    /// Go on with an exit, for example after a restart.
    Resume(DriveArgs),
    /// Write everything that another device needs, besides the words, to a file or to standard output.
    /// A watchtower needs the same.
    Export {
        /// The file.
        file: Option<PathBuf>,
    },
    /// Take over what another device exported.
    Import {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Args)]
pub(super) struct EstimateArgs {
    /// Fee rate in sat/vB; otherwise the node is asked.
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    fee_rate: Option<u64>,
}

#[derive(Args)]
pub(super) struct StartArgs {
    /// The bitcoin address that gets everything.
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// Only this leaf; may be repeated.
    #[arg(long, value_name = "ID")]
    leaf: Vec<LeafId>,
    /// Fee rate in sat/vB; otherwise the node is asked each time.
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    fee_rate: Option<u64>,
    /// Exit leaves too that cost more in fees than they hold.
    #[arg(long)]
    uneconomic_too: bool,
    /// Leave what is left of the funding on the funding address.
    #[arg(long)]
    keep_funding: bool,
    #[command(flatten)]
    drive: DriveArgs,
}

#[derive(Args)]
pub(super) struct DriveArgs {
    /// Do what can be done now and return; call resume after the next block.
    #[arg(long)]
    once: bool,
    /// Seconds between two looks at the chain.
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    poll: u64,
}

pub(super) async fn run(folder: &Folder, command: ExitCommand, output: Output) -> Result<()> {
    let wallet = folder.open()?;
    match command {
        ExitCommand::Estimate(args) => {
            let estimate = wallet.exit_estimate(args.fee_rate.map(Rate)).await?;
            output.show(&estimate, || {
                format!(
                    "leaves            {}\nvalue             {}\ncost              {} at {} sat/vB\nfunding address   {}\n\
                     on it             {}",
                    estimate.leaves,
                    estimate.value,
                    estimate.cost,
                    estimate.rate.0,
                    estimate.funding_address,
                    estimate.funding
                )
            })
        }
        ExitCommand::Start(args) => {
            let options = ExitOptions {
                destination: wallet.parse_destination(&args.to)?,
                leaves: (!args.leaf.is_empty()).then(|| args.leaf.into_iter().collect()),
                fee_rate: args.fee_rate.map(Rate),
                uneconomic_too: args.uneconomic_too,
                sweep_funding: !args.keep_funding,
            };
            drive(wallet.exit(options).await?, &args.drive, output).await
        }
        ExitCommand::Resume(args) => drive(wallet.resume_exit()?, &args, output).await,
        ExitCommand::Status => {
            let Some(state) = wallet.exit_state()? else {
                bail!("no exit is under way. Start one with \"exit start\"")
            };
            let lines = tinderbox_wallet::exit::lines(&state);
            output.show(
                &json!({ "done": state.is_done(), "leaves": lines, "fees_paid": state.fees_paid() }),
                || leaf_table(&lines),
            )
        }
        ExitCommand::Export { file } => {
            // The operators may be gone; what is stored is enough.
            if let Ok(Err(error)) = tokio::time::timeout(LAST_LOOK, wallet.sync()).await {
                tracing::info!(%error, "exported without asking the operators");
            }
            let text = wallet.export_bundle()?.to_json()?;
            match file {
                Some(file) => {
                    fs::write(&file, text)
                        .with_context(|| format!("{} cannot be written", file.display()))?;
                    output.show(&json!({ "file": file }), || {
                        format!("written to {}", file.display())
                    })
                }
                None => {
                    println!("{text}");
                    Ok(())
                }
            }
        }
        ExitCommand::Import { file } => {
            let text = fs::read_to_string(&file)
                .with_context(|| format!("{} cannot be read", file.display()))?;
            let imported = wallet.import_bundle(&Bundle::from_json(&text)?)?;
            output.show(&json!({ "imported": imported }), || {
                format!("{imported} exits were new")
            })
        }
    }
}

async fn drive(mut driver: ExitDriver, args: &DriveArgs, output: Output) -> Result<()> {
    if args.once {
        let report = driver.step().await?;
        return show(&report, output, true);
    }
    let mut last = None;
    let finished = driver
        .run(Duration::from_secs(args.poll), |report| {
            let news = !report.events.is_empty() || last.as_ref() != Some(&report.wanted);
            last = Some(report.wanted.clone());
            if news && let Err(error) = show(report, output, false) {
                tracing::warn!(%error, "the report cannot be shown");
            }
        })
        .await?;
    if finished
        .leaves
        .iter()
        .any(|leaf| leaf.stage.starts_with("given up"))
    {
        bail!("some leaves could not be exited; see above");
    }
    Ok(())
}

fn show(report: &ExitReport, output: Output, whole: bool) -> Result<()> {
    output.show(report, || {
        let mut lines = report
            .events
            .iter()
            .map(|event| format!("[{}] {}", report.tip, line(event)))
            .collect::<Vec<_>>();
        if whole || report.done {
            lines.push(leaf_table(&report.leaves));
        }
        lines.push(match &report.wanted {
            Wanted::Block { at_least } => format!("[{}] waiting for block {at_least}", report.tip),
            Wanted::Funding { address, at_least } => {
                format!(
                    "[{}] send at least {at_least} to {address} to pay for the packages",
                    report.tip
                )
            }
            Wanted::Nothing => format!("[{}] done; fees {}", report.tip, report.fees_paid),
        });
        lines.join("\n")
    })
}

fn leaf_table(leaves: &[tinderbox_wallet::exit::LeafReport]) -> String {
    let rows = leaves
        .iter()
        .map(|leaf| {
            vec![
                leaf.leaf.to_string(),
                leaf.value.0.to_string(),
                format!("{}/{}", leaf.confirmed, leaf.steps),
                leaf.stage.clone(),
            ]
        })
        .collect::<Vec<_>>();
    table(&["leaf", "sats", "confirmed", "stage"], &rows)
}

fn line(event: &ExitEvent) -> String {
    let what = |step: usize, steps: usize| if step + 1 == steps { "refund" } else { "node" };
    match event {
        ExitEvent::Sent {
            leaf,
            step,
            steps,
            txid,
            fee,
        } => {
            format!(
                "{leaf}: {} {} of {steps} sent as {txid}, fee {fee}",
                what(*step, *steps),
                step + 1
            )
        }
        ExitEvent::Bumped { leaf, txid, fee } => {
            format!("{leaf}: {txid} sent again with a fee of {fee}")
        }
        ExitEvent::Confirmed {
            leaf,
            step,
            steps,
            txid,
            height,
        } => {
            format!(
                "{leaf}: {} {} of {steps} confirmed at {height}: {txid}",
                what(*step, *steps),
                step + 1
            )
        }
        ExitEvent::Waiting { leaf, until, .. } => {
            format!("{leaf}: its timelock runs until block {until}")
        }
        ExitEvent::Refunded {
            leaf,
            outpoint,
            value,
        } => format!("{leaf}: {value} are out, at {outpoint}"),
        ExitEvent::Reorganised { leaf, .. } => {
            format!("{leaf}: a transaction left the chain again, going back")
        }
        ExitEvent::Refused { leaf, reason } => format!("{leaf}: {reason}"),
        ExitEvent::Failed { leaf, reason } => format!("{leaf}: given up: {reason}"),
        ExitEvent::SweepSent { txid, value, fee } => {
            format!("sweep of {value} sent as {txid}, fee {fee}")
        }
        ExitEvent::SweepConfirmed { txid, height } => format!("sweep {txid} confirmed at {height}"),
    }
}
