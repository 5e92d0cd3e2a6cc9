//! How one field becomes bytes: the [`Wire`] trait and its implementations for the basic types.
//!
//! Integers are little-endian and of fixed width. A byte string is a `u32` length and its bytes; a
//! list is a `u32` count and its items; a boolean is one byte, 0 or 1; an option is one such byte
//! and, behind 1, the value. A structure is its fields in the order in which its documentation lists
//! them. A number type (`NodeId`) is its integer; flags are a `u32` unless they say otherwise; an
//! enum is the integer that it names. [`Payload`] alone has no length: it is the rest of the frame.
//!
//! Every value has one encoding, and decoding checks all of it: unknown flags, enum values and
//! booleans other than 0 and 1 are errors. Byte strings are borrowed from the frame they came in, so
//! decoding copies no payload. Memory for lists grows with items that were really there, up to
//! their limit; a count alone allocates nothing.
//!
//! Encoding checks nothing: who fills a message keeps to the limits, or the peer hangs up.

use crate::limits;
use thiserror::Error;

/// What a frame did wrong. The connection it came on ends with this.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DecodeError {
    /// The frame ended inside a field.
    #[error("the frame ends inside a field")]
    Truncated,
    /// Bytes remained after the last field.
    #[error("{0} bytes follow the last field")]
    Trailing(usize),
    /// The frame header announces a size outside the allowed range.
    #[error("a frame of {0} bytes is outside {min} to {max}", min = crate::frame::HEADER, max = limits::MAX_FRAME)]
    FrameSize(u32),
    /// No message has this opcode in this direction.
    #[error("unknown opcode {0:#06x}")]
    UnknownOpcode(u16),
    /// A flag, kind or boolean has a value that does not exist.
    #[error("{field} has the unknown value {value}")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// What it held.
        value: u64,
    },
    /// A length or count exceeds its limit.
    #[error("{what} of {got} exceeds the limit of {limit}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The value received.
        got: usize,
        /// The highest allowed.
        limit: usize,
    },
    /// A name is empty, `.`, `..`, or has a `/` or NUL in it; a path is not absolute.
    #[error("a name that is no file name, or no path")]
    BadName,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    BadText,
}

/// Reads fields from a frame, front to back.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// All that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Fails if anything is left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.rest.len())) }
    }

    /// A `u32` count that must not exceed `limit`.
    pub fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let got = u32::get(self)? as usize;
        if got > limit { Err(DecodeError::Limit { what, got, limit }) } else { Ok(got) }
    }
}

/// A type with one encoding.
pub trait Wire<'a>: Sized {
    /// Appends the encoding of `self`.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads one value.
    fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError>;
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl<'a> Wire<'a> for $int {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
                let bytes = from.take(size_of::<$int>())?;
                bytes.try_into().map(<$int>::from_le_bytes).map_err(|_| DecodeError::Truncated)
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i64);

macro_rules! newtypes {
    ($($name:ident),*) => {$(
        impl<'a> Wire<'a> for crate::$name {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
                Wire::get(from).map(crate::$name)
            }
        }
    )*};
}
newtypes!(NodeId, HandleId, Tag, Attachment, LockOwner);

impl<'a> Wire<'a> for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match u8::get(from)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::UnknownValue { field: "boolean", value: other.into() }),
        }
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(if bool::get(from)? { Some(T::get(from)?) } else { None })
    }
}

macro_rules! byte_strings {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $limit:expr, $check:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name<'a>(&'a [u8]);

        impl<'a> $name<'a> {
            /// Checks length and content.
            pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
                if bytes.len() > $limit {
                    return Err(DecodeError::Limit { what: $what, got: bytes.len(), limit: $limit });
                }
                let check: fn(&[u8]) -> Result<(), DecodeError> = $check;
                check(bytes).map(|()| Self(bytes))
            }

            /// The bytes.
            pub fn as_bytes(self) -> &'a [u8] {
                self.0
            }
        }

        impl<'a> Wire<'a> for $name<'a> {
            fn put(&self, out: &mut Vec<u8>) {
                (self.0.len() as u32).put(out);
                out.extend_from_slice(self.0);
            }
            fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
                let len = from.count($what, $limit)?;
                Self::new(from.take(len)?)
            }
        }

        impl std::fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "\"{}\"", self.0.escape_ascii())
            }
        }
    )*};
}

fn check_name(bytes: &[u8]) -> Result<(), DecodeError> {
    let bad = matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|b| matches!(b, b'/' | 0));
    if bad { Err(DecodeError::BadName) } else { Ok(()) }
}

fn check_no_nul(bytes: &[u8]) -> Result<(), DecodeError> {
    if bytes.is_empty() || bytes.contains(&0) { Err(DecodeError::BadName) } else { Ok(()) }
}

fn check_argument(bytes: &[u8]) -> Result<(), DecodeError> {
    if bytes.contains(&0) { Err(DecodeError::BadName) } else { Ok(()) }
}

fn check_guest_path(bytes: &[u8]) -> Result<(), DecodeError> {
    let good = bytes.first() == Some(&b'/') && !bytes.contains(&0);
    if good { Ok(()) } else { Err(DecodeError::BadName) }
}

