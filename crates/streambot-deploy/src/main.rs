//! `streambot-deploy`: deploys a Kinesis consumer to AWS Lambda with one command, and runs the very
//! same thing on a laptop.

mod again;
mod aws;
mod bundle;
mod canary;
mod cli;
mod completions;
mod confirm;
mod deploy;
mod deployed;
mod destroy;
mod dotenv;
mod error;
mod event_source;
mod function;
mod init;
mod local;
mod log_group;
mod logs;
mod manual;
#[cfg(test)]
mod pages;
mod pause;
mod preflight;
mod progress;
mod replay;
mod rollback;
mod service;
mod settings;
mod stack;
mod status;
mod template;
mod time;
mod verb;

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match cli::run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.report());
            ExitCode::from(error.exit_code())
        }
    }
}
