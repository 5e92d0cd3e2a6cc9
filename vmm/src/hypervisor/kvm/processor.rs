//! A processor: enters the guest and deals with what makes it leave.

use super::super::{Exits, Kick, Stop, Vcpu};
use super::kick::{self, Target};
use crate::Error;
use kvm_bindings::{KVM_EXIT_IO_OUT, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_run};
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::sync::Arc;

/// The items of a string instruction on a port that KVM hands over at once lie within its page.
const MAX_STRING: usize = 4096;

pub struct Processor {
    fd: VcpuFd,
    id: u16,
    kick: Arc<Target>,
}

/// What to do after an exit.
enum Next {
    Enter,
    /// A string or an ordinary access of a port is described in the shared page.
    Port,
    Stop(Stop),
}

impl Processor {
    pub fn new(fd: VcpuFd, id: u16) -> Result<Self, Error> {
        let kick = kick::target()
            .map_err(|source| Error::Host { act: "signal of a processor's thread", source })?;
        Ok(Self { fd, id, kick })
    }

    fn error(&self, cause: impl Into<String>) -> Error {
        Error::Vcpu { vcpu: self.id, cause: cause.into() }
    }

    fn run_entered(&mut self, exits: &dyn Exits) -> Result<Stop, Error> {
        loop {
            match self.enter(exits)? {
                Next::Enter => {}
                Next::Port => self.port(exits)?,
                Next::Stop(stop) => return Ok(stop),
            }
            if exits.stops() {
                return Ok(Stop::Kicked);
            }
        }
    }

    /// Enters the guest once.
    fn enter(&mut self, exits: &dyn Exits) -> Result<Next, Error> {
        let kicked = &self.kick;
        let cause = match self.fd.run() {
            Ok(VcpuExit::IoIn(..) | VcpuExit::IoOut(..)) => return Ok(Next::Port),
            Ok(VcpuExit::MmioRead(address, data)) => {
                exits.memory_read(address, data);
                return Ok(Next::Enter);
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                exits.memory_write(address, data);
                return Ok(Next::Enter);
            }
            Ok(VcpuExit::Intr) => return Ok(Next::Enter),
            Ok(VcpuExit::Shutdown) => {
                self.tell_of_triple_fault();
                return Ok(Next::Stop(Stop::Reset));
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => {
                return Ok(Next::Stop(Stop::PowerOff));
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => {
                return Ok(Next::Stop(Stop::Reset));
            }
            Ok(VcpuExit::SystemEvent(kind, _)) => format!("KVM reports event {kind}"),
            Ok(VcpuExit::InternalError) => return Err(self.internal_error()),
            Ok(VcpuExit::FailEntry(reason, cpu)) => {
                format!("the host's processor {cpu} does not enter the guest (reason {reason:#x})")
            }
            Ok(exit) => format!("KVM hands over what nobody knows ({exit:?})"),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                let stop = kicked.is_kicked();
                return Ok(if stop { Next::Stop(Stop::Kicked) } else { Next::Enter });
            }
            Err(error) => format!("KVM fails to run it: {error}"),
        };
        Err(self.error(cause))
    }

    /// Carries out the accesses of a port that the last exit describes: one, or those of a string
    /// instruction.
    fn port(&mut self, exits: &dyn Exits) -> Result<(), Error> {
        let run: *mut kvm_run = self.fd.get_kvm_run();
        // SAFETY: the page is mapped while `self.fd` is there.
        let page = unsafe { &*run };
        // SAFETY: the exit's reason was `KVM_EXIT_IO`, for which this part of the union is valid.
        let io = unsafe { page.__bindgen_anon_1.io };
        let (width, count) = (usize::from(io.size), io.count as usize);
        let len = width.saturating_mul(count);
        if !matches!(width, 1 | 2 | 4) || len > MAX_STRING {
            return Err(self.error(format!("KVM hands over {count} accesses of {width} bytes")));
        }
        let offset = io.data_offset as usize;
        // SAFETY: the kernel places the data in the mapping, which the crate has mapped as a whole.
        let start = unsafe { run.cast::<u8>().add(offset) };
        // SAFETY: of this length, and read and written by nobody else until the guest is entered.
        let data = unsafe { std::slice::from_raw_parts_mut(start, len) };
        let out = u32::from(io.direction) == KVM_EXIT_IO_OUT;
        for item in data.chunks_exact_mut(width) {
            if out {
                exits.port_write(io.port, item);
            } else {
                exits.port_read(io.port, item);
            }
        }
        Ok(())
    }

    /// Says where a guest gave itself up, and in what state. Few do so on purpose, and no other trace
    /// is left of a crash so deep. (A KVM on AMD tells of the state as far as the processor kept it.)
    fn tell_of_triple_fault(&self) {
        let (Ok(regs), Ok(system), Ok(events)) =
            (self.fd.get_regs(), self.fd.get_sregs(), self.fd.get_vcpu_events())
        else {
            return tracing::warn!("the guest's processor {} triple-faulted", self.id);
        };
        tracing::warn!(
            "the guest's processor {} triple-faulted at rip {:#x} (rsp {:#x}, rflags {:#x}, cr0 {:#x}, \
             cr2 {:#x}, cr3 {:#x}, cr4 {:#x}, efer {:#x}, cs {:#x}, idt {:#x}; exception {} of {:#x}); \
             unless it meant to restart, its kernel has crashed",
            self.id,
            regs.rip,
            regs.rsp,
            regs.rflags,
            system.cr0,
            system.cr2,
            system.cr3,
            system.cr4,
            system.efer,
            system.cs.selector,
            system.idt.base,
            if events.exception.injected != 0 { "injected" } else { "pending or none" },
            events.exception.nr,
        );
    }

    /// Says what KVM could not do, and where.
    fn internal_error(&mut self) -> Error {
        let at = self.fd.get_regs().map_or(0, |regs| regs.rip);
        let run = self.fd.get_kvm_run();
        // SAFETY: the exit's reason was `KVM_EXIT_INTERNAL_ERROR`, for which this part of the union is
        // valid.
        let internal = unsafe { run.__bindgen_anon_1.internal };
        self.error(match internal.suberror {
            // KVM_INTERNAL_ERROR_EMULATION
            1 => format!("KVM cannot emulate the instruction at {at:#x}"),
            other => format!("KVM fails inside (error {other} at {at:#x})"),
        })
    }
}

impl Vcpu for Processor {
    fn kick(&self) -> Arc<dyn Kick> {
        self.kick.clone()
    }

    fn run(&mut self, exits: &dyn Exits) -> Result<Stop, Error> {
        let immediate_exit = &raw mut self.fd.get_kvm_run().immediate_exit;
        let kick = self.kick.clone();
        // SAFETY: it is this processor's flag, in a mapping that lives as long as `self.fd`.
        unsafe { kick.enter(immediate_exit, || self.run_entered(exits)) }
            .unwrap_or(Ok(Stop::Kicked))
    }
}
