//! Where deploys happen: one moto, one Streambot stack, one package whose environments have a stack
//! each, and three bundles of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aws_sdk_cloudformation::types::Capability;
use serde_json::{Value, json};

use super::proxy::Proxy;
use super::{REGION, Server, Service, streambot_deploy};

/// The package, whose name its stacks and functions begin with.
const PACKAGE: &str = "faulty";

/// The Streambot stack, which all environments name.
pub const STREAMBOT: &str = "faulty-Streambot";

/// What all deploys of a thread share.
pub struct World {
    pub moto: Server,
    service: Service,
    runtime: tokio::runtime::Runtime,
    cloudformation: aws_sdk_cloudformation::Client,
    bundles: [PathBuf; 3],
}

/// What a deploy declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// The first bundle, and the settings of a service that names none.
    First,
    /// The second bundle, and another setting of the function and of the mapping.
    Changed,
    /// The second bundle.
    Code,
    /// A third bundle.
    Other,
    /// Another setting of the function and of the mapping.
    Settings,
}

impl World {
    pub fn new() -> Result<Self> {
        let moto = Server::moto()?;
        let service = Service::new(PACKAGE, &moto)?;
        service.settings("include = [\"release.txt\"]")?;
        let bundles = ["one", "two", "three"].map(|release| -> Result<PathBuf> {
            service.file("release.txt", release)?;
            let bundle = service.path(&format!("{release}.zip"));
            let output = service.command(["bundle", "--profile", "dev"]).output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            std::fs::copy(service.path("build/bundle.zip"), &bundle)?;
            Ok(bundle)
        });
        let [one, two, three] = bundles;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let config = runtime.block_on(moto.config(REGION));
        let cloudformation = aws_sdk_cloudformation::Client::new(&config);
        let world = Self { moto, service, runtime, cloudformation, bundles: [one?, two?, three?] };
        let template = streambot_deploy().arg("template").output()?;
        world.stack(STREAMBOT, &String::from_utf8(template.stdout)?)?;
        Ok(world)
    }

    /// Creates a stack.
    pub fn stack(&self, name: &str, template: &str) -> Result<()> {
        let create = self.cloudformation.create_stack().stack_name(name).template_body(template);
        self.runtime.block_on(create.capabilities(Capability::CapabilityIam).send())?;
        Ok(())
    }

    /// An environment with a stack, and nothing deployed there.
    pub fn environment(&self, name: &str) -> Result<Environment<'_>> {
        self.environment_with(name, &json!({ "StreambotStack": { "Value": STREAMBOT } }))
    }

    /// An environment whose stack has these outputs.
    pub fn environment_with(&self, name: &str, outputs: &Value) -> Result<Environment<'_>> {
        let template = telling(outputs);
        self.stack(&format!("{PACKAGE}-{name}"), &template.to_string())?;
        Ok(Environment { world: self, name: name.to_owned(), proxy: Proxy::of(&self.moto)? })
    }

    /// The bundle of what is declared.
    pub fn bundle(&self, declared: Declared) -> &Path {
        match declared {
            Declared::First | Declared::Settings => &self.bundles[0],
            Declared::Code | Declared::Changed => &self.bundles[1],
            Declared::Other => &self.bundles[2],
        }
    }
}

/// One environment of the package, whose AWS is behind a proxy.
pub struct Environment<'a> {
    world: &'a World,
    name: String,
    pub proxy: Proxy,
}

/// A template with little more than these outputs.
fn telling(outputs: &Value) -> Value {
    json!({ "Resources": { "Topic": { "Type": "AWS::SNS::Topic" } }, "Outputs": outputs })
}

