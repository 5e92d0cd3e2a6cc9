//! The framework: streams, their callback, and looking at a path.

// The crate asks to be replaced by `objc2-core-services`, which is bigger and gives no more here.
#![allow(deprecated)]

use super::{Event, EventId, FileId, Flags, There};
use core_foundation::array::{CFArray, CFArrayRef};
use core_foundation::base::{CFRelease, CFType, TCFType};
use core_foundation::dictionary::CFDictionary;
use core_foundation::number::CFNumber;
use core_foundation::string::CFString;
use dispatch2::{DispatchQueue, DispatchQueueAttr, DispatchRetained};
use fsevent_sys as fs;
use libc::{c_void, dev_t};
use std::ffi::CString;
use std::io;
use std::ptr;
use std::sync::Arc;

/// How long fseventsd gathers events, in seconds, once one has been delivered.
const LATENCY: f64 = 0.005;

const CREATE_FLAGS: fs::FSEventStreamCreateFlags = fs::kFSEventStreamCreateFlagUseCFTypes
    | fs::kFSEventStreamCreateFlagNoDefer
    | fs::kFSEventStreamCreateFlagWatchRoot
    | fs::kFSEventStreamCreateFlagFileEvents
    | fs::kFSEventStreamCreateFlagMarkSelf
    | fs::kFSEventStreamCreateFlagUseExtendedData;

/// `kFSEventStreamEventExtendedDataPathKey` of <FSEvents.h>.
const PATH_KEY: &str = "path";
/// `kFSEventStreamEventExtendedFileIDKey` of <FSEvents.h>, macOS 10.13.
const FILE_ID_KEY: &str = "fileID";

unsafe extern "C" {
    /// <FSEvents.h>: the number of a volume's journal; null if it has none.
    fn FSEventsCopyUUIDForDevice(device: dev_t) -> *const c_void;
}

/// What a stream's batches are given to. The looking is left to others.
pub type Deliver = dyn Fn(Vec<Event>) + Send + Sync;

/// The last event of this host so far.
pub fn current_event() -> EventId {
    // SAFETY: the call takes nothing.
    EventId(unsafe { fs::FSEventsGetCurrentEventId() })
}

/// Whether events of a volume can be replayed.
pub fn has_journal(device: u64) -> bool {
    let Ok(device) = u32::try_from(device) else { return false };
    // SAFETY: the call takes a number and gives an object that is ours, or null.
    let number = unsafe { FSEventsCopyUUIDForDevice(device.cast_signed()) };
    if !number.is_null() {
        // SAFETY: an object that is ours, given back once.
        unsafe { CFRelease(number) };
    }
    !number.is_null()
}

/// A queue on which one callback runs at a time.
pub fn queue() -> DispatchRetained<DispatchQueue> {
    DispatchQueue::new("osxfs.fsevents", DispatchQueueAttr::SERIAL)
}

/// A running stream; ended by being dropped.
pub struct Stream(fs::FSEventStreamRef);

// SAFETY: a stream belongs to no thread; its owner calls it from one at a time, and its callback
// runs on a queue of its own.
unsafe impl Send for Stream {}

