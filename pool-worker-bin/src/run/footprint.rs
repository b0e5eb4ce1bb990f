//! Memory of the process that its engine does not account for, and whether tasks left too much of
//! it.
//!
//! V8 counts its heap and array buffers, and collects by what it counts. An `Intl` object is a few
//! words there and kilobytes in a library's heap, so a task can fill the process with them, end
//! well, and leave the next task to die of it. So now and then, between two tasks, the kernel is
//! asked.
//!
//! Decides when that is too much and whether the process may go on. The bound is
//! [`Setup::unaccounted_memory_bytes`], and the walls around the process leave room for it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use pool_protocol::worker::Setup;
use pool_worker::js::Engine;

use crate::lockdown;

/// What the kernel says of this process's memory, and what it said at the start.
#[derive(Debug)]
pub(super) struct Footprint {
    private: Private,
    /// Private memory of the idle process besides what its engine accounts for.
    base: u64,
    limit: u64,
    /// With more than this, garbage is looked for.
    tolerated: u64,
}

/// How many bytes this process may still take, by the limit that it sets itself.
pub(super) fn room_left(setup: &Setup) -> io::Result<impl Fn() -> Option<usize> + 'static> {
    let wall = lockdown::data_bytes(setup);
    let taken = Private::open()?;
    Ok(move || usize::try_from(wall.saturating_sub(taken.bytes()?)).ok())
}

/// Private memory of this process, as the kernel counts it.
#[derive(Debug)]
struct Private {
    statm: File,
    page_bytes: u64,
}

impl Private {
    fn open() -> io::Result<Self> {
        Ok(Self {
            statm: File::open("/proc/self/statm")?,
            page_bytes: rustix::param::page_size() as u64,
        })
    }

    /// Bytes of writable private mappings, which is what the process's own limit counts, whether
    /// touched or not.
    fn bytes(&self) -> Option<u64> {
        let mut text = [0; 128];
        let len = self.statm.read_at(&mut text, 0).ok()?;
        // Size, resident, shared, text, libraries, data.
        let pages: u64 = std::str::from_utf8(&text[..len]).ok()?.split(' ').nth(5)?.parse().ok()?;
        Some(pages * self.page_bytes)
    }
}

/// Whether a process may run another task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bearable {
    /// It may.
    AsItIs,
    /// It may now, and the way there took time.
    AfterCollection,
    /// It has more than it may, and must be replaced.
    No,
}

impl Footprint {
    /// Opens what is read later, when nothing can be opened any more.
    pub(super) fn new(setup: &Setup) -> io::Result<Self> {
        let limit = setup.unaccounted_memory_bytes();
        Ok(Self { private: Private::open()?, base: 0, limit, tolerated: limit / 2 })
    }

    /// The process is as it begins: what it has now is its own.
    pub(super) fn settle(&mut self, engine: &mut Engine) {
        self.base = 0;
        self.base = self.unaccounted(engine);
    }

    /// Between two tasks: has the engine let go of what they left, if that is much.
    pub(super) fn look(&mut self, engine: &mut Engine) -> Bearable {
        if self.unaccounted(engine) <= self.tolerated {
            return Bearable::AsItIs;
        }
        engine.collect();
        give_back_pages();
        let mut left = self.unaccounted(engine);
        if left > self.limit {
            engine.forget_contexts();
            give_back_pages();
            left = self.unaccounted(engine);
        }
        // What a collection cannot change is not collected for again and again.
        self.tolerated = (self.limit / 2).max(left + self.limit / 4);
        if left <= self.limit { Bearable::AfterCollection } else { Bearable::No }
    }

    /// Bytes of private memory that are neither the engine's by its own account nor were there at
    /// the start.
    fn unaccounted(&self, engine: &mut Engine) -> u64 {
        let accounted = engine.accounted_bytes() as u64;
        self.private.bytes().map_or(0, |bytes| bytes.saturating_sub(self.base + accounted))
    }
}

/// What the C library holds free goes back to the kernel.
fn give_back_pages() {
    #[expect(unsafe_code, reason = "the C library's heap is told to shrink")]
    // SAFETY: takes a number of bytes to keep, and touches free memory of the allocator only.
    unsafe {
        libc::malloc_trim(0);
    }
}
