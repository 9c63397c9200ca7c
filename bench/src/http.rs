//! Reading requests: just enough for clients that name the length of what they send.

use std::io::BufRead;

use crate::Result;

/// One request.
#[derive(Debug)]
pub struct Request {
    /// Its first line.
    pub line: String,
    /// Whether its body is gzip.
    pub gzip: bool,
    /// Its body.
    pub body: Vec<u8>,
}

/// The next request of a connection; none once it ends.
pub fn read_request(reader: &mut impl BufRead) -> Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let (mut length, mut gzip, mut header) = (0, false, String::new());
    loop {
        header.clear();
        reader.read_line(&mut header)?;
        let header = header.trim_end().to_ascii_lowercase();
        match header.split_once(": ") {
            Some(("content-length", value)) => length = value.parse()?,
            Some(("content-encoding", value)) => gzip = value == "gzip",
            Some(("transfer-encoding", _)) => return Err("a body of unknown length".into()),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { line, gzip, body }))
}
