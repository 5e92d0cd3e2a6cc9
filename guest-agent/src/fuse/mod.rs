//! The FUSE binding: from `/dev/fuse` to protocol requests and back.
//!
//! ```text
//! /dev/fuse → device → request (parse) → actuator? → translate::begin → client (tag) → transport
//! /dev/fuse ← device ← reply (bytes)   ←             translate::finish ← client      ← transport
//! ```
//!
//! A thread that reads requests never waits for the server: what is needed to finish an operation
//! lies with its tag ([`operation`]), and whoever brings the reply writes the answer to the device.

pub mod abi;
pub mod actuator;
pub mod device;
mod fill;
pub mod init;
mod look_ahead;
pub mod operation;
mod renew;
pub mod reply;
pub mod request;
pub mod session;
pub mod translate;
mod withhold;

pub use actuator::ChangeSink;
pub use session::Session;
