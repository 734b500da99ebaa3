use std::sync::Arc;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use tinderbox_frost::OperatorIndex;
use tinderbox_rpc::client::{self, TlsTrust};
use tinderbox_rpc::proto::spark::spark_service_client::SparkServiceClient;
use tokio::sync::{Mutex, OnceCell};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;

use super::clock::ServerClock;
use super::session::{Session, log_in};
use crate::config::{Config, OperatorConfig};
use crate::error::{Error, Result};
use crate::signer::WalletSigner;

/// How often a call is sent when the operator is not available, and how long to wait before the second time.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(150);

/// The generated client.
pub(crate) type Client = SparkServiceClient<Channel>;

/// One operator.
pub(crate) struct Operator {
    index: OperatorIndex,
    identity: PublicKey,
    url: String,
    trust: TlsTrust,
    channel: OnceCell<Channel>,
    session: Mutex<Option<Session>>,
    clock: ServerClock,
    signer: Arc<dyn WalletSigner>,
    limit: Duration,
}

impl Operator {
    pub(super) fn new(
        operator: &OperatorConfig,
        config: &Config,
        signer: Arc<dyn WalletSigner>,
    ) -> Result<Self> {
        Ok(Self {
            index: OperatorIndex(operator.index),
            identity: operator.identity,
            url: operator.url.clone(),
            trust: config.tls.for_connections()?,
            channel: OnceCell::new(),
            session: Mutex::new(None),
            clock: ServerClock::default(),
            signer,
            limit: config.call_limit(),
        })
    }

    /// Which one.
    pub(crate) const fn index(&self) -> OperatorIndex {
        self.index
    }

    /// Its identity key.
    pub(crate) const fn identity(&self) -> &PublicKey {
        &self.identity
    }

    /// A call with a session. `method` picks it from the client; the request is sent again, as it is, if the
    /// session was no longer good or the operator was not available: every call of the protocol may be repeated.
    pub(crate) async fn call<Req, Rep, F, Fut>(
        &self,
        name: &'static str,
        request: Req,
        method: F,
    ) -> Result<Rep>
    where
        Req: Clone,
        F: Fn(Client, Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Rep>, Status>>,
    {
        self.call_telling(name, request, method, &mut false).await
    }

    /// As [`call`](Self::call), and sets `repeated` if the request was sent again after one whose fate is
    /// unknown: what the operator says of the later one need not hold for the earlier.
    pub(crate) async fn call_telling<Req, Rep, F, Fut>(
        &self,
        name: &'static str,
        request: Req,
        method: F,
        repeated: &mut bool,
    ) -> Result<Rep>
    where
        Req: Clone,
        F: Fn(Client, Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Rep>, Status>>,
    {
        let mut renewed = false;
        let mut attempt = 1;
        let mut pause = FIRST_PAUSE;
        loop {
            let session = self.session().await?;
            let error = match method(
                self.client().await?,
                self.authorized(request.clone(), &session),
            )
            .await
            {
                Ok(reply) => {
                    self.note_time(&reply);
                    return Ok(reply.into_inner());
                }
                Err(status) => status,
            };
            let stale = error.message().contains("token has expired")
                || error.code() == Code::Unauthenticated;
            if stale && !renewed {
                renewed = true;
                self.drop_session(&session).await;
            } else if attempt < ATTEMPTS
                && (matches!(error.code(), Code::Unavailable | Code::Cancelled)
                    || is_broken_connection(&error))
            {
                attempt += 1;
                *repeated = true;
                tokio::time::sleep(pause).await;
                pause *= 3;
            } else {
                return Err(self.refused(name, &error));
            }
        }
    }

    /// The connection: made when it is first needed, and again by itself whenever it is lost.
    pub(super) async fn channel(&self) -> Result<Channel> {
        let connect = || client::connect(&self.url, &self.trust);
        self.channel
            .get_or_try_init(connect)
            .await
            .cloned()
            .map_err(|error| Error::Unreachable {
                operator: self.index,
                url: self.url.clone(),
                reason: innermost(&error),
            })
    }

    /// A client without time limits of its own.
    pub(super) async fn client(&self) -> Result<Client> {
        Ok(client::spark(self.channel().await?))
    }

    /// A session that is good for a while yet.
    pub(super) async fn session(&self) -> Result<Session> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot
            .as_ref()
            .filter(|session| session.is_fresh(self.clock.now()))
        {
            return Ok(session.clone());
        }
        let session = log_in(self, self.channel().await?, &*self.signer).await?;
        *slot = Some(session.clone());
        Ok(session)
    }

    /// Forgets a session, unless another call has replaced it meanwhile.
    pub(super) async fn drop_session(&self, stale: &Session) {
        let mut slot = self.session.lock().await;
        if slot
            .as_ref()
            .is_some_and(|session| session.header() == stale.header())
        {
            *slot = None;
        }
    }

    /// A request with the usual time limit.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.limit);
        request
    }

    fn authorized<T>(&self, message: T, session: &Session) -> Request<T> {
        let mut request = self.request(message);
        authorize(&mut request, session);
        request
    }

    /// Takes the operator's time from an answer.
    pub(super) fn note_time<T>(&self, reply: &Response<T>) {
        if let Some(date) = reply
            .metadata()
            .get("date")
            .and_then(|value| value.to_str().ok())
        {
            self.clock.note(date);
        }
    }

    /// An operator's refusal, or that it cannot be reached.
    pub(crate) fn refused(&self, call: &'static str, status: &Status) -> Error {
        if is_broken_connection(status) {
            let reason = innermost(status);
            return Error::Unreachable {
                operator: self.index,
                url: self.url.clone(),
                reason,
            };
        }
        Error::Refused {
            operator: self.index,
            call,
            code: status.code(),
            reason: status.get_details_error_info().map(|info| info.reason),
            message: status.message().to_owned(),
        }
    }

    /// An answer that makes no sense.
    pub(crate) fn nonsense(&self, call: &'static str, what: String) -> Error {
        Error::Answer {
            operator: self.index,
            call,
            what,
        }
    }
}

/// Adds the session to a request.
pub(super) fn authorize<T>(request: &mut Request<T>, session: &Session) {
    // A token that is no header value is one that the operator cannot have meant.
    if let Ok(value) = session.header().parse() {
        request.metadata_mut().insert("authorization", value);
    }
}

/// True if a status was made here, because the connection could not be made or broke in the middle
/// of a call: then it has a source. Which code it has depends on where it broke.
fn is_broken_connection(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Internal
    ) && std::error::Error::source(status).is_some()
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
