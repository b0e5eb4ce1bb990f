//! The floor's processes: a relay between a client and its echoes, and an echo.
//!
//! What a pool cannot do without: two hops over sockets between three processes, one epoll thread
//! in the middle that reads once and writes once for each peer in a turn, and frames whose ends it
//! must find. No choice, no limits, no task. A frame is its own length, that of its reply (both of
//! 4 bytes), its number (8 bytes), and filling.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::net::sockopt;

/// Bytes of a frame before its filling.
pub const HEADER_BYTES: usize = 16;
/// Bytes asked for in one read.
pub const READ_BYTES: usize = 256 * 1024;
/// Processes behind the relay.
pub const ECHOES: usize = 2;
/// Bytes that a socket takes before its writer waits: as a pool's do.
const SEND_BYTES: usize = 2 * 1024 * 1024;
const CLIENT: usize = 0;

/// How an echo answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answers {
    /// All that came in one read in one write: the least that is possible.
    Together,
    /// Each in a write of its own, as who ends tasks one after the other and holds no result back
    /// must.
    OneByOne,
}

/// How the echoes are fed, and how they answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manner {
    /// Frames that an echo holds at most.
    pub credit: u32,
    /// See there.
    pub answers: Answers,
}

/// Writes a frame's header over these bytes.
pub fn put_header(frame: &mut [u8], len: usize, reply: usize, number: u64) {
    frame[..4].copy_from_slice(&(len as u32).to_le_bytes());
    frame[4..8].copy_from_slice(&(reply as u32).to_le_bytes());
    frame[8..HEADER_BYTES].copy_from_slice(&number.to_le_bytes());
}

/// A frame's length, its reply's, and its number, once its header is there.
#[must_use]
pub fn header(bytes: &[u8]) -> Option<(usize, usize, u64)> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let length =
        |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes")) as usize;
    Some((length(0), length(4), u64::from_le_bytes(header[8..].try_into().expect("eight bytes"))))
}

/// Bytes of the whole frames at the front, and how many they are.
#[must_use]
pub fn whole_frames(bytes: &[u8]) -> (usize, usize) {
    let (mut end, mut count) = (0, 0);
    while let Some((len, _, _)) =
        header(&bytes[end..]).filter(|(len, _, _)| end + len <= bytes.len())
    {
        end += len;
        count += 1;
    }
    (end, count)
}

/// Turns the whole frames at the front into their replies, in place; they are never longer. Bytes
/// of the requests and of the replies.
fn answer(bytes: &mut [u8]) -> (usize, usize) {
    let (mut read, mut written) = (0, 0);
    while let Some((len, reply, number)) =
        header(&bytes[read..]).filter(|(len, _, _)| read + len <= bytes.len())
    {
        if read != written {
            bytes.copy_within(read..read + reply, written);
        }
        put_header(&mut bytes[written..], reply, 0, number);
        read += len;
        written += reply;
    }
    (read, written)
}

/// Reads what is there, at most once. Whether the other side is still open.
///
/// # Errors
/// When the system refuses.
pub fn read_into(stream: &UnixStream, buffer: &mut Vec<u8>) -> anyhow::Result<bool> {
    let missing = header(buffer).map_or(0, |(len, _, _)| len.saturating_sub(buffer.len()));
    buffer.reserve(missing.max(READ_BYTES));
    match rustix::io::read(stream, spare_capacity(buffer)) {
        Ok(read) => Ok(read > 0),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(true),
        Err(error) => Err(error).context("failed to read from a peer"),
    }
}

/// A descriptor that was given as standard input.
fn inherited() -> anyhow::Result<UnixStream> {
    let owned = rustix::stdio::stdin()
        .try_clone_to_owned()
        .context("failed to take the inherited socket")?;
    Ok(UnixStream::from(owned))
}

/// Starts this program's own hidden mode with one end of a socket pair as its standard input.
///
/// # Errors
/// When the system refuses.
pub fn start(mode: &str, manner: Manner, stdout: Stdio) -> anyhow::Result<(UnixStream, Child)> {
    let (ours, theirs) = UnixStream::pair().context("failed to make a socket pair")?;
    for end in [&ours, &theirs] {
        sockopt::set_socket_send_buffer_size(end, SEND_BYTES)
            .context("failed to widen a socket")?;
    }
    let own = std::env::current_exe().context("failed to find this program's own file")?;
    let child = Command::new(own)
        .arg(mode)
        .args(["--credit", &manner.credit.to_string()])
        .args((manner.answers == Answers::OneByOne).then_some("--one-by-one"))
        .stdin(OwnedFd::from(theirs))
        .stdout(stdout)
        .spawn()
        .with_context(|| format!("failed to start {mode}"))?;
    Ok((ours, child))
}

