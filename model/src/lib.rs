//! A model of the delivery protocol: a message names an object of three batches, which two endpoints accept or reject. The message
//! is delivered twice, one delivery after the other or both at the same time. The model checker tries every order of the steps,
//! every response, and a crash between any two steps.
//!
//! The model decides as the program does. [`Bug`] lists the rules of the protocol: for each, the tests break it and expect that the
//! checker finds a run in which lines are lost.

#[allow(dead_code, unreachable_pub, unused_imports, unused_macros, reason = "the model uses a part of each file of the program")]
mod ledger;

use stateright::{Model, Property};

/// Number of batches of the object.
const BATCHES: usize = 3;

/// Number of endpoints.
const ENDPOINTS: usize = 2;

/// Number of deliveries of the message. After the last one, SQS moves it to the dead-letter queue.
const DELIVERIES: usize = 2;

/// Maximum number of batches that a delivery sends at the same time.
const CONCURRENCY: usize = 2;

/// Requests after which a batch is given up.
const REQUESTS: u8 = 2;

/// A rule of the protocol that is broken, to show that the checker finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A checkpoint covers batches whose dead letters are not written yet.
    CheckpointBeforeDeadLetter,
    /// A checkpoint is the end of the last delivered batch, whatever is missing before it.
    CheckpointOverGap,
    /// A checkpoint of another message is used.
    CheckpointOfAnotherMessage,
    /// A rejected event counts as dead-lettered before the dead letter is written.
    DeadLetterUnconfirmed,
    /// An event is rejected although its endpoint has accepted nothing of the object.
    RejectionWithoutWitness,
    /// The acceptance by another endpoint is a witness.
    WitnessOfAnotherEndpoint,
    /// A request without a response counts as accepted.
    NoResponseIsAcceptance,
    /// A message is acknowledged when its object was read to the end.
    AcknowledgedWhenRead,
    /// A message is acknowledged after a checkpoint.
    AcknowledgedAfterCheckpoint,
    /// A delivery ends while its requests are in flight, and counts them as delivered.
    RequestsNotAwaited,
}

/// The protocol, with at most one rule broken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Protocol {
    /// The broken rule.
    pub bug: Option<Bug>,
}

/// The state of the world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The batch with an event that no endpoint accepts.
    bad: Option<usize>,
    /// The endpoint that refuses everything, because its address is wrong.
    wrong: Option<usize>,
    deliveries: [Delivery; DELIVERIES],
    /// Whether an endpoint has accepted a batch.
    accepted: [bool; BATCHES],
    /// Whether a dead letter holds the rejected event of a batch.
    dead_lettered: [bool; BATCHES],
    checkpoint: Option<Checkpoint>,
    acknowledged: bool,
    /// Whether a delivery that resumed at a checkpoint has acknowledged the message.
    acknowledged_after_resume: bool,
}

/// A stored checkpoint: the batches before `next` need not be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Checkpoint {
    /// Whether the message itself has written it, and not another message for the same object.
    own: bool,
    next: usize,
}

/// One delivery of the message: an invocation of the function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Delivery {
    Waiting,
    Running(Run),
    /// Everything is sent or given up, and the checkpoint with this position is being written.
    WritingCheckpoint(usize),
    /// Every line is settled, and the checkpoint at which the delivery has resumed is being deleted.
    DeletingCheckpoint,
    Responding(Reply),
    Ended,
}

/// The response to SQS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reply {
    /// The message is done. Whether its delivery has resumed at a checkpoint.
    Done { has_resumed: bool },
    /// The message has to come back.
    Failed,
}

/// A delivery that ships the object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Run {
    resumed_at: usize,
    batches: [Batch; BATCHES],
    /// The endpoints that have accepted a batch in this run.
    witnesses: [bool; ENDPOINTS],
    stop: Option<Stop>,
}

/// Why nothing more is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stop {
    Deadline,
    Failure,
}

/// A batch of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Batch {
    Unread,
    /// Its request to this endpoint has this number.
    Sending(usize, u8),
    /// It waits for the next request, which has this number.
    Retrying(u8),
    WritingDeadLetter,
    Settled,
    Undelivered,
}

/// How a request for a batch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// The endpoint accepted the batch.
    Accepted,
    /// The endpoint accepted the batch, and the response was lost.
    AcceptedAndLost,
    /// The endpoint did not accept the batch, and there is no response that says so.
    Lost,
    /// The endpoint refused the batch.
    Refused,
}

/// How a write to the store ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The object is stored.
    Stored,
    /// The object is stored, and the response was lost.
    StoredAndLost,
    /// The object is not stored.
    Failed,
}

