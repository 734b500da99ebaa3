//! The network between operators, and their lives.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::Rng;
use rand_chacha::ChaCha20Rng;
use tinderbox_commit::{Message, Reply};
use tinderbox_flows::record::Batch;
use tinderbox_frost::{NonceCommitment, OperatorIndex};
use tinderbox_operator::keyshares::{DkgMessage, DkgReply};
use tinderbox_operator::{Engine, PeerError, Peers};
use tinderbox_store::{Counters, Found, Scan, Store, StoreError};
use tokio::task::AbortHandle;

use super::tap::{Fate, MessageTap, Taps, WriteFate, WriteTap};
use crate::faults::Faults;

/// What runs of an operator between a start and a crash.
struct Station {
    engine: Engine,
    tasks: Vec<AbortHandle>,
}

struct State {
    rng: ChaCha20Rng,
    faults: Faults,
    stations: Vec<Option<Station>>,
    crashed: Vec<OperatorIndex>,
    log: Vec<String>,
    taps: Taps,
}

/// Carries messages, badly.
#[derive(Clone)]
pub(super) struct Network(Arc<Mutex<State>>);

impl Network {
    pub(super) fn new(rng: ChaCha20Rng, faults: Faults, operators: u16) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng,
            faults,
            stations: (0..operators).map(|_| None).collect(),
            crashed: Vec::new(),
            log: Vec::new(),
            taps: Taps::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        self.state().log.push(line());
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    pub(super) fn faults(&self) -> Faults {
        self.state().faults
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Decides about every message from now on; none carries all.
    pub(super) fn tap_messages(&self, tap: Option<MessageTap>) {
        let mut state = self.state();
        state.taps.message = tap;
        state.taps.passed = 0;
    }

    /// Decides about every write from now on; none writes all.
    pub(super) fn tap_writes(&self, tap: Option<WriteTap>) {
        self.state().taps.write = tap;
    }

    fn write_fate(&self, operator: OperatorIndex) -> WriteFate {
        self.state().taps.write(operator)
    }

    /// True `chance` times in a thousand.
    pub(super) fn roll(&self, chance: u32) -> bool {
        chance > 0 && self.state().rng.gen_ratio(chance, 1000)
    }

    pub(super) fn below(&self, limit: u64) -> u64 {
        self.state().rng.gen_range(0..limit.max(1))
    }

    pub(super) fn fill(&self, bytes: &mut [u8]) {
        self.state().rng.fill(bytes);
    }

    async fn delay(&self) {
        let most = self.faults().delay_ms;
        tokio::time::sleep(Duration::from_millis(self.below(most) + 1)).await;
    }

    /// Starts an operator.
    pub(super) fn start(&self, operator: OperatorIndex, engine: Engine) {
        self.state().stations[usize::from(operator.0)] = Some(Station {
            engine: engine.clone(),
            tasks: Vec::new(),
        });
        let recovery = engine.clone();
        drop(self.spawn(operator, async move {
            recovery.restore().await;
            recovery.run_recovery().await;
        }));
    }

    /// Stops an operator between two instructions. What it had written stays.
    pub(super) fn crash(&self, operator: OperatorIndex) {
        let station = {
            let mut state = self.state();
            state.crashed.push(operator);
            state.stations[usize::from(operator.0)].take()
        };
        if let Some(station) = station {
            self.note(|| format!("operator {} crashes", operator.0));
            for task in station.tasks {
                task.abort();
            }
        }
    }

    /// Operators that crashed since the last call.
    pub(super) fn take_crashed(&self) -> Vec<OperatorIndex> {
        std::mem::take(&mut self.state().crashed)
    }

    pub(super) fn engine(&self, operator: OperatorIndex) -> Option<Engine> {
        self.state().stations[usize::from(operator.0)]
            .as_ref()
            .map(|station| station.engine.clone())
    }

    /// Runs work as a part of an operator: it ends when the operator crashes.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        operator: OperatorIndex,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let task = tokio::spawn(work);
        match &mut self.state().stations[usize::from(operator.0)] {
            Some(station) => {
                station.tasks.retain(|task| !task.is_finished());
                station.tasks.push(task.abort_handle());
            }
            None => task.abort(),
        }
        task
    }

