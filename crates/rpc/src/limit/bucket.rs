//! Token buckets for many keys in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much one key may ask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Requests that may come at once after a pause.
    pub burst: u32,
    /// Requests per second in the long run. Zero: only the burst, ever.
    pub per_second: f64,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Buckets in two generations. A key that asks moves to the young one; when that is full it
/// becomes the old one and the old one is forgotten. So memory is bounded, every step takes
/// constant time, and a key that keeps asking keeps its bucket whatever other keys do.
struct Generations<K> {
    young: HashMap<K, Bucket>,
    old: HashMap<K, Bucket>,
}

/// A token bucket for each of at most `capacity` keys.
pub struct RateLimiter<K> {
    rate: Rate,
    half: usize,
    buckets: Mutex<Generations<K>>,
}

impl<K: Hash + Eq + Clone> RateLimiter<K> {
    /// A limiter that remembers at most `capacity` keys (at least 2).
    pub fn new(rate: Rate, capacity: usize) -> Self {
        Self {
            rate,
            half: (capacity / 2).max(1),
            buckets: Mutex::new(Generations {
                young: HashMap::new(),
                old: HashMap::new(),
            }),
        }
    }

    /// Takes one token of `key`'s bucket.
    ///
    /// # Errors
    /// How long to wait until the bucket has one again.
    pub fn take(&self, key: &K, now: Instant) -> Result<(), Duration> {
        // A panic elsewhere cannot leave a bucket half written: each change is one assignment.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full = Bucket {
            tokens: f64::from(self.rate.burst),
            at: now,
        };
        let known = buckets
            .young
            .get(key)
            .or_else(|| buckets.old.get(key))
            .copied();
        let mut bucket = known.unwrap_or(full);
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens =
            (bucket.tokens + passed * self.rate.per_second).min(f64::from(self.rate.burst));
        bucket.at = bucket.at.max(now);
        let verdict = if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            Ok(())
        } else {
            Err(self.wait(1.0 - bucket.tokens))
        };
        if !buckets.young.contains_key(key) {
            if buckets.young.len() >= self.half {
                buckets.old = std::mem::take(&mut buckets.young);
            }
            buckets.old.remove(key);
        }
        buckets.young.insert(key.clone(), bucket);
        verdict
    }

    fn wait(&self, missing: f64) -> Duration {
        let seconds = missing / self.rate.per_second;
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(Duration::MAX)
            .min(Duration::from_secs(3600))
    }

    /// Keys remembered now.
    pub fn len(&self) -> usize {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.young.len() + buckets.old.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(burst: u32, per_second: f64, capacity: usize) -> RateLimiter<u32> {
        RateLimiter::new(Rate { burst, per_second }, capacity)
    }

    #[test]
    fn burst_passes_then_the_next_is_told_how_long_to_wait() {
        let limiter = limiter(3, 2.0, 10);
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(limiter.take(&1, start), Ok(()));
        }
        assert_eq!(limiter.take(&1, start), Err(Duration::from_millis(500)));
        assert_eq!(limiter.take(&1, start + Duration::from_millis(500)), Ok(()));
    }

    #[test]
    fn one_key_does_not_use_up_the_bucket_of_another() {
        let limiter = limiter(1, 1.0, 10);
        let now = Instant::now();
        assert!(limiter.take(&1, now).is_ok());
        assert!(limiter.take(&1, now).is_err());
        assert!(limiter.take(&2, now).is_ok());
    }

    #[test]
    fn a_bucket_never_holds_more_than_its_burst() {
        let limiter = limiter(2, 100.0, 10);
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        assert!(limiter.take(&1, now).is_ok());
        assert!(limiter.take(&1, later).is_ok());
        assert!(limiter.take(&1, later).is_ok());
        assert!(limiter.take(&1, later).is_err());
    }

    #[test]
    fn a_clock_that_steps_back_gives_no_tokens() {
        let limiter = limiter(1, 1.0, 10);
        let now = Instant::now() + Duration::from_secs(100);
        assert!(limiter.take(&1, now).is_ok());
        assert!(limiter.take(&1, now - Duration::from_secs(50)).is_err());
        assert!(limiter.take(&1, now).is_err());
    }

    #[test]
    fn memory_is_bounded_and_a_busy_key_is_not_forgotten() {
        let limiter = limiter(1, 0.0, 1000);
        let now = Instant::now();
        assert!(limiter.take(&u32::MAX, now).is_ok());
        for key in 0..100_000 {
            let _ = limiter.take(&key, now);
            assert!(
                limiter.take(&u32::MAX, now).is_err(),
                "forgotten after {key} keys"
            );
            assert!(limiter.len() <= 1000);
        }
    }
}
