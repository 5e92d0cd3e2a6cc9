//! A guest's network card, joined to passt: an address by DHCP, and the host's services.

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;

use super::host::{run, texts, vm};
use crate::support::{Daemon, PROMPT, Scratch, Suite, eventually};

/// What passt has for a guest is what the host has: an address, a way out, a name server.
const NETWORK: &str = "ip link add outside type dummy && ip addr add 10.7.0.2/24 dev outside && \
    ip link set outside up && ip route add default via 10.7.0.1 && \
    echo nameserver 10.7.0.1 > /etc/resolv.conf && \
    mkdir /run/root && mount --rbind / /run/root";
/// passt leaves its root for another, and an initial file system cannot be left; nor may a program do so
/// that stands in a `chroot`. So its root is moved over the initial one, as where a system boots.
const IN_A_ROOT: &str = "cd /run/root; mount --move . /; exec chroot . \"$@\"";
const ADDRESS: &str = "10.7.0.2/24";
/// By the gateway's address a guest reaches the host itself.
const GATEWAY: &str = "10.7.0.1";
const GREETING: &str = "hello from a service of the host";

pub fn a_network_card_has_an_address_and_reaches_the_host() {
    Suite::run("the host's network", PROMPT, Command::new("sh").args(["-ec", NETWORK])).succeeds();
    let scratch = Scratch::new();
    let socket = scratch.path().join("passt");
    let mut passt = Command::new("sh");
    passt
        .args([
            "-ec",
            IN_A_ROOT,
            "sh",
            "passt",
            "--foreground",
            "--runas",
            "0",
            "--ipv4-only",
            "--socket",
        ])
        .arg(&socket);
    let passt = Daemon::spawn("passt", passt, super::LIMIT);
    eventually("passt's socket", PROMPT, || socket.exists());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a guest");
        stream.write_all(GREETING.as_bytes()).expect("sent");
    });
    // An input that never ends: to a guest that closes its half first, Debian 12's passt often does not
    // tell the other's end (to QEMU's own card neither).
    let script = format!(
        "ip -4 addr show eth0 | grep -o 'inet [^ ]*'; ip route | grep -o 'default via [^ ]*'
        mkfifo /tmp/open; timeout 120 nc {GATEWAY} {port} 0<> /tmp/open"
    );
    let net = socket.display().to_string();
    let output = run(vm().args(["--net", &net, "--", "sh", "-euc", &script]), b"");
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{out}\n{err}\n{}", passt.report());
    assert_eq!(out, format!("inet {ADDRESS}\ndefault via {GATEWAY}\n{GREETING}"));
}
