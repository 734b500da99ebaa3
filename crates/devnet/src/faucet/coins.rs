//! Which coins the faucet can spend.

use std::collections::BTreeMap;

use bitcoin::{Amount, OutPoint};
use serde_json::json;

use super::{Error, Faucet, Result};

/// Blocks until a block reward can be spent.
pub(super) const MATURITY: u32 = 100;
/// Core takes chains of at most 25 unconfirmed transactions; stay below.
pub(super) const MAX_DEPTH: u32 = 20;

/// A coin of the faucet's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coin {
    pub(super) value: Amount,
    /// Unconfirmed transactions that lead to it, its own counted; 0 for a confirmed coin.
    pub(super) depth: u32,
}

/// The coins that are known to be unspent, change of unconfirmed payments included: the node's scan sees
/// confirmed outputs only.
#[derive(Debug, Default)]
pub(super) struct Coins {
    known: BTreeMap<OutPoint, Coin>,
}

impl Coins {
    pub(super) fn total(&self) -> Amount {
        self.known.values().map(|coin| coin.value).sum()
    }

    pub(super) fn count_of_at_least(&self, value: Amount) -> usize {
        self.known
            .values()
            .filter(|coin| coin.value >= value)
            .count()
    }

    pub(super) fn add(&mut self, outpoint: OutPoint, coin: Coin) {
        self.known.insert(outpoint, coin);
    }

    pub(super) fn remove(&mut self, outpoint: &OutPoint) {
        self.known.remove(outpoint);
    }

    /// Coins worth at least `amount`: one if possible, confirmed before unconfirmed, small before large.
    /// `cost` is what each further input adds. `None` if there are not enough.
    pub(super) fn choose(&self, amount: Amount, cost: Amount) -> Option<Vec<(OutPoint, Coin)>> {
        let usable = || self.known.iter().filter(|(_, coin)| coin.depth < MAX_DEPTH);
        let single = usable()
            .filter(|(_, coin)| coin.value >= amount)
            .min_by_key(|(_, c)| (c.depth, c.value));
        if let Some((outpoint, coin)) = single {
            return Some(vec![(*outpoint, *coin)]);
        }
        let mut largest = usable()
            .map(|(outpoint, coin)| (*outpoint, *coin))
            .collect::<Vec<_>>();
        largest.sort_by_key(|(_, coin)| (coin.depth, std::cmp::Reverse(coin.value)));
        let mut chosen = Vec::new();
        let mut sum = Amount::ZERO;
        let mut needed = amount;
        for (outpoint, coin) in largest {
            chosen.push((outpoint, coin));
            sum += coin.value;
            if sum >= needed {
                return Some(chosen);
            }
            needed += cost;
        }
        None
    }
}

impl Faucet {
    /// Reads the coins anew from the node: confirmed, mature, and not spent by an unconfirmed transaction.
    /// Unconfirmed change that is still good is kept.
    pub(super) async fn refresh(&self, coins: &mut Coins) -> Result<()> {
        let rpc = self.rpc();
        let scan = rpc.scan_tx_out_set(self.address()).await?;
        let mature = scan
            .unspents
            .iter()
            // It must be spendable in the next block.
            .filter(|out| !out.coinbase || scan.height + 1 >= out.height + MATURITY)
            .map(|out| {
                (
                    OutPoint {
                        txid: out.txid,
                        vout: out.vout,
                    },
                    Coin {
                        value: out.amount,
                        depth: 0,
                    },
                )
            });
        let mut candidates = coins.known.clone();
        candidates.extend(mature);
        let queries = candidates
            .keys()
            .map(|outpoint| json!([outpoint.txid, outpoint.vout, true]));
        let unspent = rpc.batch::<serde_json::Value>("gettxout", queries).await?;
        let mut fresh = BTreeMap::new();
        for ((outpoint, coin), unspent) in candidates.into_iter().zip(unspent) {
            if !unspent.map_err(Error::Chain)?.is_null() {
                fresh.insert(outpoint, coin);
            }
        }
        coins.known = fresh;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::Txid;
    use bitcoin::hashes::Hash;

    use super::*;

    fn coins(list: &[(u64, u32)]) -> Coins {
        let mut coins = Coins::default();
        for (vout, (value, depth)) in (0..).zip(list) {
            let outpoint = OutPoint {
                txid: Txid::all_zeros(),
                vout,
            };
            coins.add(
                outpoint,
                Coin {
                    value: Amount::from_sat(*value),
                    depth: *depth,
                },
            );
        }
        coins
    }

    fn chosen(coins: &Coins, amount: u64) -> Option<Vec<u64>> {
        let chosen = coins.choose(Amount::from_sat(amount), Amount::from_sat(10))?;
        Some(chosen.iter().map(|(_, coin)| coin.value.to_sat()).collect())
    }

    #[test]
    fn the_smallest_confirmed_coin_that_suffices_is_taken() {
        let coins = coins(&[(500, 0), (300, 0), (200, 3), (1000, 0)]);
        assert_eq!(chosen(&coins, 150), Some(vec![300]));
        assert_eq!(chosen(&coins, 301), Some(vec![500]));
    }

    #[test]
    fn several_coins_are_taken_when_one_does_not_suffice() {
        let coins = coins(&[(500, 0), (300, 0), (400, 0)]);
        assert_eq!(chosen(&coins, 800), Some(vec![500, 400]));
        // 900 is there, but the second input costs 10.
        assert_eq!(chosen(&coins, 895), Some(vec![500, 400, 300]));
        assert_eq!(chosen(&coins, 1200), None);
    }

    #[test]
    fn a_coin_at_the_end_of_a_long_unconfirmed_chain_is_not_taken() {
        let coins = coins(&[(500, MAX_DEPTH)]);
        assert_eq!(chosen(&coins, 100), None);
    }
}
