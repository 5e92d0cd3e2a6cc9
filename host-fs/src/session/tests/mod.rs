//! A guest and a real folder: what each request does.

mod files;
mod listing;
mod locking;
mod observing;
mod os;
mod owners;
mod safety;
