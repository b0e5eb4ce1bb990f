//! What every connection of ours wants of its socket.

use std::io;
use std::os::fd::AsFd;

use rustix::net::sockopt;

/// Bytes that a socket takes before its writer waits. With less a large body wakes its reader and its writer for every piece of
/// it. The kernel gives less where `net.core.wmem_max` says so.
const SEND_BYTES: usize = 2 * 1024 * 1024;

/// Lets the socket take a large body at once.
pub(crate) fn widen(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_send_buffer_size(socket, SEND_BYTES)?)
}
