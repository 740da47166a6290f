//! Small tables that a call's kernels read, brought to the device in one copy that nobody waits for.

use std::{cell::Cell, cell::RefCell, sync::Arc};

use crate::{Buffer, CudaError, Device, Pinned, View};

/// Tables begin at whole 16 bytes: some are read in fours.
const ALIGN: usize = 4;

/// A ring of pinned memory and its like on the device. What was put stays on the device until the ring comes round, which waits for
/// all that was launched.
#[derive(Debug)]
pub struct Sheets {
    device: Arc<Device>,
    host: RefCell<Pinned<u32>>,
    here: Buffer<u32>,
    at: Cell<usize>,
}

impl Sheets {
    /// With room for `len` numbers: some times what a call puts.
    ///
    /// # Errors
    /// There is no room.
    pub fn new(device: &Arc<Device>, len: usize) -> Result<Self, CudaError> {
        let len = len.max(1024).next_multiple_of(ALIGN);
        Ok(Self {
            device: Arc::clone(device),
            host: RefCell::new(Pinned::new(device, len)?),
            here: Buffer::new(device, len)?,
            at: Cell::new(0),
        })
    }

    /// Where the tables will be for what is launched next.
    ///
    /// # Errors
    /// They are longer than the ring, or the device failed.
    pub fn put<const N: usize>(&self, tables: [&[u32]; N]) -> Result<[View<'_, u32>; N], CudaError> {
        let size: usize = tables.iter().map(|table| table.len().next_multiple_of(ALIGN)).sum();
        let mut host = self.host.borrow_mut();
        let len = host.as_slice().len();
        if size > len {
            return Err(CudaError::Shape(format!("tables of {size} numbers in a ring of {len}")));
        }
        let mut begin = self.at.get();
        if begin + size > len {
            self.device.synchronize()?;
            begin = 0;
        }
        let mut views = [self.here.range(0..0)?; N];
        let mut at = begin;
        for (view, table) in views.iter_mut().zip(tables) {
            host.as_mut_slice()[at..at + table.len()].copy_from_slice(table);
            *view = self.here.range(at..at + table.len())?;
            at += table.len().next_multiple_of(ALIGN);
        }
        if size > 0 {
            self.here.range(begin..at)?.upload_from(&self.device, &host, begin)?;
        }
        self.at.set(at);
        Ok(views)
    }
}
