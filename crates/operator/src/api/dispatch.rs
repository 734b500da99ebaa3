//! What happens around every handler: the contract's rules before it, figures after it.

use std::future::Future;
use std::time::Instant;

use tinderbox_rpc::server::TraceId;
use tinderbox_rpc::validate::{Validate, check};
use tinderbox_rpc::{Caller, ServiceError};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::idempotency::{self, Once};
use super::{Api, ApiError};
use crate::trace;

/// Checks a request against the rules of the contract, then runs its handler.
pub(super) async fn call<Q, A, F, Fut>(
    api: &Api,
    method: &'static str,
    request: Request<Q>,
    handler: F,
) -> Result<Response<A>, Status>
where
    Q: Validate + Send + 'static,
    A: Send + 'static,
    F: FnOnce(Api, Caller, Q) -> Fut,
    Fut: Future<Output = Result<A, ApiError>> + Send + 'static,
{
    check(request.get_ref())?;
    run(api, method, request, handler).await
}

/// Like [`call`], for methods whose requests may carry an idempotency key: the same key of the same
/// caller gets the same answer.
pub(super) async fn call_once<Q, A, F, Fut>(
    api: &Api,
    method: &'static str,
    request: Request<Q>,
    handler: F,
) -> Result<Response<A>, Status>
where
    Q: Validate + Send + 'static,
    A: prost::Message + Default + Send + 'static,
    F: FnOnce(Api, Caller, Q) -> Fut + Send + 'static,
    Fut: Future<Output = Result<A, ApiError>> + Send + 'static,
{
    let key = idempotency::key_of(&request).map_err(ApiError::from)?;
    call(
        api,
        method,
        request,
        move |api, caller, request| async move {
            let once = match (key, caller.identity()) {
                (Some(key), Some(identity)) => Some(Once::new(identity, method, &key)),
                _ => None,
            };
            let work = handler(api.clone(), caller, request);
            match once {
                Some(once) => once.run(&api, work).await,
                None => work.await,
            }
        },
    )
    .await
}

/// Runs a handler to its end, even if the wallet hangs up meanwhile; a handler that panics fails
/// only its own request.
pub(super) async fn run<Q, A, F, Fut>(
    api: &Api,
    method: &'static str,
    request: Request<Q>,
    handler: F,
) -> Result<Response<A>, Status>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: FnOnce(Api, Caller, Q) -> Fut,
    Fut: Future<Output = Result<A, ApiError>> + Send + 'static,
{
    let began = Instant::now();
    let caller = Caller::of(&request);
    let trace = request.extensions().get::<TraceId>().cloned();
    let work = handler(api.clone(), caller, request.into_inner());
    let work = trace::within(trace, work).in_current_span();
    let answer = match tokio::spawn(work).await {
        Ok(answer) => answer,
        Err(error) => Err(ServiceError::internal(error).into()),
    };
    let outcome = match &answer {
        Ok(_) => "ok",
        Err(_) => "refused",
    };
    metrics::histogram!("tinderbox_request_seconds", "method" => method, "outcome" => outcome)
        .record(began.elapsed().as_secs_f64());
    match answer {
        Ok(answer) => Ok(Response::new(answer)),
        Err(error) => {
            tracing::debug!(method, %error, "refused");
            Err(error.into())
        }
    }
}
