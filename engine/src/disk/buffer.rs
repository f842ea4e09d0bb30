//! Memory that disks read into and write from. `AlignedBuffer` is glommio's DMA buffer, so that a page goes from the
//! network to the disk without a copy in between.

use glommio::io::{DmaBuffer, ReadResult};
use std::ops::Deref;
use std::rc::Rc;

/// A 4 KiB-aligned buffer from the system allocator.
#[derive(Clone)]
pub(crate) struct AlignedBuffer(Rc<DmaBuffer>);

impl AlignedBuffer {
    /// Arbitrary content. `bytes` is a multiple of 4 KiB and not 0.
    pub(crate) fn new(bytes: usize) -> AlignedBuffer {
        let mut buffer = glommio::allocate_dma_buffer_global(bytes);
        // Fresh memory is zero pages from the kernel mostly; writing it makes it initialised for certain.
        buffer.as_bytes_mut().fill(0);
        AlignedBuffer(Rc::new(buffer))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// `None` while someone else holds it.
    pub(crate) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        Rc::get_mut(&mut self.0).map(DmaBuffer::as_bytes_mut)
    }

    pub(super) fn shared(&self) -> Rc<DmaBuffer> {
        self.0.clone()
    }
}

/// What a read brought.
#[derive(Clone)]
pub(crate) struct ReadBytes(Origin);

#[derive(Clone)]
enum Origin {
    Ring(ReadResult),
    #[cfg(test)]
    Memory(AlignedBuffer, usize),
}

impl ReadBytes {
    pub(super) fn ring(result: ReadResult) -> ReadBytes {
        ReadBytes(Origin::Ring(result))
    }

    #[cfg(test)]
    pub(super) fn memory(bytes: &[u8]) -> ReadBytes {
        let mut buffer = AlignedBuffer::new(bytes.len().next_multiple_of(4096).max(4096));
        buffer.bytes_mut().unwrap()[..bytes.len()].copy_from_slice(bytes);
        ReadBytes(Origin::Memory(buffer, bytes.len()))
    }
}

impl Deref for ReadBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Origin::Ring(result) => result,
            #[cfg(test)]
            Origin::Memory(buffer, length) => &buffer.bytes()[..*length],
        }
    }
}
