//! Numbers of advisory locks. Processes of different releases may share a schema, so how they are
//! computed never changes.

use std::collections::BTreeSet;

use tinderbox_flows::record::Key;

/// FNV-1a: the same everywhere, and good enough to spread keys.
fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The upper or lower half, as PostgreSQL's signed number.
fn half(hash: u64, shift: u32) -> i32 {
    let [a, b, c, d, ..] = (hash << shift).to_be_bytes();
    i32::from_be_bytes([a, b, c, d])
}

/// The lock under which a schema is made and migrated.
pub(super) fn migration(schema: &str) -> i64 {
    i64::from_be_bytes(hash(&[b"tinderbox migration ", schema.as_bytes()]).to_be_bytes())
}

/// The class of the locks of a schema.
pub(super) fn class(schema: &str) -> i32 {
    half(hash(&[b"tinderbox rows ", schema.as_bytes()]), 0)
}

/// Locks of rows that are expected to be absent, in the order in which everybody takes them. Two
/// rows may have the same lock; that costs a wait and nothing else.
pub(super) fn absent<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Vec<i32> {
    let locks: BTreeSet<i32> = keys
        .into_iter()
        .map(|key| half(hash(&[&[key.table.number()], &key.id]), 32))
        .collect();
    locks.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use tinderbox_flows::record::Table;

    use super::*;

    #[test]
    fn lock_numbers_are_the_same_in_every_release() {
        assert_eq!(hash(&[b""]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(&[b"foo", b"bar"]), 0x8594_4171_f739_67e8);
        let key = Key::new(Table::Flow, *b"a");
        assert_eq!(absent([&key, &key]).len(), 1);
    }
}
