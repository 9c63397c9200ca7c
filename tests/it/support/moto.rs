//! moto, which simulates AWS.

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::support::program;

/// A moto server.
pub(crate) struct MotoServer {
    pub(crate) endpoint: String,
    /// Killed when the test ends.
    _process: Child,
}

impl MotoServer {
    pub(crate) async fn start() -> Self {
        let mut server = program("moto_server", &["-H", "127.0.0.1", "-p", "0"]);
        let mut process =
            server.env("PYTHONUNBUFFERED", "1").spawn().expect("moto_server on the PATH: run ./check, which installs it");
        let mut log = BufReader::new(process.stderr.take().expect("piped")).lines();
        let endpoint = loop {
            let line = log.next_line().await.expect("reading").expect("moto_server prints its URL");
            if let Some((_, url)) = line.split_once("Running on ") {
                break url.trim().to_owned();
            }
        };
        // The server blocks when the pipe of its log is full.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        MotoServer { endpoint, _process: process }
    }
}
