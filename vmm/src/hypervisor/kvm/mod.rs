//! KVM (Linux `Documentation/virt/kvm/api.rst`): processors, memory, the interrupt controllers of a
//! PC, and interrupts and notifications that the kernel carries by eventfd.

#![allow(unsafe_code, reason = "KVM is told addresses of memory")]

mod kick;
mod processor;
mod registers;
mod trial;

use super::{Event, Interrupt, Vcpu, Vm};
use crate::Error;
use crate::arch::Start;
use crate::arch::x86_64::layout::{KVM_IDENTITY, KVM_TSS};
use crate::memory::Memory;
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, VmFd};
use rustix::fd::AsFd;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::sync::Arc;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

/// The version of the interface, which is the same for ever.
const API_VERSION: i32 = 12;
/// What KVM must be able to do.
const NEEDED: [(Cap, &str); 6] = [
    (Cap::Irqchip, "interrupt controllers"),
    (Cap::Irqfd, "irqfd"),
    (Cap::Ioeventfd, "ioeventfd"),
    (Cap::UserMemory, "user memory"),
    (Cap::ExtCpuid, "CPUID"),
    (Cap::ImmediateExit, "immediate exits"),
];

/// A VM in KVM.
pub struct Kvm {
    vm: VmFd,
    /// What the host's processor and KVM together support.
    cpuid: CpuId,
    deadline_timer: bool,
    cpus: u16,
    /// Whether it is tried out before it boots a kernel.
    tried: bool,
    /// KVM maps the guest to it as long as the VM is there.
    memory: Memory,
}

impl Kvm {
    /// A VM of this memory.
    ///
    /// # Errors
    /// There is no KVM, we have no right to it, or it refuses.
    pub fn open(memory: &Memory, cpus: u16) -> Result<Self, Error> {
        let kvm = kvm_ioctls::Kvm::new().map_err(|error| no_kvm(&error.into()))?;
        let lacks = |what: String| Error::NoHypervisor {
            cause: what,
            next: "use a newer kernel on the host",
        };
        if kvm.get_api_version() != API_VERSION {
            return Err(lacks(format!("KVM speaks version {}", kvm.get_api_version())));
        }
        if let Some((_, what)) = NEEDED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
            return Err(lacks(format!("KVM has no {what}")));
        }
        let most = kvm.get_max_vcpus();
        if usize::from(cpus) > most {
            return Err(Error::NoHypervisor {
                cause: format!("KVM runs {most} processors at most, and {cpus} are asked for"),
                next: "ask for fewer (--cpus)",
            });
        }
        let act = "tell what the processor supports";
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(failed(act))?;
        let deadline_timer = kvm.check_extension(Cap::TscDeadlineTimer);
        let vm = create(&kvm)?;
        vm.set_identity_map_address(KVM_IDENTITY)
            .and_then(|()| vm.set_tss_address(KVM_TSS as usize))
            .map_err(failed("place its own pages"))?;
        vm.create_irq_chip().map_err(failed("make interrupt controllers"))?;
        let kvm = Self { vm, cpuid, deadline_timer, cpus, tried: true, memory: memory.clone() };
        kvm.map()?;
        Ok(kvm)
    }

    /// Without the trial before the first processor begins: for guests that need less than a kernel.
    pub fn untried(self) -> Self {
        Self { tried: false, ..self }
    }

    /// Gives the guest its memory.
    fn map(&self) -> Result<(), Error> {
        for (slot, region) in (0..).zip(self.memory.iter()) {
            let address = region
                .get_host_address(vm_memory::MemoryRegionAddress(0))
                .map_err(|error| Error::Memory { size: 0, cause: error.to_string() })?;
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: address as u64,
            };
            // SAFETY: the region is mapped, of this length, and lives as long as `self.memory`, which
            // the VM is kept with.
            unsafe { self.vm.set_user_memory_region(region) }
                .map_err(failed("map the guest's memory"))?;
        }
        Ok(())
    }
}

/// For `map_err`: a call of KVM that failed.
fn failed<E: Into<io::Error>>(act: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Hypervisor { act, source: error.into() }
}

/// Makes a VM; again, if a signal comes between.
fn create(kvm: &kvm_ioctls::Kvm) -> Result<VmFd, Error> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            made => return made.map_err(failed("make a VM")),
        }
    }
}

/// Why KVM cannot be opened.
fn no_kvm(error: &io::Error) -> Error {
    let (cause, next) = match error.kind() {
        io::ErrorKind::NotFound => (
            "there is no /dev/kvm".to_owned(),
            "load KVM (modprobe kvm-intel or kvm-amd) and turn virtualisation on in the firmware, or \
             nested virtualisation on where this host is a VM itself",
        ),
        io::ErrorKind::PermissionDenied => (
            "no right to open /dev/kvm".to_owned(),
            "join its group (sudo usermod -aG kvm $USER) and log in again",
        ),
        _ => (format!("/dev/kvm: {error}"), "see what the kernel says of KVM (dmesg)"),
    };
    Error::NoHypervisor { cause, next }
}

/// Another descriptor for the same event, in the form that the KVM crates take.
fn event_fd(event: &Event) -> io::Result<EventFd> {
    let fd = event.as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { EventFd::from_raw_fd(fd.into_raw_fd()) })
}

struct Line(EventFd);

impl Interrupt for Line {
    fn raise(&self) {
        // Full is as good as written; it fails in no other way.
        _ = self.0.write(1);
    }
}

impl Vm for Kvm {
    fn vcpu(&self, id: u16, start: Option<Start>) -> Result<Box<dyn Vcpu>, Error> {
        let mut fd = self.vm.create_vcpu(id.into()).map_err(failed("make a processor"))?;
        registers::set_cpuid(&fd, &self.cpuid, id, self.cpus, self.deadline_timer)?;
        registers::set_common(&fd)?;
        if let Some(start) = start {
            if self.tried {
                trial::run(&mut fd, &self.memory)?;
            }
            registers::set(&fd, start)?;
        }
        Ok(Box::new(processor::Processor::new(fd, id)?))
    }

    fn interrupt(&self, line: u32) -> Result<Arc<dyn Interrupt>, Error> {
        let act = "give an interrupt";
        let event = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).map_err(failed(act))?;
        self.vm.register_irqfd(&event, line).map_err(failed(act))?;
        Ok(Arc::new(Line(event)))
    }

    fn notify(&self, address: u64, value: u32, event: &Event) -> Result<bool, Error> {
        let act = "carry a notification";
        let event = event_fd(event).map_err(failed(act))?;
        self.vm
            .register_ioevent(&event, &IoEventAddress::Mmio(address), value)
            .map_err(failed(act))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_kvm_one_line_says_why_and_what_to_do() {
        for (error, cause, next) in [
            (libc::ENOENT, "there is no /dev/kvm", "modprobe"),
            (libc::EACCES, "no right to open /dev/kvm", "usermod -aG kvm"),
            (libc::ENODEV, "/dev/kvm: No such device", "dmesg"),
        ] {
            let text = no_kvm(&io::Error::from_raw_os_error(error)).to_string();
            assert!(text.contains(cause) && text.contains(next), "{text}");
            assert_eq!(text.lines().count(), 1);
        }
    }
}
