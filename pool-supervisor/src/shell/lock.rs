//! A lock on a file, which one living supervisor holds and whose end releases it.

use std::fs::{File, TryLockError};
use std::io;

use rustix::event::{Timespec, poll};

/// A child that a supervisor was just starting when it died has copies of its descriptors until it
/// executes its program. Whoever starts the next supervisor at once must not be told that there is
/// another one. So many looks take a second.
const LOOKS: u32 = 200;
/// Between two looks.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// Takes the lock of `file`, which is held as long as the file is open. `Ok(false)` when another
/// supervisor has it.
pub(super) fn take(file: &File) -> io::Result<bool> {
    let mut taken = Ok(false);
    becomes_true(|| {
        taken = take_now(file);
        !matches!(taken, Ok(false))
    });
    taken
}

/// As [`take`], without patience for whoever is about to let go of it.
pub(super) fn take_now(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether what is true of a place that nobody uses is so before a dead supervisor's last child
/// must have left it.
pub(super) fn becomes_true(mut holds: impl FnMut() -> bool) -> bool {
    (0..LOOKS).any(|look| {
        if look > 0 {
            let _nothing_to_wait_for = poll(&mut [], Some(&PAUSE));
        }
        holds()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same_file_twice() -> (tempfile::TempDir, File, File) {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || File::create(folder.path().join("lock")).expect("our own folder");
        let (first, second) = (open(), open());
        (folder, first, second)
    }

    #[test]
    fn a_copy_that_is_about_to_go_is_waited_for() {
        let (_folder, first, second) = same_file_twice();
        assert!(take(&first).expect("a lock"));
        // What a child has between `clone` and `execve`.
        let copy = first.try_clone().expect("a descriptor");
        drop(first);
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)), "the copy holds it");
        let mut looks = 0;
        let mut copy = Some(copy);
        assert!(becomes_true(|| {
            looks += 1;
            if looks == 3 {
                copy = None;
            }
            second.try_lock().is_ok()
        }));
        assert_eq!(looks, 3);
    }

    #[test]
    fn who_lives_keeps_it() {
        let (_folder, first, second) = same_file_twice();
        assert!(take(&first).expect("a lock"));
        assert!(!take(&second).expect("a lock"));
    }
}