    /// Carries one message and its reply.
    pub(super) async fn carry(
        &self,
        from: OperatorIndex,
        to: OperatorIndex,
        message: Message,
    ) -> Result<Reply, PeerError> {
        let lost = |why: &str| PeerError {
            operator: to,
            why: why.to_owned(),
        };
        self.delay().await;
        let faults = self.faults();
        if self.roll(faults.lose_request) {
            tokio::time::sleep(Duration::from_secs(2)).await;
            return Err(lost("request lost"));
        }
        if self.roll(faults.double) {
            let late = Duration::from_millis(self.below(8000));
            self.deliver_late(from, to, message.clone(), late);
        }
        let fate = self.state().taps.fate(from, to, &message);
        let lose_reply = matches!(fate, Fate::LoseReply);
        let mut alter = None;
        match fate {
            Fate::Carry | Fate::LoseReply => {}
            Fate::LoseRequest => {
                tokio::time::sleep(Duration::from_secs(2)).await;
                return Err(lost("request lost"));
            }
            Fate::Double(late) => self.deliver_late(from, to, message.clone(), late),
            Fate::Late(late) => tokio::time::sleep(late).await,
            Fate::CrashSender => {
                self.crash(from);
                std::future::pending::<()>().await;
            }
            Fate::CrashReceiver => {
                self.crash(to);
                return Err(lost("crashed"));
            }
            Fate::Alter(change) => alter = Some(change),
        }
        let engine = self.engine(to).ok_or_else(|| lost("down"))?;
        let reply = self
            .spawn(to, async move { engine.handle(from, message).await })
            .await
            .map_err(|_| lost("crashed"))?;
        self.delay().await;
        if lose_reply || self.roll(faults.lose_reply) {
            tokio::time::sleep(Duration::from_secs(2)).await;
            return Err(lost("reply lost"));
        }
        Ok(match alter {
            Some(alter) => alter(reply),
            None => reply,
        })
    }

    /// A message that arrives some time from now; nobody waits for its reply.
    fn deliver_late(
        &self,
        from: OperatorIndex,
        to: OperatorIndex,
        message: Message,
        late: Duration,
    ) {
        let network = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            if let Some(engine) = network.engine(to) {
                let _ = network
                    .spawn(to, async move { engine.handle(from, message).await })
                    .await;
            }
        });
    }
}

/// The network as one operator sees it.
pub(super) struct SimPeers {
    pub(super) me: OperatorIndex,
    pub(super) network: Network,
}

#[async_trait]
impl Peers for SimPeers {
    async fn agree(&self, to: OperatorIndex, message: Message) -> Result<Reply, PeerError> {
        self.network.carry(self.me, to, message).await
    }

    async fn dkg(&self, to: OperatorIndex, _message: DkgMessage) -> Result<DkgReply, PeerError> {
        Err(PeerError {
            operator: to,
            why: "key shares are dealt in simulations".into(),
        })
    }

    async fn nonces(
        &self,
        to: OperatorIndex,
        _count: u32,
    ) -> Result<Vec<NonceCommitment>, PeerError> {
        Err(PeerError {
            operator: to,
            why: "nonces are dealt in simulations".into(),
        })
    }
}

/// Tables that may take their operator down with them.
pub(super) struct FaultyStore<S> {
    pub(super) me: OperatorIndex,
    pub(super) inner: S,
    pub(super) network: Network,
}

impl<S> FaultyStore<S> {
    async fn die(&self) -> ! {
        self.network.crash(self.me);
        std::future::pending::<()>().await;
        unreachable!("a crashed operator does not go on")
    }
}

#[async_trait]
impl<S: Store> Store for FaultyStore<S> {
    async fn get(
        &self,
        keys: &[tinderbox_flows::record::Key],
    ) -> Result<Vec<Option<tinderbox_flows::record::Stored>>, StoreError> {
        self.inner.get(keys).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Found>, StoreError> {
        self.inner.scan(scan).await
    }

    async fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let faults = self.network.faults();
        // Writing takes a moment, in which others overtake.
        tokio::time::sleep(Duration::from_micros(self.network.below(3000))).await;
        let fate = self.network.write_fate(self.me);
        if fate == WriteFate::CrashBefore || self.network.roll(faults.crash_before) {
            self.die().await;
        }
        let result = self.inner.apply(batch).await;
        if fate == WriteFate::CrashAfter || self.network.roll(faults.crash_after) {
            self.die().await;
        }
        let unheard = fate == WriteFate::LoseAcknowledgement
            || (result.is_ok() && self.network.roll(faults.lose_acknowledgement));
        if result.is_ok() && unheard {
            return Err(StoreError::Database("acknowledgement lost".into()));
        }
        result
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }
}
