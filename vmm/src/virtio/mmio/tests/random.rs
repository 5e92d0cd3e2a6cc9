//! Random writes to registers.

use super::*;
use proptest::prelude::*;

/// Registers that matter, and others.
fn any_register() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => prop::sample::select(vec![
            VIRTIO_MMIO_STATUS, VIRTIO_MMIO_QUEUE_SEL, VIRTIO_MMIO_QUEUE_NUM,
            VIRTIO_MMIO_QUEUE_READY, VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_DRIVER_FEATURES_SEL,
            VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_USED_LOW,
            VIRTIO_MMIO_QUEUE_DESC_HIGH,
        ]),
        1 => (0_u32..64).prop_map(|n| n * 4),
    ]
}

fn any_value() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => prop::sample::select(vec![0, 1, 3, 11, 15, 16, 64, 128, 0x10_0000, 0x10_8000, 0x10_a000]),
        1 => any::<u32>(),
    ]
}

proptest! {
    #[test]
    fn whatever_is_written_the_state_is_a_possible_one(
        writes in prop::collection::vec((any_register(), any_value()), 1..200),
        along_the_way in any::<bool>(),
    ) {
        let setup = setup();
        if along_the_way {
            negotiate(&setup, FEATURES_OK);
        }
        for (register, value) in writes {
            set(&setup.transport, register, value);
            let state = setup.transport.state.lock();
            let registers = &state.registers;
            let path = registers.status() - Status::NEEDS_RESET - Status::FAILED;
            prop_assert!([0, 1, 3, 11, 15].contains(&path.bits()), "{path:?}");
            if path.contains(Status::FEATURES_OK) {
                let features = registers.features();
                prop_assert_eq!(features & !(0b101 | 1 << 40 | FEATURES), 0);
                prop_assert_ne!(features & VERSION_1, 0);
            }
            let active = setup.counts.active.load(Ordering::SeqCst);
            prop_assert_eq!(active, path.contains(Status::DRIVER_OK));
            for queue in registers.queues(&setup.driver.memory) {
                let ready = virtio_queue::QueueT::ready(&queue);
                let valid = virtio_queue::QueueT::is_valid(&queue, &setup.driver.memory);
                prop_assert!(!ready || valid);
            }
        }
    }
}
