//! Who does what when, in a time of its own.

use super::*;

/// The time `ms` after the start of a test.
struct Clock(Instant);

impl Clock {
    fn at(&self, ms: u64) -> Instant {
        self.0 + Duration::from_millis(ms)
    }
}

struct Stage {
    queue: Queue<&'static str>,
    clock: Clock,
    seq: u64,
}

impl Stage {
    fn new() -> Self {
        Self { queue: Queue::default(), clock: Clock(Instant::now()), seq: 0 }
    }

    /// Each job is a notice of its own.
    fn push(&mut self, act: &'static str, dirs: &[u64]) -> bool {
        self.seq += 1;
        let mut concerns = Concerns::default();
        for (to, dir) in concerns.0.iter_mut().zip(dirs) {
            *to = NodeId(*dir);
        }
        let ticket = Some(Ticket::Notice(1, self.seq));
        self.queue.push(Job { act, concerns, ticket, arrived: self.clock.at(0) }).is_none()
    }

    fn take(&mut self, hand: usize, ms: u64) -> Option<&'static str> {
        self.queue.take(hand, self.clock.at(ms)).map(|(job, _)| job.act)
    }

    fn look(&mut self, ms: u64) -> Look<&'static str> {
        self.queue.look(self.clock.at(ms), MAX_HANDS)
    }
}

fn seqs(complete: &[Ticket]) -> Vec<u64> {
    let seq = |ticket: &Ticket| match ticket {
        Ticket::Notice(_, seq) => *seq,
        Ticket::Comparison(id) => 1000 + id,
    };
    complete.iter().map(seq).collect()
}

#[test]
fn one_hand_takes_everything_in_order() {
    let mut stage = Stage::new();
    for (act, dir) in [("a", 1), ("b", 2), ("c", 1)] {
        assert!(stage.push(act, &[dir]));
    }
    for (seq, act) in [(1, "a"), (2, "b"), (3, "c")] {
        assert_eq!(stage.take(1, 0), None, "another hand does not lead");
        assert_eq!(stage.take(0, 0), Some(act));
        assert_eq!(seqs(&stage.queue.done(0).0), [seq]);
    }
    assert_eq!(stage.take(0, 0), None);
    assert!(stage.look(0).again.is_none(), "nothing is to be looked at when nothing is under way");
}

#[test]
fn while_one_is_stuck_another_goes_on_with_what_is_not_in_its_way() {
    let mut stage = Stage::new();
    stage.push("stuck in 1", &[1]);
    assert_eq!(stage.take(0, 0), Some("stuck in 1"));
    stage.push("more in 1", &[1]);
    assert_eq!(stage.look(100).leader, None, "what waits is in its way");
    stage.push("from 1 to 2", &[1, 2]);
    stage.push("in 2 behind the rename", &[2]);
    stage.push("in 3", &[3]);
    assert_eq!(stage.look(5).leader, None, "it may get on");
    assert_eq!(stage.look(100).leader, Some(1));
    assert_eq!(stage.take(0, 20), None);
    assert_eq!(stage.take(1, 20), Some("in 3"));
    assert_eq!(seqs(&stage.queue.done(1).0), [5]);
    assert_eq!(stage.take(1, 20), None);
    assert_eq!(seqs(&stage.queue.done(0).0), [1]);
    for act in ["more in 1", "from 1 to 2", "in 2 behind the rename"] {
        assert_eq!(stage.take(1, 30), Some(act));
        stage.queue.done(1);
    }
}

