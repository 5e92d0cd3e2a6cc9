//! One type for each number that crosses the wire, so that none is taken for another.

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// A file system object as this connection knows it. Chosen by the server, meaningless on any
    /// other connection. Zero is never a node.
    NodeId(u64);
    /// An open file or directory of this connection. Chosen by the server.
    HandleId(u64);
    /// Pairs a reply with its request. Chosen by the agent; [`Tag::NONE`] marks what has no reply.
    Tag(u32);
    /// An export attached by this connection, counted from zero.
    Attachment(u16);
    /// Who holds a lock, as the guest kernel names it (`lock_owner` of linux/fuse.h).
    LockOwner(u64);
}

impl Tag {
    /// The tag of frames that are not answered.
    pub const NONE: Self = Self(u32::MAX);
}
