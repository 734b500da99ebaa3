//! Ranges of an index.

use tinderbox_flows::record::{Index, Key, Stored};

/// A range of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Which index.
    pub index: Index,
    /// First sort key, inclusive.
    pub from: Vec<u8>,
    /// Last sort key, exclusive; empty: to the end of the index.
    pub to: Vec<u8>,
    /// True: from the highest sort key down.
    pub descending: bool,
    /// How many entries at most.
    pub limit: usize,
}

impl Scan {
    /// All entries of an index, ascending.
    #[must_use]
    pub fn all(index: Index) -> Self {
        Self::prefix(index, &[])
    }

    /// All entries whose sort key begins with `prefix`, ascending.
    #[must_use]
    pub fn prefix(index: Index, prefix: &[u8]) -> Self {
        Self::range(index, prefix.to_vec(), successor(prefix))
    }

    /// All entries from sort key `from` (inclusive) to `to` (exclusive; empty: to the end),
    /// ascending.
    #[must_use]
    pub fn range(index: Index, from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) -> Self {
        Self {
            index,
            from: from.into(),
            to: to.into(),
            descending: false,
            limit: usize::MAX,
        }
    }

    /// The same range from its end.
    #[must_use]
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// At most `limit` entries of it.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// True if no entry can be in it.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.limit == 0 || (!self.to.is_empty() && self.from >= self.to)
    }
}

/// The lowest byte string that is greater than everything that begins with `prefix`; empty if
/// there is none.
#[must_use]
pub fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if let Some(more) = last.checked_add(1) {
            next.push(more);
            break;
        }
    }
    next
}

/// A row found through an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The sort key under which it is listed.
    pub listed: Vec<u8>,
    /// The row's key.
    pub key: Key,
    /// The row.
    pub stored: Stored,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successor_carries_and_ends() {
        assert_eq!(successor(b"ab"), b"ac");
        assert_eq!(successor(&[1, 0xff, 0xff]), [2]);
        assert!(successor(&[0xff, 0xff]).is_empty());
        assert!(successor(&[]).is_empty());
    }

    #[test]
    fn upside_down_range_is_empty() {
        let scan = |from: &[u8], to: &[u8]| Scan::range(Index::NodeByOwner, from, to);
        assert!(scan(b"b", b"a").is_empty());
        assert!(scan(b"a", b"a").is_empty());
        assert!(!scan(b"b", b"").is_empty());
        assert!(Scan::all(Index::NodeByOwner).limit(0).is_empty());
    }
}
