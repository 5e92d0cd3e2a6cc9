//! How a guest ends: ACPI's sleep registers, and the keyboard controller's reset command.

use crate::bus::BusDevice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The sleep type of "soft off", as the ACPI tables announce it (`\_S5`).
pub const SLEEP_TYPE_OFF: u8 = 5;

/// What the guest has asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// To be off.
    Off,
    /// To begin again.
    Reset,
}

/// Remembers the first wish.
#[derive(Debug, Default)]
pub struct Power {
    wish: AtomicU8,
}

const NONE: u8 = 0;
const OFF: u8 = 1;
const RESET: u8 = 2;

impl Power {
    /// Nothing is wished for yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The guest's wish, if it has one.
    pub fn wish(&self) -> Option<Wish> {
        match self.wish.load(Ordering::SeqCst) {
            OFF => Some(Wish::Off),
            RESET => Some(Wish::Reset),
            _ => None,
        }
    }

    /// Wishes for the guest, unless it has done so.
    fn set(&self, wish: u8) {
        _ = self.wish.compare_exchange(NONE, wish, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The command port of the keyboard controller: it only resets.
    pub fn keyboard_controller(self: &Arc<Self>) -> impl BusDevice + use<> {
        KeyboardController(self.clone())
    }

    /// `SLEEP_CONTROL_REG` and, behind it, `SLEEP_STATUS_REG` (ACPI 6.5, 4.8.3.7).
    pub fn sleep_registers(self: &Arc<Self>) -> impl BusDevice + use<> {
        SleepRegisters(self.clone())
    }
}

struct KeyboardController(Arc<Power>);

/// "Pulse output line 0", which is wired to the processor's reset.
const PULSE_RESET: u8 = 0xfe;

impl BusDevice for KeyboardController {
    /// Status: nothing to read, ready for a command.
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        if data == [PULSE_RESET] {
            self.0.set(RESET);
        }
    }
}

struct SleepRegisters(Arc<Power>);

/// `SLP_EN` of the control register.
const SLEEP_ENABLE: u8 = 1 << 5;
/// Where `SLP_TYP`, three bits, begins.
const SLEEP_TYPE_SHIFT: u8 = 2;
const SLEEP_TYPE_MASK: u8 = 7;

impl BusDevice for SleepRegisters {
    /// Nothing is remembered: the guest never wakes up from anything.
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let (0, &[control]) = (offset, data) else { return };
        let kind = control >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK;
        if control & SLEEP_ENABLE != 0 && kind == SLEEP_TYPE_OFF {
            self.0.set(OFF);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_off_is_a_wish_to_be_off() {
        let power = Power::new();
        let registers = power.sleep_registers();
        // Not enabled, other types, the status register, a wide write.
        registers.write(0, &[5 << 2]);
        registers.write(0, &[1 << 5 | 3 << 2]);
        registers.write(1, &[1 << 5 | 5 << 2]);
        registers.write(0, &[1 << 5 | 5 << 2, 0]);
        assert_eq!(power.wish(), None);
        registers.write(0, &[1 << 5 | 5 << 2]);
        assert_eq!(power.wish(), Some(Wish::Off));
    }

    #[test]
    fn the_reset_command_is_a_wish_to_begin_again_and_the_first_wish_holds() {
        let power = Power::new();
        let (keyboard, sleep) = (power.keyboard_controller(), power.sleep_registers());
        keyboard.write(0, &[0xd1]);
        assert_eq!(power.wish(), None);
        keyboard.write(0, &[0xfe]);
        sleep.write(0, &[1 << 5 | 5 << 2]);
        assert_eq!(power.wish(), Some(Wish::Reset));
    }
}
