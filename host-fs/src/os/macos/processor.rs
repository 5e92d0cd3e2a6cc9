//! Threads go where the system sends them: it cannot be told a processor.

/// See [`crate::os::Movable`].
#[derive(Clone, Copy, Debug)]
pub enum Movable {}

impl Movable {
    /// See there.
    pub fn this() -> Option<Self> {
        None
    }

    /// See there.
    pub fn number(&self) -> u32 {
        match *self {}
    }

    /// See there.
    pub fn keep_to(&self, _: u16) -> bool {
        match *self {}
    }

    /// See there.
    pub fn free(&self) {
        match *self {}
    }

    /// See there.
    pub fn wants_to_run(&self) -> bool {
        match *self {}
    }
}

pub fn boot_id() -> String {
    String::new()
}

pub fn leave_inherited_place() {}
