//! The machine that joins everything: memory, kernel, processors, buses and devices.
//!
//! ```text
//! Vm::build ─▶ memory ─▶ hypervisor ─▶ devices at their slots ─▶ kernel loaded
//! Vm::run   ─▶ a thread for each processor ─▶ Outcome
//! ```
//!
//! A processor's thread answers exits from the buses and does nothing else. The first that has a reason
//! to end decides the [`Outcome`] and kicks the others.

use crate::Error;
use crate::arch::{self, Boot, Start};
use crate::bus::Bus;
use crate::config::VmConfig;
use crate::hypervisor::{self, Exits, Kick, Stop, sandbox};
use crate::legacy::{Input, Power, Serial, Wish};
use crate::memory;
use crate::virtio::Device;
use crate::virtio::mmio::{self, Transport};
use parking_lot::{Condvar, Mutex};
use std::io::Write;
use std::sync::Arc;
use std::thread;
use vm_memory::Address;

/// How a guest has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It powered itself off.
    PowerOff,
    /// It wants to begin again: build it again and run it.
    Reboot,
    /// A [`Stopper`] stopped it.
    Stopped,
}

/// A guest that is ready to run.
pub struct Vm {
    hypervisor: Box<dyn hypervisor::Vm>,
    start: Start,
    cpus: u16,
    buses: Buses,
    serial: Arc<Serial>,
    crew: Arc<Crew>,
}

/// Stops a guest from outside, as if its plug was pulled.
#[derive(Clone)]
pub struct Stopper(Arc<Crew>);

impl Stopper {
    /// Makes [`Vm::run`] return [`Outcome::Stopped`], also if it only begins later.
    pub fn stop(&self) {
        self.0.end(Ok(Outcome::Stopped));
    }
}

/// What the processors' threads have in common.
struct Crew {
    cpus: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The processors that are there; they begin when all are.
    kicks: Vec<Arc<dyn Kick>>,
    outcome: Option<Result<Outcome, Error>>,
}

impl Crew {
    /// Ends the run. The first reason counts.
    fn end(&self, outcome: Result<Outcome, Error>) {
        let mut state = self.state.lock();
        state.outcome.get_or_insert(outcome);
        for kick in &state.kicks {
            kick.kick();
        }
        self.changed.notify_all();
    }

    /// A processor is there: waits for the others, so that none is started before it exists.
    fn join(&self, kick: Arc<dyn Kick>) {
        let mut state = self.state.lock();
        if state.outcome.is_some() {
            kick.kick();
        }
        state.kicks.push(kick);
        self.changed.notify_all();
        while state.kicks.len() < self.cpus.into() && state.outcome.is_none() {
            self.changed.wait(&mut state);
        }
    }
}

/// What answers exits.
struct Buses {
    ports: Bus,
    memory: Bus,
    power: Arc<Power>,
}

impl Exits for Buses {
    fn port_read(&self, port: u16, data: &mut [u8]) {
        self.ports.read(port.into(), data);
    }

    fn port_write(&self, port: u16, data: &[u8]) {
        self.ports.write(port.into(), data);
    }

    fn memory_read(&self, address: u64, data: &mut [u8]) {
        self.memory.read(address, data);
    }

    fn memory_write(&self, address: u64, data: &[u8]) {
        self.memory.write(address, data);
    }

    fn stops(&self) -> bool {
        self.power.wish().is_some()
    }
}

