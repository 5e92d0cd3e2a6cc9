//! Brings kernel and initrd from their files straight into guest memory, or says why not.

use super::layout::{CMDLINE_MAX, HIGH};
use crate::Error;
use crate::boot::{self, EM_X86_64, Image};
use crate::memory::Memory;
use linux_loader::loader::bootparam::{self, setup_header};
use linux_loader::loader::{BzImage, Elf, KernelLoader};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// A kernel in memory.
pub struct Kernel {
    /// Where it is entered in 64-bit mode.
    pub entry: GuestAddress,
    /// Behind what it takes until it manages memory itself.
    pub end: u64,
    /// The header of its file, or one that says the same of an ELF file.
    pub header: setup_header,
    /// The longest command line that it reads, without its NUL.
    pub cmdline_max: usize,
}

/// An initrd in memory.
#[derive(Clone, Copy)]
pub struct Initrd {
    /// Where it begins.
    pub start: u32,
    /// Its length.
    pub len: u32,
}

/// Offset of the 64-bit entry in a bzImage behind its setup code.
const ENTRY_64: u64 = 0x200;
/// Where an initrd ends at the latest if the kernel does not say so.
const INITRD_MAX: u32 = 0x7fff_ffff;
const PAGE: u64 = 0x1000;
/// What initrds are aligned to.
const MIB: u64 = 1 << 20;

/// Opens a file that has to be a regular one.
fn open(what: &'static str, path: &Path) -> Result<(File, u64), Error> {
    let failed = |source| Error::File { what, file: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let data = file.metadata().map_err(failed)?;
    if !data.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file")));
    }
    Ok((file, data.len()))
}

/// Loads a kernel.
pub fn load(memory: &Memory, path: &Path) -> Result<Kernel, Error> {
    let (mut file, len) = open("kernel", path)?;
    let failed = |source| Error::File { what: "kernel", file: path.into(), source };
    let mut head = Vec::new();
    file.by_ref().take(boot::HEAD as u64).read_to_end(&mut head).map_err(failed)?;
    let refuse =
        |cause: &str, next| Err(Error::Kernel { file: path.into(), cause: cause.to_owned(), next });
    const OURS: &str = "give a 64-bit x86 kernel: a distribution's vmlinuz, or a vmlinux";
    match boot::recognise(&head) {
        Image::Bzimage { long: true } => load_bzimage(memory, path, &mut file, len),
        Image::Elf { machine: EM_X86_64, long: true } => load_elf(memory, path, &mut file),
        Image::Bzimage { long: false } => refuse("it has no 64-bit entry", OURS),
        Image::Elf { machine, .. } => {
            refuse(&format!("it is an ELF file for another processor (machine {machine})"), OURS)
        }
        Image::Foreign(processor) => refuse(&format!("it is for {processor}"), OURS),
        Image::Packed(tool) => {
            refuse(&format!("it is compressed as a whole; {tool} unpacks it"), "unpack it")
        }
        Image::Unknown => refuse("it is no kernel, or compressed in an unknown way", OURS),
    }
}

/// Behind the memory that begins low.
fn low_memory_end(memory: &Memory) -> u64 {
    memory.find_region(GuestAddress(0)).map_or(0, |region| region.last_addr().raw_value() + 1)
}

fn check_fit(
    what: &'static str,
    path: &Path,
    start: u64,
    needs: u64,
    end: u64,
) -> Result<(), Error> {
    let has = end.saturating_sub(start);
    if needs <= has {
        return Ok(());
    }
    let (needs, has) = (needs.div_ceil(MIB), has / MIB);
    Err(Error::TooLarge { what, file: path.into(), needs, has })
}

fn load_bzimage(memory: &Memory, path: &Path, file: &mut File, len: u64) -> Result<Kernel, Error> {
    let failed = |source| Error::File { what: "kernel", file: path.into(), source };
    // The fields that say where it wants to be: `pref_address`, then `init_size`.
    let mut wishes = [0; 12];
    file.seek(SeekFrom::Start(0x258)).map_err(failed)?;
    file.read_exact(&mut wishes).map_err(failed)?;
    let (address, size) = wishes.split_at(8);
    let wish = address.try_into().map_or(0, u64::from_le_bytes);
    let init_size = u64::from(size.try_into().map_or(0, u32::from_le_bytes));
    let start = wish.max(HIGH.raw_value());
    check_fit("kernel", path, start, init_size.max(len), low_memory_end(memory))?;
    let loaded = BzImage::load(memory, Some(GuestAddress(start)), file, None);
    let (Ok(loaded), Some(header)) = (&loaded, loaded.as_ref().ok().and_then(|l| l.setup_header))
    else {
        return damaged(path);
    };
    Ok(Kernel {
        entry: GuestAddress(start + ENTRY_64),
        end: loaded.kernel_end.max(start + init_size),
        header,
        cmdline_max: header.cmdline_size as usize,
    })
}

fn load_elf(memory: &Memory, path: &Path, file: &mut File) -> Result<Kernel, Error> {
    let Ok(loaded) = Elf::load(memory, None, file, Some(HIGH)) else { return damaged(path) };
    let start = loaded.kernel_load;
    let needs = loaded.kernel_end.saturating_sub(HIGH.raw_value());
    check_fit("kernel", path, HIGH.raw_value(), needs, low_memory_end(memory))?;
    let header = setup_header {
        boot_flag: 0xaa55,
        header: 0x5372_6448,
        version: 0x20c,
        loadflags: bootparam::LOADED_HIGH,
        initrd_addr_max: INITRD_MAX,
        kernel_alignment: MIB as u32,
        ..Default::default()
    };
    Ok(Kernel { entry: start, end: loaded.kernel_end, header, cmdline_max: CMDLINE_MAX - 1 })
}

fn damaged(path: &Path) -> Result<Kernel, Error> {
    Err(Error::Kernel {
        file: path.into(),
        cause: "it is damaged, or asks for memory that the guest has not".into(),
        next: "copy it again, or give the guest more memory (--memory)",
    })
}

/// Loads an initrd as high as the kernel can reach, out of its way.
pub fn load_initrd(memory: &Memory, kernel: &Kernel, path: &Path) -> Result<Initrd, Error> {
    let (mut file, len) = open("initrd", path)?;
    let reach = match kernel.header.initrd_addr_max {
        0 => INITRD_MAX,
        last => last,
    };
    let end = low_memory_end(memory).min(u64::from(reach) + 1) & !(PAGE - 1);
    let first = kernel.end.next_multiple_of(PAGE);
    check_fit("initrd", path, first, len.next_multiple_of(PAGE), end)?;
    let start = (end - len) & !(PAGE - 1);
    let failed = |source| Error::File { what: "initrd", file: path.into(), source };
    memory
        .read_exact_volatile_from(GuestAddress(start), &mut file, len as usize)
        .map_err(|error| failed(io::Error::other(error)))?;
    Ok(Initrd { start: start as u32, len: len as u32 })
}
