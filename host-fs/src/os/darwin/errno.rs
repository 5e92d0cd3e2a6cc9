//! Darwin's error numbers (<sys/errno.h>) as Linux's (asm-generic/errno.h).
//!
//! The two agree up to 34, but for 11 and 35 which are swapped, and nowhere else.

use protocol::Errno;

/// Darwin's highest number (`ELAST`).
const LAST: usize = 106;

/// Linux's number for each of Darwin's; 0 where there is none.
///
/// Numbers without a counterpart get the nearest in meaning: what concerns authentication is
/// `EPERM`, what concerns the format of a program `ENOEXEC`, what concerns RPC (an NFS volume)
/// `EIO`, and "wrong type of file" is `EINVAL`.
const TO_LINUX: [u8; LAST + 1] = {
    let mut table = [0; LAST + 1];
    let mut same = 1;
    while same <= 34 {
        table[same] = same as u8;
        same += 1;
    }
    let others = [
        (11, 35),   // EDEADLK
        (35, 11),   // EAGAIN, EWOULDBLOCK
        (36, 115),  // EINPROGRESS
        (37, 114),  // EALREADY
        (38, 88),   // ENOTSOCK
        (39, 89),   // EDESTADDRREQ
        (40, 90),   // EMSGSIZE
        (41, 91),   // EPROTOTYPE
        (42, 92),   // ENOPROTOOPT
        (43, 93),   // EPROTONOSUPPORT
        (44, 94),   // ESOCKTNOSUPPORT
        (45, 95),   // ENOTSUP, which on Linux is EOPNOTSUPP
        (46, 96),   // EPFNOSUPPORT
        (47, 97),   // EAFNOSUPPORT
        (48, 98),   // EADDRINUSE
        (49, 99),   // EADDRNOTAVAIL
        (50, 100),  // ENETDOWN
        (51, 101),  // ENETUNREACH
        (52, 102),  // ENETRESET
        (53, 103),  // ECONNABORTED
        (54, 104),  // ECONNRESET
        (55, 105),  // ENOBUFS
        (56, 106),  // EISCONN
        (57, 107),  // ENOTCONN
        (58, 108),  // ESHUTDOWN
        (59, 109),  // ETOOMANYREFS
        (60, 110),  // ETIMEDOUT
        (61, 111),  // ECONNREFUSED
        (62, 40),   // ELOOP
        (63, 36),   // ENAMETOOLONG
        (64, 112),  // EHOSTDOWN
        (65, 113),  // EHOSTUNREACH
        (66, 39),   // ENOTEMPTY
        (67, 11),   // EPROCLIM: EAGAIN
        (68, 87),   // EUSERS
        (69, 122),  // EDQUOT
        (70, 116),  // ESTALE
        (71, 66),   // EREMOTE
        (72, 5),    // EBADRPC: EIO
        (73, 5),    // ERPCMISMATCH: EIO
        (74, 5),    // EPROGUNAVAIL: EIO
        (75, 5),    // EPROGMISMATCH: EIO
        (76, 5),    // EPROCUNAVAIL: EIO
        (77, 37),   // ENOLCK
        (78, 38),   // ENOSYS
        (79, 22),   // EFTYPE: EINVAL
        (80, 1),    // EAUTH: EPERM
        (81, 1),    // ENEEDAUTH: EPERM
        (82, 5),    // EPWROFF: EIO
        (83, 5),    // EDEVERR: EIO
        (84, 75),   // EOVERFLOW
        (85, 8),    // EBADEXEC: ENOEXEC
        (86, 8),    // EBADARCH: ENOEXEC
        (87, 8),    // ESHLIBVERS: ENOEXEC
        (88, 8),    // EBADMACHO: ENOEXEC
        (89, 125),  // ECANCELED
        (90, 43),   // EIDRM
        (91, 42),   // ENOMSG
        (92, 84),   // EILSEQ
        (93, 61),   // ENOATTR, which on Linux is ENODATA
        (94, 74),   // EBADMSG
        (95, 72),   // EMULTIHOP
        (96, 61),   // ENODATA
        (97, 67),   // ENOLINK
        (98, 63),   // ENOSR
        (99, 60),   // ENOSTR
        (100, 71),  // EPROTO
        (101, 62),  // ETIME
        (102, 95),  // EOPNOTSUPP
        (103, 1),   // ENOPOLICY: EPERM
        (104, 131), // ENOTRECOVERABLE
        (105, 130), // EOWNERDEAD
        (106, 105), // EQFULL: ENOBUFS
    ];
    let mut at = 0;
    while at < others.len() {
        table[others[at].0] = others[at].1;
        at += 1;
    }
    table
};

