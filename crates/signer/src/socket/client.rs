//! The side of the socket that has no keys.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::job::{KeyJob, KeyOutput, OpenedPreimage, OpenedTweak};
use tinderbox_flows::secret::{PreimageShare, SealedPreimage, SealedShare};
use tinderbox_frost::dkg::Round1Package;
use tinderbox_frost::{NonceCommitment, OperatorIndex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::call::{Answer, Call, Request, Response, dealt};
use super::server::greeting_bytes;
use super::{MAGIC, VERSION, frame};
use crate::SignerError;
use crate::signer::{NewKeyshare, PackageKind, PlainTweak, PreimagePart, Signer};

/// How patient a [`SocketSigner`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// For how long a call looks for a signer that is not there, and repeats itself when the
    /// connection breaks. Every call may be repeated. Default 5 s.
    pub reconnect: Duration,
    /// How long a call waits for its answer. Default 60 s.
    pub answer: Duration,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            reconnect: Duration::from_secs(5),
            answer: Duration::from_secs(60),
        }
    }
}

/// A signer that another process serves on a Unix socket.
pub struct SocketSigner {
    path: PathBuf,
    options: SocketOptions,
    identity: PublicKey,
    next: AtomicU64,
    link: tokio::sync::Mutex<Arc<Link>>,
}

impl SocketSigner {
    /// Connects to the signer at `path`.
    ///
    /// # Errors
    /// [`SignerError::Unreachable`] if there is none, or it speaks another version.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, SignerError> {
        Self::connect_with(path, SocketOptions::default()).await
    }

    /// As [`SocketSigner::connect`], with other patience.
    ///
    /// # Errors
    /// As [`SocketSigner::connect`].
    pub async fn connect_with(
        path: impl AsRef<Path>,
        options: SocketOptions,
    ) -> Result<Self, SignerError> {
        let path = path.as_ref().to_path_buf();
        let deadline = Instant::now() + options.reconnect;
        let (link, identity) = Link::open(&path, deadline).await?;
        Ok(Self {
            path,
            options,
            identity,
            next: AtomicU64::new(1),
            link: tokio::sync::Mutex::new(Arc::new(link)),
        })
    }

    async fn link(&self, deadline: Instant) -> Result<Arc<Link>, SignerError> {
        let mut link = self.link.lock().await;
        if link.is_dead() {
            let (new, identity) = Link::open(&self.path, deadline).await?;
            if identity != self.identity {
                return Err(SignerError::Unreachable(format!(
                    "at {} is the signer of operator {identity} now, not of {}: check the configuration",
                    self.path.display(),
                    self.identity
                )));
            }
            *link = Arc::new(new);
        }
        Ok(Arc::clone(&link))
    }

    async fn call(&self, call: Call) -> Result<Answer, SignerError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let body = frame::encode(&Request { id, call })
            .map_err(|error| SignerError::BadJob(error.to_string()))?;
        let body = Arc::new(body);
        let deadline = Instant::now() + self.options.reconnect;
        loop {
            let link = self.link(deadline).await?;
            let answer = async { link.send(id, Arc::clone(&body)).await?.await.ok() };
            match tokio::time::timeout(self.options.answer, answer).await {
                Ok(Some(result)) => return result,
                // The connection broke; the request may or may not have arrived. Ask again.
                Ok(None) if Instant::now() < deadline => {}
                Ok(None) => {
                    return Err(self.unreachable("the connection broke before it answered"));
                }
                Err(_) => {
                    link.forget(id);
                    return Err(self.unreachable("no answer came in time"));
                }
            }
        }
    }

    fn unreachable(&self, why: &str) -> SignerError {
        unreachable(&self.path, why)
    }

    async fn done(&self, call: Call) -> Result<(), SignerError> {
        match self.call(call).await? {
            Answer::Done => Ok(()),
            _ => Err(self.confused()),
        }
    }

    async fn number(&self, call: Call) -> Result<u64, SignerError> {
        match self.call(call).await? {
            Answer::Number(number) => Ok(number),
            _ => Err(self.confused()),
        }
    }

    async fn opened(&self, call: Call) -> Result<Vec<OpenedTweak>, SignerError> {
        match self.call(call).await? {
            Answer::Opened(opened) => Ok(opened),
            _ => Err(self.confused()),
        }
    }

    fn confused(&self) -> SignerError {
        self.unreachable("it answered something else than was asked")
    }
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Answer, SignerError>>>;

/// One connection.
struct Link {
    outgoing: mpsc::Sender<Arc<Zeroizing<Vec<u8>>>>,
    /// Who waits for which answer; none once the connection is dead.
    waiting: Arc<Mutex<Option<Waiting>>>,
}