byte_strings! {
    /// The name of a directory entry: 1 to 255 bytes, any but `/` and NUL, neither `.` nor `..`.
    /// A value of this type is safe to hand to a system call as one path component.
    Name, "name", limits::MAX_NAME, check_name;
    /// The target of a symbolic link, kept as it is and never followed: 1 to 4095 bytes, no NUL.
    Target, "symbolic link target", limits::MAX_TARGET, check_no_nul;
    /// The name of an extended attribute: 1 to 255 bytes, no NUL.
    XattrName, "extended attribute name", limits::MAX_XATTR_NAME, check_no_nul;
    /// The value of an extended attribute: up to 64 KiB.
    XattrValue, "extended attribute value", limits::MAX_XATTR_VALUE, |_| Ok(());
    /// The name of an export: 1 to 128 bytes under the rules of [`Name`].
    ExportName, "export name", limits::MAX_EXPORT_NAME, check_name;
    /// An argument or environment variable of a guest's command: up to 131,071 bytes, no NUL.
    Argument, "argument", limits::MAX_ARGUMENT, check_argument;
    /// A path in a guest: absolute, up to 4095 bytes, no NUL.
    GuestPath, "path in the guest", limits::MAX_GUEST_PATH, check_guest_path;
}

/// Short text for people, in UTF-8. Longer than [`limits::MAX_TEXT`], it is cut when encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Text<'a>(pub &'a str);

impl<'a> Wire<'a> for Text<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        let end = self.0.floor_char_boundary(limits::MAX_TEXT);
        (end as u32).put(out);
        out.extend_from_slice(&self.0.as_bytes()[..end]);
    }
    fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let len = from.count("text", limits::MAX_TEXT)?;
        std::str::from_utf8(from.take(len)?).map(Text).map_err(|_| DecodeError::BadText)
    }
}

/// The last field of a message: all the bytes that remain in its frame. Sent by vectored I/O
/// straight from where it lies and borrowed from the receive buffer.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Payload<'a>(pub &'a [u8]);

impl<'a> Payload<'a> {
    pub(crate) fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let bytes = from.take_rest();
        if bytes.len() > limits::MAX_PAYLOAD {
            let (what, got, limit) = ("payload", bytes.len(), limits::MAX_PAYLOAD);
            return Err(DecodeError::Limit { what, got, limit });
        }
        Ok(Self(bytes))
    }
}

impl std::fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// Reads a list of at most `limit` items.
pub(crate) fn get_list<'a, T: Wire<'a>>(
    from: &mut Reader<'a>,
    what: &'static str,
    limit: usize,
) -> Result<Vec<T>, DecodeError> {
    let count = from.count(what, limit)?;
    (0..count).map(|_| T::get(from)).collect()
}

/// Appends a list.
pub(crate) fn put_list<'a, T: Wire<'a>>(items: &[T], out: &mut Vec<u8>) {
    (items.len() as u32).put(out);
    items.iter().for_each(|item| item.put(out));
}

/// Declares a structure whose encoding is that of its fields in order.
macro_rules! wire_struct {
    ($($(#[$doc:meta])* $name:ident $(<$life:lifetime>)? { $($(#[$fdoc:meta])* $field:ident: $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name $(<$life>)? { $($(#[$fdoc])* pub $field: $ty,)* }

        impl<'a> $crate::codec::Wire<'a> for $name $(<$life>)? {
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::codec::Wire::put(&self.$field, out);)*
            }
            fn get(from: &mut $crate::codec::Reader<'a>) -> Result<Self, $crate::codec::DecodeError> {
                Ok(Self { $($field: $crate::codec::Wire::get(from)?,)* })
            }
        }
    )*};
}
pub(crate) use wire_struct;

/// Gives a fieldless enum or a `bitflags` type the encoding of its number.
macro_rules! wire_number {
    (enum $($(#[$doc:meta])* $name:ident: $int:ty { $($(#[$vdoc:meta])* $variant:ident = $value:literal,)* })*) => {$(
        $(#[$doc])*
        #[doc = concat!("\n\nOn the wire: a `", stringify!($int), "`.")]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($(#[$vdoc])* $variant = $value,)* }

        impl<'a> $crate::codec::Wire<'a> for $name {
            fn put(&self, out: &mut Vec<u8>) {
                (*self as $int).put(out);
            }
            fn get(from: &mut $crate::codec::Reader<'a>) -> Result<Self, $crate::codec::DecodeError> {
                match <$int as $crate::codec::Wire>::get(from)? {
                    $($value => Ok(Self::$variant),)*
                    other => Err($crate::codec::DecodeError::UnknownValue { field: stringify!($name), value: other.into() }),
                }
            }
        }
    )*};
    (flags $($name:ident: $int:ty),*) => {$(
        impl<'a> $crate::codec::Wire<'a> for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.bits().put(out);
            }
            fn get(from: &mut $crate::codec::Reader<'a>) -> Result<Self, $crate::codec::DecodeError> {
                let bits = <$int as $crate::codec::Wire>::get(from)?;
                Self::from_bits(bits).ok_or($crate::codec::DecodeError::UnknownValue { field: stringify!($name), value: bits.into() })
            }
        }
    )*};
}
pub(crate) use wire_number;
