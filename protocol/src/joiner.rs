//! Puts frames into a byte stream, for both ends. Pure: the caller supplies the writing.
//!
//! Any number of threads send at once. One of them writes; a small frame that comes meanwhile is left
//! with it, and it writes that as well before it goes:
//!
//! ```text
//! send ─┬─ nobody writes ── write ─┬─ nothing left ── done
//!       │                          └─ frames left ─── write them at once ── …
//!       ├─ somebody writes, a small frame ── leave it ── done
//!       └─ somebody writes, a large one or too much is left ── wait for the end of that
//! ```
//!
//! Writing wakes the peer, and the peer's work may bring a next thread to send before the one that
//! writes has come back from it: without this it would wait, and waste turns of the processor, for
//! nothing but a thread that has done its work.

use crate::frame;
use std::io::IoSlice;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Most bytes that are left with whoever writes, in one frame and in all.
const SMALL: usize = 4 * 1024;
const MOST: usize = 64 * 1024;

/// Why a frame is not sent.
#[derive(Debug)]
pub enum SendError<E> {
    /// An earlier one was sent in part only, so nothing can follow.
    Broken,
    /// Writing failed, now.
    Io(E),
}

/// The sending half of a stream.
#[derive(Debug, Default)]
pub struct Joiner {
    state: Mutex<State>,
    /// Signalled to those who wait when nobody writes any more.
    free: Condvar,
}

#[derive(Debug, Default)]
struct State {
    writing: bool,
    broken: bool,
    waiting: usize,
    /// Whole frames.
    left: Vec<u8>,
    /// What was left before, to be used again.
    spare: Vec<u8>,
}

