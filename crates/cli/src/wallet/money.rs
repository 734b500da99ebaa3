use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use tinderbox_protocol::{Sats, SparkAddress, TransferId};
use tinderbox_wallet::{Direction, PaymentState, Wallet, WalletEvent};
use tokio::sync::broadcast::error::RecvError;

use super::folder::Folder;
use super::output::{Output, table};

#[derive(Args)]
pub(super) struct SendArgs {
    /// The receiver's Spark address.
    address: String,
    /// Amount in sats. Leaves move whole: some set of them must sum to it.
    amount: u64,
    /// A further receiver of the same payment; may be repeated.
    #[arg(long, value_name = "ADDRESS=SATS")]
    also: Vec<String>,
}

#[derive(Args)]
pub(super) struct ReceiveArgs {
    /// Stay, and claim payments as they arrive.
    #[arg(long)]
    watch: bool,
}

#[derive(Args)]
pub(super) struct HistoryArgs {
    /// How many lines, at most 100.
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// How many to skip.
    #[arg(long, default_value_t = 0)]
    offset: u64,
}

#[derive(Args)]
pub(super) struct TransferArgs {
    /// Its id.
    id: TransferId,
}

pub(super) async fn balance(folder: &Folder, output: Output) -> Result<()> {
    let balance = folder.open()?.balance().await?;
    output.show(&balance, || {
        let mut lines = vec![format!("available     {:>14}", balance.available.0)];
        for (name, amount) in [
            ("incoming", balance.incoming),
            ("outgoing", balance.outgoing),
            ("to be renewed", balance.to_be_renewed),
            ("exiting", balance.exiting),
        ] {
            if amount.0 > 0 {
                lines.push(format!("{name:<13} {:>14}", amount.0));
            }
        }
        lines.join("\n")
    })
}

pub(super) async fn leaves(folder: &Folder, output: Output) -> Result<()> {
    let wallet = folder.open()?;
    let report = wallet.sync().await?;
    let leaves = wallet.leaves();
    let status = |leaf: &tinderbox_wallet::Node| match wallet.reserved_by(&leaf.id) {
        Some(payment) => format!("held by payment {payment}"),
        None => leaf.status.to_string(),
    };
    let value = json!({
        "leaves": leaves.iter().map(|leaf| json!({
            "id": leaf.id, "value": leaf.value, "status": leaf.status, "hops_left": leaf.hops_left(),
            "tree": leaf.tree, "reserved_by": wallet.reserved_by(&leaf.id),
        })).collect::<Vec<_>>(),
        "unusable": report.unusable.iter().map(|(id, why)| json!({ "id": id, "reason": why })).collect::<Vec<_>>(),
    });
    let rows = leaves
        .iter()
        .map(|leaf| {
            vec![
                leaf.id.to_string(),
                leaf.value.0.to_string(),
                leaf.hops_left().to_string(),
                status(leaf),
            ]
        })
        .collect::<Vec<_>>();
    output.show(&value, || {
        let mut text = table(&["leaf", "sats", "payments left", "status"], &rows);
        for (id, why) in &report.unusable {
            text.push_str(&format!("\n{id} cannot be used: {why}"));
        }
        text
    })
}

pub(super) async fn send(folder: &Folder, args: SendArgs, output: Output) -> Result<()> {
    let wallet = folder.open()?;
    let mut payments = vec![(wallet.parse_address(&args.address)?, Sats(args.amount))];
    for also in &args.also {
        payments.push(receiver(&wallet, also)?);
    }
    let payment = wallet.pay_many(&payments).await?;
    output.show(&payment, || {
        format!("paid {} with payment {}", payment.amount, payment.id)
    })
}

fn receiver(wallet: &Wallet, text: &str) -> Result<(SparkAddress, Sats)> {
    let Some((address, amount)) = text.split_once('=') else {
        bail!("\"{text}\" is not of the form ADDRESS=SATS");
    };
    let amount = amount
        .parse()
        .with_context(|| format!("\"{amount}\" is no amount in sats"))?;
    Ok((wallet.parse_address(address)?, Sats(amount)))
}

