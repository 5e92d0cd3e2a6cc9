//! Seccomp, which decides by system call, and Landlock, which decides by file. A call that is not
//! allowed fails with `EPERM`, and nothing else happens: a C library that tries something new should
//! not end somebody's guest.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError,
    RulesetStatus,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};
use std::env::consts::ARCH;
use std::sync::OnceLock;

/// Confines this thread and those that it will start. Where the kernel lacks something the rest
/// holds, and the log tells.
pub fn confine() {
    // Looked up in a file when first asked for, by whoever gives memory back: now, while files open.
    _ = rustix::param::page_size();
    if let Err(error) = deny_files() {
        tracing::warn!(%error, "no Landlock around the guest");
    }
    static FILTER: OnceLock<Option<BpfProgram>> = OnceLock::new();
    let filter = FILTER.get_or_init(|| {
        filter().inspect_err(|error| tracing::warn!(%error, "no seccomp around the guest")).ok()
    });
    if let Some(filter) = filter
        && let Err(error) = seccompiler::apply_filter(filter)
    {
        tracing::warn!(%error, "no seccomp around the guest");
    }
}

/// No file, no directory and no port of TCP, as far as the kernel knows to tell.
fn deny_files() -> Result<(), RulesetError> {
    let abi = ABI::V5;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .create()?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        tracing::debug!("this kernel has no Landlock");
    }
    Ok(())
}

/// Calls that work with what is there already, whatever their arguments.
const FREE: &[libc::c_long] = &[
    // Memory. What may run is told apart below.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads and their signals.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    // Open files.
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fallocate,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_statx,
    libc::SYS_sync_file_range,
    libc::SYS_write,
    libc::SYS_writev,
    // Open sockets.
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// `_IO(KVMIO, 0x80)`, and those that only tell a processor's state, of the kernel's `linux/kvm.h`.
const KVM_RUN: u64 = 0xae80;
const KVM_GET_REGS: u64 = 0x8090_ae81;
const KVM_GET_SREGS: u64 = 0x8138_ae83;
const KVM_GET_VCPU_EVENTS: u64 = 0x8040_ae9f;
/// `_IO(0x12, 119)` and `_IO(0x12, 127)` of `linux/fs.h`: a disk that is a block device.
const BLKDISCARD: u64 = 0x1277;
const BLKZEROOUT: u64 = 0x127f;

/// What devices and processors may tell a device of the host.
const CONTROLS: &[u64] = &[
    KVM_RUN,
    KVM_GET_REGS,
    KVM_GET_SREGS,
    KVM_GET_VCPU_EVENTS,
    libc::FIONBIO,
    libc::FIONREAD,
    libc::TCGETS,
    libc::TIOCGWINSZ,
    BLKDISCARD,
    BLKZEROOUT,
];

/// An argument of a call that has to be one of these.
fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    let dword = SeccompCmpArgLen::Dword;
    values
        .iter()
        .map(|value| SeccompCondition::new(argument, dword.clone(), SeccompCmpOp::Eq, *value))
        .map(|condition| SeccompRule::new(vec![condition?]))
        .collect()
}

/// An argument of a call that has none of these bits.
fn without(argument: u8, bits: u64) -> Result<Vec<SeccompRule>, BackendError> {
    let operator = SeccompCmpOp::MaskedEq(bits);
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, 0)?;
    Ok(vec![SeccompRule::new(vec![condition])?])
}

fn filter() -> Result<BpfProgram, BackendError> {
    let mut rules: Vec<(libc::c_long, Vec<SeccompRule>)> =
        FREE.iter().map(|call| (*call, Vec::new())).collect();
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    let name = u64::from(libc::PR_SET_NAME.unsigned_abs());
    #[cfg(target_arch = "x86_64")]
    rules.push((libc::SYS_newfstatat, {
        // What an open file is, as C libraries ask for it.
        let bit = u64::from(libc::AT_EMPTY_PATH.unsigned_abs());
        let operator = SeccompCmpOp::MaskedEq(bit);
        let condition = SeccompCondition::new(3, SeccompCmpArgLen::Dword, operator, bit)?;
        vec![SeccompRule::new(vec![condition])?]
    }));
    rules.extend([
        (libc::SYS_mmap, without(2, executable)?),
        (libc::SYS_mprotect, without(2, executable)?),
        (libc::SYS_ioctl, one_of(1, CONTROLS)?),
        (libc::SYS_socket, one_of(0, &[unix])?),
        (libc::SYS_socketpair, one_of(0, &[unix])?),
        // The second one names memory for those who look at it.
        (libc::SYS_prctl, one_of(0, &[name, u64::from(libc::PR_SET_VMA.unsigned_abs())])?),
    ]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        refused,
        SeccompAction::Allow,
        ARCH.try_into()?,
    )?;
    filter.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;
    use std::process::Command;
    use std::thread;

    /// Runs it on a thread that is confined, as all that it starts.
    fn confined<T: Send>(with: fn(), body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                with();
                body()
            });
            thread.join().unwrap()
        })
    }

    fn refused<T>(result: io::Result<T>) -> bool {
        matches!(result, Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }

    #[test]
    fn no_file_is_opened_and_no_program_started() {
        confined(confine, || {
            assert!(refused(File::open("/proc/self/status")));
            assert!(refused(File::create("/tmp/osxfs-must-not-be")));
            assert!(refused(std::fs::remove_file("/tmp/osxfs-must-not-be")));
            assert!(refused(Command::new("/bin/true").status()));
        });
        // Elsewhere in the process nothing has changed.
        assert!(File::open("/proc/self/status").is_ok());
        assert!(Command::new("/bin/true").status().unwrap().success());
    }

    #[test]
    fn only_sockets_of_this_host_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        confined(confine, || {
            assert!(refused(TcpStream::connect("127.0.0.1:1")));
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(b"hello").unwrap();
        });
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn what_is_open_can_be_worked_with_and_threads_inherit_the_limits() {
        let mut file = tempfile::tempfile().unwrap();
        confined(confine, || {
            file.write_all(b"data").unwrap();
            file.sync_all().unwrap();
            let inner = thread::Builder::new().name("inner".into());
            let inner = inner.spawn(|| refused(File::open("/proc/self/status"))).unwrap();
            assert!(inner.join().unwrap());
            let (mut a, mut b) = UnixStream::pair().unwrap();
            a.set_nonblocking(true).unwrap();
            a.write_all(b"x").unwrap();
            b.read_exact(&mut [0]).unwrap();
            // Memory, more than a page and less than all.
            assert_eq!(
                vec![1_u8; 8 << 20].iter().map(|byte| u64::from(*byte)).sum::<u64>(),
                8 << 20
            );
        });
        assert_eq!(file.metadata().unwrap().len(), 4);
    }

    #[test]
    fn memory_can_not_be_made_executable() {
        confined(confine, || {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let map =
                |access| vm_memory::MmapRegion::<()>::build(None, 4096, access, flags).is_ok();
            assert!(map(libc::PROT_READ | libc::PROT_WRITE));
            assert!(!map(libc::PROT_READ | libc::PROT_EXEC));
        });
    }

    #[test]
    fn landlock_alone_denies_files_where_the_kernel_has_it() {
        let has = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V1))
            .and_then(Ruleset::create)
            .is_ok();
        let denied =
            confined(|| deny_files().unwrap(), || refused(File::open("/proc/self/status")));
        assert_eq!(denied, has);
    }
}