impl Link {
    /// Connects and greets; tries again until `deadline` if nobody is there.
    async fn open(path: &Path, deadline: Instant) -> Result<(Self, PublicKey), SignerError> {
        let mut pause = Duration::from_millis(5);
        let stream = loop {
            match UnixStream::connect(path).await {
                Ok(stream) => break stream,
                Err(error) if Instant::now() + pause >= deadline => {
                    return Err(unreachable(path, &error.to_string()));
                }
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(200));
                }
            }
        };
        let (mut from, mut to) = stream.into_split();
        let greet = async {
            to.write_all(&greeting_bytes()).await?;
            let mut reply = [0; 45];
            from.read_exact(&mut reply).await?;
            std::io::Result::Ok(reply)
        };
        let reply = tokio::time::timeout_at(deadline.max(Instant::now() + GREETING), greet)
            .await
            .map_err(|_| unreachable(path, "it does not greet"))?
            .map_err(|error| {
                unreachable(
                    path,
                    &format!("{error}; it serves processes of its own user only"),
                )
            })?;
        let identity = identity_in(&reply).map_err(|why| unreachable(path, &why))?;
        let (outgoing, queue) = mpsc::channel(64);
        let waiting = Arc::new(Mutex::new(Some(Waiting::new())));
        let pump = pump(from, to, queue, Arc::clone(&waiting));
        tokio::spawn(pump);
        Ok((Self { outgoing, waiting }, identity))
    }

    fn is_dead(&self) -> bool {
        lock(&self.waiting).is_none()
    }

    /// Sends a request; `None` if the connection is dead.
    async fn send(
        &self,
        id: u64,
        body: Arc<Zeroizing<Vec<u8>>>,
    ) -> Option<oneshot::Receiver<Result<Answer, SignerError>>> {
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).as_mut()?.insert(id, answer);
        // If the pump has ended meanwhile, it has dropped the other end, and the caller sees that.
        let _ = self.outgoing.send(body).await;
        Some(answered)
    }

    fn forget(&self, id: u64) {
        if let Some(waiting) = lock(&self.waiting).as_mut() {
            waiting.remove(&id);
        }
    }
}

const GREETING: Duration = Duration::from_secs(5);

fn lock(waiting: &Mutex<Option<Waiting>>) -> std::sync::MutexGuard<'_, Option<Waiting>> {
    // Inserting into and removing from a map leaves it whole.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Moves frames both ways until the connection or the client ends; then tells who still waits.
async fn pump(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    queue: mpsc::Receiver<Arc<Zeroizing<Vec<u8>>>>,
    waiting: Arc<Mutex<Option<Waiting>>>,
) {
    tokio::select! {
        () = write_all(to, queue) => {}
        result = read_all(from, &waiting) => {
            if let Err(error) = result {
                tracing::warn!(%error, "the connection to the signer broke");
            }
        }
    }
    lock(&waiting).take();
}

async fn write_all(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<Arc<Zeroizing<Vec<u8>>>>) {
    while let Some(body) = queue.recv().await {
        if frame::write(&mut to, &body).await.is_err() {
            return;
        }
    }
}

async fn read_all(
    mut from: OwnedReadHalf,
    waiting: &Mutex<Option<Waiting>>,
) -> std::io::Result<()> {
    while let Some(body) = frame::read(&mut from).await? {
        let Response { id, result } = frame::decode(&body)?;
        let asked = lock(waiting)
            .as_mut()
            .and_then(|waiting| waiting.remove(&id));
        if let Some(asked) = asked {
            let _ = asked.send(result);
        }
    }
    Ok(())
}

fn identity_in(reply: &[u8; 45]) -> Result<PublicKey, String> {
    let garbled = || "what answers there is no signer".to_string();
    let (magic, rest) = reply.split_first_chunk::<8>().ok_or_else(garbled)?;
    let (version, identity) = rest.split_first_chunk::<4>().ok_or_else(garbled)?;
    if magic != MAGIC {
        return Err(garbled());
    }
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(format!(
            "it speaks version {version} and this program version {VERSION}; run the same program version on both sides"
        ));
    }
    PublicKey::from_slice(identity).map_err(|_| garbled())
}

fn unreachable(path: &Path, why: &str) -> SignerError {
    SignerError::Unreachable(format!(
        "{} ({why}): check that the signer runs and that the path is right",
        path.display()
    ))
}

#[async_trait]
impl Signer for SocketSigner {
    fn identity(&self) -> PublicKey {
        self.identity
    }

    async fn sign(&self, digests: Vec<[u8; 32]>) -> Result<Vec<Vec<u8>>, SignerError> {
        match self.call(Call::Sign(digests)).await? {
            Answer::Signatures(signatures) => Ok(signatures),
            _ => Err(self.confused()),
        }
    }

    async fn derive(&self, label: &str) -> Result<Zeroizing<[u8; 32]>, SignerError> {
        match self.call(Call::Derive(label.into())).await? {
            Answer::Secret(secret) => Ok(secret.into()),
            _ => Err(self.confused()),
        }
    }

