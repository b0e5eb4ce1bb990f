//! What every connection of ours wants of its socket.

use std::io;
use std::os::fd::AsFd;

use pool_protocol::buffer::FrameBuffer;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, read};
use rustix::net::sockopt;

/// Bytes that a socket takes before its writer waits. With less a large body wakes its reader and
/// its writer for every piece of it. The kernel gives less where `net.core.wmem_max` says so.
const SEND_BYTES: usize = 2 * 1024 * 1024;

/// Lets the socket take a large body at once.
///
/// # Errors
/// What the system says of a descriptor that is no socket.
pub fn widen(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_send_buffer_size(socket, SEND_BYTES)?)
}

/// Reads once: the rest of a large frame to where it stays, small frames through the scratch. How
/// many bytes; 0 at the end.
///
/// # Errors
/// What the system says, but that a signal came in between: then it reads again.
pub fn read_into(
    socket: impl AsFd,
    buffer: &mut FrameBuffer,
    scratch: &mut [u8],
) -> Result<usize, Errno> {
    loop {
        let n = match buffer.room() {
            Some(room) => read(&socket, spare_capacity(room)),
            None => {
                let piece = scratch.len().min(buffer.piece());
                read(&socket, &mut scratch[..piece]).inspect(|n| buffer.push(&scratch[..*n]))
            }
        };
        if n != Err(Errno::INTR) {
            return n;
        }
    }
}
