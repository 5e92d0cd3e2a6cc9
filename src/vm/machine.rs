//! One boot of the guest: its devices, its console, and the ways to it.

use super::console::{self, Kept};
use super::guest::{self, Guest};
use super::hvc::Hvc;
use super::news::Told;
use super::plan::{Plan, Typing};
use super::signals::Signals;
use super::{clock, files, terminal};
use anyhow::{Result, anyhow};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tracing::info;
use vmm::virtio::Device;
use vmm::virtio::balloon::Balloon;
use vmm::virtio::block::Block;
use vmm::virtio::console::Console;
use vmm::virtio::net::{Mac, Net};
use vmm::virtio::rng::Rng;
use vmm::virtio::vsock::{Cid, Direction, HostSide, Hyperkit, Port, PortSocket, Vsock};
use vmm::{Outcome, Stopper, Vm};

/// The guest's number in vsock, if nothing else is said: the first that is free for guests.
const GUEST: Cid = Cid(3);
/// How long a guest may take to power off once its command has ended.
const GOODBYE: Duration = Duration::from_secs(15);

/// A machine that is ready to run.
pub struct Machine {
    vm: Vm,
    guest: Arc<Guest>,
    hvc: Hvc,
    kept: Kept,
}

impl Machine {
    /// Makes it.
    pub fn build(
        plan: &Arc<Plan>,
        files: &files::Files,
        console: &console::Open,
        signals: &Signals,
    ) -> Result<Self> {
        let has_command = plan.command.is_some();
        let guest = Arc::new(Guest::default());
        let say = {
            let plan = plan.clone();
            move |version, say: &mut dyn FnMut(&protocol::guest::Start<'_>)| {
                let size = plan.wants_terminal.then(terminal::size);
                if let Ok(mut start) = plan.start(clock::time(), size) {
                    start.version = version;
                    say(&start);
                }
            }
        };
        let control = guest::wait(guest.clone(), say, has_command)?;
        let mut side = sockets(plan);
        side.ports.insert(guest::PORT, control);
        files.offer(&mut side);
        let in_a_window = plan.wants_terminal && !has_command;
        let (terminal, hvc) = Hvc::new(console, in_a_window)?;
        let devices = devices(plan, side, terminal)?;
        let vm = Vm::build(&plan.config, devices, console.output())?;
        console.attach(match plan.typing {
            Typing::Virtio => hvc.sink.clone(),
            Typing::Serial => {
                let serial = vm.input();
                Arc::new(move |bytes: &[u8]| serial.send(bytes))
            }
        });
        let size = in_a_window.then(|| hvc.size.clone());
        signals.attend(guest.clone(), vm.stopper(), size, has_command);
        Ok(Self { vm, guest, hvc, kept: console.kept.clone() })
    }

    /// Runs it to its end. Returns how that came, what the guest told, and its console.
    pub fn run(self) -> Result<(Outcome, Told, Kept)> {
        let Self { vm, guest, hvc, kept } = self;
        watch(guest.clone(), vm.stopper())?;
        info!("the guest begins");
        let outcome = vm.run();
        guest.news.close();
        hvc.finish();
        let outcome = outcome.map_err(|error| anyhow!("{error}{kept}"))?;
        info!(?outcome, "the guest has ended");
        Ok((outcome, guest.news.get(), kept))
    }
}

/// Where programs of this host meet the guest's ports.
fn sockets(plan: &Plan) -> HostSide {
    let hyperkit = plan.vsock.as_ref().map(|vsock| Hyperkit {
        directory: vsock.directory.clone(),
        forwards: vsock.forwards.iter().copied().map(Port).collect(),
    });
    let sockets = plan.ports.iter().map(|of| PortSocket {
        port: Port(of.port),
        path: of.socket.clone(),
        direction: if of.to_guest { Direction::ToGuest } else { Direction::ToHost },
    });
    HostSide {
        hybrid: plan.config.vsock_path.clone(),
        hyperkit,
        sockets: sockets.collect(),
        ..HostSide::default()
    }
}

/// In the order in which the guest finds them.
fn devices(plan: &Plan, side: HostSide, terminal: Console) -> Result<Vec<Box<dyn Device>>> {
    let cid = plan.vsock.as_ref().map_or(GUEST, |vsock| Cid(vsock.cid.into()));
    let mut devices: Vec<Box<dyn Device>> = vec![
        Box::new(Vsock::new(cid, side)?),
        Box::new(Rng::open()?),
        Box::new(Balloon::new()),
        Box::new(terminal),
    ];
    for (number, disk) in plan.config.disks.iter().enumerate() {
        devices.push(Box::new(Block::open(disk, &format!("disk{number}"))?));
    }
    if let Some(net) = &plan.config.net {
        devices.push(Box::new(Net::open(net, plan.mac.map_or_else(Mac::random, Mac))?));
    }
    Ok(devices)
}

/// A guest that has said its last word and does not end is ended.
fn watch(guest: Arc<Guest>, stopper: Stopper) -> Result<()> {
    let watch = move || {
        if guest.news.outlives_its_last_word(GOODBYE) {
            stopper.stop();
        }
    };
    thread::Builder::new().name("osxfs-goodbye".into()).spawn(watch)?;
    Ok(())
}
