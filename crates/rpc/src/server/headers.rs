//! Headers of every answer: the time, how long we took, and an id to find the request by.
//!
//! Wallets synchronise their clock by the first two, and read them from the initial headers, not
//! from trailers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use http::{HeaderValue, Request, Response, header};
use tower::{Layer, Service};
use tracing::Instrument as _;

/// Id of one request, in its answer's `x-trace-id` and in our log. A request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub uuid::Uuid);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

/// Layer that adds the headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseHeadersLayer;

impl<S> Layer<S> for ResponseHeadersLayer {
    type Service = ResponseHeaders<S>;

    fn layer(&self, inner: S) -> ResponseHeaders<S> {
        ResponseHeaders { inner }
    }
}

/// Service of [`ResponseHeadersLayer`].
#[derive(Clone, Debug)]
pub struct ResponseHeaders<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for ResponseHeaders<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let started = Instant::now();
        let trace = TraceId(uuid::Uuid::new_v4());
        let span = tracing::info_span!("request", trace_id = %trace, path = request.uri().path());
        request.extensions_mut().insert(trace);
        let answer = self.inner.call(request).instrument(span);
        Box::pin(async move {
            let mut response = answer.await?;
            let headers = response.headers_mut();
            let took = started.elapsed().as_secs_f64() * 1000.0;
            insert(
                headers,
                header::DATE,
                httpdate::fmt_http_date(SystemTime::now()),
            );
            insert(headers, "x-processing-time-ms", format!("{took:.3}"));
            insert(headers, "x-trace-id", trace.to_string());
            Ok(response)
        })
    }
}

fn insert(headers: &mut http::HeaderMap, name: impl header::IntoHeaderName, value: String) {
    // All three values are plain ASCII; one that were not is left out.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