impl Stream {
    /// Begins to tell of everything beneath `root` after an event. Each batch goes to `deliver`.
    pub fn start(
        root: &[u8],
        since: EventId,
        queue: &DispatchQueue,
        deliver: Arc<Deliver>,
    ) -> io::Result<Self> {
        let root = std::str::from_utf8(root).map_err(|_| io::ErrorKind::InvalidFilename)?;
        let paths = CFArray::from_CFTypes(&[CFString::new(root)]);
        // The framework keeps a thin pointer: the box that is behind it holds the fat one.
        let info = Arc::into_raw(Arc::new(deliver));
        let context = fs::FSEventStreamContext {
            version: 0,
            info: info.cast_mut().cast(),
            retain: Some(retain),
            release: Some(release),
            copy_description: None,
        };
        // SAFETY: the array and the context are whole and live until the call returns; the stream
        // retains what it keeps of them.
        let stream = unsafe {
            fs::FSEventStreamCreate(
                ptr::null_mut(),
                callback,
                &raw const context,
                paths.as_concrete_TypeRef(),
                since.0,
                LATENCY,
                CREATE_FLAGS,
            )
        };
        // SAFETY: made by `Arc::into_raw` above; the stream has retained its own.
        drop(unsafe { Arc::from_raw(info) });
        if stream.is_null() {
            return Err(io::Error::other("FSEvents makes no stream"));
        }
        // SAFETY: the stream was just made, and the queue is retained by it.
        unsafe { fs::FSEventStreamSetDispatchQueue(stream, queue) };
        let stream = Self(stream);
        // SAFETY: it is scheduled on a queue, as it has to be.
        match unsafe { fs::FSEventStreamStart(stream.0) } {
            0 => Err(io::Error::other("FSEvents does not start the stream")),
            _ => Ok(stream),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: the stream is ours. Stopping one that has not started does nothing.
        unsafe { fs::FSEventStreamStop(self.0) };
        // SAFETY: it is scheduled; no callback begins after this.
        unsafe { fs::FSEventStreamInvalidate(self.0) };
        // SAFETY: ours, given back once.
        unsafe { fs::FSEventStreamRelease(self.0) };
    }
}

extern "C" fn retain(info: *mut c_void) -> *mut c_void {
    // SAFETY: `info` is the context's, from `Arc::into_raw`, and alive while a stream has it.
    unsafe { Arc::increment_strong_count(info.cast::<Arc<Deliver>>()) };
    info
}

extern "C" fn release(info: *mut c_void) {
    // SAFETY: as above; gives back what `retain` took.
    unsafe { Arc::decrement_strong_count(info.cast::<Arc<Deliver>>()) };
}

extern "C" fn callback(
    _stream: fs::FSEventStreamRef,
    info: *mut c_void,
    count: usize,
    paths: *mut c_void,
    flags: *const fs::FSEventStreamEventFlags,
    ids: *const fs::FSEventStreamEventId,
) {
    if count == 0 {
        return;
    }
    // SAFETY: the context's pointer, retained by the stream that calls.
    let deliver = unsafe { &*info.cast::<Arc<Deliver>>() };
    // SAFETY: the stream was asked for CF types: this is an array, which outlives the call.
    let paths: CFArray<CFType> = unsafe { CFArray::wrap_under_get_rule(paths as CFArrayRef) };
    // SAFETY: the framework gives so many.
    let flags = unsafe { std::slice::from_raw_parts(flags, count) };
    // SAFETY: the same.
    let ids = unsafe { std::slice::from_raw_parts(ids, count) };
    let events = paths.iter().zip(flags.iter().zip(ids)).map(|(item, (flags, id))| {
        let (path, file) = path_and_file(&item);
        let flags = Flags::from_bits_retain(*flags);
        Event { path, flags, id: EventId(*id), file, there: There::Unknown }
    });
    deliver(events.collect());
}

/// Of a dictionary of extended data, or of a plain path.
fn path_and_file(item: &CFType) -> (Box<[u8]>, Option<FileId>) {
    let Some(data) = item.downcast::<CFDictionary>() else {
        return (path(item.downcast::<CFString>()), None);
    };
    let get = |key: &'static str| {
        let key = CFString::from_static_string(key);
        let value = *data.find(key.as_CFTypeRef())?;
        // SAFETY: a value of the dictionary, which holds it.
        Some(unsafe { CFType::wrap_under_get_rule(value) })
    };
    let file = get(FILE_ID_KEY).and_then(|number| number.downcast::<CFNumber>());
    let file = file.and_then(|number| number.to_i64()).filter(|number| *number != 0);
    let path = path(get(PATH_KEY).and_then(|path| path.downcast::<CFString>()));
    (path, file.map(|number| FileId(number.cast_unsigned())))
}

/// The bytes as they are: the framework's own function for paths would decompose them.
fn path(string: Option<CFString>) -> Box<[u8]> {
    let mut path = string.map(|string| string.to_string().into_bytes()).unwrap_or_default();
    while path.len() > 1 && path.last() == Some(&b'/') {
        path.pop();
    }
    path.into()
}

/// What stands at a path, a symbolic link itself, and the name as the volume has it, which on many
/// differs from any name that finds it.
pub fn look(path: &[u8]) -> io::Result<Option<(FileId, Vec<u8>)>> {
    /// Bytes that `getattrlist` gives before the name: its length, the name's place, the file id.
    const HEAD: usize = 4 + 8 + 8;
    let path = CString::new(path)?;
    let mut wanted = libc::attrlist {
        bitmapcount: libc::ATTR_BIT_MAP_COUNT,
        reserved: 0,
        commonattr: libc::ATTR_CMN_NAME | libc::ATTR_CMN_FILEID,
        volattr: 0,
        dirattr: 0,
        fileattr: 0,
        forkattr: 0,
    };
    let mut record = [0u8; HEAD + 1024];
    // SAFETY: `path` ends with a NUL, `wanted` is a whole `struct attrlist`, and the kernel writes
    // at most the length of `record`.
    let got = unsafe {
        libc::getattrlist(
            path.as_ptr(),
            (&raw mut wanted).cast(),
            record.as_mut_ptr().cast(),
            record.len(),
            libc::FSOPT_NOFOLLOW,
        )
    };
    if got != 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Ok(None),
            _ => Err(error),
        };
    }
    super::record::parse(&record).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
