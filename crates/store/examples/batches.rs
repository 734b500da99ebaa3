//! Measures batches per second: many writers, each with leaves of its own, each batch with one new
//! row, two updates that move an index entry, and a guard on a row that all share.
//!
//! `cargo run -p tinderbox-store --example batches -- DATABASE [WRITERS] [SECONDS]`, with DATABASE
//! as in an operator's configuration, `sqlite:PATH` or `postgres://…?schema=…`. The tables should be
//! empty.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tinderbox_flows::record::{Batch, Index, IndexKey, Key, Table, Write};
use tinderbox_store::{Database, Store, StoreError, open};

/// About what a leaf's row has.
const BODY: usize = 700;

fn write(key: Key, expected: u64, sorts: Option<(&[u8], &[u8])>) -> Write {
    let entry = |sort: &[u8]| IndexKey::new(Index::NodeByOwner, &[sort, &key.id]);
    let (unlist, list) = match sorts {
        Some((old, new)) => (vec![entry(old)], vec![entry(new)]),
        None => (vec![], vec![]),
    };
    Write {
        expected,
        body: Some(vec![expected.to_le_bytes()[0]; BODY]),
        unlist,
        list,
        key,
    }
}

async fn work(
    store: Arc<dyn Store>,
    writer: u32,
    until: Instant,
    guard: (Key, u64),
) -> Result<Vec<Duration>, StoreError> {
    let leaf = |number: u8| Key::new(Table::Node, [&writer.to_be_bytes()[..], &[number]].concat());
    let mut took = Vec::new();
    let mut version = 0_u64;
    while Instant::now() < until {
        let (old, new) = (version.to_be_bytes(), (version + 1).to_be_bytes());
        let flow = Key::new(Table::Flow, [&writer.to_be_bytes()[..], &new].concat());
        let batch = Batch {
            guards: vec![guard.clone()],
            writes: vec![
                write(flow, 0, None),
                write(leaf(0), version, Some((&old, &new))),
                write(leaf(1), version, Some((&old, &new))),
            ],
        };
        let began = Instant::now();
        store.apply(batch).await?;
        took.push(began.elapsed());
        version += 1;
    }
    Ok(took)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let database: Database = arguments
        .next()
        .ok_or(
            "give a database: sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/NAME?schema=NAME",
        )?
        .parse()?;
    let writers: u32 = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let store = open(&database).await?;
    let tip = Key::new(Table::Chain, *b"tip");
    let first = Batch {
        guards: vec![],
        writes: vec![write(tip.clone(), 0, None)],
    };
    store.apply(first).await?;
    let before = store.counters();
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..writers)
        .map(|writer| tokio::spawn(work(Arc::clone(&store), writer, until, (tip.clone(), 1))))
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    let elapsed = began.elapsed().as_secs_f64();
    let after = store.counters();
    took.sort();
    let at = |percent: usize| {
        took.get(took.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    let batches = (after.batches - before.batches) as f64;
    println!("{database}: {writers} writers, {elapsed:.1} s");
    println!("batches/s            {:.0}", batches / elapsed);
    println!("latency p50 / p99    {:.2?} / {:.2?}", at(50), at(99));
    println!(
        "batches per commit   {:.1}",
        batches / (after.commits - before.commits) as f64
    );
    println!(
        "statements per batch {:.2}",
        (after.statements - before.statements) as f64 / batches
    );
    Ok(())
}
