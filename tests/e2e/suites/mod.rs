//! Programs that judge a file system, or that suffer first from a bad one.

mod cargo;
mod docker;
mod fio;
mod fsx;
mod git;
mod npm;
mod pjdfstest;
mod sqlite;
mod stress_ng;
mod tar;
