//! The wire format as a peer meets it: what is encoded comes back, what is wrong is named, and the
//! bytes themselves do not change unnoticed.

mod arbitrary;
mod example;
mod frames;
mod fuzzed;
mod guest;
mod hostile;
mod limits;
mod names;
mod roundtrip;
mod snapshots;
