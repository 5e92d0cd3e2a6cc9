//! Making a hole where the file system makes them only of whole blocks.

/// How a range of a file is made to read as zeros.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Zeroing {
    /// Bytes before the first whole block and behind the last, to be overwritten.
    pub write: [std::ops::Range<u64>; 2],
    /// Whole blocks, to be punched.
    pub punch: std::ops::Range<u64>,
}

/// Plans it for `length` bytes from `offset` on, within a file of `size` bytes: nothing beyond the
/// end is touched. `block` is the file system's block size.
pub fn zeroing(offset: u64, length: u64, size: u64, block: u64) -> Zeroing {
    let block = block.max(1);
    let end = offset.saturating_add(length).min(size);
    if offset >= end {
        return Zeroing::default();
    }
    let inner = offset.checked_next_multiple_of(block).unwrap_or(end).min(end);
    let last = (end / block * block).max(inner);
    if inner == last {
        return Zeroing { write: [offset..end, end..end], punch: end..end };
    }
    Zeroing { write: [offset..inner, last..end], punch: inner..last }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_are_punched_and_edges_written() {
        let cases = [
            // offset, length, size, then head, hole, tail
            ((0, 8192, 100_000), (0..0, 0..8192, 8192..8192)),
            ((1, 8192, 100_000), (1..4096, 4096..8192, 8192..8193)),
            ((100, 200, 100_000), (100..300, 300..300, 300..300)),
            ((4000, 200, 100_000), (4000..4200, 4200..4200, 4200..4200)),
            ((4096, 1 << 40, 10_000), (4096..4096, 4096..8192, 8192..10_000)),
            ((0, u64::MAX, 5), (0..5, 5..5, 5..5)),
        ];
        for ((offset, length, size), (head, hole, tail)) in cases {
            let plan = zeroing(offset, length, size, 4096);
            assert_eq!(
                plan,
                Zeroing { write: [head, tail], punch: hole },
                "{offset}+{length}/{size}"
            );
        }
    }

    #[test]
    fn nothing_is_done_beyond_the_end() {
        for (offset, length, size) in [(5, 10, 5), (u64::MAX, 1, 100), (0, 0, 100), (0, 10, 0)] {
            let plan = zeroing(offset, length, size, 4096);
            assert!(plan.write.iter().chain([&plan.punch]).all(std::ops::Range::is_empty));
        }
    }

    #[test]
    fn the_parts_cover_the_range_exactly() {
        for block in [1, 512, 4096] {
            for offset in 0..40 {
                for length in 0..40 {
                    let (offset, length, size) = (offset * 301, length * 499, 15_000);
                    let plan = zeroing(offset, length, size, block);
                    let [head, tail] = plan.write;
                    let covered: u64 = [&head, &plan.punch, &tail]
                        .iter()
                        .map(|r| r.end.saturating_sub(r.start))
                        .sum();
                    assert_eq!(covered, (offset + length).min(size).saturating_sub(offset));
                    if !plan.punch.is_empty() {
                        assert_eq!((plan.punch.start % block, plan.punch.end % block), (0, 0));
                    }
                }
            }
        }
    }
}