/// An echo: answers each frame on standard input's socket until that ends.
///
/// # Errors
/// When the socket fails.
pub fn echo(answers: Answers) -> anyhow::Result<()> {
    let mut stream = inherited()?;
    let mut buffer = Vec::new();
    while read_into(&stream, &mut buffer)? {
        let (requests, replies) = answer(&mut buffer);
        let piece = match answers {
            Answers::Together => replies,
            Answers::OneByOne => header(&buffer[..replies]).map_or(replies, |(len, _, _)| len),
        };
        for piece in buffer[..replies].chunks(piece.max(1)) {
            stream.write_all(piece).context("failed to answer")?;
        }
        buffer.drain(..requests);
    }
    Ok(())
}

struct Peer {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    written: usize,
    /// Frames it has not answered.
    holds: usize,
    waits_for_room: bool,
}

/// A relay: starts its echoes, prints their process ids, and carries frames until standard input's
/// socket ends.
///
/// # Errors
/// When an echo does not start or goes away.
pub fn relay(manner: Manner) -> anyhow::Result<()> {
    let mut peers = vec![Peer::new(inherited()?)?];
    let mut echoes = Vec::new();
    for _ in 0..ECHOES {
        let (stream, child) = start("floor-echo", manner, Stdio::null())?;
        peers.push(Peer::new(stream)?);
        echoes.push(child);
    }
    println!("{}", serde_json::to_string(&echoes.iter().map(Child::id).collect::<Vec<u32>>())?);
    let epoll =
        epoll::create(epoll::CreateFlags::CLOEXEC).context("failed to make an epoll set")?;
    for (place, peer) in peers.iter().enumerate() {
        epoll::add(
            &epoll,
            &peer.stream,
            epoll::EventData::new_u64(place as u64),
            epoll::EventFlags::IN,
        )?;
    }
    let mut events = Vec::with_capacity(peers.len());
    while turn(&epoll, &mut events, &mut peers, manner.credit as usize)? {}
    drop(peers);
    echoes
        .iter_mut()
        .try_for_each(|echo| echo.wait().map(drop))
        .context("failed to wait for an echo")
}

/// Whether the client is still there.
fn turn(
    epoll: &OwnedFd,
    events: &mut Vec<epoll::Event>,
    peers: &mut [Peer],
    credit: usize,
) -> anyhow::Result<bool> {
    events.clear();
    match epoll::wait(epoll, spare_capacity(events), None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error).context("failed to wait for peers"),
    }
    for event in events.iter() {
        let place = event.data.u64() as usize;
        let flags = event.flags;
        if flags == epoll::EventFlags::OUT {
            continue;
        }
        let peer = &mut peers[place];
        if !read_into(&peer.stream, &mut peer.inbox)? {
            return if place == CLIENT {
                Ok(false)
            } else {
                bail!("failed to relay: an echo went away")
            };
        }
        carry(peers, place, credit);
    }
    // An echo that answered has credit again.
    carry(peers, CLIENT, credit);
    for (place, peer) in peers.iter_mut().enumerate() {
        peer.flush(epoll, place)?;
    }
    Ok(true)
}

/// Gives the whole frames that came from a peer to those they are for; what no echo has credit for
/// stays.
fn carry(peers: &mut [Peer], from: usize, credit: usize) {
    let mut came = std::mem::take(&mut peers[from].inbox);
    let (bytes, frames) = whole_frames(&came);
    if from != CLIENT {
        peers[from].holds -= frames;
        peers[CLIENT].give(&mut came, bytes);
    } else if frames == 1 && peers[idlest(peers)].holds < credit {
        let echo = &mut peers[idlest(peers)];
        echo.holds += 1;
        echo.give(&mut came, bytes);
    } else {
        let dealt = deal(peers, &came[..bytes], credit);
        came.drain(..dealt);
    }
    peers[from].inbox = came;
}

/// Gives each frame to the echo that holds the fewest, as whoever wants all of them busy must. The
/// bytes that found one.
fn deal(peers: &mut [Peer], frames: &[u8], credit: usize) -> usize {
    let mut dealt = 0;
    while let Some((len, _, _)) = header(&frames[dealt..]) {
        let echo = &mut peers[idlest(peers)];
        if echo.holds >= credit {
            break;
        }
        echo.outbox.extend_from_slice(&frames[dealt..dealt + len]);
        echo.holds += 1;
        dealt += len;
    }
    dealt
}

fn idlest(peers: &[Peer]) -> usize {
    (CLIENT + 1..peers.len()).min_by_key(|place| peers[*place].holds).expect("there are echoes")
}

impl Peer {
    fn new(stream: UnixStream) -> anyhow::Result<Self> {
        stream.set_nonblocking(true).context("failed to prepare a socket")?;
        Ok(Self {
            stream,
            inbox: Vec::new(),
            outbox: Vec::new(),
            written: 0,
            holds: 0,
            waits_for_room: false,
        })
    }

    /// Takes the first bytes of a buffer into the outbox.
    fn give(&mut self, came: &mut Vec<u8>, bytes: usize) {
        if self.outbox.is_empty() {
            // The buffers change places, so that nothing but the beginning of a next frame is
            // copied.
            self.outbox.extend_from_slice(&came[bytes..]);
            came.truncate(bytes);
            std::mem::swap(&mut self.outbox, came);
        } else {
            self.outbox.extend_from_slice(&came[..bytes]);
            came.drain(..bytes);
        }
    }

