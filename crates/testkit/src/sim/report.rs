//! What a run did.

use std::collections::BTreeMap;

use tinderbox_flows::request::Request;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// A deposit address is made.
    Address,
    /// A static deposit address is made.
    StaticAddress,
    /// A static address is replaced.
    Rotate,
    /// A deposit becomes a leaf.
    Deposit,
    /// Leaves are sent.
    Send,
    /// Leaves are sent for an invoice.
    Invoice,
    /// Leaves are claimed in one step.
    Claim,
    /// A claim in three steps: tweaks are applied.
    ClaimSign,
    /// A claim in three steps: refunds are complete.
    ClaimFinish,
    /// A leaf gets fresh timelocks.
    Renew,
    /// A preimage is deposited.
    StorePreimage,
    /// Leaves are locked against a payment hash.
    Lock,
    /// A preimage is shown.
    Show,
    /// A preimage is given for tweaks that follow.
    LegacyReceive,
    /// The tweaks follow.
    Finalize,
    /// A transfer goes back.
    Return,
    /// Leaves are offered for others.
    Offer,
    /// An offer is answered: both legs are settled.
    Swap,
    /// Leaves are offered for others, by the older protocol.
    OlderOffer,
    /// Such an offer is answered.
    OlderSwap,
    /// Whole trees leave in a transaction of their owner's.
    ExitTrees,
    /// Leaves leave for a payout.
    Exit,
    /// The payout is confirmed.
    ExitSettle,
    /// The payout did not come.
    ExitReturn,
    /// An output at a static address goes back to its owner.
    UtxoRefund,
    /// An output is given for leaves.
    UtxoSwap,
    /// An output that is to come is paid for.
    UtxoReserve,
    /// It is taken.
    UtxoClaim,
    /// A provider spends outputs that it has.
    UtxoSweep,
    /// A wallet's settings change.
    Setting,
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::Address,
        Self::StaticAddress,
        Self::Rotate,
        Self::Deposit,
        Self::Send,
        Self::Invoice,
        Self::Claim,
        Self::ClaimSign,
        Self::ClaimFinish,
        Self::Renew,
        Self::StorePreimage,
        Self::Lock,
        Self::Show,
        Self::LegacyReceive,
        Self::Finalize,
        Self::Return,
        Self::Offer,
        Self::Swap,
        Self::OlderOffer,
        Self::OlderSwap,
        Self::ExitTrees,
        Self::Exit,
        Self::ExitSettle,
        Self::ExitReturn,
        Self::UtxoRefund,
        Self::UtxoSwap,
        Self::UtxoReserve,
        Self::UtxoClaim,
        Self::UtxoSweep,
        Self::Setting,
    ];

    /// Of a request. There is no "anything else": whoever makes a new kind of request lets the
    /// simulator play it.
    pub(super) fn of(request: &Request) -> Self {
        match request {
            Request::Address(address) if address.is_static => Self::StaticAddress,
            Request::Address(_) => Self::Address,
            Request::Rotate(_) => Self::Rotate,
            Request::Deposit(_) => Self::Deposit,
            Request::Send(send) if !send.invoice.is_empty() => Self::Invoice,
            Request::Send(_) => Self::Send,
            Request::Claim(_) => Self::Claim,
            Request::ClaimSign(_) => Self::ClaimSign,
            Request::ClaimFinish(_) => Self::ClaimFinish,
            Request::Renew(_) => Self::Renew,
            Request::StorePreimage(_) => Self::StorePreimage,
            Request::HashLock(_) => Self::Lock,
            Request::Preimage(_) => Self::Show,
            Request::LegacyReceive(_) => Self::LegacyReceive,
            Request::Finalize(_) => Self::Finalize,
            Request::Return(_) => Self::Return,
            Request::SwapPrimary(_) => Self::Offer,
            Request::SwapCounter(_) => Self::Swap,
            Request::LegacySwap(_) => Self::OlderOffer,
            Request::LegacyCounter(_) => Self::OlderSwap,
            Request::ExitTrees(_) => Self::ExitTrees,
            Request::Exit(_) => Self::Exit,
            Request::ExitSettle(_) => Self::ExitSettle,
            Request::ExitReturn(_) => Self::ExitReturn,
            Request::UtxoRefund(_) => Self::UtxoRefund,
            Request::UtxoSwap(_) => Self::UtxoSwap,
            Request::UtxoReserve(_) => Self::UtxoReserve,
            Request::UtxoClaim(_) => Self::UtxoClaim,
            Request::UtxoSweep(_) => Self::UtxoSweep,
            Request::Setting(_) => Self::Setting,
        }
    }

    /// Its plural, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address => "addresses",
            Self::StaticAddress => "static addresses",
            Self::Rotate => "rotations",
            Self::Deposit => "deposits",
            Self::Send => "payments",
            Self::Invoice => "paid invoices",
            Self::Claim => "claims",
            Self::ClaimSign => "second steps of claims",
            Self::ClaimFinish => "third steps",
            Self::Renew => "renewals",
            Self::StorePreimage => "preimages",
            Self::Lock => "hash locks",
            Self::Show => "shown preimages",
            Self::LegacyReceive => "older receives",
            Self::Finalize => "late packages",
            Self::Return => "returns",
            Self::Offer => "offers",
            Self::Swap => "swaps",
            Self::OlderOffer => "older offers",
            Self::OlderSwap => "older swaps",
            Self::ExitTrees => "exits of trees",
            Self::Exit => "exits",
            Self::ExitSettle => "settled exits",
            Self::ExitReturn => "returned exits",
            Self::UtxoRefund => "refunds of outputs",
            Self::UtxoSwap => "swaps of outputs",
            Self::UtxoReserve => "reservations",
            Self::UtxoClaim => "claims of reservations",
            Self::UtxoSweep => "sweeps",
            Self::Setting => "settings",
        }
    }
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was acknowledged while things went wrong.
    pub done: BTreeMap<Deed, usize>,
    /// What was acknowledged afterwards, when wallets did what was left to do.
    pub afterwards: usize,
    /// Requests that were refused or lost.
    pub refused: usize,
    /// Crashes.
    pub crashes: usize,
    /// Lies that were told.
    pub lies: usize,
}

impl Report {
    /// How often something was acknowledged.
    #[must_use]
    pub fn count(&self, deed: Deed) -> usize {
        self.done.get(&deed).copied().unwrap_or_default()
    }

    /// Everything that was acknowledged.
    #[must_use]
    pub fn total(&self) -> usize {
        self.done.values().sum()
    }

    /// Adds another run's figures.
    pub fn add(&mut self, other: &Self) {
        for (deed, count) in &other.done {
            *self.done.entry(*deed).or_default() += count;
        }
        self.afterwards += other.afterwards;
        self.refused += other.refused;
        self.crashes += other.crashes;
        self.lies += other.lies;
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for deed in Deed::ALL {
            write!(f, "{} {}, ", self.count(deed), deed.name())?;
        }
        write!(
            f,
            "{} afterwards, {} refused or lost, {} crashes, {} lies",
            self.afterwards, self.refused, self.crashes, self.lies
        )
    }
}
