//! What runs are made of.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::liar::Lie;
use crate::faults::Faults;

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many operators.
    pub operators: u16,
    /// How many sign.
    pub threshold: u16,
    /// Wallets.
    pub owners: usize,
    /// Leaves in all.
    pub leaves: usize,
    /// How often wallets do something.
    pub actions: usize,
    /// The longest pause between two of them, in milliseconds.
    pub pause_ms: u64,
    /// What wallets do.
    pub weights: Weights,
    /// What goes wrong.
    pub faults: Faults,
    /// What the last operator does, if it lies.
    pub lie: Option<Lie>,
    /// Leaves begin with used timelocks, and wallets renew them.
    pub aged: bool,
}

impl Plan {
    /// The plan that belongs to a seed: sizes, faults, lies and what wallets do vary with it.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed ^ 0x5eed);
        let (operators, threshold) = *[(3, 2), (3, 2), (3, 2), (3, 3), (5, 3)]
            .choose(&mut rng)
            .unwrap_or(&(3, 2));
        let aged = rng.gen_ratio(1, 5);
        let pause_ms = *[1500, 1500, 8000, 15_000].choose(&mut rng).unwrap_or(&1500);
        let weights = Weights::draw(&mut rng, aged);
        Self {
            operators,
            threshold,
            owners: rng.gen_range(2..4),
            leaves: rng.gen_range(3..6),
            actions: rng.gen_range(6..=13),
            // What can lapse is given the time.
            pause_ms: if weights.is_about(Family::Exits) || weights.is_about(Family::Locks) {
                pause_ms.max(8000)
            } else {
                pause_ms
            },
            weights,
            faults: *[
                Faults::NONE,
                Faults::FEW,
                Faults::FEW,
                Faults::FEW,
                Faults::MANY,
            ]
            .choose(&mut rng)
            .unwrap_or(&Faults::MANY),
            lie: rng
                .gen_bool(0.25)
                .then(|| Lie::ALL[rng.gen_range(0..Lie::ALL.len())]),
            aged,
        }
    }
}

/// Requests that belong together: most follow from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Deposit addresses and deposits.
    Coins,
    /// Static deposit addresses, and what becomes of outputs there.
    Outputs,
    /// Payments and claims.
    Payments,
    /// Claims in three steps.
    Steps,
    /// Renewals.
    Renewals,
    /// Hash locks.
    Locks,
    /// Receives by the older protocol.
    Older,
    /// Leaf swaps.
    Swaps,
    /// Cooperative exits.
    Exits,
    /// Settings.
    Settings,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Coins,
        Self::Outputs,
        Self::Payments,
        Self::Steps,
        Self::Renewals,
        Self::Locks,
        Self::Older,
        Self::Swaps,
        Self::Exits,
        Self::Settings,
    ];

    /// What runs are about: families with many stages more often.
    const THEMES: [Self; 19] = [
        Self::Outputs,
        Self::Outputs,
        Self::Outputs,
        Self::Outputs,
        Self::Outputs,
        Self::Exits,
        Self::Exits,
        Self::Exits,
        Self::Swaps,
        Self::Swaps,
        Self::Swaps,
        Self::Locks,
        Self::Locks,
        Self::Older,
        Self::Older,
        Self::Steps,
        Self::Steps,
        Self::Steps,
        Self::Coins,
    ];
}

/// The weight of what a run is about.
const THEME: u8 = 6;

/// How often wallets do what: a run is about few families, so that these get through their stages.
#[derive(Clone, Copy, Debug)]
pub struct Weights([u8; Family::ALL.len()]);

impl Weights {
    fn draw(rng: &mut ChaCha20Rng, aged: bool) -> Self {
        let mut weights = [0; Family::ALL.len()];
        let mut add = |family: Family, weight: u8| weights[family as usize] += weight;
        for _ in 0..rng.gen_range(1..=2) {
            let theme = *Family::THEMES.choose(rng).unwrap_or(&Family::Payments);
            add(theme, THEME);
        }
        for family in Family::ALL {
            if rng.gen_ratio(1, 5) {
                add(family, 1);
            }
        }
        // Whatever happens to leaves, they also move.
        add(Family::Payments, rng.gen_range(0..3));
        if aged {
            add(Family::Renewals, 8);
            weights[Family::Coins as usize] = 0;
        } else {
            weights[Family::Renewals as usize] = 0;
        }
        Self(weights)
    }

    /// True if it is what a run is about.
    const fn is_about(&self, family: Family) -> bool {
        self.0[family as usize] >= THEME
    }

    /// True if wallets of a run do this at all.
    pub(super) const fn has(&self, family: Family) -> bool {
        self.0[family as usize] > 0
    }

    pub(super) fn pick(&self, rng: &mut ChaCha20Rng) -> Family {
        Family::ALL
            .choose_weighted(rng, |family| self.0[*family as usize])
            .copied()
            .unwrap_or(Family::Payments)
    }
}