    async fn open(
        &self,
        kind: PackageKind,
        ciphertext: Vec<u8>,
    ) -> Result<Vec<OpenedTweak>, SignerError> {
        self.opened(Call::Open(kind, ciphertext)).await
    }

    async fn stage(&self, tweaks: Vec<PlainTweak>) -> Result<Vec<OpenedTweak>, SignerError> {
        let tweaks = tweaks.into_iter().map(Into::into).collect();
        self.opened(Call::Stage(tweaks)).await
    }

    async fn keep_preimage(
        &self,
        payment_hash: [u8; 32],
        part: PreimagePart,
    ) -> Result<OpenedPreimage, SignerError> {
        match self
            .call(Call::KeepPreimage(payment_hash, part.into()))
            .await?
        {
            Answer::Preimage(opened) => Ok(opened),
            _ => Err(self.confused()),
        }
    }

    async fn preimage_share(
        &self,
        payment_hash: [u8; 32],
        sealed: SealedPreimage,
    ) -> Result<PreimageShare, SignerError> {
        match self.call(Call::PreimageShare(payment_hash, sealed)).await? {
            Answer::Secret(share) => Ok(PreimageShare(*Zeroizing::<[u8; 32]>::from(share))),
            _ => Err(self.confused()),
        }
    }

    async fn nonces(&self, count: u32) -> Result<Vec<NonceCommitment>, SignerError> {
        match self.call(Call::Nonces(count)).await? {
            Answer::Commitments(commitments) => Ok(commitments),
            _ => Err(self.confused()),
        }
    }

    async fn reserve(&self, jobs: Vec<KeyJob>) -> Result<(), SignerError> {
        self.done(Call::Reserve(jobs)).await
    }

    async fn execute(&self, jobs: Vec<KeyJob>) -> Result<Vec<KeyOutput>, SignerError> {
        match self.call(Call::Execute(jobs)).await? {
            Answer::Outputs(outputs) => Ok(outputs),
            _ => Err(self.confused()),
        }
    }

    async fn settle(
        &self,
        shares: Vec<SealedShare>,
        nonces: Vec<NonceCommitment>,
    ) -> Result<(), SignerError> {
        self.done(Call::Settle(shares, nonces)).await
    }

    async fn retire(&self, epoch: u64) -> Result<(), SignerError> {
        self.done(Call::Retire(epoch)).await
    }

    async fn epoch(&self) -> Result<u64, SignerError> {
        self.number(Call::Epoch).await
    }

    async fn purge_nonces(&self, age_seconds: u64) -> Result<u64, SignerError> {
        self.number(Call::PurgeNonces(age_seconds)).await
    }

    async fn dkg_round1(
        &self,
        run: [u8; 16],
        count: u32,
    ) -> Result<Vec<Round1Package>, SignerError> {
        match self.call(Call::DkgRound1(run, count)).await? {
            Answer::Packages(packages) => Ok(packages),
            _ => Err(self.confused()),
        }
    }

    async fn dkg_round2(
        &self,
        run: [u8; 16],
        packages: BTreeMap<OperatorIndex, Vec<Round1Package>>,
    ) -> Result<BTreeMap<OperatorIndex, Vec<Zeroizing<[u8; 32]>>>, SignerError> {
        match self.call(Call::DkgRound2(run, packages)).await? {
            Answer::Shares(shares) => Ok(dealt(shares)),
            _ => Err(self.confused()),
        }
    }

    async fn dkg_take(
        &self,
        run: [u8; 16],
        from: OperatorIndex,
        shares: Vec<Zeroizing<[u8; 32]>>,
    ) -> Result<(), SignerError> {
        let shares = shares.into_iter().map(Into::into).collect();
        self.done(Call::DkgTake(run, from, shares)).await
    }

    async fn dkg_taken(&self, run: [u8; 16]) -> Result<u64, SignerError> {
        self.number(Call::DkgTaken(run)).await
    }

    async fn dkg_finish(
        &self,
        run: [u8; 16],
        ids: Vec<[u8; 16]>,
        shares: BTreeMap<OperatorIndex, Vec<Zeroizing<[u8; 32]>>>,
    ) -> Result<Vec<NewKeyshare>, SignerError> {
        match self.call(Call::DkgFinish(run, ids, dealt(shares))).await? {
            Answer::Keyshares(keyshares) => Ok(keyshares),
            _ => Err(self.confused()),
        }
    }

    async fn unsettled(&self, limit: u32) -> Result<Vec<[u8; 16]>, SignerError> {
        match self.call(Call::Unsettled(limit)).await? {
            Answer::Ids(ids) => Ok(ids),
            _ => Err(self.confused()),
        }
    }

    async fn collect(
        &self,
        current: Vec<([u8; 16], SealedShare)>,
        age_seconds: u64,
    ) -> Result<u64, SignerError> {
        self.number(Call::Collect(current, age_seconds)).await
    }
}