/// A step of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SQS delivers the message. The delivery finds a checkpoint, if there is one and it can be read.
    Deliver(usize, bool),
    /// A batch is sent to an endpoint.
    Send(usize, usize, usize),
    /// The request of a batch ends.
    Respond(usize, usize, Response),
    /// The dead letter of a batch is written.
    WriteDeadLetter(usize, usize, Write),
    /// The time of the invocation ends.
    Deadline(usize),
    /// Nothing is in flight any more.
    Finish(usize),
    /// The checkpoint is written.
    WriteCheckpoint(usize, Write),
    /// The checkpoint is deleted.
    DeleteCheckpoint(usize, Write),
    /// SQS gets the response.
    Acknowledge(usize),
    /// The process of a delivery ends.
    Crash(usize),
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        // Another message for the same object has failed before, and has left a checkpoint.
        let other = Some(Checkpoint { own: false, next: 2 });
        let bad = (0..BATCHES).map(Some).chain([None]);
        let states = bad.flat_map(|bad| [(bad, None, None), (bad, Some(1), None), (bad, None, other)]);
        let state = |(bad, wrong, checkpoint)| State {
            bad,
            wrong,
            deliveries: [const { Delivery::Waiting }; DELIVERIES],
            accepted: [false; BATCHES],
            dead_lettered: [false; BATCHES],
            checkpoint,
            acknowledged: false,
            acknowledged_after_resume: false,
        };
        states.map(state).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (number, delivery) in state.deliveries.iter().enumerate() {
            match delivery {
                Delivery::Waiting if state.can_deliver(number) => {
                    actions.extend([Action::Deliver(number, true), Action::Deliver(number, false)]);
                }
                Delivery::Waiting | Delivery::Ended => continue,
                Delivery::Running(run) => self.run_actions(number, state, run, actions),
                Delivery::WritingCheckpoint(_) => {
                    actions.extend(WRITES.map(|write| Action::WriteCheckpoint(number, write)));
                }
                Delivery::DeletingCheckpoint => {
                    actions.extend(WRITES.map(|write| Action::DeleteCheckpoint(number, write)));
                }
                Delivery::Responding(_) => actions.push(Action::Acknowledge(number)),
            }
            if *delivery != Delivery::Waiting {
                actions.push(Action::Crash(number));
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Deliver(number, is_readable) => self.deliver(&mut state, number, is_readable),
            Action::Send(number, batch, endpoint) => state.run(number).send(batch, endpoint),
            Action::Respond(number, batch, response) => self.respond(&mut state, number, batch, response),
            Action::WriteDeadLetter(number, batch, write) => {
                state.dead_lettered[batch] |= write != Write::Failed;
                state.run(number).end_dead_letter(batch, write == Write::Stored);
            }
            Action::Deadline(number) => state.run(number).stop = Some(Stop::Deadline),
            Action::Finish(number) => state.deliveries[number] = self.finish(state.run(number)),
            Action::WriteCheckpoint(number, write) => self.write_checkpoint(&mut state, number, write),
            Action::DeleteCheckpoint(number, write) => state.delete_checkpoint(number, write),
            Action::Acknowledge(number) => {
                if let Delivery::Responding(Reply::Done { has_resumed }) = state.deliveries[number] {
                    state.acknowledged = true;
                    state.acknowledged_after_resume |= has_resumed;
                }
                state.deliveries[number] = Delivery::Ended;
            }
            Action::Crash(number) => state.deliveries[number] = Delivery::Ended,
        }
        assert!(state.progress() > before.progress(), "{action:?} does not progress, so runs may never end: {state:?}");
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("an acknowledged message has no line that is lost", |_, state: &State| {
                !state.acknowledged || (0..BATCHES).all(|batch| state.accepted[batch] || state.dead_lettered[batch])
            }),
            Property::always("only events that no endpoint accepts are dead-lettered", |_, state: &State| {
                (0..BATCHES).all(|batch| !state.dead_lettered[batch] || state.bad == Some(batch))
            }),
            // Every step progresses, so a run ends where no step is possible.
            Property::eventually("every run ends", |_, state: &State| state.is_over()),
            Property::sometimes("a resumed delivery acknowledges the message", |_, state: &State| {
                state.acknowledged_after_resume
            }),
            Property::sometimes("a message with a dead letter is acknowledged", |_, state: &State| {
                state.acknowledged && state.dead_lettered.contains(&true)
            }),
            Property::sometimes("all deliveries fail", |_, state: &State| state.is_over() && !state.acknowledged),
        ]
    }
}

const WRITES: [Write; 3] = [Write::Stored, Write::StoredAndLost, Write::Failed];

