//! A guest of a few instructions in 64-bit mode, and what it does outside of itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use vm_memory::{Bytes, GuestAddress};
use vmm::Error;
use vmm::arch::{Start, x86_64::registers};
use vmm::hypervisor::{Exits, Kick, Stop, Vm, kvm::Kvm};
use vmm::memory::{self, Memory};

/// Where the code lies.
pub const CODE: u64 = 0x10_0000;
/// Where a table of interrupts lies, if there is one.
pub const IDT: u64 = 0x20_0000;
/// Where no memory is.
pub const NOWHERE: u64 = 0xd000_0000;
/// Writing this port ends the guest.
pub const END: u16 = 0xe0;
const SIZE: usize = 8 << 20;

/// Instructions, in the order in which they are written.
#[derive(Default)]
pub struct Code(pub Vec<u8>);

impl Code {
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// `mov al, value; out port, al`
    pub fn out(self, port: u8, value: u8) -> Self {
        self.raw(&[0xb0, value, 0xe6, port])
    }

    /// `mov eax, value`
    pub fn eax(self, value: u32) -> Self {
        self.raw(&[0xb8]).raw(&value.to_le_bytes())
    }

    /// `mov rdi, address`
    pub fn rdi(self, address: u64) -> Self {
        self.raw(&[0x48, 0xbf]).raw(&address.to_le_bytes())
    }

    /// `mov rdi, address; mov eax, value; mov [rdi], eax`
    pub fn store(self, address: u64, value: u32) -> Self {
        self.rdi(address).eax(value).raw(&[0x89, 0x07])
    }

    pub fn end(self) -> Self {
        self.out(END as u8, 0).raw(&[0xf4])
    }
}

/// What a guest did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    PortRead(u16, usize),
    PortWrite(u16, Vec<u8>),
    Read(u64, usize),
    Write(u64, Vec<u8>),
}

/// Remembers all of it. Reads answer 1, 2, 3 ….
#[derive(Default)]
pub struct Record {
    accesses: Mutex<Vec<Access>>,
    ended: AtomicBool,
}

impl Record {
    fn push(&self, access: Access) {
        self.accesses.lock().unwrap().push(access);
    }

    /// What was done, the end left out.
    pub fn all(&self) -> Vec<Access> {
        self.accesses.lock().unwrap().clone()
    }

    /// Waits until the guest has done something that `wanted` recognises.
    pub fn wait(&self, wanted: impl Fn(&Access) -> bool) {
        for _ in 0..20_000 {
            if self.all().iter().any(&wanted) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("not within 20 s; so far {:?}", self.all());
    }
}

fn count(data: &mut [u8]) {
    for (byte, value) in data.iter_mut().zip(1..) {
        *byte = value;
    }
}

impl Exits for Record {
    fn port_read(&self, port: u16, data: &mut [u8]) {
        self.push(Access::PortRead(port, data.len()));
        count(data);
    }

    fn port_write(&self, port: u16, data: &[u8]) {
        if port == END {
            self.ended.store(true, Ordering::SeqCst);
        } else {
            self.push(Access::PortWrite(port, data.to_vec()));
        }
    }

    fn memory_read(&self, address: u64, data: &mut [u8]) {
        self.push(Access::Read(address, data.len()));
        count(data);
    }

    fn memory_write(&self, address: u64, data: &[u8]) {
        self.push(Access::Write(address, data.to_vec()));
    }

    fn stops(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

/// A guest with its code in memory.
pub struct Guest {
    pub kvm: Kvm,
    pub memory: Memory,
    pub record: Record,
}

/// Stops a processor whether the test succeeds or fails.
pub struct KickAtEnd(pub Arc<dyn Kick>);

impl Drop for KickAtEnd {
    fn drop(&mut self) {
        self.0.kick();
    }
}

/// Nothing, with the reason printed, where the host has no KVM for us.
pub fn guest(code: &Code) -> Option<Guest> {
    let memory = memory::map(&[(GuestAddress(0), SIZE)]).unwrap();
    registers::write_tables(&memory).unwrap();
    memory.write_slice(&code.0, GuestAddress(CODE)).unwrap();
    match Kvm::open(&memory, 4) {
        Ok(kvm) => Some(Guest { kvm: kvm.untried(), memory, record: Record::default() }),
        Err(error @ Error::NoHypervisor { .. }) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

pub const START: Start = Start { entry: GuestAddress(CODE), argument: GuestAddress(0) };

impl Guest {
    /// Runs it on one processor.
    pub fn run(&self) -> Result<Stop, Error> {
        self.kvm.vcpu(0, Some(START)).unwrap().run(&self.record)
    }

    /// Runs code that comes to its end, and tells what it did.
    pub fn accesses(&self) -> Vec<Access> {
        assert_eq!(self.run().unwrap(), Stop::Kicked);
        self.record.all()
    }
}
