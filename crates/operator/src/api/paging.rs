//! Limits and offsets.

use tinderbox_flows::refusal::Refusal;

use crate::convert::field::malformed;

/// Rows on a page at most.
pub const MAX_PAGE: usize = 100;

/// Where a page begins and how long it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Rows to skip.
    pub offset: usize,
    /// Rows on the page at most.
    pub limit: usize,
}

impl Page {
    /// Reads the numbers of a request. No limit, or one that is too large, means the largest page.
    ///
    /// # Errors
    /// A refusal if a number is negative.
    pub fn read(limit: i64, offset: i64) -> Result<Self, Refusal> {
        let natural = |field, value: i64| {
            usize::try_from(value).map_err(|_| malformed(field, "must not be negative"))
        };
        let limit = natural("limit", limit)?;
        Ok(Self {
            offset: natural("offset", offset)?,
            limit: match limit {
                0 => MAX_PAGE,
                given => given.min(MAX_PAGE),
            },
        })
    }

    /// Rows that must be looked at to fill the page.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.offset.saturating_add(self.limit)
    }

    /// This page of all `rows`.
    #[must_use]
    pub fn of<T>(&self, rows: impl IntoIterator<Item = T>) -> Vec<T> {
        rows.into_iter()
            .skip(self.offset)
            .take(self.limit)
            .collect()
    }

    /// The offset to answer after a page of `found` rows: where the next one begins if this one
    /// is full, else −1. Wallets ask as long as it is not negative.
    #[must_use]
    pub fn next_if_full(&self, found: usize) -> i64 {
        if found >= self.limit { self.next() } else { -1 }
    }

    /// The offset to answer if it is known whether there is `more`.
    #[must_use]
    pub fn next_if(&self, more: bool) -> i64 {
        if more { self.next() } else { -1 }
    }

    fn next(&self) -> i64 {
        i64::try_from(self.end()).unwrap_or(-1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_excessive_limits_give_the_largest_page() {
        assert_eq!(Page::read(0, 0).unwrap().limit, 100);
        assert_eq!(Page::read(101, 0).unwrap().limit, 100);
        assert_eq!(
            Page::read(7, 3).unwrap(),
            Page {
                offset: 3,
                limit: 7
            }
        );
    }

    #[test]
    fn negative_numbers_are_refused_by_name() {
        assert!(Page::read(-1, 0).unwrap_err().message.contains("limit"));
        assert!(Page::read(0, -1).unwrap_err().message.contains("offset"));
        assert!(Page::read(0, i64::MIN).is_err());
    }

    #[test]
    fn walking_all_pages_shows_every_row_once_and_ends() {
        for count in [0usize, 1, 4, 5, 10, 11] {
            let (mut seen, mut offset) = (Vec::new(), 0);
            loop {
                let page = Page::read(5, offset).unwrap();
                let rows = page.of(0..count);
                offset = page.next_if_full(rows.len());
                seen.extend(rows);
                if offset < 0 {
                    break;
                }
            }
            assert_eq!(seen, (0..count).collect::<Vec<_>>(), "{count}");
        }
    }

    #[test]
    fn offset_beyond_the_end_gives_an_empty_last_page() {
        let page = Page::read(5, 1_000_000).unwrap();
        assert!(page.of(0..3).is_empty());
        assert_eq!(page.next_if_full(0), -1);
        assert_eq!(Page::read(0, i64::MAX).unwrap().next_if_full(0), -1);
    }
}