impl Protocol {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn run_actions(&self, number: usize, state: &State, run: &Run, actions: &mut Vec<Action>) {
        for (index, batch) in run.batches.iter().enumerate() {
            match batch {
                Batch::Unread if run.stop.is_none() && run.can_begin(index) => {
                    actions.extend((0..ENDPOINTS).map(|endpoint| Action::Send(number, index, endpoint)));
                }
                Batch::Retrying(_) if run.stop.is_none() => {
                    actions.extend((0..ENDPOINTS).map(|endpoint| Action::Send(number, index, endpoint)));
                }
                Batch::Sending(endpoint, _) => {
                    actions.push(Action::Respond(number, index, Response::Lost));
                    if state.bad == Some(index) || state.wrong == Some(*endpoint) {
                        actions.push(Action::Respond(number, index, Response::Refused));
                    } else {
                        actions.push(Action::Respond(number, index, Response::Accepted));
                        actions.push(Action::Respond(number, index, Response::AcceptedAndLost));
                    }
                }
                Batch::WritingDeadLetter => actions.extend(WRITES.map(|write| Action::WriteDeadLetter(number, index, write))),
                Batch::Unread | Batch::Retrying(_) | Batch::Settled | Batch::Undelivered => {}
            }
        }
        if run.stop.is_none() {
            actions.push(Action::Deadline(number));
        }
        let ignores_requests = self.has(Bug::RequestsNotAwaited) && run.stop.is_some();
        let ignores_dead_letters = self.has(Bug::CheckpointBeforeDeadLetter) && run.stop.is_some() && !run.has_requests();
        if run.is_idle() || ignores_requests || ignores_dead_letters {
            actions.push(Action::Finish(number));
        }
    }

    /// Starts a delivery. Only a redelivery looks for a checkpoint.
    fn deliver(&self, state: &mut State, number: usize, is_readable: bool) {
        let found = state.checkpoint.filter(|_| is_readable && number > 0 || self.has(Bug::CheckpointOfAnotherMessage));
        let own = found.filter(|found| found.own || self.has(Bug::CheckpointOfAnotherMessage));
        let resumed_at = own.map_or(0, |checkpoint| checkpoint.next);
        let mut batches = [Batch::Unread; BATCHES];
        batches[..resumed_at].fill(Batch::Settled);
        state.deliveries[number] = Delivery::Running(Run { resumed_at, batches, witnesses: [false; ENDPOINTS], stop: None });
    }

    fn respond(&self, state: &mut State, number: usize, batch: usize, response: Response) {
        state.accepted[batch] |= matches!(response, Response::Accepted | Response::AcceptedAndLost);
        let run = state.run(number);
        let Batch::Sending(endpoint, requests) = run.batches[batch] else { return };
        let is_lost = matches!(response, Response::AcceptedAndLost | Response::Lost);
        if response == Response::Accepted || (is_lost && self.has(Bug::NoResponseIsAcceptance)) {
            run.witnesses[endpoint] = true;
            run.batches[batch] = Batch::Settled;
        } else if is_lost && requests < REQUESTS {
            run.batches[batch] = Batch::Retrying(requests + 1);
        } else if response == Response::Refused && self.is_rejection(run, endpoint) {
            run.batches[batch] = if self.has(Bug::DeadLetterUnconfirmed) { Batch::Settled } else { Batch::WritingDeadLetter };
        } else {
            run.fail(batch);
        }
    }

    /// Returns whether a refusal is the event's fault and not the address's: there is a witness.
    fn is_rejection(&self, run: &Run, endpoint: usize) -> bool {
        let of_any = self.has(Bug::WitnessOfAnotherEndpoint) && run.witnesses.contains(&true);
        run.witnesses[endpoint] || of_any || self.has(Bug::RejectionWithoutWitness)
    }

    /// Decides what follows when nothing more is sent: the message is done, continues after a checkpoint, or failed.
    fn finish(&self, run: &Run) -> Delivery {
        let counts = |batch: &Batch| match batch {
            Batch::Settled => true,
            Batch::WritingDeadLetter => self.has(Bug::CheckpointBeforeDeadLetter),
            Batch::Sending(..) | Batch::Retrying(_) => self.has(Bug::RequestsNotAwaited),
            Batch::Unread | Batch::Undelivered => false,
        };
        let is_read = !run.batches.contains(&Batch::Unread);
        if run.batches.iter().all(counts) || (is_read && self.has(Bug::AcknowledgedWhenRead)) {
            return match run.resumed_at {
                0 => Delivery::Responding(Reply::Done { has_resumed: false }),
                _ => Delivery::DeletingCheckpoint,
            };
        }
        let settled = if self.has(Bug::CheckpointOverGap) {
            run.batches.iter().rposition(counts).map_or(0, |last| last + 1)
        } else {
            ledger::settled(run.resumed_at, run.batches.iter().map(|batch| (*batch != Batch::Unread).then(|| counts(batch))))
        };
        match run.stop {
            Some(Stop::Deadline) if settled > run.resumed_at => Delivery::WritingCheckpoint(settled),
            _ => Delivery::Responding(Reply::Failed),
        }
    }

