//! The in-memory backend: the common claims, and the faults that it can play.

use std::sync::{Arc, Mutex};

use tinderbox_store::suite::backend::InMemory;
use tinderbox_store::suite::make::{batch, get, node, pass, put, stored};
use tinderbox_store::{Fault, Memory, Store, StoreError};

mod conformance {
    use super::InMemory;

    tinderbox_store::conformance!(Some(InMemory));
}

#[tokio::test]
async fn batch_that_fails_before_is_not_there() {
    let store = Memory::new();
    store.on_apply(|_| Fault::FailBefore);
    let before = store.digest();
    let outcome = store.apply(batch([put(&node("leaf"), 0, "a")])).await;
    assert!(matches!(outcome, Err(StoreError::Database(_))));
    assert_eq!(store.digest(), before);
}

#[tokio::test]
async fn batch_with_a_lost_acknowledgement_is_there() {
    let store = Memory::new();
    store.on_apply(|_| Fault::LoseAcknowledgement);
    let outcome = store.apply(batch([put(&node("leaf"), 0, "a")])).await;
    assert!(matches!(outcome, Err(StoreError::Database(_))));
    let reopened = store.reopen();
    assert_eq!(get(&reopened, &node("leaf")).await, stored(1, "a"));
}

#[tokio::test]
async fn hook_sees_every_batch_and_ends_with_the_restart() {
    let store = Memory::new();
    let seen = Arc::new(Mutex::new(0));
    let count = Arc::clone(&seen);
    store.on_apply(move |batch| {
        *count.lock().unwrap() += batch.writes.len();
        Fault::None
    });
    pass(&store.clone(), batch([put(&node("a"), 0, "")])).await;
    pass(
        &store,
        batch([put(&node("b"), 0, ""), put(&node("c"), 0, "")]),
    )
    .await;
    assert_eq!(*seen.lock().unwrap(), 3);
    pass(&store.reopen(), batch([put(&node("d"), 0, "")])).await;
    assert_eq!(*seen.lock().unwrap(), 3);
}

#[tokio::test]
async fn handle_from_before_a_restart_is_cut_off() {
    let old = Memory::new();
    pass(&old, batch([put(&node("leaf"), 0, "a")])).await;
    let new = old.reopen();
    let late = old.apply(batch([put(&node("leaf"), 1, "b")])).await;
    assert!(matches!(late, Err(StoreError::Database(_))));
    assert!(old.get(&[node("leaf")]).await.is_err());
    assert_eq!(get(&new, &node("leaf")).await, stored(1, "a"));
}

#[tokio::test]
async fn crash_in_the_middle_of_an_apply_can_be_played() {
    let store = Memory::new();
    let (handle, reopened) = (store.clone(), Arc::new(Mutex::new(None)));
    let after = Arc::clone(&reopened);
    store.on_apply(move |_| {
        *after.lock().unwrap() = Some(handle.reopen());
        Fault::None
    });
    let outcome = store.apply(batch([put(&node("leaf"), 0, "a")])).await;
    assert!(matches!(outcome, Err(StoreError::Database(_))));
    let reopened = reopened.lock().unwrap().take().unwrap();
    assert!(reopened.contents().is_empty());
}

#[tokio::test]
async fn digest_tells_contents_apart_and_a_fork_lives_on_its_own() {
    let store = Memory::new();
    let empty = store.digest();
    pass(&store, batch([put(&node("leaf"), 0, "a")])).await;
    let one = store.digest();
    let fork = store.fork();
    assert_ne!(empty, one);
    assert_eq!(fork.digest(), one);
    pass(&store, batch([put(&node("leaf"), 1, "a")])).await;
    assert_ne!(store.digest(), one, "the version is part of it");
    assert_eq!(fork.digest(), one);
}