pub(super) async fn receive(folder: &Folder, args: ReceiveArgs, output: Output) -> Result<()> {
    let wallet = folder.open()?;
    if args.watch {
        return watch(&wallet, output).await;
    }
    let report = wallet.claim_pending().await?;
    output.show(&report, || {
        let mut lines = report
            .claimed
            .iter()
            .map(|claimed| format!("received {} with payment {}", claimed.amount, claimed.id))
            .chain(
                report
                    .refused
                    .iter()
                    .map(|(id, why)| format!("payment {id} was not claimed: {why}")),
            )
            .collect::<Vec<_>>();
        if lines.is_empty() {
            lines.push("nothing waits for this wallet".to_owned());
        }
        lines.join("\n")
    })?;
    if report.claimed.is_empty() && !report.refused.is_empty() {
        bail!("no payment could be claimed");
    }
    Ok(())
}

async fn watch(wallet: &Wallet, output: Output) -> Result<()> {
    let mut events = wallet.events();
    let _claims_while_it_lives = wallet.run_auto_claim();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => output.show(&event, || line(&event))?,
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "events came faster than they were shown"),
                Err(RecvError::Closed) => return Ok(()),
            },
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn line(event: &WalletEvent) -> String {
    match event {
        WalletEvent::Connected => {
            "connected; payments are claimed as they arrive. Ctrl-C ends it".into()
        }
        WalletEvent::Disconnected { reason, retry_in } => {
            format!("not connected: {reason}. Trying again in {retry_in} s")
        }
        WalletEvent::Received { id, amount, .. } => format!("received {amount} with payment {id}"),
        WalletEvent::NotBelieved { id, reason } => {
            format!("payment {id} is not believed: {reason}")
        }
        WalletEvent::ClaimFailed { id, reason } => {
            format!("payment {id} could not be claimed yet: {reason}")
        }
        WalletEvent::DepositConfirmed { leaf, amount } => {
            format!("deposit of {amount} is confirmed as leaf {leaf}")
        }
        WalletEvent::SentChanged { id, status } => format!("payment {id} is {status}"),
    }
}

pub(super) async fn history(folder: &Folder, args: HistoryArgs, output: Output) -> Result<()> {
    let page = folder.open()?.history(args.limit, args.offset).await?;
    let rows = page
        .entries
        .iter()
        .map(|entry| {
            let direction = match entry.direction {
                Direction::In => "in",
                Direction::Out => "out",
                Direction::Own => "own",
            };
            vec![
                entry.id.to_string(),
                direction.to_owned(),
                entry.amount.0.to_string(),
                entry.kind.to_string(),
                entry.status.to_string(),
            ]
        })
        .collect::<Vec<_>>();
    output.show(&page, || {
        let mut text = table(&["payment", "way", "sats", "kind", "status"], &rows);
        if let Some(next) = page.next {
            text.push_str(&format!("\nmore: --offset {next}"));
        }
        text
    })
}

pub(super) async fn outcome(folder: &Folder, args: TransferArgs, output: Output) -> Result<()> {
    let state = folder.open()?.payment_state(args.id).await?;
    output.show(&json!({ "id": args.id, "outcome": state }), || {
        let text = match state {
            PaymentState::Paid => "paid: nothing can take it back",
            PaymentState::Open => "not known yet: do not pay again, ask again",
            PaymentState::Returned => "returned: nothing was paid",
            PaymentState::NotMade => "not made: nothing was paid",
        };
        text.to_owned()
    })
}

pub(super) async fn transfer(folder: &Folder, args: TransferArgs, output: Output) -> Result<()> {
    let transfer = folder.open()?.transfer(args.id).await?;
    let value = json!({
        "id": transfer.id, "sender": transfer.sender, "receiver": transfer.receiver, "status": transfer.status,
        "kind": transfer.kind, "total": transfer.total, "created": transfer.created_seconds(),
        "leaves": transfer.leaves.iter().map(|leaf| json!({
            "id": leaf.node.id, "value": leaf.node.value, "status": leaf.node.status,
        })).collect::<Vec<_>>(),
    });
    let rows = transfer
        .leaves
        .iter()
        .map(|leaf| {
            vec![
                leaf.node.id.to_string(),
                leaf.node.value.0.to_string(),
                leaf.node.status.to_string(),
            ]
        })
        .collect::<Vec<_>>();
    output.show(&value, || {
        format!(
            "payment   {}\nkind      {}\nstatus    {}\nsats      {}\nsender    {}\nreceiver  {}\n\n{}",
            transfer.id,
            transfer.kind,
            transfer.status,
            transfer.total.0,
            transfer.sender,
            transfer.receiver,
            table(&["leaf", "sats", "status"], &rows)
        )
    })
}
