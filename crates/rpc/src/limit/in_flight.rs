//! A bound on requests that are being handled at once, so that decoded messages fit in memory.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::{Reason, ServiceError};

/// Lets at most `permits` requests into handlers; others wait a bounded time for their turn.
///
/// A streaming answer gives its place back as soon as it has started.
#[derive(Clone, Debug)]
pub struct InFlightLayer {
    permits: Arc<Semaphore>,
    patience: Duration,
}

impl InFlightLayer {
    /// At most `permits` at once; a request that waited `patience` is refused.
    pub fn new(permits: usize, patience: Duration) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(permits)),
            patience,
        }
    }
}

impl<S> Layer<S> for InFlightLayer {
    type Service = InFlight<S>;

    fn layer(&self, inner: S) -> InFlight<S> {
        InFlight {
            inner,
            limit: self.clone(),
        }
    }
}

/// Service of [`InFlightLayer`].
#[derive(Clone, Debug)]
pub struct InFlight<S> {
    inner: S,
    limit: InFlightLayer,
}

impl<S> Service<Request<Body>> for InFlight<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = self.limit.clone();
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let turn = tokio::time::timeout(limit.patience, limit.permits.acquire_owned()).await;
            let Ok(Ok(_permit)) = turn else {
                let busy = ServiceError::new(Reason::RateLimited, "server busy; try again later")
                    .after(limit.patience);
                return Ok(tonic::Status::from(busy).into_http());
            };
            inner.call(request).await
        })
    }
}
