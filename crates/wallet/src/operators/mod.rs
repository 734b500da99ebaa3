//! Connections to the operators.
//!
//! [`Operators`] holds one lazy connection per operator and logs in to each of them when it is
//! first needed: sessions are per operator. A session that the operator no longer accepts is
//! renewed once and the call repeated.

mod clock;
mod connection;
mod session;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::future::join_all;
use tinderbox_frost::OperatorIndex;

pub(crate) use connection::{Client, Operator};
pub(crate) use stream::{Event, Events};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::signer::WalletSigner;

/// The operators of a network.
pub(crate) struct Operators {
    list: Vec<Arc<Operator>>,
    coordinator: Arc<Operator>,
    threshold: u16,
}

impl Operators {
    /// Prepares connections; nothing is dialled yet.
    pub(crate) fn new(config: &Config, signer: &Arc<dyn WalletSigner>) -> Result<Self> {
        let list = config
            .operators
            .iter()
            .map(|operator| Operator::new(operator, config, signer.clone()).map(Arc::new))
            .collect::<Result<Vec<_>>>()?;
        let coordinator = list
            .get(usize::from(config.coordinator))
            .cloned()
            .ok_or_else(|| Error::Config {
                what: format!("there is no operator {}", config.coordinator),
            })?;
        Ok(Self {
            list,
            coordinator,
            threshold: config.threshold,
        })
    }

    /// The one that requests go to.
    pub(crate) fn coordinator(&self) -> &Arc<Operator> {
        &self.coordinator
    }

    /// All of them, by index.
    pub(crate) fn all(&self) -> &[Arc<Operator>] {
        &self.list
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u16 {
        u16::try_from(self.list.len()).unwrap_or(u16::MAX)
    }

    /// How many of them sign.
    pub(crate) const fn threshold(&self) -> u16 {
        self.threshold
    }

    /// More than half.
    pub(crate) fn majority(&self) -> usize {
        self.list.len() / 2 + 1
    }

    /// Asks every operator the same at once. The answers by operator; at least a majority of them, else an
    /// error.
    pub(crate) async fn ask_all<T, F, Fut>(&self, ask: F) -> Result<Vec<(OperatorIndex, T)>>
    where
        F: Fn(Arc<Operator>) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let replies = join_all(self.list.iter().map(|operator| ask(operator.clone()))).await;
        let mut answers = Vec::with_capacity(replies.len());
        let mut reasons = Vec::new();
        for (operator, reply) in self.list.iter().zip(replies) {
            match reply {
                Ok(answer) => answers.push((operator.index(), answer)),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        if answers.len() < self.majority() {
            return Err(Error::TooFewOperators {
                answered: answers.len(),
                asked: self.list.len(),
                needed: self.majority(),
                reasons: reasons.join("; "),
            });
        }
        for reason in reasons {
            tracing::warn!(%reason, "an operator did not answer");
        }
        Ok(answers)
    }
}