impl Environment<'_> {
    /// Gives its stack other outputs.
    pub fn tell(&self, outputs: &Value) -> Result<()> {
        let update = self.world.cloudformation.update_stack().stack_name(self.function());
        self.world.runtime.block_on(update.template_body(telling(outputs).to_string()).send())?;
        Ok(())
    }

    /// The function, and the stack.
    pub fn function(&self) -> String {
        format!("{PACKAGE}-{}", self.name)
    }

    /// `streambot-deploy` with the patience of a test.
    pub fn command(&self, declared: Declared) -> Command {
        let mut command = self.patient_command(declared);
        command.args([
            "--call-timeout",
            "1",
            "--call-attempts",
            "3",
            "--back-off",
            "0",
            "--wait-timeout",
            "10",
        ]);
        command
    }

    /// `streambot-deploy` with the patience it has by default.
    pub fn patient_command(&self, declared: Declared) -> Command {
        let mut command = self.world.service.command(["deploy", &self.name, "--output", "json"]);
        command
            .arg("--bundle")
            .arg(self.world.bundle(declared))
            .env("AWS_ENDPOINT_URL", self.proxy.url())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if matches!(declared, Declared::Settings | Declared::Changed) {
            command.args(["--memory", "256", "--batch-size", "7"]);
        }
        command
    }

    /// Moves the alias back to the version before.
    pub fn rollback(&self) -> Result<Output> {
        let mut command = self.world.service.command(["rollback", &self.name]);
        Ok(command.env("AWS_ENDPOINT_URL", self.proxy.url()).output()?)
    }

    /// Deploys, whatever comes of it.
    pub fn attempt(&self, declared: Declared) -> Result<Output> {
        Ok(self.command(declared).output()?)
    }

    /// Deploys, which must succeed, and gives the answer.
    pub fn deploy(&self, declared: Declared) -> Result<Value> {
        let output = self.attempt(declared)?;
        succeeded(&output)
    }

    /// Deploys, which must fail with this exit code, and gives what is said.
    pub fn fails(&self, declared: Declared, exit_code: i32) -> Result<String> {
        failed(&self.attempt(declared)?, exit_code)
    }

    /// Starts a deploy, and gives it once the proxy holds one of its calls; one that ended before
    /// is an error.
    pub fn held(&self, declared: Declared) -> Result<Child> {
        self.held_of(self.command(declared))
    }

    /// Starts a deploy as [`Self::held`] does.
    pub fn held_of(&self, mut command: Command) -> Result<Child> {
        let mut child = command.spawn()?;
        while !self.proxy.holds(Duration::from_millis(20)) {
            if child.try_wait()?.is_some() && !self.proxy.holds(Duration::ZERO) {
                let output = child.wait_with_output()?;
                bail!("no call was held:\n{}", String::from_utf8_lossy(&output.stderr));
            }
        }
        Ok(child)
    }

    /// All that is deployed, without what differs between one environment and another and between
    /// one time and another.
    pub fn state(&self) -> Result<Value> {
        let function = self.function();
        let mut state = json!({
            "function": self.get(&format!("functions/{function}"))?["Configuration"],
            "versions": self.get(&format!("functions/{function}/versions"))?,
            "aliases": self.get(&format!("functions/{function}/aliases"))?,
            "mappings": self.mappings()?,
        });
        strip(&mut state);
        let mut text = state.to_string().replace(&function, "the-function");
        for version in state["versions"]["Versions"].as_array().into_iter().flatten().skip(1) {
            let (Some(number), Some(hash)) =
                (version["Version"].as_str(), version["CodeSha256"].as_str())
            else {
                continue;
            };
            text = text.replace(hash, &format!("the code of version {number}"));
        }
        Ok(serde_json::from_str(&text)?)
    }

    /// The hash of the code that the alias names.
    pub fn code(&self) -> Result<Value> {
        Ok(self.get(&format!("functions/{}?Qualifier=current", self.function()))?["Configuration"]
            ["CodeSha256"]
            .take())
    }

    /// The function's mappings, by whichever name of it.
    pub fn mappings(&self) -> Result<Vec<Value>> {
        let mut list = self.get("event-source-mappings/")?;
        let Value::Array(mut mappings) = list["EventSourceMappings"].take() else {
            bail!("no mappings: {list}")
        };
        let function = self.function();
        mappings.retain(|mapping| {
            mapping["FunctionArn"].as_str().and_then(|arn| arn.split(':').nth(6))
                == Some(function.as_str())
        });
        Ok(mappings)
    }

    fn get(&self, path: &str) -> Result<Value> {
        self.ask("GET", path)
    }

    /// Asks Lambda, through the proxy; what is not there is null.
    fn ask(&self, method: &str, path: &str) -> Result<Value> {
        let url = self.proxy.url();
        let address = url.strip_prefix("http://").context("an address")?;
        let mut stream = TcpStream::connect(address)?;
        let signature =
            format!("AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/lambda/aws4_request");
        write!(
            stream,
            "{method} /2015-03-31/{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {signature}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a body")?;
        if head.starts_with("HTTP/1.1 404") {
            return Ok(Value::Null);
        }
        serde_json::from_str(body).with_context(|| answer.clone())
    }

    /// Takes the mapping away, so that lists of all mappings stay short.
    pub fn forget(&self) -> Result<()> {
        for mapping in self.mappings()? {
            let uuid = mapping["UUID"].as_str().context("a UUID")?;
            self.ask("DELETE", &format!("event-source-mappings/{uuid}"))?;
        }
        Ok(())
    }
}

/// The answer of a run that succeeded.
pub fn succeeded(output: &Output) -> Result<Value> {
    let code = output.status.code();
    ensure!(code == Some(0), "exit code {code:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What is said by a run that failed with this exit code: what was done, why it failed, and what to
/// do next.
pub fn failed(output: &Output, exit_code: i32) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(exit_code),
        "{:?}, not {exit_code}:\n{said}",
        output.status.code()
    );
    ensure!(
        said.contains("error: ") && said.contains("\n  next: "),
        "an error has a next step:\n{said}"
    );
    ensure!(output.stdout.is_empty(), "a failure has no result");
    Ok(said)
}

/// Drops ids and times, deep down, and the size of the code, whose `.env` holds the stack's name.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for differs in
                ["RevisionId", "LastModified", "UUID", "EventSourceMappingArn", "CodeSize"]
            {
                fields.remove(differs);
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}
