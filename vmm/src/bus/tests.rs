//! Which device an access reaches, and that two never share a place.

use super::*;
use parking_lot::Mutex;

#[derive(Default)]
struct Register(Mutex<Vec<(u64, Vec<u8>)>>);

impl BusDevice for Register {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(offset as u8);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.lock().push((offset, data.to_vec()));
    }
}

fn read(bus: &Bus, address: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0x55; len];
    bus.read(address, &mut data);
    data
}

#[test]
fn an_access_reaches_the_device_at_its_address_with_the_offset_in_it() {
    let (low, high) = (Arc::new(Register::default()), Arc::new(Register::default()));
    let mut bus = Bus::default();
    bus.insert(0x200, 0x10, high.clone()).unwrap();
    bus.insert(0x100, 0x10, low.clone()).unwrap();
    assert_eq!(read(&bus, 0x10f, 1), [0x0f]);
    assert_eq!(read(&bus, 0x204, 4), [4; 4]);
    bus.write(0x104, &[1, 2]);
    assert_eq!(*low.0.lock(), [(4, vec![1, 2])]);
    assert!(high.0.lock().is_empty());
}

#[test]
fn where_nothing_is_all_bits_read_as_one_and_writes_are_lost() {
    let mut bus = Bus::default();
    let device = Arc::new(Register::default());
    bus.insert(0x100, 0x10, device.clone()).unwrap();
    for address in [0, 0xff, 0x110, u64::MAX] {
        assert_eq!(read(&bus, address, 1), [0xff]);
        bus.write(address, &[1]);
    }
    assert!(device.0.lock().is_empty());
}

#[test]
fn an_access_across_the_end_of_a_device_does_not_reach_it() {
    let mut bus = Bus::default();
    let device = Arc::new(Register::default());
    bus.insert(0x100, 0x10, device.clone()).unwrap();
    assert_eq!(read(&bus, 0x10e, 4), [0xff; 4]);
    assert_eq!(read(&bus, 0xfe, 4), [0xff; 4]);
    bus.write(0x10e, &[0; 4]);
    assert!(device.0.lock().is_empty());
}

#[test]
fn two_devices_cannot_share_an_address() {
    let mut bus = Bus::default();
    let device: Arc<dyn BusDevice> = Arc::new(Register::default());
    bus.insert(0x100, 0x10, device.clone()).unwrap();
    for (start, len) in [(0x100, 0x10), (0xf8, 9), (0x10f, 1), (0, 0x1000), (u64::MAX, 2)] {
        let error = bus.insert(start, len, device.clone()).unwrap_err();
        assert!(matches!(error, Error::Overlap { address } if address == start), "{start:#x}");
    }
    bus.insert(0x110, 1, device.clone()).unwrap();
    bus.insert(0xff, 1, device).unwrap();
}
