//! A terminal of 80 columns in which a program runs.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Width of the terminal.
const COLUMNS: u16 = 80;

/// Timeout for what a program should show, and for its end.
const LIMIT: Duration = Duration::from_secs(60);

/// A program on a terminal.
pub(crate) struct Screen {
    pub(crate) child: Child,
    keyboard: File,
    chunks: mpsc::UnboundedReceiver<Vec<u8>>,
    /// What the program has shown so far.
    pub(crate) shown: String,
}

/// Which ends of a program are on the terminal, beside standard error.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
}

impl Screen {
    /// Starts a program with standard output and standard error on a terminal.
    pub(crate) fn start(command: Command) -> Self {
        Screen::start_with(command, Ends { stdin: false, stdout: true })
    }

    /// Starts a program with these ends on a terminal.
    pub(crate) fn start_with(mut command: Command, ends: Ends) -> Self {
        let size = Winsize { ws_row: 24, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a terminal");
        let end = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("a copy of the terminal"));
        command.stderr(end(&pty.slave));
        if !command.as_std().get_envs().any(|(name, _)| name == "TERM") {
            command.env("TERM", "xterm-256color");
        }
        if ends.stdin {
            command.stdin(end(&pty.slave));
        }
        if ends.stdout {
            command.stdout(end(&pty.slave));
        }
        let child = command.spawn().expect("starting the program");
        // The terminal ends when the last program has closed it, and the command keeps its own copies.
        drop((pty.slave, command));
        let keyboard = File::from(pty.master);
        let mut screen = keyboard.try_clone().expect("a copy of the terminal");
        let (sender, chunks) = mpsc::unbounded_channel();
        // Not joined: it ends with the program. Linux reports the end of a terminal as an error.
        std::thread::spawn(move || {
            let mut chunk = vec![0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut chunk) {
                if sender.send(chunk[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Screen { child, keyboard, chunks, shown: String::new() }
    }

    /// Waits until the program has shown a text.
    pub(crate) async fn wait_for(&mut self, text: &str) {
        while !self.shown.contains(text) {
            let next = timeout(LIMIT, self.chunks.recv()).await.ok().flatten();
            let Some(chunk) = next else { panic!("{text:?} never appears on the terminal:\n{:?}", self.shown) };
            self.shown += &String::from_utf8_lossy(&chunk);
        }
    }

    /// Types a text.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("typing");
    }

    /// Waits for the end of the program, and returns all that it has shown, and its exit status.
    pub(crate) async fn finish(mut self) -> (String, i32) {
        let status = timeout(LIMIT, self.child.wait()).await.expect("the end of the program within a minute");
        while let Ok(Some(chunk)) = timeout(LIMIT, self.chunks.recv()).await {
            self.shown += &String::from_utf8_lossy(&chunk);
        }
        (self.shown, status.expect("waiting for the program").code().expect("an exit status"))
    }
}

/// Returns the lines that a person sees on the terminal at the end.
pub(crate) fn remaining_lines(shown: &str) -> Vec<String> {
    let mut terminal = vt100::Parser::new(1_000, COLUMNS, 0);
    terminal.process(shown.as_bytes());
    let contents = terminal.screen().contents();
    contents.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
}
