//! `osxfs vsock`: our vsock device for guests of other monitors (QEMU, cloud-hypervisor), with the
//! folders behind port 1525 as in our own.

use crate::cli::VsockArgs;
use crate::vm::Files;
use crate::{control, os};
use anyhow::Result;
use host_fs::server::{Server, ServerOptions};
use host_fs::watch::driver::Watching;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::{Arc, mpsc};
use std::thread;
use vmm::virtio::vsock::{Cid, HostSide, Hyperkit};

/// Serves monitors that connect until a signal comes.
pub fn run(args: VsockArgs) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let exports = args.exports.into_iter().map(|spec| spec.with(&args.export)).collect();
    let options = ServerOptions { observe: Some(Arc::new(Watching)), ..Default::default() };
    let server = Server::new(exports, options)?;
    let files = Files::new(server.clone())?;
    let mut side = HostSide {
        hybrid: args.vsock_path,
        hyperkit: args.vsock_dir.map(|directory| Hyperkit { directory, forwards: Vec::new() }),
        ..HostSide::default()
    };
    files.offer(&mut side);
    let backend = os::VhostUser::bind(&args.vhost_user, Cid(args.cid.into()), side)?;
    let _control = control::start(server)?;
    let sockets = backend.sockets().to_vec();
    println!("serving guest {} at {}", args.cid, args.vhost_user.display());
    let (tell, told) = mpsc::channel();
    let waiting = signals.handle();
    let serve = move || {
        let _ = tell.send(backend.serve());
        waiting.close();
    };
    thread::Builder::new().name("osxfs-vhost-user".into()).spawn(serve)?;
    signals.forever().next();
    for socket in sockets {
        let _ = std::fs::remove_file(socket);
    }
    // Nothing was told if a signal came first.
    Ok(told.try_recv().unwrap_or(Ok(()))?)
}
