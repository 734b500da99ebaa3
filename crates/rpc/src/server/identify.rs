//! Finds out who calls, from the `authorization` metadata. Never refuses: handlers decide.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, header};
use tower::{Layer, Service};

use crate::session::{Clock, Sessions};

/// Layer that puts a [`Caller`](crate::Caller) into the extensions of each request.
#[derive(Clone)]
pub struct IdentifyLayer(Option<(Arc<Sessions>, Clock)>);

impl IdentifyLayer {
    /// Reads tokens of `sessions`; without sessions everyone is anonymous.
    pub fn new(sessions: Option<(Arc<Sessions>, Clock)>) -> Self {
        Self(sessions)
    }
}

impl<S> Layer<S> for IdentifyLayer {
    type Service = Identify<S>;

    fn layer(&self, inner: S) -> Identify<S> {
        Identify {
            inner,
            sessions: self.0.clone(),
        }
    }
}

/// Service of [`IdentifyLayer`].
#[derive(Clone)]
pub struct Identify<S> {
    inner: S,
    sessions: Option<(Arc<Sessions>, Clock)>,
}

impl<S, B> Service<Request<B>> for Identify<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some((sessions, clock)) = &self.sessions {
            let value = request
                .headers()
                .get(header::AUTHORIZATION)
                .map(|value| value.as_bytes());
            let caller = sessions.caller(value, clock());
            request.extensions_mut().insert(caller);
        }
        self.inner.call(request)
    }
}
