//! Bodies that outlive the read that brought them: of tasks that wait, of outcomes that are kept.
//!
//! A small one is copied, since a slice would keep the whole of what was read with it. The vectors
//! of small bodies are used again, so that a task that comes and goes allocates nothing.

use bytes::Bytes;
use pool_protocol::buffer::LARGE_BYTES;

/// Vectors that are kept for the next bodies.
const MAX_SPARES: usize = 1024;
/// A vector with more room than this is not kept: a short body would waste it.
const MAX_SPARE_BYTES: usize = 256;

/// A body that is kept.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Small(Vec<u8>),
    /// It has a buffer of its own.
    Large(Box<Bytes>),
}

impl Body {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Small(Vec::new())
    }
}

/// Where bodies come from and go to.
#[derive(Default, Debug)]
pub(crate) struct BufferPool {
    spares: Vec<Vec<u8>>,
}

impl BufferPool {
    pub(crate) fn keep(&mut self, bytes: &Bytes) -> Body {
        if bytes.len() >= LARGE_BYTES {
            return Body::Large(Box::new(bytes.clone()));
        }
        let fits = bytes.len() <= MAX_SPARE_BYTES;
        let mut kept = if fits { self.spares.pop() } else { None }.unwrap_or_default();
        // Exactly, for a million of them may wait.
        kept.reserve_exact(bytes.len());
        kept.extend_from_slice(bytes);
        Body::Small(kept)
    }

    pub(crate) fn recycle(&mut self, body: Body) {
        if let Body::Small(mut bytes) = body
            && (1..=MAX_SPARE_BYTES).contains(&bytes.capacity())
            && self.spares.len() < MAX_SPARES
        {
            bytes.clear();
            self.spares.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_body_is_kept_without_what_was_read_with_it() {
        let read = Bytes::from(vec![7; 256 * 1024]);
        let body = BufferPool::default().keep(&read.slice(1000..1100));
        assert!(matches!(&body, Body::Small(bytes) if bytes.capacity() == 100));
        assert_eq!(body.bytes(), &read[1000..1100]);
        assert!(read.is_unique(), "nothing holds what was read");
    }

    #[test]
    fn a_large_body_is_kept_where_it_was_read() {
        let read = Bytes::from(vec![7; 2 * LARGE_BYTES]);
        let body = BufferPool::default().keep(&read.slice(16..));
        assert!(std::ptr::eq(body.bytes(), &read[16..]));
    }

    #[test]
    fn small_vectors_are_used_again_and_large_ones_are_not_hoarded() {
        let mut buffers = BufferPool::default();
        let first = buffers.keep(&Bytes::from_static(b"one"));
        let at = first.bytes().as_ptr();
        buffers.recycle(first);
        let second = buffers.keep(&Bytes::from_static(b"two"));
        assert_eq!((second.bytes(), second.bytes().as_ptr()), (&b"two"[..], at));
        let long = buffers.keep(&Bytes::from(vec![1; MAX_SPARE_BYTES + 1]));
        buffers.recycle(long);
        assert!(buffers.spares.is_empty());
        for _ in 0..2 * MAX_SPARES {
            buffers.recycle(Body::Small(vec![1]));
        }
        assert_eq!(buffers.spares.len(), MAX_SPARES);
    }
}
