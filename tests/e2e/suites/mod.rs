//! Programs that judge a file system, or that suffer first from a bad one.

mod cargo;
mod docker;
mod fio;
pub mod fsx;
mod git;
mod npm;
pub mod pjdfstest;
mod sqlite;
mod stress_ng;
mod tar;
