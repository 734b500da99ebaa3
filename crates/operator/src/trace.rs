//! The id of the request that something is done for, wherever it is done: on other tasks, and at
//! other operators, whose log lines carry it as well.

use std::future::Future;

use tinderbox_rpc::server::TraceId;
use tracing::Instrument as _;

tokio::task_local! {
    static TRACE: Option<TraceId>;
}

/// The id of the request that this task works for.
#[must_use]
pub fn current() -> Option<TraceId> {
    TRACE.try_with(Clone::clone).ok().flatten()
}

/// Does `work` for the request with this id.
pub async fn within<F: Future>(trace: Option<TraceId>, work: F) -> F::Output {
    TRACE.scope(trace, work).await
}

/// `work` for whoever this task works for, to be done on another task.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    TRACE.scope(current(), work.in_current_span())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn trace_goes_along_to_other_tasks() {
        assert_eq!(current(), None);
        let trace = TraceId::parse("one");
        let seen = within(trace.clone(), async {
            tokio::spawn(carried(async { current() })).await.unwrap()
        });
        assert_eq!(seen.await, trace);
    }
}
