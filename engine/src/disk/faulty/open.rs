//! An open file of the failing disk.

use super::super::{AlignedBuffer, DiskFile, ReadBytes};
use super::file::Unit;
use super::{FaultyDisk, Seed, SharedFile, UNIT, errno};
use async_trait::async_trait;
use std::io;
use std::rc::Rc;

pub(super) struct FaultyFile {
    pub(super) disk: FaultyDisk,
    pub(super) state: SharedFile,
}

#[async_trait(?Send)]
impl DiskFile for FaultyFile {
    async fn read_at(&self, offset: u64, length: usize) -> io::Result<ReadBytes> {
        self.disk.pause().await;
        self.disk.alive()?;
        errno(self.disk.faults.get().read_errno)?;
        assert!(offset.is_multiple_of(UNIT as u64) && length.is_multiple_of(UNIT), "unaligned read: {offset} {length}");
        let plan = self.disk.plan.get();
        self.disk.fails(plan.read_error)?;
        self.disk.rot();
        let (state, first) = if self.disk.hits(plan.misdirected_read) {
            self.disk.count(|happened| happened.misdirected += 1);
            self.disk.elsewhere(&self.state)
        } else {
            (self.state.clone(), offset / UNIT as u64)
        };
        let mut bytes = vec![0; length];
        for (place, unit) in bytes.chunks_mut(UNIT).zip(first..) {
            if let Some(unit) = state.borrow().now.units.get(&unit) {
                place.copy_from_slice(&**unit);
            }
        }
        bytes.truncate(self.state.borrow().now.length.saturating_sub(offset) as usize);
        self.disk.pause().await;
        Ok(ReadBytes::memory(&bytes))
    }

    async fn write_at(&self, offset: u64, buffer: &AlignedBuffer) -> io::Result<()> {
        self.disk.pause().await;
        let bytes = buffer.bytes();
        assert!(
            offset.is_multiple_of(UNIT as u64) && bytes.len().is_multiple_of(UNIT),
            "unaligned write: {offset} {}",
            bytes.len()
        );
        self.disk.change()?;
        let (faults, plan) = (self.disk.faults.get(), self.disk.plan.get());
        errno(faults.write_errno)?;
        self.disk.fails(plan.write_error)?;
        self.disk.rot();
        if self.disk.hits(plan.lost_write) {
            self.disk.count(|happened| happened.lost += 1);
            return Ok(());
        }
        let (state, first) = if self.disk.hits(plan.misdirected_write) {
            self.disk.count(|happened| happened.misdirected += 1);
            self.disk.elsewhere(&self.state)
        } else {
            (self.state.clone(), offset / UNIT as u64)
        };
        let allocated = faults.capacity_bytes.map_or(0, |_| self.disk.allocated_bytes());
        let mut grown = 0;
        for (chunk, unit) in bytes.chunks(UNIT).zip(first..) {
            let mut state = state.borrow_mut();
            if !state.now.units.contains_key(&unit) {
                grown += UNIT as u64;
                if faults.capacity_bytes.is_some_and(|most| allocated + grown > most) {
                    self.disk.count(|happened| happened.full += 1);
                    return Err(io::Error::from_raw_os_error(libc::ENOSPC));
                }
            }
            let content: Unit = Rc::new(chunk.try_into().unwrap());
            state.put(unit, Some(content));
            let length = state.now.length.max((unit + 1) * UNIT as u64);
            state.set_length(length);
        }
        self.disk.pause().await;
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        self.disk.pause().await;
        self.disk.change()?;
        if self.disk.dead.get() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        errno(self.disk.faults.get().sync_errno)?;
        let plan = self.disk.plan.get();
        if let Err(error) = self.disk.fails(plan.sync_error) {
            let mut seed = Seed(self.disk.seed.borrow_mut().next());
            self.state.borrow_mut().fail_sync(&mut seed);
            return Err(error);
        }
        if self.disk.hits(plan.lying_sync) {
            self.disk.count(|happened| happened.lies += 1);
            return Ok(());
        }
        self.state.borrow_mut().sync();
        self.disk.pause().await;
        Ok(())
    }

    async fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.pause().await;
        self.disk.change()?;
        errno(self.disk.faults.get().write_errno)?;
        self.disk.fails(self.disk.plan.get().write_error)?;
        let mut state = self.state.borrow_mut();
        state.set_length(length);
        state.remove_range(length.div_ceil(UNIT as u64), u64::MAX);
        Ok(())
    }

    async fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.pause().await;
        self.disk.change()?;
        errno(self.disk.faults.get().write_errno)?;
        self.disk.fails(self.disk.plan.get().write_error)?;
        let mut state = self.state.borrow_mut();
        state.remove_range(offset / UNIT as u64, (offset + length).div_ceil(UNIT as u64));
        Ok(())
    }
}
