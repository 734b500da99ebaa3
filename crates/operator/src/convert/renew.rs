//! Renewals of leaves.

use tinderbox_flows::refusal::Refusal;
use tinderbox_flows::renew::{NodeJobs, RefundJobs, RenewJobs, ZeroJobs};

use super::field::missing;
use super::package::required_job;
use super::spark;
use spark::renew_leaf_request::SigningJobs;

/// The half-signed transactions of a renewal.
///
/// # Errors
/// A refusal that names the part that is missing or cannot be read.
pub fn renew_jobs(wire: Option<&SigningJobs>) -> Result<RenewJobs, Refusal> {
    match wire.ok_or_else(|| missing("signing_jobs"))? {
        SigningJobs::RenewNodeTimelockSigningJob(wire) => node(wire),
        SigningJobs::RenewRefundTimelockSigningJob(wire) => refund(wire),
        SigningJobs::RenewNodeZeroTimelockSigningJob(wire) => zero(wire),
    }
}

fn node(wire: &spark::RenewNodeTimelockSigningJob) -> Result<RenewJobs, Refusal> {
    let job =
        |name: &str, job| required_job(&format!("renew_node_timelock_signing_job.{name}"), job);
    Ok(RenewJobs::Node(Box::new(NodeJobs {
        split: job(
            "split_node_tx_signing_job",
            wire.split_node_tx_signing_job.as_ref(),
        )?,
        direct_split: job(
            "split_node_direct_tx_signing_job",
            wire.split_node_direct_tx_signing_job.as_ref(),
        )?,
        node: job("node_tx_signing_job", wire.node_tx_signing_job.as_ref())?,
        direct_node: job(
            "direct_node_tx_signing_job",
            wire.direct_node_tx_signing_job.as_ref(),
        )?,
        refund: job("refund_tx_signing_job", wire.refund_tx_signing_job.as_ref())?,
        direct_refund: job(
            "direct_refund_tx_signing_job",
            wire.direct_refund_tx_signing_job.as_ref(),
        )?,
        direct_from_cpfp_refund: job(
            "direct_from_cpfp_refund_tx_signing_job",
            wire.direct_from_cpfp_refund_tx_signing_job.as_ref(),
        )?,
    })))
}

fn refund(wire: &spark::RenewRefundTimelockSigningJob) -> Result<RenewJobs, Refusal> {
    let job =
        |name: &str, job| required_job(&format!("renew_refund_timelock_signing_job.{name}"), job);
    Ok(RenewJobs::Refund(Box::new(RefundJobs {
        node: job("node_tx_signing_job", wire.node_tx_signing_job.as_ref())?,
        direct_node: job(
            "direct_node_tx_signing_job",
            wire.direct_node_tx_signing_job.as_ref(),
        )?,
        refund: job("refund_tx_signing_job", wire.refund_tx_signing_job.as_ref())?,
        direct_refund: job(
            "direct_refund_tx_signing_job",
            wire.direct_refund_tx_signing_job.as_ref(),
        )?,
        direct_from_cpfp_refund: job(
            "direct_from_cpfp_refund_tx_signing_job",
            wire.direct_from_cpfp_refund_tx_signing_job.as_ref(),
        )?,
    })))
}

fn zero(wire: &spark::RenewNodeZeroTimelockSigningJob) -> Result<RenewJobs, Refusal> {
    let job = |name: &str, job| {
        required_job(&format!("renew_node_zero_timelock_signing_job.{name}"), job)
    };
    Ok(RenewJobs::Zero(Box::new(ZeroJobs {
        node: job("node_tx_signing_job", wire.node_tx_signing_job.as_ref())?,
        direct_node: job(
            "direct_node_tx_signing_job",
            wire.direct_node_tx_signing_job.as_ref(),
        )?,
        refund: job("refund_tx_signing_job", wire.refund_tx_signing_job.as_ref())?,
        direct_from_cpfp_refund: job(
            "direct_from_cpfp_refund_tx_signing_job",
            wire.direct_from_cpfp_refund_tx_signing_job.as_ref(),
        )?,
    })))
}
