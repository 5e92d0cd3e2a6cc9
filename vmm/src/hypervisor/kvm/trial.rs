//! A trial of the hypervisor before a kernel is started on it. There are some that run simple guests
//! but carry out in software, and in part only, what a stock kernel does in its first moments. On such
//! a host nothing would ever be seen of the kernel; this says so instead.

use super::{failed, registers};
use crate::Error;
use crate::arch::x86_64::layout::{STACK, TRIAL};
use crate::arch::x86_64::registers::RFLAGS;
use crate::memory::Memory;
use kvm_bindings::kvm_regs;
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::fs;
use std::io;
use vm_memory::{Address, Bytes};

/// Where the trial says that it is through: a port that nothing is at.
const PORT: u16 = 0xf4;
/// What it says.
const DONE: u8 = 0x2a;
/// What it works on, aligned to 16 bytes, behind its code.
const OPERAND: u64 = 0x100;

/// The instruction that kernels update their page tables and free lists by; then the word.
const CODE: [u8; 11] = [
    0xf0, 0x48, 0x0f, 0xc7, 0x0e, // lock cmpxchg16b [rsi]
    0xb0, DONE, // mov al, DONE
    0xe6, PORT as u8, // out PORT, al
    0xf4,       // hlt
    0x90,       // nop
];

/// Runs it on a processor that has not begun yet, and whose registers are set anew afterwards.
pub fn run(fd: &mut VcpuFd, memory: &Memory) -> Result<(), Error> {
    let operand = TRIAL.unchecked_add(OPERAND);
    memory
        .write_slice(&CODE, TRIAL)
        .and_then(|()| memory.write_obj(0_u128.to_le_bytes(), operand))
        .map_err(|error| Error::Memory { size: 1, cause: error.to_string() })?;
    registers::set_special(fd)?;
    let regs = kvm_regs {
        rip: TRIAL.raw_value(),
        rsi: operand.raw_value(),
        rsp: STACK.raw_value(),
        rflags: RFLAGS,
        ..Default::default()
    };
    fd.set_regs(&regs).map_err(failed("set a processor's registers"))?;
    loop {
        match fd.run() {
            Ok(VcpuExit::IoOut(PORT, &[DONE])) => break,
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
            Ok(exit) => {
                tracing::debug!(?exit, "the trial of the hypervisor failed");
                return Err(poor());
            }
            Err(error) => return Err(failed("run a processor")(error)),
        }
    }
    // The access of the port ends when the guest is entered the next time: now, without going on.
    fd.set_kvm_immediate_exit(1);
    let ended = fd.run().map(drop);
    fd.set_kvm_immediate_exit(0);
    match ended {
        Err(error) if error.errno() != libc::EINTR => {
            Err(failed("run a processor")(io::Error::from(error)))
        }
        _ => Ok(()),
    }
}

fn poor() -> Error {
    let module = ["kvm_intel", "kvm_amd", "kvm_pvm"]
        .into_iter()
        .find(|module| fs::exists(format!("/sys/module/{module}")).unwrap_or(false));
    Error::PoorHypervisor {
        name: module.unwrap_or("KVM").to_owned(),
        cause: "does not carry out `lock cmpxchg16b`, which the kernel needs",
    }
}
