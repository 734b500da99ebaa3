use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::FileExt;

use bitcoin::secp256k1::{SECP256K1, SecretKey};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn key(byte: u8) -> PublicKey {
    SecretKey::from_slice(&[byte; 32])
        .unwrap()
        .public_key(SECP256K1)
}

struct Fixture {
    folder: TempDir,
    vault: Option<Vault>,
}

impl Fixture {
    fn new() -> Self {
        let mut fixture = Self {
            folder: tempfile::tempdir().unwrap(),
            vault: None,
        };
        fixture.reopen();
        fixture
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("vault")
    }

    fn reopen(&mut self) {
        self.vault = None;
        self.vault = Some(Vault::open(&self.path(), &key(1)).unwrap());
    }

    fn vault(&self) -> &Vault {
        self.vault.as_ref().unwrap()
    }

    fn insert(&self, kind: Kind, tag: [u8; 16], secret: [u8; 32]) -> SlotRef {
        let (mut table, flusher) = self.vault().table().unwrap();
        table
            .insert(kind, tag, [0; 32], &secret, 100, flusher)
            .unwrap()
    }

    fn file(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    fn contains(&self, secret: &[u8; 32]) -> bool {
        self.file().windows(32).any(|part| part == secret)
    }
}

fn text<T>(result: Result<T, SignerError>) -> String {
    result.err().unwrap().to_string()
}

#[test]
fn a_vault_opens_once_at_a_time() {
    let mut fixture = Fixture::new();
    let error = text(Vault::open(&fixture.path(), &key(1)));
    assert!(error.contains("in use by another signer"), "{error}");
    fixture.reopen();
}

#[test]
fn a_vault_of_another_operator_is_refused() {
    let mut fixture = Fixture::new();
    fixture.vault = None;
    let error = text(Vault::open(&fixture.path(), &key(2)));
    assert!(error.contains("belongs to operator"), "{error}");
    fixture.reopen();
}

#[test]
fn what_is_not_a_vault_is_refused() {
    let mut fixture = Fixture::new();
    let good = fixture.file();
    fixture.vault = None;
    let mut cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![0; 4096], "is not a signer's vault"),
        (good[..100].to_vec(), "cannot open"),
        (Vec::new(), "cannot open"),
    ];
    let mut newer = good.clone();
    newer[11] = 9;
    cases.push((newer, "has format 9"));
    for place in [20, 40, 100] {
        let mut damaged = good.clone();
        damaged[place] ^= 1;
        cases.push((damaged, "header"));
    }
    for (bytes, expected) in cases {
        std::fs::write(fixture.path(), bytes).unwrap();
        let error = text(Vault::open(&fixture.path(), &key(1)));
        assert!(error.contains(expected), "{error}");
    }
    std::fs::write(fixture.path(), good).unwrap();
    fixture.reopen();
}

