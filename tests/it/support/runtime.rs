//! A stand-in for the Lambda Runtime API that serves one process of the function.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use crate::support::{json_lines, program, stdout};

/// How the function ended an invocation.
#[derive(Debug)]
pub(crate) enum Outcome {
    Response(Value),
    Error(Value),
}

/// An event and its deadline in milliseconds since 1970.
type Invocation = (Value, u64);

/// The Runtime API of one process.
pub(crate) struct RuntimeApi {
    address: String,
    invocations: mpsc::UnboundedSender<Invocation>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
}

async fn next_invocation(State(invocations): State<Arc<Mutex<mpsc::UnboundedReceiver<Invocation>>>>) -> Response<Body> {
    let next = invocations.lock().await.recv().await;
    let Some((event, deadline_ms)) = next else { pending().await };
    Response::builder()
        .header("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
        .header("lambda-runtime-deadline-ms", deadline_ms.to_string())
        .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:123456789012:function:shipper")
        .header("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700")
        .body(Body::from(event.to_string()))
        .expect("a response")
}

async fn end_invocation(
    State(outcomes): State<mpsc::UnboundedSender<Outcome>>,
    Path((_, verb)): Path<(String, String)>,
    body: String,
) -> (StatusCode, &'static str) {
    let body = serde_json::from_str(&body).expect("a JSON body");
    let outcome = if verb == "error" { Outcome::Error(body) } else { Outcome::Response(body) };
    outcomes.send(outcome).expect("the test waits for outcomes");
    (StatusCode::ACCEPTED, "{}")
}

impl RuntimeApi {
    pub(crate) async fn start() -> Self {
        let (invocations, waiting) = mpsc::unbounded_channel();
        let (ended, outcomes) = mpsc::unbounded_channel();
        let service = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next_invocation).with_state(Arc::new(Mutex::new(waiting))))
            .route("/2018-06-01/runtime/invocation/{id}/{verb}", post(end_invocation).with_state(ended));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move { axum::serve(listener, service).await });
        RuntimeApi { address, invocations, outcomes }
    }

    pub(crate) async fn invoke(&mut self, event: Value, deadline_ms: u64) -> Outcome {
        self.invocations.send((event, deadline_ms)).expect("the Runtime API is running");
        let outcome = timeout(Duration::from_secs(30), self.outcomes.recv()).await;
        outcome.expect("the function responds within 30 s").expect("the Runtime API is running")
    }

    pub(crate) fn function(&self, variables: &[(&str, &str)]) -> Command {
        let mut command = program(env!("CARGO_BIN_EXE_shipper"), &[]);
        command
            .env("AWS_LAMBDA_RUNTIME_API", &self.address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "shipper")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/shipper")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "1")
            .envs(variables.iter().copied());
        command
    }
}

pub(crate) fn milliseconds_from_now(duration: Duration) -> u64 {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") + duration;
    u64::try_from(at.as_millis()).expect("before the far future")
}

pub(crate) async fn log_lines(mut child: Child) -> Vec<Value> {
    child.start_kill().expect("stopping the function");
    let output = child.wait_with_output().await.expect("waiting for the function");
    json_lines(&stdout(&output))
}

/// Returns an SQS event with one message for each body.
pub(crate) fn queue_event(bodies: &[String]) -> Value {
    let record = |(index, body): (usize, &String)| {
        json!({"messageId": format!("m{index}"), "receiptHandle": format!("handle{index}"), "body": body, "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:logs", "attributes": {"ApproximateReceiveCount": "2"}})
    };
    json!({"Records": bodies.iter().enumerate().map(record).collect::<Vec<_>>()})
}