#[test]
fn a_job_that_does_not_end_is_given_up_with_what_waits_for_its_directory() {
    let mut stage = Stage::new();
    stage.push("stuck", &[1]);
    stage.take(0, 0);
    stage.push("same", &[1]);
    stage.push("from 1 to 2", &[1, 2]);
    stage.push("other", &[3]);
    for ms in (0..2000).step_by(100) {
        assert!(stage.look(ms).given_up.is_empty(), "after {ms} ms");
    }
    let look = stage.look(2000);
    let [given_up] = look.given_up.try_into().unwrap();
    let dropped: Vec<_> = given_up.dropped.iter().map(|job| job.act).collect();
    assert_eq!(dropped, ["same", "from 1 to 2"]);
    assert_eq!(seqs(&given_up.complete), [1, 2, 3]);
    assert!(!stage.push("later", &[1]), "what comes for it is dropped");
    assert!(!stage.push("from 1 to 4", &[1, 4]));
    let look = stage.look(4000);
    assert!(look.given_up.is_empty(), "once");

    // The kernel lets go: the directory is compared, and what comes meanwhile waits for that.
    let (complete, lost) = stage.queue.done(0);
    assert!(complete.is_empty());
    let lost: Vec<_> = lost.iter().map(|(node, _)| node.0).collect();
    assert_eq!(lost, [1, 2, 4], "and whatever was dropped is about");
    assert!(stage.push("after", &[1]));
    assert_eq!(stage.take(1, 4000), Some("other"));
    stage.queue.done(1);
    assert_eq!(stage.take(1, 4000), None);
    stage.queue.compared(&[NodeId(1), NodeId(2), NodeId(4)]);
    assert_eq!(stage.take(1, 4000), Some("after"));
}

#[test]
fn what_is_told_waits_until_all_is_compared_and_the_differences_go_before_it() {
    let mut stage = Stage::new();
    stage.queue.shut();
    stage.push("told", &[1]);
    assert_eq!(stage.take(0, 0), None);
    let arrived = stage.clock.at(0);
    let difference = |act| Job {
        act,
        concerns: Concerns::default(),
        ticket: Some(Ticket::Comparison(1)),
        arrived,
    };
    for act in ["one", "two"] {
        assert!(stage.queue.push(difference(act)).is_none());
    }
    stage.queue.unshut();
    stage.queue.push_front(vec![difference("zero")]);
    assert_eq!(stage.take(0, 0), Some("zero"));
    assert!(stage.queue.done(0).0.is_empty());
    assert_eq!(stage.take(0, 0), Some("one"));
    assert!(stage.queue.done(0).0.is_empty());
    assert_eq!(stage.take(0, 0), Some("two"));
    assert_eq!(seqs(&stage.queue.done(0).0), [1001]);
    assert_eq!(stage.take(0, 0), Some("told"));
}

#[test]
fn a_lost_connection_drops_what_it_told() {
    let mut stage = Stage::new();
    stage.push("under way", &[1]);
    stage.push("waits", &[1]);
    stage.take(0, 0);
    stage.queue.clear();
    assert_eq!(stage.queue.done(0), (vec![], vec![]));
    assert_eq!(stage.take(0, 0), None);
}

#[test]
fn eight_hands_at_most_are_stuck() {
    let mut stage = Stage::new();
    for dir in 1..=9 {
        stage.push("stuck", &[dir]);
    }
    for hand in 0..MAX_HANDS {
        assert_eq!(stage.take(hand, 0), Some("stuck"));
        let next = (hand + 1 < MAX_HANDS).then_some(hand + 1);
        assert_eq!(stage.look(100).leader, next);
    }
    stage.queue.done(3);
    assert_eq!(stage.look(100).leader, Some(3));
    assert_eq!(stage.take(3, 20), Some("stuck"));
}

#[test]
fn who_was_suspended_in_the_middle_of_a_job_has_its_time_once_more() {
    // Before anybody looked, and after.
    for looked in [false, true] {
        let mut stage = Stage::new();
        stage.push("a", &[1]);
        assert_eq!(stage.take(0, 0), Some("a"));
        if looked {
            assert_eq!(stage.look(1).again, Some(stage.clock.at(2000)));
        }
        assert!(stage.look(7000).given_up.is_empty());
        assert!(stage.look(8990).given_up.is_empty());
        assert_eq!(stage.look(9010).given_up.len(), 1);
    }
}
