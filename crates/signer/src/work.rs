//! Curve work on threads that may block, so that the async threads stay free.

use std::panic::resume_unwind;

use crate::SignerError;

/// Fewer items than this are not worth another thread.
const WORTH: usize = 8;

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SignerError> + Send + 'static,
) -> Result<T, SignerError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(SignerError::poisoned()))
}

/// Applies `work` to every item, in order, on up to `width` threads.
pub(crate) fn map<T: Send, R: Send>(
    items: Vec<T>,
    width: usize,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    if items.len() < WORTH || width < 2 {
        return items.into_iter().map(work).collect();
    }
    let work = &work;
    let size = items.len().div_ceil(width);
    let mut results = Vec::with_capacity(items.len());
    std::thread::scope(|scope| {
        let mut items = items.into_iter();
        let first: Vec<T> = items.by_ref().take(size).collect();
        let mut others = Vec::with_capacity(width);
        loop {
            let chunk: Vec<T> = items.by_ref().take(size).collect();
            if chunk.is_empty() {
                break;
            }
            others.push(scope.spawn(move || chunk.into_iter().map(work).collect::<Vec<R>>()));
        }
        results.extend(first.into_iter().map(work));
        for other in others {
            results.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_whatever_the_width() {
        for count in [0usize, 1, 7, 8, 9, 100] {
            let items: Vec<usize> = (0..count).collect();
            for width in [0, 1, 2, 3, 16] {
                let doubled = map(items.clone(), width, |item| item * 2);
                assert_eq!(
                    doubled,
                    items.iter().map(|item| item * 2).collect::<Vec<_>>()
                );
            }
        }
    }
}
