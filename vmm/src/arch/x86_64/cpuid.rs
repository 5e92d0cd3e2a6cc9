//! What processors say of themselves: what the hypervisor supports, with a topology of our own: one
//! package, a core a processor, a thread a core (Intel SDM volume 2, CPUID; AMD APM volume 3,
//! appendix E).

/// An answer of CPUID.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leaf {
    /// `EAX` of the question.
    pub function: u32,
    /// `ECX` of the question, if it matters.
    pub index: Option<u32>,
    /// `EAX` of the answer.
    pub eax: u32,
    /// `EBX`.
    pub ebx: u32,
    /// `ECX`.
    pub ecx: u32,
    /// `EDX`.
    pub edx: u32,
}

/// Leaf 1, `ECX`: virtualisation (Intel), the APIC's deadline timer, "there is a hypervisor".
const VMX: u32 = 1 << 5;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, `EDX`: several processors in the package.
const HTT: u32 = 1 << 28;
/// Leaf 0x8000_0001, `ECX`: virtualisation (AMD).
const SVM: u32 = 1 << 2;

const EXTENDED_TOPOLOGY: u32 = 0xb;
const EXTENDED_TOPOLOGY_2: u32 = 0x1f;
/// Kinds of levels of the extended topology.
const LEVEL_THREAD: u32 = 1 << 8;
const LEVEL_CORE: u32 = 2 << 8;

/// Makes what the hypervisor supports into what processor `id` of `cpus` says. Virtualisation is not
/// passed on. `deadline` tells whether the hypervisor's APIC has the deadline timer.
pub fn adapt(leaves: &mut Vec<Leaf>, id: u16, cpus: u16, deadline: bool) {
    let (id, cpus) = (u32::from(id), u32::from(cpus.max(1)));
    let bits = cpus.next_power_of_two().trailing_zeros();
    let last = leaves.iter().find(|leaf| leaf.function == 0).map_or(0, |leaf| leaf.eax);
    leaves.retain(|leaf| !matches!(leaf.function, EXTENDED_TOPOLOGY | EXTENDED_TOPOLOGY_2));
    for leaf in leaves.iter_mut() {
        match leaf.function {
            1 => {
                leaf.ebx = leaf.ebx & 0xffff | cpus.min(255) << 16 | id << 24;
                leaf.ecx = leaf.ecx & !VMX | HYPERVISOR;
                if deadline {
                    leaf.ecx |= TSC_DEADLINE;
                }
                leaf.edx = if cpus > 1 { leaf.edx | HTT } else { leaf.edx & !HTT };
            }
            4 if leaf.eax & 0x1f != 0 => {
                let cores = (1 << bits.min(6)) - 1;
                leaf.eax = leaf.eax & 0x3fff | sharers(leaf.eax, bits) << 14 | cores << 26;
            }
            0x8000_0001 => leaf.ecx &= !SVM,
            0x8000_0008 => leaf.ecx = leaf.ecx & !0xf0ff | bits << 12 | (cpus - 1),
            0x8000_001d if leaf.eax & 0x1f != 0 => {
                leaf.eax = leaf.eax & 0x3fff | sharers(leaf.eax, bits) << 14;
            }
            0x8000_001e => (leaf.eax, leaf.ebx, leaf.ecx) = (id, id & 0xff, 0),
            _ => {}
        }
    }
    if last >= EXTENDED_TOPOLOGY {
        let level = |index, eax, ebx, kind| Leaf {
            function: EXTENDED_TOPOLOGY,
            index: Some(index),
            eax,
            ebx,
            ecx: kind | index,
            edx: id,
        };
        leaves.extend([
            level(0, 0, 1, LEVEL_THREAD),
            level(1, bits, cpus, LEVEL_CORE),
            level(2, 0, 0, 0),
        ]);
    }
}

/// How many processors, less one, have a cache together: all of them the third level.
fn sharers(eax: u32, bits: u32) -> u32 {
    let level = eax >> 5 & 7;
    if level >= 3 { (1 << bits) - 1 } else { 0 }
}
