//! Reads HTTP requests that have a `Content-Length`.

use std::io::BufRead;

use crate::Result;

/// One HTTP request.
#[derive(Debug)]
pub struct Request {
    /// The request line.
    pub line: String,
    /// Whether the body is compressed with gzip.
    pub gzip: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// Reads the next request of a connection; none at the end of the connection.
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
            Some(("transfer-encoding", _)) => {
                return Err("cannot read a request with Transfer-Encoding: only Content-Length is supported".into());
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { line, gzip, body }))
}
