//! Single flight: of everybody who wants the same thing made, in this process or another, one makes it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use store::{Key, Lock, Store, StoreError};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

/// Hands out the right to make things, one holder at a time for each key.
#[derive(Clone, Debug)]
pub(crate) struct Flights {
    store: Store,
    // Threads of this process queue here; only the first of them asks the file lock.
    waiting: Arc<Mutex<HashMap<Key, Weak<tokio::sync::Mutex<()>>>>>,
}

/// The right to make one thing. Whoever gets it looks first whether the previous holder has made it.
#[derive(Debug)]
pub(crate) struct Flight {
    // Dropped in this order: another process may go on before another task of this one does.
    _file: Lock,
    _turn: OwnedMutexGuard<()>,
}

impl Flights {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, waiting: Arc::default() }
    }

    /// Waits for one's turn; `None` when cancelled first.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) async fn board(&self, key: &Key, cancel: &CancellationToken) -> Result<Option<Flight>, StoreError> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(None),
            flight = self.wait(key) => flight.map(Some),
        }
    }

    async fn wait(&self, key: &Key) -> Result<Flight, StoreError> {
        let turn = self.queue(key).lock_owned().await;
        let name = format!("vertex-{}", key.hex());
        // Waiting for another process is rare and long (it runs a step), so asking now and then is good enough, and
        // unlike a blocked thread it can be cancelled.
        let mut pause = Duration::from_millis(2);
        loop {
            if let Some(file) = self.store.try_lock(&name)? {
                return Ok(Flight { _file: file, _turn: turn });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn queue(&self, key: &Key) -> Arc<tokio::sync::Mutex<()>> {
        let mut waiting = self.waiting.lock().expect("nothing panics while holding it");
        if let Some(queue) = waiting.get(key).and_then(Weak::upgrade) {
            return queue;
        }
        waiting.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::default();
        waiting.insert(*key, Arc::downgrade(&queue));
        queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_at_a_time_for_a_key_and_cancelled_ones_leave() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("a store");
        // Two independent sets stand for two processes: they share nothing but the file lock.
        let sets = [Flights::new(store.clone()), Flights::new(store)];
        let key = Key::of([&b"k"[..]]);
        let inside = Arc::new(AtomicUsize::new(0));
        let tasks = (0..8).map(|n| {
            let (set, inside) = (sets[n % 2].clone(), Arc::clone(&inside));
            tokio::spawn(async move {
                let _flight = set.board(&key, &CancellationToken::new()).await.expect("locks").expect("boards");
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                tokio::time::sleep(Duration::from_millis(3)).await;
                inside.fetch_sub(1, Ordering::SeqCst);
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no two inside");
        }

        let held = sets[0].board(&key, &CancellationToken::new()).await.expect("locks").expect("boards");
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert!(sets[1].board(&key, &cancel).await.expect("no error").is_none());
        drop(held);
        assert!(sets[1].board(&key, &CancellationToken::new()).await.expect("locks").is_some());
    }
}
