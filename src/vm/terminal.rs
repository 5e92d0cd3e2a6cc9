//! The terminal that the command was started in: raw while the guest has it, and as it was
//! afterwards, whatever the way out.

use anyhow::{Context, Result};
use protocol::guest::WindowSize;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{stdin, stdout};

/// Whether input and output are both of a terminal.
pub fn is_ours() -> bool {
    isatty(stdin()) && isatty(stdout())
}

/// Its size.
pub fn size() -> WindowSize {
    let unknown = WindowSize { columns: 80, rows: 24 };
    tcgetwinsize(stdout()).map_or(unknown, |size| match (size.ws_col, size.ws_row) {
        (0, _) | (_, 0) => unknown,
        (columns, rows) => WindowSize { columns, rows },
    })
}

/// A raw terminal; cooked again when dropped.
pub struct Raw(Option<Termios>);

impl Raw {
    /// Makes it raw, if `wanted`.
    pub fn enter(wanted: bool) -> Result<Self> {
        if !wanted {
            return Ok(Self(None));
        }
        let before = tcgetattr(stdin()).context("cannot ask for the terminal's state")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).context("cannot make the terminal raw")?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(stdin(), OptionalActions::Drain, before);
        }
    }
}
