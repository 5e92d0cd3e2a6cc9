//! Every bound that one end may rely on and the other end checks.
//!
//! A peer that exceeds one of these has broken the protocol: its connection ends with the
//! [`DecodeError`](crate::DecodeError) that names the limit. The two that depend on the server's
//! machine (requests in flight, open handles) are announced in [`Welcome`](crate::handshake::Welcome).

/// Longest file name in bytes (`NAME_MAX`, linux/limits.h).
pub const MAX_NAME: usize = 255;
/// Longest symbolic link target in bytes (`PATH_MAX` without its NUL, linux/limits.h).
pub const MAX_TARGET: usize = 4095;
/// Longest extended attribute name in bytes (`XATTR_NAME_MAX`, linux/limits.h).
pub const MAX_XATTR_NAME: usize = 255;
/// Longest extended attribute value in bytes (`XATTR_SIZE_MAX`, linux/limits.h).
pub const MAX_XATTR_VALUE: usize = 65_536;
/// Longest name of an export in bytes.
pub const MAX_EXPORT_NAME: usize = 128;
/// Largest data payload of one read, write or listing in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// Largest frame in bytes. Every message that keeps to the other limits fits: the largest are a
/// write of [`MAX_PAYLOAD`] and [`MAX_CHANGES`] created links with targets of [`MAX_TARGET`].
pub const MAX_FRAME: usize = MAX_PAYLOAD + 128 * 1024;
/// Most components in one [`Walk`](crate::Request::Walk).
pub const MAX_WALK: usize = 64;
/// Most nodes released by one [`Forget`](crate::Request::Forget).
pub const MAX_FORGET: usize = 4096;
/// Most handles closed by one [`Close`](crate::Request::Close).
pub const MAX_CLOSE: usize = 4096;
/// Most directories named by one [`Watched`](crate::Request::Watched).
pub const MAX_WATCHED: usize = 16_384;
/// Most changes in one [`Notice::Changes`](crate::Notice::Changes).
pub const MAX_CHANGES: usize = 256;
/// Most supplementary groups of a caller (a Linux process may have 65,536; beyond this many the
/// agent sends none, and the caller is judged by its user and primary group).
pub const MAX_GROUPS: usize = 1024;
/// Most exports one connection may attach.
pub const MAX_ATTACHMENTS: usize = 64;
/// Most requests one connection may have unanswered; the agent queues what is beyond.
pub const MAX_IN_FLIGHT: usize = 4096;
/// Most [`Notice::Changes`](crate::Notice::Changes) that the server sends before the first is
/// acknowledged.
pub const MAX_UNACKNOWLEDGED: usize = 64;
/// Longest free text in a handshake in bytes.
pub const MAX_TEXT: usize = 512;
/// Longest argument of a guest's command in bytes (`MAX_ARG_STRLEN` of Linux without its NUL).
pub const MAX_ARGUMENT: usize = 131_071;
/// Most arguments of a guest's command, and most variables of its environment.
pub const MAX_ARGUMENTS: usize = 16_384;
/// Longest path in a guest in bytes (`PATH_MAX` without its NUL, linux/limits.h).
pub const MAX_GUEST_PATH: usize = 4095;
