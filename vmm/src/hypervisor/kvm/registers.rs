//! Puts what [`arch::x86_64`](crate::arch::x86_64) says into the registers of a processor.

use super::failed;
use crate::Error;
use crate::arch::Start;
use crate::arch::x86_64::cpuid::{self, Leaf};
use crate::arch::x86_64::layout::{GDT, PAGE_TABLES, STACK};
use crate::arch::x86_64::registers::{
    CODE_SEGMENT, CR0, CR4, DATA_SEGMENT, EFER, FPU_CONTROL, GDT_LIMIT, MISC_ENABLE, MTRR_DEF_TYPE,
    MXCSR, RFLAGS, Segment, TASK_SEGMENT,
};
use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, Msrs, kvm_cpuid_entry2, kvm_fpu, kvm_msr_entry,
    kvm_regs, kvm_segment,
};
use kvm_ioctls::VcpuFd;
use std::io;
use vm_memory::Address;

/// Sets what the processor answers to CPUID.
pub fn set_cpuid(
    fd: &VcpuFd,
    supported: &CpuId,
    id: u16,
    cpus: u16,
    deadline_timer: bool,
) -> Result<(), Error> {
    let mut leaves = supported.as_slice().iter().map(leaf).collect();
    cpuid::adapt(&mut leaves, id, cpus, deadline_timer);
    let entries: Vec<_> = leaves.iter().map(entry).collect();
    let act = "set what a processor says of itself";
    let cpuid = CpuId::from_entries(&entries)
        .map_err(|_| failed(act)(io::Error::from(io::ErrorKind::InvalidData)))?;
    fd.set_cpuid2(&cpuid).map_err(failed(act))
}

fn leaf(entry: &kvm_cpuid_entry2) -> Leaf {
    let indexed = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
    Leaf {
        function: entry.function,
        index: indexed.then_some(entry.index),
        eax: entry.eax,
        ebx: entry.ebx,
        ecx: entry.ecx,
        edx: entry.edx,
    }
}

fn entry(leaf: &Leaf) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function: leaf.function,
        index: leaf.index.unwrap_or(0),
        flags: if leaf.index.is_some() { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 },
        eax: leaf.eax,
        ebx: leaf.ebx,
        ecx: leaf.ecx,
        edx: leaf.edx,
        ..Default::default()
    }
}

/// Sets everything for a processor that begins at `start` in 64-bit mode.
pub fn set(fd: &VcpuFd, start: Start) -> Result<(), Error> {
    let act = "set a processor's registers";
    set_special(fd)?;
    let regs = kvm_regs {
        rip: start.entry.raw_value(),
        rsi: start.argument.raw_value(),
        rsp: STACK.raw_value(),
        rbp: STACK.raw_value(),
        rflags: RFLAGS,
        ..Default::default()
    };
    fd.set_regs(&regs).map_err(failed(act))?;
    let fpu = kvm_fpu { fcw: FPU_CONTROL, mxcsr: MXCSR, ..Default::default() };
    fd.set_fpu(&fpu).map_err(failed(act))
}

/// Sets what firmware sets on every processor of a PC, also those that wait to be started.
pub fn set_common(fd: &VcpuFd) -> Result<(), Error> {
    let act = "set a processor's registers";
    // One by one: KVM stops at the first that it does not have, and all of these may be missing.
    for (index, data) in [MISC_ENABLE, MTRR_DEF_TYPE] {
        let msrs = Msrs::from_entries(&[kvm_msr_entry { index, data, ..Default::default() }])
            .map_err(|_| failed(act)(io::Error::from(io::ErrorKind::InvalidData)))?;
        if fd.set_msrs(&msrs).map_err(failed(act))? == 0 {
            tracing::debug!(index, "KVM has not this register");
        }
    }
    wire_lapic(fd)
}

/// Segments, paging and mode.
pub fn set_special(fd: &VcpuFd) -> Result<(), Error> {
    let act = "set a processor's registers";
    let mut sregs = fd.get_sregs().map_err(failed(act))?;
    let data = segment(DATA_SEGMENT);
    sregs.cs = segment(CODE_SEGMENT);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = segment(TASK_SEGMENT);
    sregs.gdt.base = GDT.raw_value();
    sregs.gdt.limit = GDT_LIMIT;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr3 = PAGE_TABLES.raw_value();
    sregs.cr4 = CR4;
    sregs.cr0 = CR0;
    sregs.efer = EFER;
    fd.set_sregs(&sregs).map_err(failed(act))
}

fn segment(segment: Segment) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: segment.limit(),
        selector: segment.selector,
        type_: segment.kind,
        present: 1,
        dpl: 0,
        db: segment.big.into(),
        s: segment.code_or_data.into(),
        l: segment.long.into(),
        g: segment.code_or_data.into(),
        ..Default::default()
    }
}

/// Offsets of the local APIC's inputs, and what they do (Intel SDM volume 3, 11.5.1).
const LINT0: usize = 0x350;
const LINT1: usize = 0x360;
const EXTERNAL_MASKED: u32 = 7 << 8 | 1 << 16;
const NMI: u32 = 4 << 8;

/// Wires the local APIC: non-maskable interrupts to the second input. The first one, where a PC has the
/// old interrupt controller, is masked, which KVM does not do by itself: it has such a controller, but
/// the guest is told of none and would not silence it, and every interrupt below 16 would come a second
/// time as one of its vectors.
fn wire_lapic(fd: &VcpuFd) -> Result<(), Error> {
    let act = "wire a local APIC";
    let mut lapic = fd.get_lapic().map_err(failed(act))?;
    for (register, value) in [(LINT0, EXTERNAL_MASKED), (LINT1, NMI)] {
        for (byte, value) in lapic.regs.iter_mut().skip(register).zip(value.to_le_bytes()) {
            *byte = value as _;
        }
    }
    fd.set_lapic(&lapic).map_err(failed(act))
}