impl Vm {
    /// Makes a guest of a configuration that was validated, with these virtio devices, in the order in
    /// which it finds them. Its serial port writes to `serial`.
    ///
    /// # Errors
    /// The host has no hypervisor for it or no memory, or kernel and initrd are not what they should
    /// be.
    pub fn build(
        config: &VmConfig,
        devices: Vec<Box<dyn Device>>,
        serial: Box<dyn Write + Send>,
    ) -> Result<Self, Error> {
        if devices.len() > arch::MAX_SLOTS {
            return Err(Error::TooManyDevices { got: devices.len(), limit: arch::MAX_SLOTS });
        }
        let memory = memory::map(&arch::ranges(config.memory.bytes()))?;
        let hypervisor = hypervisor::open(&memory, config.cpus)?;
        let power = Power::new();
        let serial = Arc::new(Serial::new(hypervisor.interrupt(arch::SERIAL_LINE)?, serial)?);
        let (mut ports, mut registers) = (Bus::default(), Bus::default());
        arch::place(&mut ports, &mut registers, serial.clone(), &power)?;
        let slots = devices.len();
        for (index, device) in devices.into_iter().enumerate() {
            let Some(slot) = arch::slot(index) else { break };
            let address = slot.address.raw_value();
            let interrupt = hypervisor.interrupt(slot.line)?;
            let transport = Transport::new(device, memory.clone(), interrupt)
                .map_err(|source| Error::Host { act: "events of a device's queues", source })?;
            for (queue, event) in (0..).zip(transport.queue_events()) {
                hypervisor.notify(address + mmio::NOTIFY, queue, event)?;
            }
            registers.insert(address, mmio::SIZE, Arc::new(transport))?;
        }
        let boot = Boot {
            kernel: &config.kernel,
            initrd: config.initrd.as_deref(),
            cmdline: &config.cmdline,
            cpus: config.cpus,
            slots,
        };
        let start = arch::load(&memory, &boot)?;
        let state = Mutex::default();
        let crew = Arc::new(Crew { cpus: config.cpus, state, changed: Condvar::new() });
        let buses = Buses { ports, memory: registers, power };
        Ok(Self { hypervisor, start, cpus: config.cpus, buses, serial, crew })
    }

    /// The way into the serial port.
    pub fn input(&self) -> Input {
        self.serial.input()
    }

    /// What stops it while it runs.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.crew.clone())
    }

    /// Runs the guest to its end. When this returns its devices have stopped, and what it wrote to the
    /// serial port is written.
    ///
    /// # Errors
    /// The hypervisor fails, or the guest does what it has no answer to.
    pub fn run(self) -> Result<Outcome, Error> {
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for id in 0..self.cpus {
                let vm = &self;
                let processor = move || vm.processor(id);
                let thread = thread::Builder::new().name(format!("processor {id}"));
                match thread.spawn_scoped(scope, processor) {
                    Ok(thread) => threads.push(thread),
                    Err(source) => {
                        self.crew.end(Err(Error::Host { act: "thread of a processor", source }));
                        break;
                    }
                }
            }
            // One that panics has said so, and has ended the others.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        self.serial.close();
        let outcome = self.crew.state.lock().outcome.take();
        outcome.unwrap_or(Ok(Outcome::Stopped))
    }

    /// Runs a processor to its end, and all of them if it knows why.
    fn processor(&self, id: u16) {
        /// Whatever happens: the others do not wait for one that is gone.
        struct Gone<'a>(&'a Crew, u16);
        impl Drop for Gone<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    let cause = "a mistake of the monitor".to_owned();
                    self.0.end(Err(Error::Vcpu { vcpu: self.1, cause }));
                }
            }
        }
        let _gone = Gone(&self.crew, id);
        if let Some(outcome) = self.run_processor(id).transpose() {
            self.crew.end(outcome);
        }
    }

    /// Nothing if another one knows why it has ended.
    fn run_processor(&self, id: u16) -> Result<Option<Outcome>, Error> {
        let start = (id == 0).then_some(self.start);
        let mut vcpu = self.hypervisor.vcpu(id, start)?;
        self.crew.join(vcpu.kick());
        sandbox::confine();
        Ok(match vcpu.run(&self.buses)? {
            Stop::PowerOff => Some(Outcome::PowerOff),
            Stop::Reset => Some(Outcome::Reboot),
            Stop::Kicked => self.buses.power.wish().map(|wish| match wish {
                Wish::Off => Outcome::PowerOff,
                Wish::Reset => Outcome::Reboot,
            }),
        })
    }
}