#[test]
fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let mode = std::fs::metadata(fixture.path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_destroyed_secret_is_nowhere_in_the_file_and_its_place_never_opens_again() {
    let mut fixture = Fixture::new();
    let secret = [0xab; 32];
    let place = fixture.insert(Kind::Seal, [1; 16], secret);
    assert!(fixture.contains(&secret));
    {
        let (mut table, flusher) = fixture.vault().table().unwrap();
        assert_eq!(*table.seal(place).unwrap().unwrap().secret, secret);
        table.destroy(place.at, flusher).unwrap();
        assert!(table.seal(place).unwrap().is_none());
    }
    assert!(!fixture.contains(&secret));
    let again = fixture.insert(Kind::Seal, [1; 16], [0xcd; 32]);
    assert_eq!(again.at, place.at);
    assert!(again.generation > place.generation);
    fixture.reopen();
    let (table, _) = fixture.vault().table().unwrap();
    assert!(table.seal(place).unwrap().is_none());
    assert_eq!(*table.seal(again).unwrap().unwrap().secret, [0xcd; 32]);
}

#[test]
fn a_torn_slot_is_noticed_never_opened_and_never_reused() {
    let mut fixture = Fixture::new();
    let torn = fixture.insert(Kind::Seal, [1; 16], [1; 32]);
    let whole = fixture.insert(Kind::Seal, [2; 16], [2; 32]);
    let tag = [3; 16];
    let nonce = fixture.insert(Kind::Nonce, tag, [3; 32]);
    fixture.vault = None;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(fixture.path())
        .unwrap();
    for place in [torn, nonce] {
        let offset = 4096 + 128 * u64::from(place.at) + 90;
        file.write_all_at(&[0xff; 20], offset).unwrap();
    }
    fixture.reopen();
    {
        let (table, _) = fixture.vault().table().unwrap();
        assert_eq!(table.count().damaged, 2);
        assert!(text(table.seal(torn)).contains("is damaged"));
        assert!(table.nonce(&tag).unwrap().is_none());
        assert!(table.seal(whole).unwrap().is_some());
    }
    for number in 0..20 {
        let place = fixture.insert(Kind::Nonce, [100 + number; 16], [0; 32]);
        assert!(place.at != torn.at && place.at != nonce.at);
    }
    {
        let (mut table, flusher) = fixture.vault().table().unwrap();
        table.scrub(torn, flusher).unwrap();
        assert!(table.seal(torn).unwrap().is_none());
        assert_eq!(table.count().damaged, 1);
    }
    fixture.reopen();
    assert_eq!(fixture.vault().table().unwrap().0.count().damaged, 1);
}

#[tokio::test]
async fn one_sync_serves_everybody_who_waits() {
    let fixture = Fixture::new();
    let vault = fixture.vault();
    let mut tickets = Vec::new();
    for number in 0..200u32 {
        let tag = u128::from(number).to_be_bytes();
        fixture.insert(Kind::Nonce, tag, [1; 32]);
        tickets.push(vault.ticket());
    }
    let waiting = tickets.iter().map(|ticket| vault.durable(*ticket));
    for result in futures::future::join_all(waiting).await {
        result.unwrap();
    }
    assert!(vault.syncs() < 20, "{} syncs", vault.syncs());
    let before = vault.syncs();
    vault.durable(vault.ticket()).await.unwrap();
    assert_eq!(vault.syncs(), before);
}

#[tokio::test]
async fn what_nobody_waits_for_is_synced_all_the_same() {
    let fixture = Fixture::new();
    let vault = fixture.vault();
    vault.durable(vault.ticket()).await.unwrap();
    let before = vault.syncs();
    fixture.insert(Kind::Nonce, [1; 16], [1; 32]);
    let synced = async {
        while vault.syncs() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), synced)
        .await
        .unwrap();
}

type Secret = [u8; 32];
type Bound = Option<[u8; 32]>;

/// What a vault should hold.
#[derive(Default)]
struct Model {
    seals: HashMap<(u32, u64), ([u8; 16], [u8; 32])>,
    nonces: BTreeMap<[u8; 16], (Secret, Bound)>,
    destroyed: Vec<[u8; 32]>,
    dead: Vec<SlotRef>,
}

