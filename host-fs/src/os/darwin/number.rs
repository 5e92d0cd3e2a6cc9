//! Numbers with another encoding here and there: devices, types of entries.

/// `makedev` of Darwin (<sys/types.h>): 8 bits of major, 24 of minor.
const MINOR: u32 = 0xff_ffff;

/// Darwin's device number in the encoding of FUSE (`new_encode_dev` of linux/kdev_t.h), which
/// has room for 12 bits of major and 20 of minor; the higher bits of the minor are lost.
pub fn encode_device(darwin: i32) -> u32 {
    let darwin = darwin as u32;
    let (major, minor) = (darwin >> 24, darwin & MINOR);
    (minor & 0xff) | (major << 8) | ((minor & 0xf_ff00) << 12)
}

/// The reverse of [`encode_device`]. None for a major that Darwin has no room for.
pub fn decode_device(encoded: u32) -> Option<i32> {
    let major = (encoded >> 8) & 0xfff;
    let minor = (encoded & 0xff) | ((encoded >> 12) & 0xf_ff00);
    (major <= 0xff).then_some(((major << 24) | minor) as i32)
}

/// The `DT_*` of linux/fs_types.h for an object type (`enum vtype` of <sys/vnode.h>); 0 where
/// there is none.
pub fn entry_kind(object_type: u32) -> u8 {
    match object_type {
        1 => 8,  // VREG
        2 => 4,  // VDIR
        3 => 6,  // VBLK
        4 => 2,  // VCHR
        5 => 10, // VLNK
        6 => 12, // VSOCK
        7 => 1,  // VFIFO
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_encoding_of_fuse() {
        for (major, minor) in [(0, 0), (1, 4), (3, 2), (20, 0xf_ffff), (255, 257)] {
            let darwin = ((major << 24) | minor) as u32 as i32;
            assert_eq!(decode_device(encode_device(darwin)), Some(darwin), "{major}:{minor}");
        }
    }

    #[test]
    fn a_major_beyond_darwins_room_is_refused() {
        assert_eq!(decode_device(256 << 8), None);
    }

    #[test]
    fn the_encoding_is_that_of_linux() {
        // /dev/null of Darwin, 3:2, and a minor of more than eight bits.
        assert_eq!(encode_device(0x0300_0002), 0x302);
        assert_eq!(encode_device(0x0100_0123), 0x10_0123);
    }

    #[test]
    fn object_types_become_entry_types() {
        let kinds: Vec<u8> = (0..=9).map(entry_kind).collect();
        assert_eq!(kinds, [0, 8, 4, 6, 2, 10, 12, 1, 0, 0]);
    }
}
