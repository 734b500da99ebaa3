//! Metrics, health and readiness over plain HTTP, on a listener of their own.
//!
//! | path | answers |
//! |---|---|
//! | `/metrics` | Prometheus text |
//! | `/healthz`, `/health` | 200 while the process answers at all |
//! | `/readyz`, `/ready` | 200 if this operator can serve wallets, else 503; says what is missing |
//! | `/ready/all` | the same, and every other operator must answer too |
//!
//! A balancer looks at `/ready`: when one operator of the network is down, the others still serve
//! reads and finish what was decided.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tinderbox_flows::record::Index;
use tinderbox_flows::rows::ChainRow;
use tinderbox_store::Scan;
use tokio::net::TcpListener;

use crate::api::Api;
use crate::peer::PeerClient;

/// Seconds; from a cached answer to a flow with a slow operator.
const BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// More open flows than this are not counted.
const MOST_FLOWS: usize = 2000;

/// One recorder per process, however many operators run in it.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Begins to record; none if the process records elsewhere already.
#[must_use]
pub fn recorder() -> Option<PrometheusHandle> {
    RECORDER
        .get_or_init(|| {
            PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)
                .ok()?
                .install_recorder()
                .inspect_err(|error| tracing::warn!(%error, "metrics are recorded elsewhere"))
                .ok()
        })
        .clone()
}

/// What readiness depends on.
#[derive(Clone)]
pub struct Readiness {
    pub(crate) api: Api,
    pub(crate) peers: Arc<PeerClient>,
}

impl Readiness {
    /// Everything of this operator's own that keeps it from serving wallets, with what to do.
    pub async fn own(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if let Err(error) = self.api.tables.get::<ChainRow>(ChainRow::ID).await {
            missing.push(format!("the database does not answer: {error}"));
        }
        match self.api.core.chain.tip().await {
            Err(error) => missing.push(error.to_string()),
            Ok(tip) => {
                let applied = self.api.height();
                if tip.height.0 > applied.saturating_add(2) {
                    missing.push(format!(
                        "following the chain: at block {applied} of {}; wait",
                        tip.height.0
                    ));
                }
            }
        }
        match self.api.keyshares.count(1).await {
            Ok(0) => {
                missing.push("no key shares yet: they are made when all operators are up".into())
            }
            Ok(_) => {}
            Err(refusal) => missing.push(refusal.to_string()),
        }
        missing
    }

    /// The same, and whether every other operator answers.
    pub async fn all(&self) -> Vec<String> {
        let mut missing = self.own().await;
        let all = self.api.core.site.operators.len().saturating_sub(1);
        let up = self.peers.reachable().count();
        if up < all {
            missing.push(format!(
                "{up} of {all} other operators answer: nothing that changes keys can start until all do"
            ));
        }
        missing
    }
}

#[derive(Clone)]
struct Served {
    recorder: Option<PrometheusHandle>,
    readiness: Readiness,
}

/// Serves until `stop`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let served = Served {
        recorder: recorder(),
        readiness,
    };
    let router = Router::new()
        .route("/metrics", get(render))
        .route("/health", get(|| async { "ok\n" }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/readyz", get(ready))
        .route("/ready/all", get(ready_all))
        .with_state(served);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
}

async fn render(State(served): State<Served>) -> (StatusCode, String) {
    let counters = served.readiness.api.core.store.counters();
    metrics::counter!("tinderbox_store_statements_total").absolute(counters.statements);
    metrics::counter!("tinderbox_store_commits_total").absolute(counters.commits);
    metrics::counter!("tinderbox_store_batches_total").absolute(counters.batches);
    metrics::counter!("tinderbox_store_conflicts_total").absolute(counters.conflicts);
    let up: Vec<_> = served.readiness.peers.reachable().collect();
    let site = &served.readiness.api.core.site;
    for operator in site.everyone().filter(|operator| *operator != site.me) {
        let answers = f64::from(u8::from(up.contains(&operator)));
        metrics::gauge!("tinderbox_peer_up", "operator" => operator.0.to_string()).set(answers);
    }
    if let Some(open) = open_flows(&served.readiness.api).await {
        metrics::gauge!("tinderbox_flows_open").set(open);
    }
    match served.recorder {
        Some(recorder) => (StatusCode::OK, recorder.render()),
        None => (
            StatusCode::NOT_IMPLEMENTED,
            "metrics are recorded elsewhere in this process\n".into(),
        ),
    }
}

/// Flows that are not finished here, those of the last moment included: up to [`MOST_FLOWS`]. On a
/// quiet operator it must fall to zero by itself. `None` if the database does not answer.
async fn open_flows(api: &Api) -> Option<f64> {
    let scan = Scan::all(Index::FlowOpen).limit(MOST_FLOWS);
    let open = api.core.store.scan(scan).await.ok()?;
    Some(f64::from(u32::try_from(open.len()).unwrap_or(u32::MAX)))
}

async fn ready(State(served): State<Served>) -> (StatusCode, String) {
    answer(&served.readiness.own().await)
}

async fn ready_all(State(served): State<Served>) -> (StatusCode, String) {
    answer(&served.readiness.all().await)
}

fn answer(missing: &[String]) -> (StatusCode, String) {
    if missing.is_empty() {
        (StatusCode::OK, "ready\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n")
    }
}
