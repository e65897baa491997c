//! The guides: what happens on AWS, what Streambot does about it, and what to choose. A chapter
//! each; the reference is with the items they link to.
//!
//! Begin with [`first_service`], which goes from nothing to a deployed service, and [the
//! tour](crate#a-tour). Then, in this order:
//!
//! | before | read |
//! |---|---|
//! | the first handler that talks to something | [`failures`]: checkpoints, retries, destinations, records that always fail, replay |
//! | turning anything up | [`ordering`]: shards, lanes, keys, concurrency, the deadline |
//! | the first commit | [`testing`]: events, answers, recorded events, a clock that takes no time |
//! | the first deploy | [`local`]: the whole function on a laptop, its report, its journal, and trouble on purpose |
//! | | [`templates`]: the stack, alone, nested, or in a template of your own |
//! | | [`deploying`]: what a deploy does, versions, canaries, rolling back |
//! | | [`security`]: what each role may do and why, `.env`, secrets |
//! | production | [`monitoring`]: metrics, alarms, the dashboard, logs |
//! | | [`troubleshooting`]: by error message |
//!
//! And where they apply: [`kpl`] for producers that aggregate records, [`windows`] for aggregation
//! over time, [`migrating`] for a service of Streambot 1.0.

#[doc = include_str!("guide/first_service.md")]
pub mod first_service {}

#[doc = include_str!("guide/failures.md")]
pub mod failures {}

#[doc = include_str!("guide/ordering.md")]
pub mod ordering {}

#[doc = include_str!("guide/testing.md")]
pub mod testing {}

#[doc = include_str!("guide/local.md")]
pub mod local {}

#[doc = include_str!("guide/templates.md")]
pub mod templates {}

#[doc = include_str!("guide/deploying.md")]
pub mod deploying {}

#[doc = include_str!("guide/security.md")]
pub mod security {}

#[doc = include_str!("guide/monitoring.md")]
pub mod monitoring {}

#[doc = include_str!("guide/troubleshooting.md")]
pub mod troubleshooting {}

#[doc = include_str!("guide/kpl.md")]
pub mod kpl {}

#[doc = include_str!("guide/windows.md")]
pub mod windows {}

#[doc = include_str!("guide/migrating.md")]
pub mod migrating {}
