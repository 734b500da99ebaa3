use std::collections::VecDeque;

use bitcoin::BlockHash;
use tinderbox_protocol::BlockHeight;

use super::ChainEvent;
use crate::source::BlockRef;

/// How many of the last blocks are remembered: reorganisations up to this depth are followed. Coinbases
/// mature after 100 blocks, so nothing in the network expects a deeper one.
pub const WINDOW: usize = 144;
const _: () = assert!(WINDOW >= 100);

/// The last applied blocks, lowest first, without gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    blocks: VecDeque<BlockRef>,
}

impl Window {
    /// From stored rows in any order. Rows below a gap are left out: they can prove nothing.
    pub fn from_rows(rows: impl IntoIterator<Item = BlockRef>) -> Self {
        let mut rows = rows.into_iter().collect::<Vec<_>>();
        rows.sort_by_key(|row| std::cmp::Reverse(row.height.0));
        let mut blocks = VecDeque::new();
        for row in rows {
            match blocks.front() {
                Some(BlockRef { height, .. }) if row.height.0.checked_add(1) != Some(height.0) => {
                    break;
                }
                _ => blocks.push_front(row),
            }
        }
        Self { blocks }
    }

    /// The last applied block.
    pub fn tip(&self) -> Option<BlockRef> {
        self.blocks.back().copied()
    }

    /// The lowest block that is remembered.
    pub fn oldest(&self) -> Option<BlockRef> {
        self.blocks.front().copied()
    }

    /// How many blocks are remembered.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether nothing was ever applied.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The remembered blocks, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = &BlockRef> {
        self.blocks.iter()
    }

    /// Follows an event. What falls out at the lower end is forgotten.
    pub fn apply(&mut self, event: &ChainEvent) {
        match event {
            ChainEvent::Connected(blocks) => {
                self.blocks.extend(blocks.iter().map(|block| block.at));
                while self.blocks.len() > WINDOW {
                    self.blocks.pop_front();
                }
            }
            ChainEvent::Disconnected { to, .. } => {
                while self.tip().is_some_and(|tip| tip.height.0 > to.height.0) {
                    self.blocks.pop_back();
                }
            }
        }
    }

    /// Compares with the node's hashes from [`Window::oldest`] on: what must be undone to reach the last common
    /// block. `Err(())` if no block is common, `Ok(None)` if nothing must be undone.
    #[allow(clippy::result_unit_err)]
    pub fn diverges(&self, node: &[BlockHash]) -> Result<Option<ChainEvent>, ()> {
        let common = self
            .blocks
            .iter()
            .zip(node)
            .take_while(|(ours, theirs)| ours.hash == **theirs)
            .count();
        if common == self.blocks.len() {
            return Ok(None);
        }
        let Some(to) = common.checked_sub(1).and_then(|last| self.blocks.get(last)) else {
            return Err(());
        };
        let removed = self.blocks.iter().skip(common).copied().collect();
        Ok(Some(ChainEvent::Disconnected { to: *to, removed }))
    }

    /// The height after the tip, or `start` if nothing was ever applied.
    pub fn next_height(&self, start: BlockHeight) -> BlockHeight {
        self.tip()
            .map_or(start, |tip| BlockHeight(tip.height.0.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    fn block(height: u32, tag: u8) -> BlockRef {
        let mut bytes = [tag; 32];
        bytes[..4].copy_from_slice(&height.to_be_bytes());
        BlockRef {
            height: BlockHeight(height),
            hash: BlockHash::from_byte_array(bytes),
        }
    }

    fn hashes(blocks: &[BlockRef]) -> Vec<BlockHash> {
        blocks.iter().map(|b| b.hash).collect()
    }

    #[test]
    fn rows_below_a_gap_are_forgotten() {
        let window = Window::from_rows([block(9, 0), block(4, 0), block(8, 0), block(10, 0)]);
        assert_eq!(window.oldest(), Some(block(8, 0)));
        assert_eq!(window.tip(), Some(block(10, 0)));
    }

    #[test]
    fn equal_chains_do_not_diverge() {
        let window = Window::from_rows([block(1, 0), block(2, 0)]);
        assert_eq!(
            window.diverges(&hashes(&[block(1, 0), block(2, 0), block(3, 0)])),
            Ok(None)
        );
    }

    #[test]
    fn a_shorter_node_chain_undoes_the_rest() {
        let mut window = Window::from_rows([block(1, 0), block(2, 0), block(3, 0)]);
        let event = window.diverges(&hashes(&[block(1, 0)])).unwrap().unwrap();
        assert_eq!(
            event,
            ChainEvent::Disconnected {
                to: block(1, 0),
                removed: vec![block(2, 0), block(3, 0)]
            }
        );
        window.apply(&event);
        assert_eq!(window.tip(), Some(block(1, 0)));
    }

    #[test]
    fn a_fork_undoes_down_to_the_last_common_block() {
        let window = Window::from_rows([block(1, 0), block(2, 0), block(3, 0)]);
        let event = window.diverges(&hashes(&[
            block(1, 0),
            block(2, 7),
            block(3, 7),
            block(4, 7),
        ]));
        assert_eq!(
            event,
            Ok(Some(ChainEvent::Disconnected {
                to: block(1, 0),
                removed: vec![block(2, 0), block(3, 0)]
            }))
        );
    }

    #[test]
    fn nothing_in_common_is_refused() {
        let window = Window::from_rows([block(1, 0), block(2, 0)]);
        assert_eq!(
            window.diverges(&hashes(&[block(1, 9), block(2, 9)])),
            Err(())
        );
        assert_eq!(window.diverges(&[]), Err(()));
    }
}
