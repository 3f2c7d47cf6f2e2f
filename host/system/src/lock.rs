//! Locks whose holder may have panicked: what they guard is a whole value at any time.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, whatever became of who held it last.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
