//! What makes a processor leave the guest.

use crate::guest::{Access, CODE, Code, KickAtEnd, NOWHERE, START, guest};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use vmm::Error;
use vmm::hypervisor::{Stop, Vm};

#[test]
fn ports_are_written_and_read_in_every_width() {
    let code = Code::default()
        .eax(0x4433_2211)
        .raw(&[0xe6, 0x70]) // out 0x70, al
        .raw(&[0x66, 0xe7, 0x71]) // out 0x71, ax
        .raw(&[0xe7, 0x72]) // out 0x72, eax
        .raw(&[0xe5, 0x73]) // in eax, 0x73
        .raw(&[0xe7, 0x74]) // out 0x74, eax
        .end();
    let Some(guest) = guest(&code) else { return };
    assert_eq!(
        guest.accesses(),
        [
            Access::PortWrite(0x70, vec![0x11]),
            Access::PortWrite(0x71, vec![0x11, 0x22]),
            Access::PortWrite(0x72, vec![0x11, 0x22, 0x33, 0x44]),
            Access::PortRead(0x73, 4),
            Access::PortWrite(0x74, vec![1, 2, 3, 4]),
        ]
    );
}

#[test]
fn a_string_to_a_port_is_one_access_an_item() {
    let code = Code::default()
        .raw(&[0x48, 0xbe])
        .raw(&CODE.to_le_bytes()) // mov rsi, CODE
        .raw(&[0xb9, 3, 0, 0, 0]) // mov ecx, 3
        .raw(&[0x66, 0xba, 0x70, 0]) // mov dx, 0x70
        .raw(&[0xf3, 0x66, 0x6f]) // rep outsw
        .end();
    let Some(guest) = guest(&code) else { return };
    assert_eq!(
        guest.accesses(),
        [
            Access::PortWrite(0x70, vec![0x48, 0xbe]),
            Access::PortWrite(0x70, vec![0x00, 0x00]),
            Access::PortWrite(0x70, vec![0x10, 0x00]),
        ]
    );
}

#[test]
fn memory_that_is_none_is_written_and_read_in_every_width() {
    let code = Code::default()
        .rdi(NOWHERE)
        .raw(&[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8]) // mov rax, …
        .raw(&[0x88, 0x07]) // mov [rdi], al
        .raw(&[0x66, 0x89, 0x07]) // mov [rdi], ax
        .raw(&[0x89, 0x07]) // mov [rdi], eax
        .raw(&[0x48, 0x89, 0x07]) // mov [rdi], rax
        .raw(&[0x48, 0x8b, 0x47, 0x10]) // mov rax, [rdi + 16]
        .raw(&[0xe7, 0x70]) // out 0x70, eax
        .end();
    let Some(guest) = guest(&code) else { return };
    assert_eq!(
        guest.accesses(),
        [
            Access::Write(NOWHERE, vec![1]),
            Access::Write(NOWHERE, vec![1, 2]),
            Access::Write(NOWHERE, vec![1, 2, 3, 4]),
            Access::Write(NOWHERE, vec![1, 2, 3, 4, 5, 6, 7, 8]),
            Access::Read(NOWHERE + 16, 8),
            Access::PortWrite(0x70, vec![1, 2, 3, 4]),
        ]
    );
}

#[test]
fn a_fault_that_nobody_handles_resets_the_machine() {
    let Some(guest) = guest(&Code::default().raw(&[0x0f, 0x0b])) else { return };
    assert_eq!(guest.run().unwrap(), Stop::Reset);
}

#[test]
fn what_the_hypervisor_cannot_do_is_an_error_that_names_the_processor() {
    // Instructions are fetched from where no memory is.
    let code = Code::default().rdi(NOWHERE).raw(&[0xff, 0xe7]);
    let Some(guest) = guest(&code) else { return };
    let error = guest.run().unwrap_err();
    assert!(matches!(error, Error::Vcpu { vcpu: 0, .. }), "{error}");
}

#[test]
fn a_processor_that_never_leaves_the_guest_is_kicked_out() {
    // An endless loop, and one that sleeps.
    for forever in [&[0xeb, 0xfe][..], &[0xf4, 0xeb, 0xfd]] {
        let Some(guest) = guest(&Code::default().out(0x70, 0).raw(forever)) else { return };
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            let runner = scope.spawn(|| {
                let mut vcpu = guest.kvm.vcpu(0, Some(START)).unwrap();
                sender.send(vcpu.kick()).unwrap();
                vcpu.run(&guest.record)
            });
            let kick = KickAtEnd(receiver.recv().unwrap());
            guest.record.wait(|access| matches!(access, Access::PortWrite(0x70, _)));
            thread::sleep(Duration::from_millis(20));
            kick.0.kick();
            assert_eq!(runner.join().unwrap().unwrap(), Stop::Kicked);
            // Kicking it again, now that it is gone, is harmless.
        });
    }
}

#[test]
fn a_kick_before_the_run_is_not_lost() {
    let Some(guest) = guest(&Code::default().raw(&[0xeb, 0xfe])) else { return };
    let mut vcpu = guest.kvm.vcpu(0, Some(START)).unwrap();
    vcpu.kick().kick();
    assert_eq!(vcpu.run(&guest.record).unwrap(), Stop::Kicked);
}

#[test]
fn kicks_at_any_moment_stop_a_processor() {
    let Some(guest) = guest(&Code::default().raw(&[0xe6, 0x70, 0xeb, 0xfc])) else { return };
    for (id, pause) in [(0, 0), (1, 50), (2, 200), (3, 1000)] {
        thread::scope(|scope| {
            let mut vcpu = guest.kvm.vcpu(id, Some(START)).unwrap();
            let kick = vcpu.kick();
            scope.spawn(move || {
                thread::sleep(Duration::from_micros(pause));
                kick.kick();
            });
            assert_eq!(vcpu.run(&guest.record).unwrap(), Stop::Kicked);
        });
    }
}
