//! What is done to the network meanwhile.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tinderbox_chain::Rpc;
use tinderbox_protocol::BlockHeight;

use super::memory::Memory;
use super::report::Counts;
use super::{ChainTurn, Soak};
use crate::{DevNet, Error, Result};

/// Between two looks at the clock and at the operators' memory.
const LOOK: Duration = Duration::from_millis(500);

/// Kills, restarts and reorganisations, each in a rhythm of its own.
pub(super) struct Weather<'a> {
    soak: &'a Soak,
    begun: Instant,
    rng: StdRng,
    counts: Counts,
}

impl<'a> Weather<'a> {
    pub(super) fn new(soak: &'a Soak, begun: Instant) -> Self {
        Self {
            soak,
            begun,
            rng: StdRng::seed_from_u64(soak.seed),
            counts: Counts::default(),
        }
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    fn soon(&mut self, from: u64, to: u64) -> Instant {
        Instant::now() + Duration::from_millis(self.rng.gen_range(from * 1000..to * 1000))
    }

    async fn rest(&mut self, milliseconds: u64) {
        let rest = self.rng.gen_range(0..=milliseconds);
        tokio::time::sleep(Duration::from_millis(rest)).await;
    }

    /// Blows for as long as the run is to take.
    pub(super) async fn blow(
        &mut self,
        net: &mut DevNet,
        rpc: &Rpc,
        chain: &ChainTurn,
        memory: &Memory,
    ) -> Result<()> {
        let mut kill = self.soon(4, 8);
        let mut reorganise = self.soon(10, 25);
        let mut restart = self.soon(15, 40);
        while self.begun.elapsed() < self.soak.length {
            tokio::time::sleep(LOOK).await;
            memory.look(net);
            if Instant::now() >= kill {
                self.kill(net).await?;
                kill = self.soon(6, 20);
            }
            if Instant::now() >= reorganise {
                self.reorganise(rpc, chain).await?;
                reorganise = self.soon(20, 60);
            }
            if Instant::now() >= restart {
                self.restart_database(net).await?;
                restart = self.soon(60, 120);
            }
        }
        Ok(())
    }

    /// One operator mostly, now and then several, or all of them at once; some again while they
    /// start.
    async fn kill(&mut self, net: &mut DevNet) -> Result<()> {
        let operators = self.soak.operators;
        let mut victims: Vec<u16> = (0..operators).collect();
        // Operator 0 is left alone in the second half, so that its memory is seen over a long time.
        let late = self.begun.elapsed() > self.soak.length / 2;
        if late {
            victims.retain(|index| *index != 0);
        }
        victims.shuffle(&mut self.rng);
        let all = victims.len();
        victims.truncate(match self.rng.gen_range(0..8) {
            0..5 => 1,
            5..7 => 2,
            _ => all,
        });
        for victim in &victims {
            net.kill(*victim).await;
            self.counts.kills += 1;
        }
        self.counts.blackouts += u64::from(victims.len() == usize::from(operators));
        self.rest(2000).await;
        for victim in &victims {
            net.restart(*victim)?;
        }
        if let Some(victim) = victims.first()
            && self.rng.gen_bool(0.2)
        {
            self.rest(800).await;
            net.kill(*victim).await;
            self.counts.kills += 1;
            net.restart(*victim)?;
        }
        net.ready().await
    }

    /// The last blocks never were; others take their place, with one more.
    async fn reorganise(&mut self, rpc: &Rpc, chain: &ChainTurn) -> Result<()> {
        let _turn = chain.lock().await;
        let depth = self.rng.gen_range(1..=6u32);
        let tip = rpc.best_block().await?;
        let height = BlockHeight(tip.height.0.saturating_sub(depth - 1));
        let Some(hash) = rpc.block_hash(height).await? else {
            return Ok(());
        };
        rpc.invalidate_block(&hash).await?;
        // Paid to somebody else: blocks like those that were refused would be refused again.
        let address = super::nobody(&mut self.rng);
        rpc.generate_to_address(depth + 1, &address).await?;
        self.counts.reorganisations += 1;
        self.counts.deepest = self.counts.deepest.max(depth);
        Ok(())
    }

    async fn restart_database(&mut self, net: &mut DevNet) -> Result<()> {
        let Some(command) = &self.soak.restart_database else {
            return Ok(());
        };
        let ended = tokio::process::Command::new("sh")
            .args(["-c", command])
            .stdout(std::process::Stdio::null())
            .status()
            .await;
        match ended {
            Ok(status) if status.success() => {}
            other => {
                return Err(Error::Found(format!(
                    "the command that restarts the database failed ({other:?}): {command}"
                )));
            }
        }
        self.counts.database_restarts += 1;
        // An operator that could not live without its database would be seen here.
        net.ready().await
    }
}
