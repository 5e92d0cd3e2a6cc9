//! What the kernel's command line says to init: words `osxfs.NAME=VALUE`. The environment variable
//! `OSXFS_INIT` may hold more of them, which win.

use protocol::Address;
use protocol::guest::{CONTROL_PORT, FILES_PORT};
use tracing::warn;

/// The context id of the host (linux/vm_sockets.h).
const HOST: u32 = 2;

/// How init finds the host, and what it does beside its job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    /// The monitor (`osxfs.control=ADDRESS`).
    pub control: Address,
    /// The file server (`osxfs.server=ADDRESS`).
    pub server: Address,
    /// What is logged on the console (`osxfs.log=debug`).
    pub log: Option<String>,
    /// Whether there is a shell on the console where no command is to run (`osxfs.shell`).
    pub shell: bool,
    /// Which console that is, if it is not the kernel's own (`osxfs.shell=hvc0`).
    pub console: Option<String>,
}

impl Settings {
    /// Those of the running kernel and this process.
    pub fn of_this_guest() -> Self {
        let mut words = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        if let Ok(more) = std::env::var("OSXFS_INIT") {
            words.push(' ');
            words.push_str(&more);
        }
        Self::parse(&words)
    }

    fn parse(words: &str) -> Self {
        let host = |port| Address::Vsock { cid: HOST, port };
        let mut settings = Self {
            control: host(CONTROL_PORT),
            server: host(FILES_PORT),
            log: None,
            shell: false,
            console: None,
        };
        for word in words.split_ascii_whitespace() {
            let Some(word) = word.strip_prefix("osxfs.") else { continue };
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let address = |target: &mut Address| match value.parse() {
                Ok(address) => *target = address,
                Err(error) => warn!("osxfs.{name}: {error}"),
            };
            match name {
                "control" => address(&mut settings.control),
                "server" => address(&mut settings.server),
                "log" => settings.log = Some(value.to_owned()),
                "shell" => {
                    settings.shell = true;
                    settings.console = (!value.is_empty()).then(|| value.to_owned());
                }
                _ => {}
            }
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_words_everything_comes_from_the_host() {
        let settings = Settings::parse("console=ttyS0 root=/dev/vda osxfs. osxfs.other=1");
        assert_eq!(settings.control.to_string(), "vsock:2:1526");
        assert_eq!(settings.server.to_string(), "vsock:2:1525");
        assert_eq!((settings.log, settings.shell), (None, false));
    }

    #[test]
    fn the_last_word_of_a_name_counts_and_a_bad_address_does_not() {
        let settings = Settings::parse(
            "osxfs.control=unix:/a osxfs.control=unix:/b osxfs.server=nonsense osxfs.log=debug osxfs.shell",
        );
        assert_eq!(settings.control.to_string(), "unix:/b");
        assert_eq!(settings.server.to_string(), "vsock:2:1525");
        assert_eq!((settings.log.as_deref(), settings.shell), (Some("debug"), true));
        assert_eq!(settings.console, None);
        let settings = Settings::parse("osxfs.shell=hvc0");
        assert_eq!((settings.shell, settings.console.as_deref()), (true, Some("hvc0")));
    }
}
