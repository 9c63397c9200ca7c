//! Reads standard input, or a FIFO or a device that the user has named: a file comes in, chunks of bytes go out.
//!
//! Opening and reading a FIFO block until another process writes to it, which may be never. The program waits for the threads of
//! the async runtime when it ends, but not for the thread that reads here.

use std::fs::File;
use std::io::{self, Read as _};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::body::CHUNK_BYTES;

/// The chunks of a stream, and the error that ended it, if any.
pub(super) type Chunks = mpsc::Receiver<io::Result<Bytes>>;

/// Opens a file with `open` and reads it in a thread of its own, at most two chunks ahead of the receiver. The thread ends with the
/// file, or soon after the receiver is dropped.
///
/// # Errors
/// The system has no more threads. An error about the file comes out of the receiver.
pub(super) fn read_in_thread(open: impl FnOnce() -> io::Result<File> + Send + 'static) -> io::Result<Chunks> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::Builder::new().name("stream".to_owned()).spawn(move || {
        if let Err(error) = open().and_then(|file| read(file, &sender)) {
            // Without a receiver nobody needs the error.
            let _ = sender.blocking_send(Err(error));
        }
    })?;
    Ok(receiver)
}

fn read(mut file: File, sender: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let length = match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        chunk.truncate(length);
        if sender.blocking_send(Ok(chunk.into())).is_err() {
            return Ok(());
        }
    }
}
