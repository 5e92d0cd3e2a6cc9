//! `osxfs serve`: offers folders over sockets until it is told to end.

use crate::cli::ServeArgs;
use crate::control;
use anyhow::Result;
use host_fs::server::{Server, ServerOptions};
use host_fs::watch::driver::Watching;
use host_fs::wire;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;

/// Listens everywhere it was told to, says so, and ends in good order on `SIGINT` and `SIGTERM`.
pub fn run(args: ServeArgs) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let exports = args.exports.into_iter().map(|spec| spec.with(&args.export)).collect();
    let options = ServerOptions { observe: Some(Arc::new(Watching)), ..Default::default() };
    let server = Server::new(exports, options)?;
    let listeners = args
        .listen
        .iter()
        .map(|address| wire::listen(server.clone(), address))
        .collect::<Result<Vec<_>, _>>()?;
    let _control = control::start(server.clone())?;
    for listener in &listeners {
        println!("listening on {}", listener.address());
    }
    signals.forever().next();
    for listener in &listeners {
        listener.stop();
    }
    Ok(())
}