impl Joiner {
    /// Sends `head` and `payload` whole and together, or leaves them to another thread that will: what
    /// this says of success is that they stand in the stream, not that they are out. `write` takes what
    /// is left to write and tells how much of it, never nothing, it has written.
    ///
    /// # Errors
    /// See [`SendError`]. The stream cannot be used after any of them. Where `write` failed, what
    /// others left is lost too; they learn it from the end of the stream.
    pub fn send<E>(
        &self,
        head: &[u8],
        payload: &[u8],
        mut write: impl FnMut(&[IoSlice<'_>]) -> Result<usize, E>,
    ) -> Result<(), SendError<E>> {
        let len = head.len() + payload.len();
        let mut state = self.lock();
        while state.writing && !state.broken {
            if len <= SMALL && state.left.len() + len <= MOST {
                state.left.extend_from_slice(head);
                state.left.extend_from_slice(payload);
                return Ok(());
            }
            state.waiting += 1;
            state = self.free.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        if state.broken {
            return Err(SendError::Broken);
        }
        state.writing = true;
        drop(state);
        let mut result = frame::send(head, payload, &mut write);
        loop {
            let mut state = self.lock();
            if result.is_ok() && !state.left.is_empty() {
                let spare = std::mem::take(&mut state.spare);
                let mut left = std::mem::replace(&mut state.left, spare);
                drop(state);
                result = frame::send(&left, &[], &mut write);
                left.clear();
                self.lock().spare = left;
                continue;
            }
            state.writing = false;
            state.broken |= result.is_err();
            let somebody_waits = state.waiting > 0;
            drop(state);
            if somebody_waits {
                self.free.notify_all();
            }
            return result.map_err(SendError::Io);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics, but for want of memory.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splitter::{Frame, ReadError, Splitter};
    use crate::{Caller, HandleId, Payload, Request, Tag};
    use std::sync::mpsc;
    use std::thread;

    fn frame_of(tag: u32, payload: &[u8]) -> Vec<u8> {
        let mut head = Vec::new();
        let data = Payload(payload);
        let request = Request::Write { handle: HandleId(1), offset: 0, data };
        request.encode(Tag(tag), &Caller::default(), &mut head);
        head
    }

    /// Takes some of what is to be written, as a socket does.
    fn some(slices: &[IoSlice<'_>], most: usize, stream: &Mutex<Vec<u8>>) -> usize {
        let slice = slices.iter().find(|slice| !slice.is_empty()).unwrap();
        let taken = &slice[..slice.len().min(most)];
        stream.lock().unwrap().extend_from_slice(taken);
        taken.len()
    }

    #[test]
    fn frames_of_all_threads_stand_whole_in_the_stream_and_in_the_order_of_each() {
        const THREADS: u32 = 4;
        const FRAMES: u32 = 300;
        let (joiner, stream) = (Joiner::default(), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (joiner, stream) = (&joiner, &stream);
                scope.spawn(move || {
                    for number in 0..FRAMES {
                        let payload = vec![thread as u8; (number as usize * 97) % (2 * SMALL)];
                        let head = frame_of(thread << 16 | number, &payload);
                        let write = |slices: &[IoSlice<'_>]| -> Result<usize, ()> {
                            thread::yield_now();
                            Ok(some(slices, 1000, stream))
                        };
                        joiner.send(&head, &payload, write).unwrap();
                    }
                });
            }
        });
        let stream = stream.into_inner().unwrap();
        let (mut rest, mut splitter, mut frame) =
            (&stream[..], Splitter::default(), Frame::default());
        let mut next = [0; THREADS as usize];
        let mut count = 0;
        loop {
            let read = |buf: &mut [u8]| -> Result<usize, ()> {
                let n = buf.len().min(rest.len());
                buf[..n].copy_from_slice(&rest[..n]);
                rest = &rest[n..];
                Ok(n)
            };
            let header = match splitter.next(&mut frame, read) {
                Ok(header) => header,
                Err(ReadError::Closed) => break,
                Err(error) => panic!("{error:?}"),
            };
            let Ok((_, Request::Write { data, .. })) = Request::decode(header.opcode, frame.body())
            else {
                panic!("no write")
            };
            let (thread, number) = (header.tag.0 >> 16, header.tag.0 & 0xffff);
            assert!(data.0.iter().all(|byte| u32::from(*byte) == thread), "of one piece");
            assert_eq!(number, next[thread as usize], "in order");
            next[thread as usize] += 1;
            count += 1;
        }
        assert_eq!(count, THREADS * FRAMES);
    }

    #[test]
    fn a_small_frame_is_left_with_who_writes_and_a_large_one_waits() {
        let (joiner, stream) = (Joiner::default(), Mutex::new(Vec::new()));
        let (began, begins) = mpsc::channel();
        let (goes_on, go_on) = mpsc::channel::<()>();
        let (sent, is_sent) = mpsc::channel();
        thread::scope(|scope| {
            let (joiner, stream) = (&joiner, &stream);
            scope.spawn(move || {
                let mut first = true;
                let write = |slices: &[IoSlice<'_>]| -> Result<usize, ()> {
                    if std::mem::take(&mut first) {
                        began.send(()).unwrap();
                        go_on.recv().unwrap();
                    }
                    Ok(some(slices, usize::MAX, stream))
                };
                joiner.send(b"first ", b"", write).unwrap();
            });
            begins.recv().unwrap();
            let unused =
                |_: &[IoSlice<'_>]| -> Result<usize, ()> { panic!("somebody else writes") };
            joiner.send(b"left", b" there ", unused).unwrap();
            scope.spawn(move || {
                let write = |slices: &[IoSlice<'_>]| Ok::<_, ()>(some(slices, usize::MAX, stream));
                joiner.send(&[b'x'; SMALL + 1], b"", write).unwrap();
                sent.send(()).unwrap();
            });
            while joiner.lock().waiting == 0 {
                thread::yield_now();
            }
            assert!(stream.lock().unwrap().is_empty() && is_sent.try_recv().is_err());
            goes_on.send(()).unwrap();
            is_sent.recv().unwrap();
        });
        let stream = stream.into_inner().unwrap();
        assert!(stream.starts_with(b"first left there xxx"), "{:?}", stream.escape_ascii());
        assert_eq!(stream.len(), 17 + SMALL + 1);
    }

    #[test]
    fn behind_a_frame_that_was_cut_off_nothing_is_sent() {
        let joiner = Joiner::default();
        assert!(matches!(joiner.send(b"x", b"", |_| Err(7)), Err(SendError::Io(7))));
        let unused = |_: &[IoSlice<'_>]| -> Result<usize, ()> { panic!("nothing follows") };
        assert!(matches!(joiner.send(b"y", b"", unused), Err(SendError::Broken)));
    }
}
