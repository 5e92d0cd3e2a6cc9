//! One reusable buffer per serving thread, so that no read, listing or attribute allocates.

use std::cell::Cell;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `work` with this thread's buffer, empty. Within `work` the thread has no other; a nested
/// use gets a new one.
pub(crate) fn with<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = BUFFER.take();
    buffer.clear();
    let result = work(&mut buffer);
    BUFFER.set(buffer);
    result
}
