//! The part of the Lambda Runtime API that the measurements need.

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

/// Starts a function, stops it at its first request for an invocation, and prints the wall time and the CPU time. The CPU time is
/// meaningful on a busy machine, too.
pub fn cold_start(command: &[&str]) -> Result<()> {
    let (started, mut child, calls) = start(command, None)?;
    let call = calls.recv();
    let elapsed = started.elapsed().as_nanos();
    stop(&mut child)?;
    match call? {
        call if call.starts_with(NEXT) => println!(r#"{{"start_ns":{elapsed},"cpu_ns":{}}}"#, cpu_ns_of_children()?),
        call => return Err(format!("the first request of the function is not for an invocation: {call:?}").into()),
    }
    Ok(())
}

/// Runs a function for one event, and stops it after its response.
pub fn invoke(event: &Path, command: &[&str]) -> Result<()> {
    let (_, mut child, calls) = start(command, Some(fs::read(event)?))?;
    let response = calls.iter().find(|call| !call.starts_with(NEXT));
    stop(&mut child)?;
    match response {
        Some(call) if call.contains("/response ") => Ok(()),
        other => Err(format!("the invocation failed: {other:?}").into()),
    }
}

/// Starts a function with its own Runtime API. The channel receives the request lines of the function.
fn start(command: &[&str], event: Option<Vec<u8>>) -> Result<(Instant, Child, Receiver<String>)> {
    let [program, arguments @ ..] = command else { return Err("the command is missing".into()) };
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

fn stop(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Serves one connection at a time, because a function without an invocation has only one.
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
            // There is only one invocation, so the function waits until it is killed.
            None if is_next => {}
            _ => respond(stream, "202 Accepted", "", b"{}")?,
        }
    }
    Ok(())
}

fn respond(mut stream: &TcpStream, status: &str, headers: &str, body: &[u8]) -> Result<()> {
    // A deadline in the far future, because time limits are not measured.
    let deadline = "lambda-runtime-deadline-ms: 4102444800000";
    write!(stream, "HTTP/1.1 {status}\r\n{headers}{deadline}\r\ncontent-length: {}\r\n\r\n", body.len())?;
    Ok(stream.write_all(body)?)
}
