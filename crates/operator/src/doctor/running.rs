//! The operator's own process, through its metrics listener.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Report;
use crate::config::Config;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const MOST: u64 = 4 << 20;
/// Blocks that following the chain may lag.
const LAG: u32 = 2;

/// True if the operator runs here and says so.
pub(super) async fn examine(config: &Config, report: &mut Report) -> bool {
    let Some(address) = config.metrics else {
        report.warning(
            "process",
            "there is no listener for metrics: neither health nor readiness can be watched",
            "set listen.metrics to an address that only you can reach",
        );
        return false;
    };
    match get(address, "/readyz").await {
        None => {
            report.warning(
                "process",
                format!("nobody answers at {address}"),
                "start it with tinderbox operator run --config FILE, unless it is stopped on purpose",
            );
            false
        }
        Some((200, _)) => {
            report.good("process", format!("runs and is ready, says {address}"));
            watched(address, report).await;
            true
        }
        Some((_, missing)) => {
            for line in missing.lines().filter(|line| !line.trim().is_empty()) {
                report.bad(
                    "process",
                    format!("runs and is not ready: {line}"),
                    "see there",
                );
            }
            watched(address, report).await;
            true
        }
    }
}

/// Counters that must stay at zero.
async fn watched(address: SocketAddr, report: &mut Report) {
    let Some((200, text)) = get(address, "/metrics").await else {
        return;
    };
    for (name, meaning, advice) in [
        (
            "tinderbox_flow_amnesia_total",
            "this database is older than the operator's votes",
            "stop the operator: it needs the database that it had",
        ),
        (
            "tinderbox_flow_equivocation_total",
            "an operator voted twice",
            "the log names it; speak to its company",
        ),
        (
            "tinderbox_flow_forged_total",
            "a certificate was forged",
            "the log names the flow; speak to the other companies",
        ),
        (
            "tinderbox_settle_failed_total",
            "old key shares were not destroyed",
            "look at the signer and its disk",
        ),
        (
            "tinderbox_chain_lost_deposits_total",
            "a deposit that counted as final was reorganised away",
            "watch for its return; raise deposit_confirmations on all operators",
        ),
    ] {
        let value = value(&text, name).unwrap_or(0.0);
        if value > 0.0 {
            report.bad("process", format!("{meaning} ({name} is {value})"), advice);
        }
    }
}

/// How far the running operator has followed the chain to `tip`.
pub(super) async fn examine_lag(
    config: &Config,
    running: bool,
    tip: Option<u32>,
    report: &mut Report,
) {
    let (true, Some(address), Some(tip)) = (running, config.metrics, tip) else {
        return;
    };
    let Some((200, text)) = get(address, "/metrics").await else {
        return;
    };
    // A process that does not follow the chain itself has no such figure.
    let Some(at) = value(&text, "tinderbox_chain_height") else {
        return;
    };
    let tip = f64::from(tip);
    if at + f64::from(LAG) < tip {
        report.bad(
            "chain",
            format!("the operator is at block {at}, its node at {tip}"),
            "wait a moment; if it stays, look at its log",
        );
    } else {
        report.good("chain", format!("followed to block {at}"));
    }
}

fn value(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(found, _)| found.split('{').next() == Some(name))
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .reduce(|sum, value| sum + value)
}

/// Status and body of a plain HTTP question; none if nobody answers.
async fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let question = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
        stream.write_all(question.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.take(MOST).read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn figures_are_read_from_metrics_with_and_without_labels() {
        let text = "# HELP a b\na_total 3\nb{x=\"1\"} 2\nb{x=\"2\"} 5\nab_total 9\n";
        assert_eq!(value(text, "a_total"), Some(3.0));
        assert_eq!(value(text, "b"), Some(7.0));
        assert_eq!(value(text, "c"), None);
    }
}
