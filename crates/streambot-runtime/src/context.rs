//! What a handler may ask about the invocation it runs in. It knows one invocation's identity and
//! deadline; it refuses to know the records and the Runtime API.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::clock::Clock;
use crate::environment::Stack;

/// The invocation a handler runs in: its identity, and the time it has left.
///
/// Any handler can take it as its second argument:
///
/// ```
/// use streambot_runtime::{Context, Error, Utf8};
///
/// async fn forward(line: Utf8, context: Context) -> Result<(), Error> {
///     tracing::info!(request_id = context.request_id(), remaining = ?context.remaining(), "{}", &*line);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Context(Arc<Invocation>);

#[derive(Debug)]
struct Invocation {
    request_id: String,
    function_arn: String,
    xray_trace_id: Option<String>,
    shard_id: Option<String>,
    deadline: SystemTime,
    /// The same deadline on the clock that timers run on.
    deadline_instant: Instant,
    /// How long the invocation had when it began: its function's timeout, less what Lambda took to
    /// hand it over.
    allotted: Duration,
    clock: Clock,
}

impl Context {
    /// The invocation of this id, which has until `deadline`.
    pub(crate) fn new(
        request_id: String,
        function_arn: String,
        deadline: SystemTime,
        clock: Clock,
    ) -> Self {
        let allotted = deadline.duration_since(clock.time_of_day()).unwrap_or_default();
        Self(Arc::new(Invocation {
            request_id,
            function_arn,
            xray_trace_id: None,
            shard_id: None,
            deadline,
            deadline_instant: clock.now() + allotted,
            allotted,
            clock,
        }))
    }

    /// The same invocation, with the tracing header that Lambda gave it.
    pub(crate) fn of_trace(mut self, xray_trace_id: Option<String>) -> Self {
        if let Some(invocation) = Arc::get_mut(&mut self.0) {
            invocation.xray_trace_id = xray_trace_id;
        }
        self
    }

    /// The same invocation, once its event has said which shard it is of.
    pub(crate) fn of_shard(mut self, shard_id: Option<String>) -> Self {
        if let Some(invocation) = Arc::get_mut(&mut self.0) {
            invocation.shard_id = shard_id;
        }
        self
    }

    /// The id Lambda gave the invocation; a retry of the same records has another one.
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// The ARN the function was invoked by; ends in the alias or version where the event source
    /// mapping names one.
    pub fn function_arn(&self) -> &str {
        &self.0.function_arn
    }

    /// The tracing header of AWS X-Ray, such as
    /// `Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1`; `None` if
    /// Lambda did not give one.
    pub fn xray_trace_id(&self) -> Option<&str> {
        self.0.xray_trace_id.as_deref()
    }

    /// The shard the batch is of, such as `shardId-000000000000`; `None` for an event without
    /// records.
    pub fn shard_id(&self) -> Option<&str> {
        self.0.shard_id.as_deref()
    }

    /// The values of the service's CloudFormation stack.
    pub fn stack(&self) -> Stack {
        Stack::from_env()
    }

    /// When Lambda ends the invocation, to the millisecond.
    pub fn deadline(&self) -> SystemTime {
        self.0.deadline
    }

    /// The time left until the [deadline](Self::deadline); zero when it has passed.
    pub fn remaining(&self) -> Duration {
        self.0.deadline_instant.saturating_duration_since(self.0.clock.now())
    }

    pub(crate) fn deadline_instant(&self) -> Instant {
        self.0.deadline_instant
    }

    pub(crate) fn allotted(&self) -> Duration {
        self.0.allotted
    }

    pub(crate) fn clock(&self) -> Clock {
        self.0.clock
    }
}

/// The deadlines of a function's invocations, as far as Lambda's word can be used.
///
/// A deadline that is past when its event arrives says that the machine's clock runs ahead, or that
/// whoever sent it counts from another time (`cargo lambda watch` sends 600000). Then nothing is
/// known of the deadline but the configured timeout.
#[derive(Debug)]
pub(crate) struct Deadlines {
    timeout: Duration,
    is_reported: Cell<bool>,
}

impl Deadlines {
    /// The deadlines of a function with this timeout.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, is_reported: Cell::new(false) }
    }

    /// The deadline to keep: Lambda's, or one that is the timeout away from `now`.
    pub(crate) fn usable(&self, deadline: SystemTime, now: SystemTime) -> SystemTime {
        if deadline > now {
            return deadline;
        }
        if !self.is_reported.replace(true) {
            tracing::warn!(
                late_ms = now.duration_since(deadline).unwrap_or_default().as_millis() as u64,
                timeout_s = self.timeout.as_secs(),
                "the invocation's deadline was past when the event arrived: the function's timeout is used instead, \
                 for this and all later invocations like it"
            );
        }
        now + self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_in_the_past_is_replaced_by_the_timeout() {
        let deadlines = Deadlines::new(Duration::from_secs(30));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let soon = now + Duration::from_secs(3);
        assert_eq!(deadlines.usable(soon, now), soon);
        // What `cargo lambda watch` sends.
        let odd = SystemTime::UNIX_EPOCH + Duration::from_millis(600_000);
        for past in [odd, now, now - Duration::from_millis(1)] {
            assert_eq!(deadlines.usable(past, now), now + Duration::from_secs(30));
        }
    }

    #[test]
    fn a_deadline_in_the_past_is_warned_about_once() {
        let lines = crate::testing::lines_of(|| {
            let deadlines = Deadlines::new(Duration::from_secs(30));
            for _ in 0..3 {
                deadlines.usable(SystemTime::UNIX_EPOCH, SystemTime::now());
            }
        });
        assert_eq!(lines.matches("deadline was past").count(), 1, "{lines}");
    }
}
