//! Interrupts that devices raise, writes that only notify them, and processors that start each other.

use crate::guest::{Access, Code, IDT, KickAtEnd, NOWHERE, START, guest};
use std::sync::{Barrier, mpsc};
use std::thread;
use vm_memory::{Bytes, GuestAddress};
use vmm::arch::x86_64::{layout, registers};
use vmm::hypervisor::{Event, Stop, Vm};

/// The line and the vector that it comes as.
const LINE: u32 = 5;
const VECTOR: u64 = 0x40;
/// Where the handler lies, and code for other processors below 1 MiB.
const HANDLER: u64 = IDT + 0x1000;
const REAL_MODE: u64 = 0x2_0000;

const LOCAL_APIC: u64 = layout::LOCAL_APIC as u64;
const IO_APIC: u64 = layout::IO_APIC as u64;

#[test]
fn an_interrupt_of_a_device_reaches_the_guest_each_time() {
    let entry = 0x10 + 2 * LINE;
    let code = Code::default()
        .rdi(IDT + 0x800)
        .raw(&[0x0f, 0x01, 0x1f]) // lidt [rdi]
        .store(LOCAL_APIC + 0xf0, 0x1ff) // the local APIC is on
        .store(IO_APIC, entry + 1)
        .store(IO_APIC + 0x10, 0) // to the first processor
        .store(IO_APIC, entry)
        .store(IO_APIC + 0x10, VECTOR as u32) // edge
        .raw(&[0xfb]) // sti
        .out(0x70, 0)
        .raw(&[0xf4, 0xeb, 0xfd]); // hlt, again and again
    let handler = Code::default()
        .out(0x71, 0)
        .store(LOCAL_APIC + 0xb0, 0) // it is dealt with
        .raw(&[0x48, 0xcf]); // iretq
    let Some(guest) = guest(&code) else { return };
    guest.memory.write_slice(&handler.0, GuestAddress(HANDLER)).unwrap();
    let gate = (HANDLER & 0xffff)
        | u64::from(registers::CODE) << 16
        | 0x8e00 << 32
        | (HANDLER >> 16 & 0xffff) << 48;
    guest.memory.write_obj([gate, HANDLER >> 32], GuestAddress(IDT + VECTOR * 16)).unwrap();
    guest.memory.write_obj(0x7ff_u16, GuestAddress(IDT + 0x800)).unwrap();
    guest.memory.write_obj(IDT, GuestAddress(IDT + 0x802)).unwrap();

    let interrupt = guest.kvm.interrupt(LINE).unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut vcpu = guest.kvm.vcpu(0, Some(START)).unwrap();
            sender.send(vcpu.kick()).unwrap();
            assert_eq!(vcpu.run(&guest.record).unwrap(), Stop::Kicked);
        });
        let _kick = KickAtEnd(receiver.recv().unwrap());
        guest.record.wait(|access| matches!(access, Access::PortWrite(0x70, _)));
        for times in 1..=3 {
            interrupt.raise();
            let handled = || {
                let all = guest.record.all();
                all.iter().filter(|access| matches!(access, Access::PortWrite(0x71, _))).count()
            };
            guest.record.wait(|_| handled() == times);
        }
    });
}

#[test]
fn a_notification_signals_its_event_and_every_other_write_comes_out() {
    let code = Code::default()
        .store(NOWHERE + 0x50, 3)
        .store(NOWHERE + 0x50, 4) // another value
        .raw(&[0x66, 0xb8, 3, 0, 0x66, 0x89, 0x07]) // the value, in 16 bits
        .store(NOWHERE + 0x54, 3) // another address
        .end();
    let Some(guest) = guest(&code) else { return };
    let event = Event::new().unwrap();
    assert!(guest.kvm.notify(NOWHERE + 0x50, 3, &event).unwrap());
    assert_eq!(
        guest.accesses(),
        [
            Access::Write(NOWHERE + 0x50, vec![4, 0, 0, 0]),
            Access::Write(NOWHERE + 0x50, vec![3, 0]),
            Access::Write(NOWHERE + 0x54, vec![3, 0, 0, 0]),
        ]
    );
    assert!(event.clear());
}

#[test]
fn a_processor_starts_another_one_where_it_says() {
    let start = |mode: u32| {
        Code::default()
            .store(LOCAL_APIC + 0xf0, 0x1ff)
            .store(LOCAL_APIC + 0x310, 1 << 24) // to the second processor
            .store(LOCAL_APIC + 0x300, mode)
    };
    let init = start(0x4500).0;
    let startup = start(0x4600 | (REAL_MODE >> 12) as u32).0;
    let code = Code::default().raw(&init).raw(&startup).raw(&[0xf4, 0xeb, 0xfd]);
    let Some(guest) = guest(&code) else { return };
    let second = Code::default().out(0x72, 7).end();
    guest.memory.write_slice(&second.0, GuestAddress(REAL_MODE)).unwrap();
    let (sender, receiver) = mpsc::channel();
    let both_are_there = Barrier::new(2);
    thread::scope(|scope| {
        for id in 0..2 {
            let (sender, guest, both_are_there) = (sender.clone(), &guest, &both_are_there);
            scope.spawn(move || {
                let mut vcpu = guest.kvm.vcpu(id, (id == 0).then_some(START)).unwrap();
                sender.send(vcpu.kick()).unwrap();
                both_are_there.wait();
                vcpu.run(&guest.record).unwrap()
            });
        }
        let _kicks: Vec<_> = receiver.iter().take(2).map(KickAtEnd).collect();
        guest.record.wait(|access| *access == Access::PortWrite(0x72, vec![7]));
    });
}
