//! Random requests to a disk, and to a model of one: a byte for each sector.

use super::*;
use proptest::prelude::*;

const SECTORS: u64 = 2048;

#[derive(Clone, Debug)]
enum Request {
    Write { sector: u64, sectors: u64, byte: u8 },
    Read { sector: u64, sectors: u64 },
    Zero { sector: u64, sectors: u64, unmap: bool },
    Discard { sector: u64, sectors: u64 },
    Flush,
    OpenAgain,
}

fn request() -> impl Strategy<Value = Request> {
    // Around the borders of clusters, which have 128 sectors.
    let sector = prop_oneof![0..SECTORS, (0..16_u64).prop_map(|n| n * 128)];
    let sectors = prop_oneof![1..16_u64, Just(128), Just(256), 1..400_u64];
    (0..20_u8, sector, sectors, 1..=255_u8, any::<bool>()).prop_map(
        |(kind, sector, sectors, byte, unmap)| {
            let sectors = sectors.min(SECTORS - sector);
            match kind {
                0..8 => Request::Write { sector, sectors, byte },
                8..13 => Request::Read { sector, sectors },
                13..16 => Request::Zero { sector, sectors, unmap },
                16..18 => Request::Discard { sector, sectors },
                18 => Request::Flush,
                _ => Request::OpenAgain,
            }
        },
    )
}

/// What a sector holds; nothing is known of it after it was discarded.
type Model = Vec<Option<u8>>;

fn carry_out(request: &Request, mut setup: Setup, model: &mut Model) -> Setup {
    let span = |sector: u64, sectors: u64| sector as usize..(sector + sectors) as usize;
    match *request {
        Request::Write { sector, sectors, byte } => {
            assert_eq!(setup.write(sector, &vec![byte; sectors as usize * 512]), OK);
            model[span(sector, sectors)].fill(Some(byte));
        }
        Request::Read { sector, sectors } => {
            let (status, data) = setup.read(sector, sectors as u32 * 512);
            assert_eq!(status, OK);
            for (n, (data, held)) in data.chunks(512).zip(&model[span(sector, sectors)]).enumerate()
            {
                let right = held.is_none_or(|byte| data.iter().all(|&seen| seen == byte));
                assert!(right, "sector {} holds {:?}, not {held:?}", sector + n as u64, data[0]);
            }
        }
        Request::Zero { sector, sectors, unmap } => {
            let range = range(sector, sectors as u32, unmap.into());
            assert_eq!(setup.ranges(VIRTIO_BLK_T_WRITE_ZEROES, &[range]), OK);
            model[span(sector, sectors)].fill(Some(0));
        }
        Request::Discard { sector, sectors } => {
            let range = range(sector, sectors as u32, 0);
            assert_eq!(setup.ranges(VIRTIO_BLK_T_DISCARD, &[range]), OK);
            model[span(sector, sectors)].fill(None);
        }
        Request::Flush => assert_eq!(setup.flush(), OK),
        Request::OpenAgain => {
            let format = setup.format;
            return setup.again(format);
        }
    }
    setup
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_disk_holds_what_was_written_to_it(
        qcow2 in any::<bool>(),
        mut requests in prop::collection::vec(request(), 1..60),
    ) {
        let format = if qcow2 { DiskFormat::Qcow2 } else { DiskFormat::Raw };
        let mut setup = setup(format);
        let mut model: Model = vec![Some(0); SECTORS as usize];
        requests.push(Request::OpenAgain);
        requests.extend((0..SECTORS).step_by(256).map(|sector| Request::Read { sector, sectors: 256 }));
        for request in &requests {
            setup = carry_out(request, setup, &mut model);
        }
        drop(setup.work);
        if qcow2 {
            qemu_img(&["check", "-q", setup.file.to_str().unwrap()]);
        }
    }
}
