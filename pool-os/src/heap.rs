//! How the C library's heap treats large bodies.
//!
//! Left to itself it gives the pages of a freed body back, and takes new ones for the next: a
//! megabyte then costs half a millisecond in page faults, more than all work on it.

/// Larger pieces have a mapping of their own, and go with it.
const MAPPED_BYTES: i32 = 4 << 20;

/// Keeps so many bytes of free memory at the heap's end. To be called at the start, before there is
/// another thread.
pub fn keep_pages(kept_bytes: i32) {
    for (parameter, bytes) in
        [(libc::M_TRIM_THRESHOLD, kept_bytes), (libc::M_MMAP_THRESHOLD, MAPPED_BYTES)]
    {
        #[expect(unsafe_code, reason = "the C library's settings of its heap")]
        // SAFETY: sets a number of the allocator, which owns it for the process's life; no pointer
        // is involved.
        let _was_taken = unsafe { libc::mallopt(parameter, bytes) };
    }
}