    /// Writes once; what does not fit waits for room.
    fn flush(&mut self, epoll: &OwnedFd, place: usize) -> anyhow::Result<()> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        match (&self.stream).write(&self.outbox[self.written..]) {
            Ok(written) => self.written += written,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("failed to write to a peer"),
        }
        let done = self.written == self.outbox.len();
        if done {
            self.outbox.clear();
            self.written = 0;
        }
        if self.waits_for_room == done {
            self.waits_for_room = !done;
            let out = if done { epoll::EventFlags::empty() } else { epoll::EventFlags::OUT };
            let data = epoll::EventData::new_u64(place as u64);
            epoll::modify(epoll, &self.stream, data, epoll::EventFlags::IN | out)
                .context("failed to watch a peer")?;
        }
        Ok(())
    }
}

/// What the relay says of itself at its start: its echoes' process ids.
///
/// # Errors
/// When it says something else, or nothing.
pub fn echoes_of(relay: &mut Child) -> anyhow::Result<Vec<u32>> {
    let mut said = Vec::new();
    let stdout = relay.stdout.as_mut().context("failed to hear the relay")?;
    while !said.ends_with(b"\n") {
        let mut byte = [0];
        stdout.read_exact(&mut byte).context("failed to hear the relay")?;
        said.push(byte[0]);
    }
    serde_json::from_slice(&said).context("failed to understand the relay")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(len: usize, reply: usize, number: u64) -> Vec<u8> {
        let mut frame: Vec<u8> = (0..len).map(|at| at as u8).collect();
        put_header(&mut frame, len, reply, number);
        frame
    }

    #[test]
    fn frames_end_where_they_say_and_a_cut_one_waits() {
        let two = [frame(40, 20, 1), frame(16, 16, 2)].concat();
        assert_eq!(whole_frames(&two), (56, 2));
        for (cut, whole) in [(0, (0, 0)), (15, (0, 0)), (39, (0, 0)), (40, (40, 1)), (55, (40, 1))]
        {
            assert_eq!(whole_frames(&two[..cut]), whole, "cut at {cut}");
        }
        assert_eq!(header(&two), Some((40, 20, 1)));
    }

    #[test]
    fn replies_are_the_beginnings_of_their_requests() {
        let mut bytes =
            [frame(40, 20, 1), frame(30, 30, 2), frame(50, 16, 3)[..49].to_vec()].concat();
        let (requests, replies) = answer(&mut bytes);
        assert_eq!((requests, replies), (70, 50));
        assert_eq!(header(&bytes), Some((20, 0, 1)));
        assert_eq!(bytes[16..20], frame(40, 20, 1)[16..20]);
        assert_eq!(header(&bytes[20..]), Some((30, 0, 2)));
        assert_eq!(bytes[36..50], frame(30, 30, 2)[16..30]);
    }

    #[test]
    fn each_frame_goes_to_the_echo_that_holds_the_fewest_and_comes_back() {
        let peer = || Peer::new(UnixStream::pair().expect("a pair").0).expect("a peer");
        let mut peers = [peer(), peer(), peer()];
        let last = frame(20, 16, 4);
        peers[CLIENT].inbox =
            [frame(20, 16, 1), frame(24, 16, 2), frame(20, 16, 3), last[..7].to_vec()].concat();
        carry(&mut peers, CLIENT, 9);
        assert_eq!(
            (peers[1].outbox.len(), peers[1].holds, &peers[CLIENT].inbox[..]),
            (40, 2, &last[..7])
        );
        assert_eq!((peers[2].outbox.len(), peers[2].holds), (24, 1));
        peers[CLIENT].inbox = last;
        carry(&mut peers, CLIENT, 9);
        assert_eq!((peers[2].outbox.len(), peers[2].holds), (44, 2), "to the idler one");
        peers[1].inbox = [frame(16, 0, 1), frame(16, 0, 3)].concat();
        peers[2].inbox = frame(16, 0, 2);
        carry(&mut peers, 1, 9);
        carry(&mut peers, 2, 9);
        assert_eq!((peers[CLIENT].outbox.len(), peers[1].holds, peers[2].holds), (48, 0, 1));
    }

    #[test]
    fn what_no_echo_has_credit_for_stays_until_one_has_answered() {
        let peer = || Peer::new(UnixStream::pair().expect("a pair").0).expect("a peer");
        let mut peers = [peer(), peer()];
        peers[CLIENT].inbox = [frame(20, 16, 1), frame(20, 16, 2), frame(20, 16, 3)].concat();
        carry(&mut peers, CLIENT, 2);
        assert_eq!((peers[1].outbox.len(), &peers[CLIENT].inbox), (40, &frame(20, 16, 3)));
        carry(&mut peers, CLIENT, 2);
        assert_eq!(peers[1].outbox.len(), 40, "the only one left waits too");
        peers[1].inbox = frame(16, 0, 1);
        carry(&mut peers, 1, 2);
        carry(&mut peers, CLIENT, 2);
        assert_eq!((peers[1].outbox.len(), peers[CLIENT].inbox.len()), (60, 0));
    }
}
