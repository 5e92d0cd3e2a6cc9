//! What runs in the guest: the steps of `bench fs`, on what is mounted there, as the host asks for them.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::super::daemon::{Used, processor_time};
use super::super::fs::contest::{IN_A_GUEST, System};
use super::super::fs::material::Material;
use super::super::fs::measure::Meter;
use super::super::fs::mounted::{Mounted, Requests, drop_caches};
use super::super::fs::steps::STEPS;
use super::line::{self, Line};
use super::{NPM_CACHE, OSXFS, devices, processes, sizes};

/// The runtime folder of the agent, from `guest-init.sh`.
const RUNTIME_DIR: &str = "/run/osxfs";

#[derive(clap::Args)]
pub struct Options {
    /// The agent's process
    #[arg(long)]
    agent: i32,
    #[arg(long)]
    quick: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let material = Material {
        sizes: sizes(options.quick),
        npm_cache: NPM_CACHE.into(),
        // There is no compiler, and nothing to build.
        cargo: PathBuf::new(),
    };
    let line = RefCell::new(Line::to_host()?);
    line.borrow_mut().say(line::READY)?;
    loop {
        let asked = line.borrow_mut().hear()?;
        if asked == line::OFF {
            return Ok(());
        }
        let Some((step, system)) = asked.strip_prefix(line::STEP).and_then(numbers) else {
            bail!("the host asks for {asked:?}");
        };
        let step = STEPS.get(step).context("no such step")?;
        let system = *IN_A_GUEST.systems.get(system).context("no such file system")?;
        let mounted = InTheGuest { system, agent: options.agent, line: &line };
        let mut meter = Meter::new(&mounted);
        let outcome = (step.run)(&mut meter, &material);
        let mut line = line.borrow_mut();
        for sample in &meter.samples {
            line.say(&format!("{}{}", line::SAMPLE, line::sample_to_text(sample)))?;
        }
        match outcome {
            Ok(()) => line.say(line::END)?,
            Err(error) => line.say(&format!("{}{error:#}", line::FAIL).replace('\n', " "))?,
        }
    }
}

fn numbers(text: &str) -> Option<(usize, usize)> {
    let (step, system) = text.split_once(' ')?;
    Some((step.parse().ok()?, system.parse().ok()?))
}

/// A file system of the guest; its server is the host's.
struct InTheGuest<'a> {
    system: System,
    agent: i32,
    line: &'a RefCell<Line>,
}

impl InTheGuest<'_> {
    fn ask(&self, question: &str) -> Result<f64> {
        self.line.borrow_mut().ask(question)
    }
}

impl Mounted for InTheGuest<'_> {
    fn path(&self) -> &Path {
        Path::new(match self.system {
            System::VirtioSock => "/m/osxfs",
            System::VirtiofsdAuto => "/m/auto",
            System::VirtiofsdAlways => "/m/always",
            System::NineP => "/m/ninep",
            _ => "/m/local",
        })
    }

    fn processor_time(&self) -> Result<Vec<Used>> {
        let [server, rest @ ..] = processes(self.system) else { return Ok(Vec::new()) };
        let time = Duration::try_from_secs_f64(self.ask(line::USED)?)?;
        let mut used = vec![Used { name: server, time }];
        for name in rest {
            used.push(Used { name, time: processor_time(self.agent)? });
        }
        Ok(used)
    }

    fn requests(&self) -> Result<Option<Requests>> {
        if !IN_A_GUEST.ours.contains(&self.system) {
            return Ok(None);
        }
        let here = Requests::of(Path::new(OSXFS), Path::new(RUNTIME_DIR))?;
        Ok(Some(Requests { wire: self.ask(line::WIRE)?, ..here }))
    }

    fn interrupts(&self) -> Result<Option<f64>> {
        let (driver, rank) = match self.system {
            System::VirtioSock => ("vmw_vsock_virtio_transport", 0),
            System::VirtiofsdAuto => ("virtiofs", 0),
            System::VirtiofsdAlways => ("virtiofs", 1),
            System::NineP => ("9pnet_virtio", 0),
            _ => ("virtio_blk", 0),
        };
        devices::interrupts(driver, rank).map(Some)
    }

    fn forget(&self) -> Result<()> {
        drop_caches()?;
        self.ask(line::FORGET).map(drop)
    }
}
