//! Headers of every answer: the time, how long we took, and an id to find the request by.
//!
//! Wallets synchronise their clock by the first two, and read them from the initial headers, not
//! from trailers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use http::{HeaderValue, Request, Response, header};
use tower::{Layer, Service};
use tracing::Instrument as _;

/// Id of one request, in its answer's `x-trace-id`, in our log, and in what operators say to each
/// other because of it: the one that the caller sent, or a new one. A request extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceId(Arc<str>);

/// Longest id that is taken from a caller.
const LONGEST_TRACE: usize = 64;
/// The header.
const TRACE_HEADER: &str = "x-trace-id";

impl TraceId {
    /// The id in these headers if it is one that can be logged as it is, else a new one.
    fn of(headers: &http::HeaderMap) -> Self {
        headers
            .get(TRACE_HEADER)
            .and_then(|value| value.to_str().ok())
            .and_then(Self::parse)
            .unwrap_or_else(|| Self(uuid::Uuid::new_v4().as_simple().to_string().into()))
    }

    /// An id that somebody gave: letters, digits, `-` and `_`, at most 64 of them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let fits = (1..=LONGEST_TRACE).contains(&text.len()) && text.bytes().all(good);
        fits.then(|| Self(text.into()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
        let trace = TraceId::of(request.headers());
        let span = tracing::info_span!("request", trace_id = %trace, path = request.uri().path());
        request.extensions_mut().insert(trace.clone());
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
            insert(headers, TRACE_HEADER, trace.to_string());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_of_the_caller_is_taken_if_it_can_be_logged() {
        assert_eq!(TraceId::parse("a-B_9").unwrap().as_str(), "a-B_9");
        for bad in ["", "a b", "a\nb", "\u{1b}[31m", &"x".repeat(65)] {
            assert_eq!(TraceId::parse(bad), None, "{bad:?}");
        }
        let mut headers = http::HeaderMap::new();
        let made = TraceId::of(&headers);
        assert_eq!(made.as_str().len(), 32);
        headers.insert(TRACE_HEADER, HeaderValue::from_static("from-the-caller"));
        assert_eq!(TraceId::of(&headers).as_str(), "from-the-caller");
    }
}
