//! The native protocol of osxfs, version 1: what a server (`host-fs`) and an agent (`guest-agent`)
//! say to each other. Pure: no I/O, no clock, no operating system. These pages are the
//! specification: they say all that a second implementation needs.
//!
//! # Connection
//! A connection is one ordered byte stream (a unix or vsock stream socket) or, within one process,
//! direct calls with the same messages. On a stream it is cut into [frames](frame). It begins with
//! the [handshake]; then the agent [attaches](Request::Attach) one or more exports and sends
//! [`Request`]s. Any number up to
//! [`Welcome::max_in_flight`](handshake::Welcome::max_in_flight) may be unanswered; each carries a
//! [`Tag`] unique among them and is answered by exactly one [`Reply`] with that tag. The server
//! sends [`Notice`]s whenever it likes, if both announced
//! [`Features::CHANGES`](handshake::Features::CHANGES).
//!
//! A tag is free again when its reply has arrived. [`Tag::NONE`] stands on every frame that has no
//! reply or is none (handshake, notices, and the requests that
//! [are not answered](Request::is_answered)) and on no other; such frames do not count as in flight.
//!
//! # Order
//! * Requests are carried out and answered in any order, also two on one node or handle. Who needs
//!   an order waits for the first reply. A `Forget` or `Close` is sent when no request in flight
//!   uses what it gives up.
//! * Requests without an answer are acted upon as they arrive.
//! * The server's frames mean what they say at their place in the stream: a leased reply already
//!   holds what earlier notices told of its node and name, and what happens later is told by a later
//!   notice. A server that can not be sure of it, because a change was told while the request was
//!   carried out, answers without a lease. An agent takes replies and notices into its cache in the
//!   order of the stream.
//!
//! # Nodes and handles
//! A [`NodeId`] names an object of one attached export. All links of one object have the same node.
//! Each [`Entry`] received, in whatever message, is one *lookup* that the agent gives back by
//! [`Request::Forget`] when its kernel has forgotten it; at zero lookups the number is void and is
//! not given to anything else as long as the connection lasts. The root of an export
//! ([`Attached`]) has one lookup too. A request on nodes of two attachments is answered by `EXDEV`.
//!
//! A [`HandleId`] is an open file or directory, valid until it is closed, and keeps what it opened
//! usable when the last name is gone; without a handle, a node without a name may answer `ESTALE`.
//!
//! # Validity and leases
//! A validity says for how long something may be answered from the agent's cache, counted in
//! milliseconds from when its frame arrived: 0 is not at all, [`Validity::LEASED`] is until a notice
//! ends it. `entry_ms` is about *name → node* (or *name → nothing*, in [`Reply::NoEntry`]),
//! `attr_ms` about the attributes, the content, the target and the extended attributes of the node.
//!
//! What ends it before its time:
//! * a [`Change`] at that name, at that node, or [`Doubt`](Change::Doubt) of the directory; a change
//!   of a name also ends what is believed of the attributes of its directory;
//! * the agent's own requests: one that changes something ends what the agent believes of the
//!   attributes of every node it names, and of the names. Its reply tells the new state where it
//!   carries an `Entry` or `Attr`; no notice follows for it;
//! * the end of the attachment or connection.
//!
//! # Changes
//! See [change]. They are numbered on each connection ([`Notice::Changes`]), and acknowledged
//! ([`Request::Acknowledge`]) when invalidated *and* delivered to watchers. One acknowledgement
//! covers all lower numbers. At most [`limits::MAX_UNACKNOWLEDGED`] are outstanding; a server that
//! has more to say waits, and then sends [`Change::Doubt`] in place of the details.
//!
//! # Cancellation
//! [`Cancel`](Request::Cancel) names the tag of a request in flight. That request is still answered
//! exactly once: by `EINTR` if it had not begun or was waiting for a lock (it then had no effect),
//! else by its result. A tag that is not in flight is ignored, for the reply may have been under way.
//!
//! # Errors
//! A request that fails is answered by [`Reply::Error`] with the errno that the Linux system call of
//! the same purpose documents. Beyond those:
//!
//! | errno | answers |
//! | --- | --- |
//! | `ESTALE` | a node or handle that this connection does not have, or whose object is gone |
//! | `EBADF` | a handle of the wrong kind (file, directory) or opened for something else |
//! | `EXDEV` | nodes or handles of two attachments in one request |
//! | `EROFS` | a request that [modifies](Request::modifies) a read-only export |
//! | `EINVAL` | a size beyond [`limits::MAX_PAYLOAD`], a listing too small for its next entry, times with `nsec` beyond 999,999,999, offsets beyond `i64::MAX`, both `WRONLY` and `RDWR`, flags that exclude each other |
//! | `EMFILE` | `Open`, `Create`, `TmpFile`, `OpenDir` beyond [`Welcome::max_handles`](handshake::Welcome::max_handles) |
//! | `ENFILE` | the same, and `Attach` beyond [`limits::MAX_ATTACHMENTS`], when the server as a whole has no more |
//! | `EINTR` | a cancelled request |
//! | `ENOSYS` | locks without [`Features::LOCKS`](handshake::Features::LOCKS) |
//! | `EOPNOTSUPP` | what the host or its file system can not do |
//! | `EACCES`, `EPERM` | with mapped owners: what the recorded mode and owner deny to the [`Caller`] |
//! | `EIO` | any failure of the host that has no Linux number |
//!
//! # Breaches
//! A frame that can not be decoded ([`DecodeError`]), a limit exceeded, a tag in use given again, a
//! wrong use of [`Tag::NONE`], an acknowledgement of a number not yet sent, or a message out of the
//! handshake's order is a *breach*: its receiver closes the connection without an answer. Nothing
//! else is harmed by it.
//!
//! # The end of a connection
//! Either end may close the stream at any time; a [`Notice::Goodbye`] before it says that this was
//! meant. All nodes, handles, locks, lookups and attachments of the connection are gone with it.
//! Requests that were not answered may or may not have been carried out: an agent repeats those only
//! that do no harm twice. On a new connection it attaches again, finds its nodes by
//! [`Request::Walk`] from the root, opens its files again without `EXCL` and `TRUNC`, and compares
//! what it finds with what it knew; changes made in between are told by nobody.
//!
//! # Encoding
//! See [codec] for fields, [frame] for frames and [message] for the opcodes and fields of every
//! message. There is no padding and no alignment. [`Address`], [joiner] and [splitter] are no part of
//! the protocol: they are what both ends of this implementation share on the way to it.
//!
#![doc = include_str!("../EXAMPLE.md")]
#![forbid(unsafe_code)]

mod address;
pub mod attr;
pub mod change;
pub mod codec;
mod errno;
pub mod frame;
pub mod guest;
pub mod handshake;
mod id;
pub mod joiner;
pub mod limits;
pub mod listing;
pub mod message;
pub mod splitter;

pub use address::{Address, BadAddress};
pub use attr::{Attr, AttrReply, Entry, SetAttr, SetAttrMask, StatFs, Time, Validity, mode};
pub use change::{Change, ContentEvents, Place};
pub use codec::{DecodeError, ExportName, Name, Payload, Target, Text, XattrName, XattrValue};
pub use errno::Errno;
pub use frame::FrameHeader;
pub use id::{Attachment, HandleId, LockOwner, NodeId, Tag};
pub use message::{
    AccessMask, Attached, Caller, Changes, Consistency, Created, Directories, Entries,
    FallocateMode, ForgetList, ForgetOne, Groups, Handles, Lock, LockFamily, LockKind, Names,
    Notice, OpenFlags, OwnershipMode, RenameFlags, Reply, Request, Whence, XattrFlags,
};
