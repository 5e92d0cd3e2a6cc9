//! What is known of macOS without asking it: numbers, layouts and decisions that need no system
//! call, kept apart from [`macos`](super) so that their tests run on every platform.

pub mod errno;
pub mod number;
pub mod path;
pub mod record;
pub mod snapshot;
pub mod space;
pub mod xattr;
