//! Tests of tags, cancellation and loss, with a transport that keeps what it is given.

use super::*;
use protocol::NodeId;

#[derive(Default)]
struct Wire {
    sent: Mutex<Vec<(Tag, &'static str)>>,
    broken: bool,
}

impl Transport for Wire {
    fn send(&self, tag: Tag, _: &Caller<'_>, ask: &Request<'_>) -> Result<(), Disconnected> {
        if self.broken {
            return Err(Disconnected);
        }
        self.sent.lock().push((tag, ask.name()));
        Ok(())
    }
}

/// Answers at once, from within `send`.
struct Inline(Arc<Client>);

impl Transport for Inline {
    fn send(&self, tag: Tag, _: &Caller<'_>, _: &Request<'_>) -> Result<(), Disconnected> {
        self.0.on_reply(tag, &Reply::Done);
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<String>>>);

impl Complete for Ends {
    fn complete(self: Box<Self>, outcome: Outcome<'_>) {
        self.0.lock().push(format!("{outcome:?}"));
    }
}

impl Ends {
    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

const ASK: Request<'static> = Request::GetAttr { node: NodeId(1) };

fn submit(client: &Client, unique: u64, ends: &Ends) {
    let origin = Some(Origin { mount: 0, unique });
    let (epoch, caller) = (client.epoch(), Caller::default());
    client.submit(epoch, origin, &caller, &ASK, Box::new(ends.clone()));
}

#[test]
fn replies_find_their_requests_in_any_order() {
    let (client, wire) = (Client::new(), Arc::new(Wire::default()));
    client.connected(wire.clone());
    let (a, b) = (Ends::default(), Ends::default());
    submit(&client, 2, &a);
    submit(&client, 4, &b);
    let tags: Vec<Tag> = wire.sent.lock().iter().map(|(tag, _)| *tag).collect();
    assert_ne!(tags[0], tags[1]);
    client.on_reply(tags[1], &Reply::Done);
    assert_eq!((a.taken().len(), b.taken()), (0, vec!["Reply(Done)".to_owned()]));
    client.on_reply(tags[0], &Reply::Done);
    assert_eq!(a.taken(), ["Reply(Done)"]);
    // Twice, and to a tag that never was.
    client.on_reply(tags[0], &Reply::Done);
    client.on_reply(Tag(4711), &Reply::Done);
    assert!(a.taken().is_empty());
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn a_reply_may_come_from_within_send() {
    let client = Client::new();
    client.connected(Arc::new(Inline(client.clone())));
    let ends = Ends::default();
    submit(&client, 2, &ends);
    assert_eq!(ends.taken(), ["Reply(Done)"]);
    let call = client
        .call(1, &ASK, Duration::from_secs(1), |reply| matches!(reply, Reply::Done).then_some(7));
    assert_eq!(call, Ok(7));
}

#[test]
fn a_tag_rests_before_it_is_used_again() {
    let client = Client::new();
    let wire = Arc::new(Wire::default());
    client.connected(wire.clone());
    for unique in 0..TAG_REST as u64 {
        submit(&client, unique, &Ends::default());
        let (tag, _) = *wire.sent.lock().last().unwrap();
        client.on_reply(tag, &Reply::Done);
        assert_eq!(tag, Tag(unique as u32));
    }
}

#[test]
fn without_a_connection_nothing_is_sent() {
    let (client, ends) = (Client::new(), Ends::default());
    submit(&client, 2, &ends);
    assert_eq!(ends.taken(), ["NotSent"]);
    assert_eq!(client.call(0, &ASK, Duration::from_secs(1), |_| Some(())), Err(Errno::ENOTCONN));
}

#[test]
fn a_loss_ends_what_is_in_flight_and_a_late_request_of_that_connection() {
    let (client, ends) = (Client::new(), Ends::default());
    client.connected(Arc::new(Wire::default()));
    submit(&client, 2, &ends);
    submit(&client, 4, &ends);
    client.disconnected();
    assert_eq!(ends.taken(), ["Lost", "Lost"]);
    client.connected(Arc::new(Wire::default()));
    assert_eq!(client.epoch(), 2);
    client.submit(1, None, &Caller::default(), &ASK, Box::new(ends.clone()));
    assert_eq!(ends.taken(), ["NotSent"]);
}

#[test]
fn a_transport_that_fails_ends_the_request_once() {
    let (client, ends) = (Client::new(), Ends::default());
    client.connected(Arc::new(Wire { broken: true, ..Wire::default() }));
    submit(&client, 2, &ends);
    client.disconnected();
    assert_eq!(ends.taken(), ["Lost"]);
}

#[test]
fn beyond_the_limit_requests_are_turned_away() {
    let (client, ends) = (Client::new(), Ends::default());
    client.connected(Arc::new(Wire::default()));
    client.limit_in_flight(2);
    for unique in 0..3 {
        submit(&client, unique, &ends);
    }
    assert_eq!(ends.taken(), ["Busy"]);
}

#[test]
fn a_cancel_names_the_tag_of_the_request() {
    let (client, ends) = (Client::new(), Ends::default());
    let wire = Arc::new(Wire::default());
    client.connected(wire.clone());
    submit(&client, 2, &ends);
    assert!(!client.cancel(Origin { mount: 0, unique: 4 }));
    assert!(!client.cancel(Origin { mount: 1, unique: 2 }));
    assert!(client.cancel(Origin { mount: 0, unique: 2 }));
    assert_eq!(wire.sent.lock().last().unwrap().1, "Cancel");
    // The request itself is still to be answered.
    assert!(ends.taken().is_empty());
}

#[test]
fn changes_are_acknowledged_up_to_the_first_that_is_not_delivered() {
    let mut changes = Unacknowledged::default();
    for seq in 1..=4 {
        changes.arrived(seq);
    }
    assert_eq!(changes.delivered(2), None);
    assert_eq!(changes.delivered(1), Some(2));
    assert_eq!(changes.delivered(1), None);
    assert_eq!(changes.delivered(4), None);
    assert_eq!(changes.delivered(3), Some(4));
}
