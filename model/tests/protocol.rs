//! Every order of the protocol's steps, with and without a broken rule.

use stateright::{Checker as _, Expectation, HasDiscoveries, Model as _};

use elb_log_shipper_model::{Bug, Protocol};

/// Every rule that can be broken.
const BUGS: [Bug; 10] = [
    Bug::CheckpointBeforeDeadLetter,
    Bug::CheckpointOverGap,
    Bug::CheckpointOfAnotherMessage,
    Bug::DeadLetterUnconfirmed,
    Bug::RejectionWithoutWitness,
    Bug::WitnessOfAnotherEndpoint,
    Bug::NoResponseIsAcceptance,
    Bug::AcknowledgedWhenRead,
    Bug::AcknowledgedAfterCheckpoint,
    Bug::RequestsNotAwaited,
];

#[test]
fn no_order_of_steps_loses_a_line() {
    let checker = Protocol::default().checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn finds_each_broken_rule() {
    for bug in BUGS {
        let model = Protocol { bug: Some(bug) };
        let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let failures = checker.discoveries();
        let found = failures.iter().find(|(name, _)| checker.model().property(name).expectation != Expectation::Sometimes);
        let (name, path) = found.unwrap_or_else(|| panic!("{bug:?} violates nothing, so the model does not check its rule"));
        println!("{bug:?}: not always {name:?}, after {} steps", path.clone().into_actions().len());
    }
}
