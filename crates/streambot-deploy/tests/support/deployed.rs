//! A service that is deployed, with a proxy of its own before the server.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aws_config::SdkConfig;
use aws_sdk_cloudformation::types::{Capability, Parameter};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::proxy::Proxy;
use super::{REGION, Server, Service, streambot_deploy};

/// How long anything that a test waits for may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service in the environment `staging`, whose stack names a stack of Streambot's template, as
/// 1.0's users have it.
pub struct Deployed {
    pub service: Service,
    /// Where the service finds AWS.
    pub proxy: Proxy,
    /// What an SDK client needs to speak to the server through the proxy.
    pub config: SdkConfig,
    /// The name of its stack and its function.
    pub name: String,
    /// The name of its Streambot stack.
    pub child: String,
    /// What the deploy answered.
    pub answer: serde_json::Value,
}

impl Deployed {
    /// Makes the stacks and deploys.
    pub async fn new(server: &Server, name: &str, parameters: &[(&str, &str)]) -> Result<Self> {
        let mut deployed = Self::stacks(server, name, parameters).await?;
        deployed.answer = deployed.service.run(&["staging"])?;
        Ok(deployed)
    }

    /// Makes the stacks.
    pub async fn stacks(server: &Server, name: &str, parameters: &[(&str, &str)]) -> Result<Self> {
        let output = streambot_deploy().arg("template").output()?;
        ensure!(output.status.success());
        let deployed = Self::nothing(server, name).await?;
        deployed.stack(&deployed.child, String::from_utf8(output.stdout)?, parameters).await?;
        let template = json!({
            "Resources": { "Topic": { "Type": "AWS::SNS::Topic" } },
            "Outputs": { "StreambotStack": { "Value": deployed.child } },
        });
        deployed.stack(&deployed.name, template.to_string(), &[]).await?;
        Ok(deployed)
    }

    /// Makes nothing but the service itself.
    pub async fn nothing(server: &Server, name: &str) -> Result<Self> {
        let proxy = Proxy::of(server)?;
        Ok(Self {
            service: Service::at(name, proxy.url())?,
            config: server.config(REGION).await.into_builder().endpoint_url(proxy.url()).build(),
            proxy,
            name: format!("{name}-staging"),
            child: format!("{name}-staging-StreambotStack"),
            answer: serde_json::Value::Null,
        })
    }

    async fn stack(&self, name: &str, template: String, parameters: &[(&str, &str)]) -> Result<()> {
        let parameter = |(key, value): &(&str, &str)| {
            Parameter::builder().parameter_key(*key).parameter_value(*value).build()
        };
        aws_sdk_cloudformation::Client::new(&self.config)
            .create_stack()
            .stack_name(name)
            .template_body(template)
            .set_parameters(Some(parameters.iter().map(parameter).collect()))
            .capabilities(Capability::CapabilityIam)
            .send()
            .await?;
        Ok(())
    }

    /// What a verb prints as text.
    pub fn text(&self, arguments: &[&str]) -> Result<String> {
        let output = self.service.command(arguments).output()?;
        ensure!(
            output.status.success(),
            "{arguments:?} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts a verb that goes on until it is interrupted.
    pub fn start(&self, arguments: &[&str]) -> Result<Running> {
        let mut child = self
            .service
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let stdout = BufReader::new(child.stdout.take().context("standard output is piped")?);
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Ok(Running { child, lines })
    }
}

/// A verb at work.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// The next line it prints.
    pub fn line(&self) -> Result<String> {
        self.lines.recv_timeout(PATIENCE).context("no line is printed")
    }

    /// Waits until it has ended by itself.
    pub fn end(mut self) -> Result<ExitStatus> {
        ended(&mut self.child)
    }

    /// Presses Ctrl-C, and tells how it ended and what else it printed.
    pub fn interrupt(mut self) -> Result<(ExitStatus, Vec<String>)> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        Ok((ended(&mut self.child)?, self.lines.iter().collect()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a process has ended.
pub fn ended(child: &mut Child) -> Result<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        ensure!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}
