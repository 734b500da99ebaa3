//! Rate limits in front of handlers.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use super::{Rate, RateLimiter};
use crate::server::ConnectionInfo;
use crate::{Caller, ServiceError};

/// What an address counts as: an IPv4 address, or the first 64 bits of an IPv6 address, since one
/// host commonly holds a whole /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressKey {
    /// One IPv4 address.
    V4([u8; 4]),
    /// One IPv6 network.
    V6(u64),
}

impl From<SocketAddr> for AddressKey {
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self::V6(
                    [a, b, c, d]
                        .iter()
                        .fold(0, |whole, part| whole << 16 | u64::from(*part)),
                )
            }
        }
    }
}

/// Buckets by identity for callers with a session, and by address for everyone else.
pub struct RateLimits {
    identity: RateLimiter<[u8; 33]>,
    address: RateLimiter<AddressKey>,
}

impl RateLimits {
    /// Limits that remember at most `capacity` identities and as many addresses.
    pub fn new(identity: Rate, address: Rate, capacity: usize) -> Self {
        Self {
            identity: RateLimiter::new(identity, capacity),
            address: RateLimiter::new(address, capacity),
        }
    }

    /// Takes one token for this request.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED with the time to wait.
    pub fn take(
        &self,
        caller: Option<&Caller>,
        address: Option<SocketAddr>,
        now: Instant,
    ) -> Result<(), ServiceError> {
        let verdict = match (caller, address) {
            (Some(Caller::Identity(key)), _) => self.identity.take(&key.serialize(), now),
            (_, Some(address)) => self.address.take(&address.into(), now),
            (_, None) => Ok(()),
        };
        verdict.map_err(ServiceError::rate_limited)
    }
}

/// Layer that applies [`RateLimits`] before a handler runs.
#[derive(Clone)]
pub struct RateLimitLayer(Option<Arc<RateLimits>>);

impl RateLimitLayer {
    /// Applies `limits`, or nothing.
    pub fn new(limits: Option<Arc<RateLimits>>) -> Self {
        Self(limits)
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> RateLimitService<S> {
        RateLimitService {
            inner,
            limits: self.0.clone(),
        }
    }
}

/// Service of [`RateLimitLayer`].
#[derive(Clone)]
pub struct RateLimitService<S> {
    inner: S,
    limits: Option<Arc<RateLimits>>,
}

impl<S> Service<Request<Body>> for RateLimitService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if let Some(limits) = &self.limits {
            let extensions = request.extensions();
            let address = extensions.get::<ConnectionInfo>().map(|info| info.remote);
            let verdict = limits.take(extensions.get::<Caller>(), address, Instant::now());
            if let Err(refusal) = verdict {
                return Box::pin(async { Ok(tonic::Status::from(refusal).into_http()) });
            }
        }
        Box::pin(self.inner.call(request))
    }
}
