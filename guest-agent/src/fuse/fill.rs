//! Content for the kernel's page cache, given before a file is told to be open: whoever reads it then
//! asks nobody.
//!
//! The kernel locks a page while it is read, and is given another only when that is done. So what is
//! filled must be open nowhere else: the thread that fills may be the one that would answer the reader.

use super::session::Session;
use super::translate::Fill;

impl Session {
    /// Gives the kernel the content of a file that was asked for after `seen` arrivals of changes. Tells
    /// whether that may stay.
    pub(super) fn fill(&self, fill: &Fill<'_>, seen: u64) -> bool {
        let Fill { node, attr, data, replaces } = *fill;
        let (device, nodes) = (&self.device, &self.nodes);
        // The kernel takes the end of it for that of the file.
        if self.withheld.covers(node) {
            return false;
        }
        if replaces {
            _ = device.invalidate_inode(node.0, 0, 0);
        }
        if device.store(node.0, data).is_err() {
            return false;
        }
        nodes.note_read(node, 0, data.len() as u64);
        // Whatever came meanwhile may have been told the kernel just before.
        if self.arrivals() == seen && nodes.has_content(node, &attr) {
            return true;
        }
        nodes.note_dropped(node);
        _ = device.invalidate_inode(node.0, 0, 0);
        false
    }
}