    fn write_checkpoint(&self, state: &mut State, number: usize, write: Write) {
        let Delivery::WritingCheckpoint(next) = state.deliveries[number] else { return };
        if write != Write::Failed {
            state.checkpoint = Some(Checkpoint { own: true, next });
        }
        let is_done = self.has(Bug::AcknowledgedAfterCheckpoint);
        let reply = if is_done { Reply::Done { has_resumed: false } } else { Reply::Failed };
        state.deliveries[number] = Delivery::Responding(reply);
    }
}

impl State {
    /// Returns whether SQS can deliver the message: it is not acknowledged, and the earlier delivery has begun. A queue delivers a
    /// message that is being processed again at times.
    fn can_deliver(&self, number: usize) -> bool {
        !self.acknowledged && self.deliveries[..number].iter().all(|earlier| *earlier != Delivery::Waiting)
    }

    /// Returns whether the message is acknowledged, or goes to the dead-letter queue because all deliveries have ended.
    fn is_over(&self) -> bool {
        let ended = |delivery: &Delivery| *delivery == Delivery::Ended;
        self.deliveries.iter().all(ended)
            || (self.acknowledged && self.deliveries.iter().all(|one| ended(one) || *one == Delivery::Waiting))
    }

    /// Returns the run of a delivery that ships the object.
    fn run(&mut self, number: usize) -> &mut Run {
        match &mut self.deliveries[number] {
            Delivery::Running(run) => run,
            other => unreachable!("a step of a run for {other:?}"),
        }
    }

    /// Deletes the checkpoint of the object, which another delivery may have written or may be using. A failure is ignored.
    fn delete_checkpoint(&mut self, number: usize, write: Write) {
        if write != Write::Failed {
            self.checkpoint = None;
        }
        self.deliveries[number] = Delivery::Responding(Reply::Done { has_resumed: true });
    }

    /// Returns a number that every step makes larger.
    fn progress(&self) -> usize {
        self.deliveries.iter().map(Delivery::progress).sum()
    }
}

impl Delivery {
    fn progress(&self) -> usize {
        match self {
            Delivery::Waiting => 0,
            Delivery::Running(run) => {
                1 + usize::from(run.stop.is_some()) + run.batches.iter().map(Batch::progress).sum::<usize>()
            }
            Delivery::WritingCheckpoint(_) | Delivery::DeletingCheckpoint => 100,
            Delivery::Responding(_) => 101,
            Delivery::Ended => 102,
        }
    }
}

impl Run {
    /// Returns whether the next batch may be read: batches are read in order, and a limited number is sent at the same time.
    fn can_begin(&self, index: usize) -> bool {
        let in_flight = |batch: &&Batch| !matches!(batch, Batch::Unread | Batch::Settled | Batch::Undelivered);
        !self.batches[..index].contains(&Batch::Unread) && self.batches.iter().filter(in_flight).count() < CONCURRENCY
    }

    fn send(&mut self, batch: usize, endpoint: usize) {
        let requests = if let Batch::Retrying(requests) = self.batches[batch] { requests } else { 1 };
        self.batches[batch] = Batch::Sending(endpoint, requests);
    }

    /// Gives up a batch, and stops the object.
    fn fail(&mut self, batch: usize) {
        self.batches[batch] = Batch::Undelivered;
        self.stop.get_or_insert(Stop::Failure);
    }

    /// The other events of the object are delivered all the same.
    fn end_dead_letter(&mut self, batch: usize, is_confirmed: bool) {
        self.batches[batch] = if is_confirmed { Batch::Settled } else { Batch::Undelivered };
    }

    fn has_requests(&self) -> bool {
        self.batches.iter().any(|batch| matches!(batch, Batch::Sending(..)))
    }

    /// Returns whether nothing is in flight, and nothing more is sent.
    fn is_idle(&self) -> bool {
        self.batches.iter().all(|batch| match batch {
            Batch::Settled | Batch::Undelivered => true,
            Batch::Unread | Batch::Retrying(_) => self.stop.is_some(),
            Batch::Sending(..) | Batch::WritingDeadLetter => false,
        })
    }
}

impl Batch {
    fn progress(&self) -> usize {
        match *self {
            Batch::Unread => 0,
            Batch::Sending(_, requests) => 2 * usize::from(requests),
            Batch::Retrying(requests) => 2 * usize::from(requests) - 1,
            Batch::WritingDeadLetter => 10,
            Batch::Settled | Batch::Undelivered => 11,
        }
    }
}
