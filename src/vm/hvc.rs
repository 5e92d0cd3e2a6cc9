//! The guest's virtio console, `hvc0`: pipes between the device and [`console`](super::console). Unlike
//! the serial port it knows how large the window is, and takes a whole line at once.

use super::console::{Open, Sink};
use super::terminal;
use anyhow::{Context, Result};
use std::io::{self, Read, Write, pipe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use vmm::virtio::console::{Console, Overflow, Size};

/// The end of it that is ours.
pub struct Hvc {
    /// By which the guest is told the size of the window.
    pub size: Size,
    /// Where goes what is typed.
    pub sink: Sink,
    output: JoinHandle<()>,
}

impl Hvc {
    /// A device, and our end of it. What the guest prints goes to `console` until the device is gone.
    pub fn new(console: &Open, in_a_window: bool) -> Result<(Console, Self)> {
        let pipe = || pipe().context("no pipe for the guest's console");
        let ((from_us, typed), (mut printed, to_us)) = (pipe()?, pipe()?);
        let device = Console::new(Some(from_us.into()), to_us.into(), Overflow::Wait);
        let size = device.size();
        if in_a_window {
            let now = terminal::size();
            size.set(now.columns, now.rows);
        }
        let mut output = console.output();
        let show = move || {
            let mut chunk = [0; 4096];
            loop {
                match printed.read(&mut chunk) {
                    Ok(0) => return,
                    // Where nobody reads it any more the guest is not to wait.
                    Ok(len) => drop(output.write_all(chunk.get(..len).unwrap_or_default())),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
                let _ = output.flush();
            }
        };
        let output = thread::Builder::new().name("osxfs-hvc".into()).spawn(show)?;
        // Fails when the device has closed its end.
        let sink = Arc::new(move |bytes: &[u8]| (&typed).write_all(bytes).is_ok());
        Ok((device, Self { size, sink, output }))
    }

    /// The device is gone: waits until its last words are out.
    pub fn finish(self) {
        drop(self.sink);
        let _ = self.output.join();
    }
}