impl Model {
    fn check(&self, fixture: &Fixture) {
        let (table, _) = fixture.vault().table().unwrap();
        for ((at, generation), (tag, secret)) in &self.seals {
            let place = SlotRef {
                at: *at,
                generation: *generation,
            };
            let slot = table.seal(place).unwrap().unwrap();
            assert_eq!((slot.tag, *slot.secret), (*tag, *secret));
            assert!(table.seals_of(tag).contains(at));
        }
        for (tag, (secret, bound)) in &self.nonces {
            let (_, slot) = table.nonce(tag).unwrap().unwrap();
            assert_eq!(*slot.secret, *secret);
            assert_eq!(slot.bound.then_some(slot.binding), *bound);
        }
        for place in &self.dead {
            assert!(table.seal(*place).unwrap().is_none());
        }
        let mut shares: HashMap<[u8; 16], usize> = HashMap::new();
        for (tag, _) in self.seals.values() {
            *shares.entry(*tag).or_default() += 1;
        }
        let mut unsettled: Vec<[u8; 16]> = shares
            .iter()
            .filter(|(_, count)| **count > 1)
            .map(|(tag, _)| *tag)
            .collect();
        unsettled.sort_unstable();
        assert_eq!(table.unsettled().copied().collect::<Vec<_>>(), unsettled);
        let count = table.count();
        assert_eq!(count.keyshares, shares.len());
        assert_eq!(count.nonces, self.nonces.len());
        assert_eq!(
            count.slots - count.free,
            self.seals.len() + self.nonces.len()
        );
        drop(table);
        let file = fixture.file();
        for secret in &self.destroyed {
            assert!(!file.windows(32).any(|part| part == secret));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is done in whatever order, with restarts anywhere, the vault holds exactly what
    /// it should, and nothing of what was destroyed.
    #[test]
    fn a_vault_holds_what_it_was_given_and_nothing_else(
        steps in prop::collection::vec((0u8..6, any::<u8>(), any::<[u8; 32]>()), 1..40),
    ) {
        let mut fixture = Fixture::new();
        let mut model = Model::default();
        for (number, (step, pick, secret)) in steps.into_iter().enumerate() {
            match step {
                0 => {
                    let tag = [pick % 4; 16];
                    let place = fixture.insert(Kind::Seal, tag, secret);
                    model.seals.insert((place.at, place.generation), (tag, secret));
                }
                1 => {
                    let tag = (number as u128 + 1000).to_be_bytes();
                    fixture.insert(Kind::Nonce, tag, secret);
                    model.nonces.insert(tag, (secret, None));
                }
                2 => {
                    let tags: Vec<_> = model.nonces.keys().copied().collect();
                    if let Some(tag) = tags.get(usize::from(pick) % tags.len().max(1)) {
                        let (mut table, flusher) = fixture.vault().table().unwrap();
                        let (at, slot) = table.nonce(tag).unwrap().unwrap();
                        table.bind(at, slot, secret, flusher).unwrap();
                        model.nonces.get_mut(tag).unwrap().1 = Some(secret);
                    }
                }
                3 => {
                    let tags: Vec<_> = model.nonces.keys().copied().collect();
                    if let Some(tag) = tags.get(usize::from(pick) % tags.len().max(1)) {
                        let (mut table, flusher) = fixture.vault().table().unwrap();
                        let (at, _) = table.nonce(tag).unwrap().unwrap();
                        table.destroy(at, flusher).unwrap();
                        model.destroyed.push(model.nonces.remove(tag).unwrap().0);
                    }
                }
                4 => {
                    let mut places: Vec<_> = model.seals.keys().copied().collect();
                    places.sort_unstable();
                    if let Some(place) = places.get(usize::from(pick) % places.len().max(1)) {
                        let (mut table, flusher) = fixture.vault().table().unwrap();
                        table.destroy(place.0, flusher).unwrap();
                        model.destroyed.push(model.seals.remove(place).unwrap().1);
                        model.dead.push(SlotRef { at: place.0, generation: place.1 });
                    }
                }
                _ => fixture.reopen(),
            }
        }
        model.check(&fixture);
        fixture.reopen();
        model.check(&fixture);
    }
}

/// The figure itself is the bench's; this one fails if opening stops being linear.
#[test]
fn a_vault_of_200_000_slots_opens_within_seconds() {
    let mut fixture = Fixture::new();
    {
        let (mut table, flusher) = fixture.vault().table().unwrap();
        for number in 0..200_000u32 {
            let tag = (u128::from(number) << 64 | 7).to_be_bytes();
            let kind = if number % 2 == 0 {
                Kind::Seal
            } else {
                Kind::Nonce
            };
            table
                .insert(kind, tag, [0; 32], &[9; 32], 5, flusher)
                .unwrap();
        }
    }
    let begun = std::time::Instant::now();
    fixture.reopen();
    let took = begun.elapsed();
    let count = fixture.vault().table().unwrap().0.count();
    assert_eq!((count.keyshares, count.nonces), (100_000, 100_000));
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
}