/// The wire's form of an error of Darwin. `EIO` for a number that it does not document.
pub fn to_linux(darwin: i32) -> Errno {
    let linux = usize::try_from(darwin).ok().and_then(|at| TO_LINUX.get(at)).copied();
    Errno::from_raw(linux.unwrap_or(0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_number_has_one_of_linux() {
        let missing: Vec<_> = (1..=LAST).filter(|at| TO_LINUX[*at] == 0).collect();
        assert_eq!(missing, []);
    }

    #[test]
    fn numbers_that_differ_are_translated() {
        let cases = [
            (1, Errno::EPERM),
            (2, Errno::ENOENT),
            (11, Errno::EDEADLK),
            (13, Errno::EACCES),
            (34, Errno::ERANGE),
            (35, Errno::EAGAIN),
            (45, Errno::EOPNOTSUPP),
            (57, Errno::ENOTCONN),
            (60, Errno::ETIMEDOUT),
            (62, Errno::ELOOP),
            (63, Errno::ENAMETOOLONG),
            (66, Errno::ENOTEMPTY),
            (69, Errno::EDQUOT),
            (70, Errno::ESTALE),
            (77, Errno::ENOLCK),
            (78, Errno::ENOSYS),
            (84, Errno::EOVERFLOW),
            (93, Errno::ENODATA),
            (96, Errno::ENODATA),
            (100, Errno::EPROTO),
            (102, Errno::EOPNOTSUPP),
        ];
        for (darwin, linux) in cases {
            assert_eq!(to_linux(darwin), linux, "Darwin's {darwin}");
        }
    }

    #[test]
    fn an_unknown_number_is_an_io_error() {
        for raw in [i32::MIN, -5, -1, 0, 107, 256, 512, i32::MAX] {
            assert_eq!(to_linux(raw), Errno::EIO, "{raw}");
        }
    }

    /// On macOS itself: the table stands on the numbers of the SDK.
    #[cfg(target_os = "macos")]
    #[test]
    fn the_numbers_are_those_of_the_sdk() {
        let cases = [
            (libc::EDEADLK, Errno::EDEADLK),
            (libc::EAGAIN, Errno::EAGAIN),
            (libc::ENOTSUP, Errno::EOPNOTSUPP),
            (libc::EOPNOTSUPP, Errno::EOPNOTSUPP),
            (libc::ELOOP, Errno::ELOOP),
            (libc::ENAMETOOLONG, Errno::ENAMETOOLONG),
            (libc::ENOTEMPTY, Errno::ENOTEMPTY),
            (libc::EDQUOT, Errno::EDQUOT),
            (libc::ESTALE, Errno::ESTALE),
            (libc::ENOLCK, Errno::ENOLCK),
            (libc::ENOSYS, Errno::ENOSYS),
            (libc::EOVERFLOW, Errno::EOVERFLOW),
            (libc::ENOATTR, Errno::ENODATA),
            (libc::EPROTO, Errno::EPROTO),
        ];
        for (darwin, linux) in cases {
            assert_eq!(to_linux(darwin), linux, "Darwin's {darwin}");
        }
    }
}
