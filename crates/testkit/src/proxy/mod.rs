//! A TCP proxy that breaks connections where it is told to.
//!
//! It stands between a wallet and an operator or between two operators. TLS passes through it
//! untouched: it sees only where one record ends and the next begins, and that is where it cuts.
//! So a test can repeat something with the connection cut after its first record, after its
//! second, and so on until there is nothing left to cut ([`Proxy::cut_after`]), or let a seed
//! choose ([`Proxy::break_by`]).

mod frame;
mod pass;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From whoever connected.
    ToServer,
    /// Back.
    ToClient,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Both sides are closed.
    Close,
    /// Both sides are reset: what was under way is lost, and the peers are told so rudely.
    Reset,
    /// No more bytes in the direction of the last frame; the other direction goes on.
    HalfClose,
    /// Nothing is closed, and nothing passes any more, as when a cable is pulled.
    Silence,
}

impl Cut {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Close, Self::Reset, Self::HalfClose, Self::Silence];
}

/// What is done to what passes.
#[derive(Clone, Debug, Default)]
enum Plan {
    #[default]
    Pass,
    /// Once, after so many frames in this direction (or in any).
    CutAfter {
        left: u64,
        direction: Option<Direction>,
        cut: Cut,
    },
    /// Again and again, at random.
    BreakBy {
        rng: Box<ChaCha20Rng>,
        /// One frame in so many is the last of its connection.
        one_in: u32,
        longest_delay: Duration,
    },
}

/// What the proxy does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass(Duration),
    /// It passes, and is the last of its connection.
    Last(Cut),
}

#[derive(Default)]
struct State {
    plan: Plan,
    refuse: bool,
    dropped: Option<Direction>,
    delay: Duration,
    passed: [u64; 2],
    cuts: u64,
}

/// The part that connections share with their proxy.
#[derive(Clone)]
struct Shared {
    state: Arc<Mutex<State>>,
    /// Counts calls of [`Proxy::cut_all`]: a connection of an earlier time ends.
    age: watch::Sender<u64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about one frame that has arrived. None if it is swallowed.
    fn judge(&self, direction: Direction) -> Option<Verdict> {
        let mut state = self.state();
        if state.dropped == Some(direction) {
            return None;
        }
        state.passed[match direction {
            Direction::ToServer => 0,
            Direction::ToClient => 1,
        }] += 1;
        let delay = state.delay;
        let verdict = match &mut state.plan {
            Plan::Pass => Verdict::Pass(delay),
            Plan::CutAfter {
                left,
                direction: wanted,
                cut,
            } => {
                if wanted.is_none_or(|wanted| wanted == direction) {
                    *left = left.saturating_sub(1);
                }
                if *left == 0 {
                    Verdict::Last(*cut)
                } else {
                    Verdict::Pass(delay)
                }
            }
            Plan::BreakBy {
                rng,
                one_in,
                longest_delay,
            } => {
                let most = u64::try_from(longest_delay.as_millis()).unwrap_or(u64::MAX);
                let extra = Duration::from_millis(rng.gen_range(0..=most));
                if rng.gen_ratio(1, *one_in) {
                    Verdict::Last(Cut::ALL[rng.gen_range(0..3)])
                } else {
                    Verdict::Pass(delay + extra)
                }
            }
        };
        if let Verdict::Last(_) = verdict {
            state.cuts += 1;
            if matches!(state.plan, Plan::CutAfter { .. }) {
                state.plan = Plan::Pass;
            }
        }
        Some(verdict)
    }
}

/// A proxy in front of one server. Dropping it closes its port and its connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Shared,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut_all();
        self.task.abort();
    }
}

impl Proxy {
    /// Listens on a free port of the loopback address and connects to `target`.
    ///
    /// # Errors
    /// If the machine has no port left.
    pub async fn start(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Shared {
            state: Arc::default(),
            age: watch::Sender::new(0),
        };
        let task = tokio::spawn(pass::accept(listener, target, shared.clone()));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on everything passes.
    pub fn calm(&self) {
        let mut state = self.shared.state();
        state.plan = Plan::Pass;
        state.refuse = false;
        state.dropped = None;
        state.delay = Duration::ZERO;
    }

    /// Cuts the connection on which the `frames`-th frame from now passes, counted over all
    /// connections in one direction or in both; then everything passes again.
    pub fn cut_after(&self, frames: u64, direction: Option<Direction>, cut: Cut) {
        let mut state = self.shared.state();
        state.plan = Plan::CutAfter {
            left: frames,
            direction,
            cut,
        };
    }

    /// Delays every frame by up to `longest_delay` and makes about one in `one_in` the last of its
    /// connection, all chosen by `seed`.
    pub fn break_by(&self, seed: u64, one_in: u32, longest_delay: Duration) {
        self.shared.state().plan = Plan::BreakBy {
            rng: Box::new(ChaCha20Rng::seed_from_u64(seed)),
            one_in: one_in.max(1),
            longest_delay,
        };
    }

    /// Delays every frame.
    pub fn delay(&self, delay: Duration) {
        self.shared.state().delay = delay;
    }

    /// Swallows everything in one direction, on connections that are there and new ones.
    pub fn swallow(&self, direction: Option<Direction>) {
        self.shared.state().dropped = direction;
    }

    /// Accepts nobody: connections are closed before a byte passes.
    pub fn refuse(&self, refuse: bool) {
        self.shared.state().refuse = refuse;
    }

    /// Closes every connection that is open now.
    pub fn cut_all(&self) {
        self.shared.age.send_modify(|age| *age += 1);
    }

    /// Frames that have passed so far.
    #[must_use]
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.state().passed[match direction {
            Direction::ToServer => 0,
            Direction::ToClient => 1,
        }]
    }

    /// Connections that were cut so far.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.shared.state().cuts
    }
}
