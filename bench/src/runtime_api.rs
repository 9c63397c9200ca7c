//! The Runtime API that a Lambda function asks for its invocations: as little of it as the measurements need.

use std::fs;
use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use crate::Result;
use crate::http::{Request, read_request};
use crate::measure::cpu_ns_of_children;

const NEXT: &str = "GET /2018-06-01/runtime/invocation/next ";
const HEADERS: &str = "lambda-runtime-aws-request-id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n\
    lambda-runtime-invoked-function-arn: arn:aws:lambda:eu-west-1:123456789012:function:shipper\r\n";

/// Starts a function for which there is never an invocation, ends it at its first question, and says what that took: time, and
/// CPU time, which means something on a busy machine, too.
pub fn cold_start(command: &[&str]) -> Result<()> {
    let (started, mut child, calls) = start(command, None)?;
    let call = calls.recv();
    let elapsed = started.elapsed().as_nanos();
    end(&mut child)?;
    match call? {
        call if call.starts_with(NEXT) => println!(r#"{{"start_ns":{elapsed},"cpu_ns":{}}}"#, cpu_ns_of_children()?),
        call => return Err(format!("the function began with something else: {call:?}").into()),
    }
    Ok(())
}

/// Starts a function, gives it one event, and ends it once it has answered.
pub fn invoke(event: &Path, command: &[&str]) -> Result<()> {
    let (_, mut child, calls) = start(command, Some(fs::read(event)?))?;
    let answer = calls.iter().find(|call| !call.starts_with(NEXT));
    end(&mut child)?;
    match answer {
        Some(call) if call.contains("/response ") => Ok(()),
        other => Err(format!("the invocation failed: {other:?}").into()),
    }
}

/// Starts a function beside an API of its own; what it calls comes out of the channel.
fn start(command: &[&str], event: Option<Vec<u8>>) -> Result<(Instant, Child, Receiver<String>)> {
    let [program, arguments @ ..] = command else { return Err("there is no command".into()) };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut function = Command::new(program);
    function.args(arguments).env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string());
    function.stdin(Stdio::null()).stdout(Stdio::null());
    let (sender, calls) = mpsc::channel();
    thread::spawn(move || accept(&listener, event.as_deref(), &sender));
    let started = Instant::now();
    let child = function.spawn().map_err(|error| format!("{program}: {error}"))?;
    Ok((started, child, calls))
}

fn end(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Functions have one connection at a time: they do nothing before they have an invocation.
fn accept(listener: &TcpListener, mut event: Option<&[u8]>, calls: &Sender<String>) {
    for stream in listener.incoming().flatten() {
        // The function is killed while it waits for its next invocation.
        let _ = serve(&stream, &mut event, calls);
    }
}

fn serve(stream: &TcpStream, event: &mut Option<&[u8]>, calls: &Sender<String>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(Request { line, .. }) = read_request(&mut reader)? {
        let is_next = line.starts_with(NEXT);
        calls.send(line)?;
        match event.take() {
            Some(event) if is_next => respond(stream, "200 OK", HEADERS, event)?,
            // There is no other invocation, ever.
            None if is_next => {}
            _ => respond(stream, "202 Accepted", "", b"{}")?,
        }
    }
    Ok(())
}

fn respond(mut stream: &TcpStream, status: &str, headers: &str, body: &[u8]) -> Result<()> {
    // A time far away: no limit is what is asked about.
    let deadline = "lambda-runtime-deadline-ms: 4102444800000";
    write!(stream, "HTTP/1.1 {status}\r\n{headers}{deadline}\r\ncontent-length: {}\r\n\r\n", body.len())?;
    Ok(stream.write_all(body)?)
}
