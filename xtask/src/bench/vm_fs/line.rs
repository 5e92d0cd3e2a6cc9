//! What the host and the guest say to each other, in lines through a serial port of virtio, which takes
//! no part in what is measured.
//!
//! ```text
//! host                          guest
//!                             ◀ ready
//! step 3 1                    ▶            the fourth step, on the second file system
//!                             ◀ used       what has the server used?
//! 0.25                        ▶
//!                             ◀ wire       how many requests has it had?
//! 118                         ▶
//!                             ◀ forget     write out, drop your caches
//! done                        ▶
//!                             ◀ sample {"row": …}
//!                             ◀ end        or: fail, and why
//! off                         ▶
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::daemon::Used;
use super::super::fs::measure::Sample;
use super::super::fs::mounted::Requests;
use super::super::fs::rows::Row;

/// Longer than any step is silent, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(900);
/// Of the port.
pub const PORT_NAME: &str = "bench";
/// Where the guest's kernel lists such ports.
const PORTS: &str = "/sys/class/virtio-ports";

pub const READY: &str = "ready";
pub const OFF: &str = "off";
pub const END: &str = "end";
pub const STEP: &str = "step ";
pub const SAMPLE: &str = "sample ";
pub const FAIL: &str = "fail ";
/// What the guest asks.
pub const USED: &str = "used";
pub const WIRE: &str = "wire";
pub const FORGET: &str = "forget";

/// One end.
pub struct Line {
    input: BufReader<File>,
    output: File,
}

impl Line {
    /// The host's, at QEMU's socket.
    pub fn to_guest(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("QEMU does not take a connection")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::over(OwnedFd::from(stream).into())
    }

    pub fn to_host() -> Result<Self> {
        let mut ports = fs::read_dir(PORTS).context(PORTS)?;
        let port = ports.next().context("the guest has no serial port of virtio")??;
        let port = Path::new("/dev").join(port.file_name());
        let file = OpenOptions::new().read(true).write(true).open(&port);
        Self::over(file.with_context(|| port.display().to_string())?)
    }

    fn over(file: File) -> Result<Self> {
        Ok(Self { input: BufReader::new(file.try_clone()?), output: file })
    }

    pub fn say(&mut self, text: &str) -> Result<()> {
        self.output.write_all(format!("{text}\n").as_bytes()).context("the other end is gone")
    }

    pub fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        self.input.read_line(&mut line).context("the other end is silent")?;
        ensure!(line.ends_with('\n'), "the other end is gone");
        Ok(line.trim_end().to_owned())
    }

    /// What the other end answers.
    pub fn ask(&mut self, question: &str) -> Result<f64> {
        self.say(question)?;
        let answer = self.hear()?;
        answer.parse().with_context(|| format!("{question:?} is answered by {answer:?}"))
    }
}

/// A sample as it is said.
pub fn sample_to_text(Sample { row, seconds, requests, interrupts, used }: &Sample) -> String {
    let requests = requests.map(|Requests { kernel, wire }| [kernel, wire]);
    let used: Vec<_> = used.iter().map(|used| used.time.as_secs_f64()).collect();
    let row = format!("{row:?}");
    let figures = json!({
        "row": row, "seconds": seconds, "requests": requests, "interrupts": interrupts,
        "used": used,
    });
    figures.to_string()
}

/// The sample that was said, of a file system that these processes serve.
pub fn sample_of_text(text: &str, processes: &[&'static str]) -> Result<Sample> {
    let value: Value = serde_json::from_str(text)?;
    let identifier = value["row"].as_str().unwrap_or_default();
    let row =
        Row::called(identifier).with_context(|| format!("no row is called {identifier:?}"))?;
    let seconds = value["seconds"].as_f64().context("a sample without a time")?;
    let count = |index: usize| value["requests"][index].as_f64();
    let requests = count(0).zip(count(1)).map(|(kernel, wire)| Requests { kernel, wire });
    let interrupts = value["interrupts"].as_f64();
    let times = value["used"].as_array().context("a sample without processor times")?;
    let used = times.iter().zip(processes).filter_map(|(time, name)| {
        Some(Used { name, time: Duration::try_from_secs_f64(time.as_f64()?).ok()? })
    });
    Ok(Sample { row, seconds, requests, interrupts, used: used.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_arrives_as_it_was_taken() {
        let used = vec![Used { name: "server", time: Duration::from_millis(250) }];
        for requests in [None, Some(Requests { kernel: 45.0, wire: 0.5 })] {
            let sample = Sample {
                row: Row::GrepWarm,
                seconds: 0.125,
                requests,
                interrupts: requests.map(|requests| requests.wire),
                used: used.clone(),
            };
            let text = sample_to_text(&sample);
            assert!(!text.contains('\n'));
            let arrived = sample_of_text(&text, &["server"]).expect("readable");
            assert_eq!(sample_to_text(&arrived), text);
            assert_eq!((arrived.row, arrived.used[0].name), (sample.row, "server"));
        }
        assert!(
            sample_of_text("{\"row\": \"Nothing\", \"seconds\": 1, \"used\": []}", &[]).is_err()
        );
    }
}
